"""Field lines: each line is judged once by the strict grammar, and what to do with it is remembered.

A memo maps a whole line to its verdict: bytes mean "send on as these bytes", a tuple means "look closer".
Credentials never enter a memo, and nobody unauthenticated fills one: new lines wait in `fresh` until the
relay says `keep()`. The miss path is two translate() calls rather than a regex, which costs five times as much.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from proxy.wire.grammar import FIELD_VALUE, TCHAR, is_authority
from proxy.wire.unlawful import Unlawful

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

(
    DROP, HOST, LENGTH, ENCODING, CONNECTION, AUTHORIZATION, EXPECT, AGENT, UPGRADE, COOKIE, SET_COOKIE, PASSED_ON,
) = range(12)  # fmt: skip

#: (what it is, its value, the bytes to send on where it is sent on)
Special = tuple[int, bytes, bytes]
Verdict = bytes | Special

#: RFC 9110 7.6.1 and what proxies learned to add: these belong to one connection, never to the next.
HOP_BY_HOP = frozenset(
    {
        b"keep-alive",
        b"te",
        b"trailer",
        b"proxy-connection",
        b"proxy-authorization",
        b"proxy-authenticate",
        b"http2-settings",
    }
)
REQUEST_FIELDS: Mapping[bytes, int] = {
    b"host": HOST,
    b"content-length": LENGTH,
    b"transfer-encoding": ENCODING,
    b"connection": CONNECTION,
    b"authorization": AUTHORIZATION,
    b"expect": EXPECT,
    b"user-agent": AGENT,
    b"upgrade": UPGRADE,
    b"cookie": COOKIE,
    b"x-forwarded-for": PASSED_ON,
    b"forwarded": PASSED_ON,  # RFC 7239
} | dict.fromkeys(HOP_BY_HOP, DROP)
RESPONSE_FIELDS: Mapping[bytes, int] = {
    b"content-length": LENGTH,
    b"transfer-encoding": ENCODING,
    b"connection": CONNECTION,
    b"upgrade": DROP,
    b"set-cookie": SET_COOKIE,
} | dict.fromkeys(HOP_BY_HOP, DROP)

MAX_LINE_BYTES = 16 * 1024
_MEMO_LINES = 4096
_MEMO_LINE_BYTES = 512
#: What a name that holds a credential is called (`Authorization`, `X-Api-Key`, `Private-Token`, ...): never remembered.
#: A page can put one nowhere but into Sec-WebSocket-Protocol.
_MAY_BE_SECRET = re.compile(rb"auth|cookie|cred|jwt|key|pass|secret|session|sign|token|websocket").search
_USUAL_LENGTH = b"Content-Length: "
#: Some 900 TB; what is longer than any body is meant to be misread.
MAX_LENGTH_DIGITS = 15


def split_field(line: bytes) -> tuple[bytes, bytes]:
    """(name, value without outer white space) of a lawful field line (RFC 9112 5); else Unlawful."""
    name, colon, value = line.partition(b":")
    if not colon or not name or name.translate(None, TCHAR):
        # White space before the colon, a folded line, a nameless field: the classic smuggling tools.
        raise Unlawful("malformed header field")
    if value.translate(None, FIELD_VALUE):
        raise Unlawful("control character in a header field")
    return name, value.strip(b" \t")


class FieldMemo(dict[bytes, Verdict]):
    """line -> verdict, for requests or for responses. `special` and `drop` are lower-case names.

    `drop` is for requests: names that no client may set, with a `*` at the end all that begin so; names with `_`, too.
    """

    __slots__ = ("_begin", "_guarded", "_special", "fresh", "is_missed")

    def __init__(self, special: Mapping[bytes, int], drop: frozenset[bytes] = frozenset()) -> None:
        super().__init__()
        self._guarded = bool(drop)
        self._begin = tuple(name[:-1] for name in drop if name.endswith(b"*"))
        self._special = {**dict.fromkeys(drop, DROP), **special}
        self.fresh: list[tuple[bytes, Verdict]] = []
        self.is_missed = False  # set when a line is not known: by and for whoever wants to know of several

    def __missing__(self, line: bytes) -> Verdict:
        if line.startswith(_USUAL_LENGTH) and (value := line[16:]).isdigit() and len(value) <= 15:
            return LENGTH, value, line + b"\r\n"  # each body has its own: nothing to remember
        self.is_missed = True
        if len(line) > MAX_LINE_BYTES:
            raise Unlawful("header field too large", 431)
        name, value = split_field(line)
        lower = name.lower()
        kind = self._special.get(lower)
        if kind is None and self._guarded and (b"_" in name or lower.startswith(self._begin)):
            # CGI and WSGI read `X_Forwarded_User` as `X-Forwarded-User` (CVE-2025-64484).
            kind = DROP
        sent = b"%b: %b\r\n" % (name, value)
        verdict: Verdict = sent if kind is None else (kind, _checked(kind, value), sent)
        if kind != LENGTH and len(line) <= _MEMO_LINE_BYTES and not _MAY_BE_SECRET(lower):
            self.fresh.append((line, verdict))
        return verdict

    def keep(self) -> None:
        """Remember the lines of the head just read: its sender may fill the memo."""
        if len(self) > _MEMO_LINES:
            self.clear()
        self.update(self.fresh)
        self.fresh.clear()


def _checked(kind: int, value: bytes) -> bytes:
    if kind == LENGTH and not (value.isdigit() and len(value) <= MAX_LENGTH_DIGITS):
        # isdigit() of bytes is ASCII only; a list ("5, 5") or a sign is refused too (RFC 9112 6.3).
        raise Unlawful("malformed Content-Length")
    if kind == ENCODING and value.lower() != b"chunked":
        raise Unlawful("unsupported Transfer-Encoding", 501 if value.replace(b",", b"").isalpha() else 400)
    if kind == HOST and not is_authority(value):
        raise Unlawful("malformed Host")
    return value


def values_of(lines: list[bytes], name: bytes) -> Iterator[bytes]:
    """The values of a field, in the order received."""
    size = len(name)
    for line in lines:
        if line[size : size + 1] == b":" and line[:size].lower() == name:
            yield line[size + 1 :].strip(b" \t")


def listed(value: bytes) -> list[bytes]:
    """The lower-case members of a comma-separated field value."""
    return [part for item in value.split(b",") if (part := item.strip(b" \t").lower())]


def without(sent: list[bytes], named: list[bytes], never: frozenset[bytes]) -> list[bytes]:
    """The lines less those whose fields Connection names; naming those of `never` changes nothing."""
    drop = set(named) - never
    return [line for line in sent if field_name(line) not in drop] if drop else sent


def field_name(sent: bytes) -> bytes:
    """The lower-case name of a field line that was judged lawful."""
    return sent.partition(b":")[0].lower()
