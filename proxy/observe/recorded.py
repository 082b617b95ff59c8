"""What the access log has of one request, read back: a line of either format, found by the request's id.

A line is believed for what its fields say and for nothing more: whoever wrote a path or an agent wrote no field.
"""

from __future__ import annotations

import json
import re
from datetime import datetime
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Iterable

_PAIR = re.compile(r'([a-z]+)=("(?:[^"\\]|\\.)*"|[^ "]*)(?: |\n|\Z)')
_is_id = re.compile("[0-9a-f]{16}", re.ASCII).fullmatch


class Recorded(NamedTuple):
    """One request as the server saw it. `at` is unix seconds; what is not known is empty."""

    at: float
    client: str
    method: str
    path: str
    status: int
    reason: str
    route: str
    identity: str
    token: str
    duration_s: float
    agent: str
    written: str


def is_request_id(text: str) -> bool:
    return _is_id(text) is not None


def find_recorded(lines: Iterable[bytes], request_id: str) -> Recorded | None:
    """The line of this request, or None."""
    mark = request_id.encode()
    for line in lines:
        if mark in line:  # the fields are looked at only then: a log may be large
            fields = _read(line.decode("utf-8", "replace"))
            if fields.get("id") == request_id:
                return _recorded(fields)
    return None


def _read(line: str) -> dict[str, str]:
    if line.startswith("{"):
        try:
            told = json.loads(line)
        except ValueError:
            return {}  # cut by a kill
        return {str(key): str(value) for key, value in told.items()} if isinstance(told, dict) else {}
    pairs = ((found[1], found[2]) for found in _PAIR.finditer(line))
    return {key: _bare(value) for key, value in pairs}


def _bare(value: str) -> str:
    if value == "-":
        return ""
    try:
        return str(json.loads(value)) if value.startswith('"') else value
    except ValueError:
        return ""


def _recorded(fields: dict[str, str]) -> Recorded | None:
    try:
        return Recorded(
            datetime.fromisoformat(fields["ts"]).timestamp(),
            fields["client"],
            fields["method"],
            fields["path"],
            int(fields["status"]),
            fields["reason"],
            fields["route"],
            fields["identity"],
            fields["token"],
            float(fields["duration"]),
            fields["agent"],
            fields["ts"],
        )
    except (KeyError, ValueError):
        return None
