"""One line of the audit: JSON, chained to the line before it by that line's SHA-256.

Whoever reads the file with a pager or a log shipper sees what is there: all but printable ASCII is escaped, so no name,
address or error text begins a line of its own, colours a terminal or turns its direction. No secret gets in.
"""

from __future__ import annotations

import json
import re
import time
from hashlib import sha256
from typing import TYPE_CHECKING, Any, Final, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Mapping

#: The chain begins with it.
GENESIS: Final = "0" * 64
#: A rotation to a hundred targets has a line of 12 KB.
MAX_LINE: Final = 64 * 1024
_MAX_TEXT: Final = 1024
#: Somebody may have written a token where a name is wanted: its id is public, the rest is not.
_TOKEN: Final = re.compile(r"\b(pg[wr]_[0-9A-Za-z]{1,16})_[0-9A-Za-z]{8,}", re.ASCII)


class Link(NamedTuple):
    """A line as far as the chain goes: its number, the hash of the line before, its own."""

    seq: int
    prev: str
    hash: str


def build_line(seq: int, prev: str, at: float, said: Mapping[str, Any]) -> bytes:
    """`at`: unix seconds. What `said` has is told in full, but texts are bounded."""
    fields = {"seq": seq, "at": time_text(at), **{key: _told(value) for key, value in said.items()}, "prev": prev}
    line = json.dumps(fields, separators=(",", ":")).replace("\x7f", "\\u007f").encode("ascii") + b"\n"
    if len(line) > MAX_LINE:
        return build_line(seq, prev, at, {**said, "changes": [{"what": "more than a line can hold"}]})
    return line


def hash_line(line: bytes) -> str:
    """`line` with its line break."""
    return sha256(line).hexdigest()


def read_line(line: bytes) -> tuple[Link, dict[str, Any]] | None:
    """What a whole line says; None if it is none of ours."""
    try:
        fields = json.loads(line)
        seq, prev = fields["seq"], fields["prev"]
    except (ValueError, TypeError, KeyError, RecursionError):
        return None
    if type(seq) is not int or not isinstance(prev, str) or not line.endswith(b"\n"):
        return None
    return Link(seq, prev, hash_line(line)), fields


def _told(value: Any) -> Any:
    if isinstance(value, str):
        text = _TOKEN.sub(r"\1_<secret>", value)
        return text if len(text) <= _MAX_TEXT else text[:_MAX_TEXT] + "..."
    if isinstance(value, dict):
        return {key: _told(inner) for key, inner in value.items()}
    return [_told(inner) for inner in value] if isinstance(value, list) else value


def time_text(at: float) -> str:
    """RFC 3339 in UTC, to the microsecond."""
    second = int(at)
    return f"{time.strftime('%Y-%m-%dT%H:%M:%S', time.gmtime(second))}.{int((at - second) * 1e6):06d}Z"
