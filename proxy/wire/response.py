"""An upstream's response head, judged as strictly as a client's request: what is unlawful becomes 502."""

from __future__ import annotations

import re

from proxy.wire import fields as f
from proxy.wire.cookies import sets_own
from proxy.wire.fields import FieldMemo
from proxy.wire.unlawful import Unlawful

MAX_HEAD_BYTES = 64 * 1024
MAX_FIELDS = 1000
_MEMO_HEADS = 512
_MEMO_HEAD_BYTES = 1024

#: RFC 9112 4: HTTP-version SP status-code SP [ reason-phrase ]; the last SP is often left out.
_STATUS_LINE = re.compile(rb"HTTP/1\.([01]) ([1-9][0-9]{2})(?: ([\t \x21-\x7e\x80-\xff]*))?").fullmatch


class ResponseHead:
    """One lawful response head, never changed once it is admitted: many answers may share it.

    `sent` is the status line and the field lines as we send them, each with its CRLF; `length` is -1 without one;
    `is_verbatim`: they are sent as they came. `streams`: its body is one of events (HTML 9.2), and may go on for ever.
    """

    __slots__ = ("chunked", "close", "is_verbatim", "length", "sent", "status", "streams")

    def __init__(self, status: int) -> None:
        self.status = status
        self.sent = b""
        self.length = -1
        self.chunked = False
        self.close = False
        self.is_verbatim = False
        self.streams = False


class ResponseMemo:
    """Field lines, and whole heads, that were judged before.

    `may_set_own`: of an upstream that is promgate itself; what others set by the name of our cookies is taken out.
    Within one second (Date) an upstream that answers alike answers with the same octets. Cookies are credentials,
    and no head that sets one is kept.
    """

    __slots__ = ("fields", "heads", "may_set_own")

    def __init__(self, *, may_set_own: bool = False) -> None:
        self.may_set_own = may_set_own
        self.fields = FieldMemo(f.RESPONSE_FIELDS)
        self.heads: dict[bytes, ResponseHead] = {}

    def keep(self, raw: bytes, head: ResponseHead) -> None:
        if len(raw) > _MEMO_HEAD_BYTES or b"set-cookie" in raw.lower():
            return
        if len(self.heads) >= _MEMO_HEADS:
            self.heads.clear()
        self.heads[raw] = head


class StatusMemo(dict[bytes, tuple[int, bytes, bool]]):
    """status line -> (status, the line as we send it, whether an HTTP/1.0 server wrote it)."""

    def __missing__(self, line: bytes) -> tuple[int, bytes, bool]:
        match = _STATUS_LINE(line)
        if match is None or int(match[2]) > 599:
            raise Unlawful("malformed status line")
        parsed = (int(match[2]), b"HTTP/1.1 %b %b\r\n" % (match[2], match[3] or b""), match[1] == b"0")
        if len(self) < 256:
            self[line] = parsed
        return parsed


_statuses = StatusMemo()

#: Naming these in Connection changes nothing: an answer without its framing would never end.
_FRAMING = frozenset({b"content-length", b"transfer-encoding"})


def admit_response(data: bytes, end: int, memo: ResponseMemo) -> ResponseHead:
    """The response head in data[:end], or Unlawful (the caller answers 502 and closes that connection)."""
    raw = data[:end]
    known = memo.heads.get(raw)
    if known is not None:
        return known
    head = _admit(raw, memo.fields, may_set_own=memo.may_set_own)
    if memo.fields.fresh:
        memo.fields.keep()
    memo.keep(raw, head)
    return head


def _admit(raw: bytes, fields: FieldMemo, *, may_set_own: bool) -> ResponseHead:
    lines = raw.split(b"\r\n")
    if len(lines) > MAX_FIELDS + 1 or len(raw) > MAX_HEAD_BYTES:
        raise Unlawful("response head too large")
    status, first, old = _statuses[lines[0]]
    del lines[0]
    head = ResponseHead(status)
    sent = [first]
    named: list[bytes] | None = None
    for line in lines:
        verdict = fields[line]
        if isinstance(verdict, bytes):
            sent.append(verdict)
            continue
        kind, value, as_sent = verdict
        if kind == f.LENGTH:
            if head.length >= 0:
                raise Unlawful("two Content-Length fields")
            head.length = int(value)
            sent.append(as_sent)
        elif kind == f.ENCODING:
            if head.chunked:
                raise Unlawful("two Transfer-Encoding fields")
            head.chunked = True
            sent.append(as_sent)
        elif kind == f.SET_COOKIE:
            if may_set_own or not sets_own(value):
                sent.append(as_sent)
        elif kind == f.CONNECTION:
            named = (named or []) + f.listed(value)
    if head.chunked and (head.length >= 0 or old):
        raise Unlawful("Transfer-Encoding beside Content-Length or in HTTP/1.0")
    if status == 204 and (head.chunked or head.length > 0):
        raise Unlawful("204 with a body")  # RFC 9110 15.3.5: its octets would be taken for the next answer
    head.close = old or (named is not None and b"close" in named)
    head.sent = b"".join([sent[0], *f.without(sent[1:], named, _FRAMING)] if named else sent)
    head.is_verbatim = head.sent == raw + b"\r\n"
    head.streams = b"\r\ncontent-type: text/event-stream" in head.sent.lower()
    return head
