"""Routes that take a prefix off: `/prometheus/api` goes on as `/api`, and a redirect comes back with the prefix on.

A prefix is whole segments, so what is left of a canonical path has one meaning; of the prefix itself `/` is left.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from proxy.wire.head import RequestLine

#: An absolute path alone (RFC 3986 4.2): `//host` names another server, and browsers read `/\` like `//`.
_LOCATION = re.compile(rb"\r\n(location): (/(?![/\\])[^\r]*)", re.IGNORECASE)


def strip_line(line: RequestLine, prefix: bytes) -> bytes:
    """The request line as it goes on; its path begins with `prefix`."""
    path = line.path[len(prefix) :] or b"/"
    return b"%b %b%b HTTP/1.%d\r\n" % (line.method, path, line.query, line.minor)


def restore_location(sent: bytes, prefix: bytes) -> bytes:
    """The head of a redirect with `prefix` before a Location that is an absolute path.

    One that has it already is left alone: Prometheus with --web.external-url writes it there itself.
    """

    def restore(match: re.Match[bytes]) -> bytes:
        name, place = match.groups()
        if place.startswith(prefix) and place[len(prefix) : len(prefix) + 1] in {b"", b"/", b"?", b"#"}:
            return match[0]
        return b"\r\n%b: %b%b" % (name, prefix, place)

    return _LOCATION.sub(restore, sent)
