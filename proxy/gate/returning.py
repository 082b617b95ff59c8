"""Where somebody goes who has logged in: back to where they came from, if that is a path of this very host.

Whatever stands in `rd` came from whoever made the link ("open redirect", RFC 9700 4.11). So it is taken only where a
browser and we cannot read it differently: one slash, then a path that a request of ours could have.
"""

from __future__ import annotations

from proxy.wire.grammar import TARGET
from proxy.wire.target import canonical_path
from proxy.wire.unlawful import Unlawful

#: It stands in a cookie while a login is under way.
_MAX_BYTES = 2048


def return_path(asked: str, own: str) -> str:
    """`asked` if it is a path, with its query, of this host; else `own`. Below `own` nobody is sent: it may be an end.

    `own` is the path of the login page, such as `/-/login`.
    """
    if not asked.isascii() or not 0 < len(asked) <= _MAX_BYTES:
        return own
    written = asked.encode()
    # `#` begins what no server sees, and `\` is a slash to browsers (URL Standard 4.4, "special" schemes).
    if written[:1] != b"/" or written[1:2] in {b"/", b"\\"} or written.translate(None, TARGET) or b"\\" in written:
        return own
    path, mark, query = written.partition(b"?")
    try:
        canonical = canonical_path(path)
    except Unlawful:
        return own
    ends = own.rpartition("/")[0].encode()
    for end in (b"login", b"logout", b"callback"):
        place = b"%b/%b" % (ends, end)
        if canonical == place or canonical.startswith(place + b"/"):
            return own
    return (canonical + mark + query).decode()
