"""A request head: the bytes up to the blank line, admitted whole or refused (RFC 9112 2 to 6).

What is ambiguous is refused even where the RFC lets a server repair it: the upstream may repair it otherwise.
"""

from __future__ import annotations

import re
from typing import NamedTuple

from proxy.wire import fields as f
from proxy.wire.fields import FieldMemo
from proxy.wire.grammar import is_token
from proxy.wire.target import split_target
from proxy.wire.unlawful import Unlawful

MAX_TARGET_BYTES = 16 * 1024
MAX_SECTION_BYTES = 32 * 1024
MAX_FIELDS = 128
_MAX_METHOD_BYTES = 32

_MEMO_LINES = 1024
_MEMO_LINE_BYTES = 512

_VERSIONS = {b"HTTP/1.1": 1, b"HTTP/1.0": 0}
#: Half a line end (RFC 9112 2.2), the CR that may still get its LF excepted.
_BARE = re.compile(rb"\r(?!\n|\Z)|(?<!\r)\n").search
_ANY_VERSION = re.compile(rb"HTTP/[0-9]\.[0-9]").fullmatch


class RequestLine(NamedTuple):
    """One lawful request line. `path` is canonical; `sent` is the line as it goes on, with its CRLF."""

    method: bytes
    path: bytes
    query: bytes
    minor: int
    sent: bytes


class RequestMemo:
    """Request lines and field lines that were judged before. Lines of this head wait until the caller says `keep`."""

    __slots__ = ("fields", "fresh_line", "lines")

    def __init__(self, drop: frozenset[bytes]) -> None:
        """`drop`: lower-case names of fields that no client may set."""
        self.fields = FieldMemo(f.REQUEST_FIELDS, drop)
        self.lines: dict[bytes, RequestLine] = {}
        self.fresh_line: tuple[bytes, RequestLine] | None = None

    def keep(self) -> None:
        """The sender of the head just read may be trusted with a place in memory."""
        if self.fields.fresh:
            self.fields.keep()
        if self.fresh_line is not None:
            if len(self.lines) >= _MEMO_LINES:
                self.lines.clear()
            line, parsed = self.fresh_line
            self.lines[line] = parsed
            self.fresh_line = None


class RequestHead:
    """One lawful request head.

    `sent` are the lines that go on, each with its CRLF, in the order received, the request line first. `length` is -1
    without Content-Length. `authorization_line` is the raw line, for the caller's memory of the last one.
    """

    __slots__ = (
        "agent",
        "authorization",
        "authorization_line",
        "chunked",
        "close",
        "expects",
        "host",
        "length",
        "line",
        "method",
        "minor",
        "path",
        "sent",
    )

    def __init__(self, line: RequestLine) -> None:
        self.line = line
        self.method, self.path, _, self.minor, sent = line
        self.sent = [sent]
        self.host: bytes | None = None
        self.authorization: bytes | None = None
        self.authorization_line: bytes | None = None
        self.agent = b""
        self.length = -1
        self.chunked = False
        self.close = self.minor == 0
        self.expects = False

    @property
    def head_only(self) -> bool:
        """Whether its answer has no content (RFC 9110 9.3.2)."""
        return self.method == b"HEAD"

    @property
    def has_body(self) -> bool:
        return self.chunked or self.length > 0


def find_head_end(data: bytes, since: int = 0) -> int:
    """The index of the blank line that ends a head, or -1 while it is not there; Unlawful when it cannot come.

    `since` is how much of `data` was searched before.
    """
    end = data.find(b"\r\n\r\n", max(0, since - 3))
    if end >= 0:
        if end > MAX_TARGET_BYTES + MAX_SECTION_BYTES:
            if data.find(b"\r\n", 0, MAX_TARGET_BYTES + _MAX_METHOD_BYTES + 16) < 0:
                raise Unlawful("request target too long", 414)
            raise Unlawful("request head too large", 431)
        return end
    check_partial_head(data, since)
    return -1


def check_partial_head(data: bytes, since: int) -> None:
    """Refuse early what can never become a head: bare line ends, binary junk, more than the bounds."""
    if _BARE(data, max(0, since - 1)):
        raise Unlawful("bare CR or LF in the request head")
    line_end = data.find(b"\r\n")
    if line_end < 0:
        if len(data) > MAX_TARGET_BYTES + _MAX_METHOD_BYTES + 16:
            raise Unlawful("request target too long", 414)
        if b" " not in data[: _MAX_METHOD_BYTES + 1] and data[:1] != b"\r" and not is_token(data[:_MAX_METHOD_BYTES]):
            raise Unlawful("this is not an HTTP request")
        if len(data) > _MAX_METHOD_BYTES and b" " not in data[: _MAX_METHOD_BYTES + 1]:
            raise Unlawful("this is not an HTTP request")
    elif len(data) - line_end > MAX_SECTION_BYTES + 3:  # its last three octets may belong to the blank line
        raise Unlawful("request head too large", 431)


def admit_request(data: bytes, end: int, memo: RequestMemo, known_line: bytes | None = None) -> RequestHead:
    """The request head in data[:end], or Unlawful. `known_line`: an Authorization line seen before here."""
    lines = data[:end].split(b"\r\n")
    fields = memo.fields
    if fields.fresh:
        fields.fresh.clear()
    first = lines[0]
    line = memo.lines.get(first)
    memo.fresh_line = None
    head = RequestHead(line or _request_line(first))
    if len(lines) > MAX_FIELDS + 1 or end - len(first) > MAX_SECTION_BYTES:
        raise Unlawful("request head too large", 431)
    del lines[0]
    named: list[bytes] | None = None
    send = head.sent.append
    for field in lines:
        if field == known_line:
            if head.authorization_line is not None:
                raise Unlawful("two Authorization fields")
            head.authorization_line = known_line
            continue
        verdict = fields[field]
        if verdict.__class__ is bytes:
            send(verdict)
            continue
        kind, value, sent = verdict
        if kind == f.HOST:
            if head.host is not None:
                raise Unlawful("two Host fields")
            head.host = value  # type: ignore[assignment]
            send(sent)  # type: ignore[arg-type]
        elif kind == f.AGENT:
            head.agent = value  # type: ignore[assignment]
            send(sent)  # type: ignore[arg-type]
        elif kind == f.LENGTH:
            if head.length >= 0:
                raise Unlawful("two Content-Length fields")
            head.length = int(value)
        elif kind != f.DROP:
            named = _special(head, field, kind, value, named)  # type: ignore[arg-type]
    if head.host is None and head.minor == 1:
        raise Unlawful("missing Host")
    if head.chunked and (head.length >= 0 or head.minor == 0):
        # RFC 9112 6.1: a server may let Transfer-Encoding win; what the next server does is not known.
        raise Unlawful("Transfer-Encoding beside Content-Length or in HTTP/1.0")
    if named:
        _remove_named(head, named)
    if line is None:
        _place_line(head, first, memo)
    return head


def _special(head: RequestHead, line: bytes, kind: int, value: bytes, named: list[bytes] | None) -> list[bytes] | None:
    if kind == f.AUTHORIZATION:
        if head.authorization_line is not None:
            # Which one would the upstream have believed?
            raise Unlawful("two Authorization fields")
        head.authorization_line = line
        head.authorization = value
    elif kind == f.ENCODING:
        if head.chunked:
            raise Unlawful("two Transfer-Encoding fields")
        head.chunked = True
    elif kind == f.EXPECT:
        if value.lower() != b"100-continue":
            raise Unlawful("unknown expectation", 417)
        head.expects = head.minor == 1
    elif kind == f.CONNECTION:
        options = f.listed(value)
        if b"close" in options:
            head.close = True
        if len(options) > 1 or options not in ([b"close"], [b"keep-alive"]):
            return (named or []) + options
    return named


#: Naming these in Connection changes nothing: they are the message's own, not the connection's.
_NEVER_NAMED = frozenset({b"close", b"keep-alive", b"host", b"user-agent"})


def _remove_named(head: RequestHead, named: list[bytes]) -> None:
    drop = set(named) - _NEVER_NAMED
    head.sent[1:] = [sent for sent in head.sent[1:] if f.field_name(sent) not in drop]


def _place_line(head: RequestHead, raw: bytes, memo: RequestMemo) -> None:
    """Give a head whose request line was not seen before its canonical path, now that Host is known."""
    method, target, _, minor, _ = head.line
    if target == b"*":
        if method != b"OPTIONS":
            raise Unlawful("the request target must begin with /")
        return
    path, query = split_target(target, head.host)
    head.path = path
    head.sent[0] = b"%b %b%b HTTP/1.%d\r\n" % (method, path, query, minor)
    head.line = RequestLine(method, path, query, minor, head.sent[0])
    if target[:1] == b"/" and len(raw) <= _MEMO_LINE_BYTES:
        # An absolute form depends on Host too, and is for proxies of another kind.
        memo.fresh_line = raw, head.line


def _request_line(line: bytes) -> RequestLine:
    """The three words of a request line; the target stands in for the path until Host is known."""
    words = line.split(b" ")
    if len(words) != 3:
        if len(line) > MAX_TARGET_BYTES:
            raise Unlawful("request target too long", 414)
        raise Unlawful("malformed request line")
    method, target, version = words
    if version not in _VERSIONS:
        raise Unlawful("unsupported HTTP version", 505 if _ANY_VERSION(version) else 400)
    if len(method) > _MAX_METHOD_BYTES or not is_token(method):
        raise Unlawful("malformed method")
    if len(target) > MAX_TARGET_BYTES:
        raise Unlawful("request target too long", 414)
    return RequestLine(method, target, b"", _VERSIONS[version], b"")
