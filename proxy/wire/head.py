"""A request head: the bytes up to the blank line, admitted whole or refused (RFC 9112 2 to 6).

What is ambiguous is refused even where the RFC lets a server repair it: the upstream may repair it otherwise.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from proxy.wire.fields import MAX_LENGTH_DIGITS
from proxy.wire.grammar import is_token
from proxy.wire.section import USUAL_LENGTH, Section, SectionMemo
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


@dataclass(slots=True)
class RequestLine:
    """One lawful request line, never changed. `path` is canonical; `sent` is the line as it goes on, with its CRLF."""

    method: bytes
    path: bytes
    query: bytes
    minor: int
    sent: bytes


class RequestMemo:
    """Request lines, field lines and whole sections that were judged before.

    What is new in a head waits, while `is_fresh`, until the caller says `keep`.
    """

    __slots__ = ("_line", "is_fresh", "lines", "sections")

    def __init__(self, drop: frozenset[bytes]) -> None:
        """`drop`: lower-case names of fields that no client may set."""
        self.sections = SectionMemo(drop)
        self.lines: dict[bytes, RequestLine] = {}
        self.is_fresh = False
        self._line: tuple[bytes, RequestLine] | None = None

    def note(self, raw: bytes, line: RequestLine) -> None:
        self._line = raw, line

    def keep(self) -> None:
        """The sender of the head just read may be trusted with a place in memory."""
        if not self.is_fresh:
            return
        self.sections.keep()
        if self._line is not None:
            if len(self.lines) >= _MEMO_LINES:
                self.lines.clear()
            raw, line = self._line
            self.lines[raw] = line
        self.forget()

    def forget(self) -> None:
        """Nothing waits any more."""
        self.is_fresh = False
        self.sections.forget()
        self._line = None


class RequestHead:
    """One lawful request head.

    `line` and `fields` are what goes on, each line with its CRLF, in the order received. `length` is -1 without
    Content-Length. `authorization_line` is the raw line with the CRLF on either side, for the caller's memory of the
    last one; `authorization` its value, None where the line was the one that the caller knew.
    """

    __slots__ = (
        "_section", "agent", "authorization", "authorization_line", "chunked", "close", "expects", "fields", "has_body",
        "head_only", "host", "length", "line", "method", "minor", "path",
    )  # fmt: skip

    def __init__(
        self, line: RequestLine, section: Section, length: int, credential: bytes | None, value: bytes | None
    ) -> None:
        self.line = line
        self.method = method = line.method
        self.head_only = method == b"HEAD"  # its answer has no content (RFC 9110 9.3.2)
        self.path = line.path
        self.minor = minor = line.minor
        self.fields = section.sent
        self.host = section.host
        self.agent = section.agent
        self.length = length
        self.chunked = section.chunked
        self.has_body = length > 0 or section.chunked
        self.close = section.close or minor == 0
        self.expects = section.expects and minor == 1
        self._section = section
        self.authorization_line = credential
        self.authorization = value

    @property
    def upgrade(self) -> bytes:
        """The protocol (lower case) that Connection asks to change to; it is not among `fields`."""
        return self._section.upgrade

    @property
    def is_passed_on(self) -> bool:
        """Whether a field says for whom it was sent on; none of them is among `fields`."""
        return self._section.passed_on

    @property
    def cookies(self) -> tuple[tuple[bytes, bytes], ...]:
        """Name and value of each of promgate's own cookies; they are not among `fields`."""
        return self._section.cookies


def find_head_end(data: bytes, since: int = 0) -> int:
    """The index of the blank line that ends a head, or -1 while it is not there; Unlawful when it cannot come.

    `since` is how much of `data` was searched before.
    """
    end = data.find(b"\r\n\r\n", since - 3 if since > 3 else 0)
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
    """The request head in data[:end], or Unlawful. `known_line`: an `authorization_line` seen before here.

    At `end` stands the empty line, CRLF CRLF.
    """
    if memo.is_fresh:
        memo.forget()
    cut = data.find(b"\r\n")
    first = data[:cut]
    known = memo.lines.get(first)
    line = known or _request_line(first)
    if end - cut > MAX_SECTION_BYTES:
        raise Unlawful("request head too large", 431)
    raw = data[cut : end + 2]  # so that each line has a CRLF on either side
    # Heads of one client differ in their credential and in the length of their body, and in little else: these two
    # lines are taken out, and what is left is mostly known as a whole.
    credential = value = None
    if known_line is not None and (at := raw.find(known_line)) >= 0:
        credential = known_line
        raw = raw[:at] + raw[at + len(known_line) - 2 :]
    length = -1
    at = raw.find(USUAL_LENGTH)
    if at >= 0:
        after = raw.find(b"\r\n", at + len(USUAL_LENGTH))
        digits = raw[at + len(USUAL_LENGTH) : after]
        if digits.isdigit() and len(digits) <= MAX_LENGTH_DIGITS:
            length = int(digits)
            raw = raw[:at] + raw[after:]
    section = memo.sections.get(raw)
    if section is None:
        memo.is_fresh = True
        told = memo.sections.read(raw, MAX_FIELDS - (length >= 0) - (credential is not None))
        section = told.section
        if told.length >= 0:
            if length >= 0:
                raise Unlawful("two Content-Length fields")
            length = told.length
        if told.credential is not None:
            if credential is not None:
                raise Unlawful("two Authorization fields")
            credential, value = told.credential, told.authorization
    if section.host is None and line.minor == 1:
        raise Unlawful("missing Host")
    if section.chunked and (length >= 0 or line.minor == 0):
        # RFC 9112 6.1: a server may let Transfer-Encoding win; what the next server does is not known.
        raise Unlawful("Transfer-Encoding beside Content-Length or in HTTP/1.0")
    if known is None:
        memo.is_fresh = True
        line = _place_line(line, section.host, first, memo)
    return RequestHead(line, section, length, credential, value)


def _place_line(line: RequestLine, host: bytes | None, raw: bytes, memo: RequestMemo) -> RequestLine:
    """A request line that was not seen before with its canonical path, now that Host is known."""
    method, target, minor = line.method, line.path, line.minor
    if target == b"*":
        if method != b"OPTIONS":
            raise Unlawful("the request target must begin with /")
        return line
    path, query = split_target(target, host)
    placed = RequestLine(method, path, query, minor, b"%b %b%b HTTP/1.%d\r\n" % (method, path, query, minor))
    if target[:1] == b"/" and len(raw) <= _MEMO_LINE_BYTES:
        # An absolute form depends on Host too, and is for proxies of another kind.
        memo.note(raw, placed)
    return placed


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
