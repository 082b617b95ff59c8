"""An upstream's response head, judged as strictly as a client's request: what is unlawful becomes 502."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from proxy.wire import fields as f
from proxy.wire.unlawful import Unlawful

if TYPE_CHECKING:
    from proxy.wire.fields import FieldMemo

MAX_HEAD_BYTES = 64 * 1024
MAX_FIELDS = 1000

#: RFC 9112 4: HTTP-version SP status-code SP [ reason-phrase ]; the last SP is often left out.
_STATUS_LINE = re.compile(rb"HTTP/1\.([01]) ([1-9][0-9]{2})(?: ([\t \x21-\x7e\x80-\xff]*))?").fullmatch


class ResponseHead:
    """One lawful response head. `sent` begins with the status line as we send it; `length` is -1 without one."""

    __slots__ = ("chunked", "close", "length", "sent", "status")

    def __init__(self, status: int, line: bytes) -> None:
        self.status = status
        self.sent = [line]
        self.length = -1
        self.chunked = False
        self.close = False


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


def admit_response(data: bytes, end: int, memo: FieldMemo) -> ResponseHead:
    """The response head in data[:end], or Unlawful (the caller answers 502 and closes that connection)."""
    lines = data[:end].split(b"\r\n")
    if len(lines) > MAX_FIELDS + 1 or end > MAX_HEAD_BYTES:
        raise Unlawful("response head too large")
    status, first, old = _statuses[lines[0]]
    del lines[0]
    head = ResponseHead(status, first)
    named: list[bytes] | None = None
    send = head.sent.append
    for line in lines:
        verdict = memo[line]
        if verdict.__class__ is bytes:
            send(verdict)
            continue
        kind, value, sent = verdict
        if kind == f.LENGTH:
            if head.length >= 0:
                raise Unlawful("two Content-Length fields")
            head.length = int(value)
            send(sent)  # type: ignore[arg-type]
        elif kind != f.DROP:
            named = _special(head, kind, value, sent, named)  # type: ignore[arg-type]
    if old:
        head.close = True
    if head.chunked and (head.length >= 0 or old):
        raise Unlawful("Transfer-Encoding beside Content-Length or in HTTP/1.0")
    if named:
        drop = set(named) - _FRAMING
        head.sent[1:] = [sent for sent in head.sent[1:] if f.field_name(sent) not in drop]
    if memo.fresh:
        memo.keep()
    return head


def _special(
    head: ResponseHead, kind: int, value: bytes, sent: bytes, named: list[bytes] | None
) -> list[bytes] | None:
    if kind == f.ENCODING:
        if head.chunked:
            raise Unlawful("two Transfer-Encoding fields")
        head.chunked = True
        head.sent.append(sent)
    elif kind == f.CONNECTION:
        options = f.listed(value)
        if b"close" in options:
            head.close = True
        rest = [name for name in options if name not in {b"close", b"keep-alive"}]
        if rest:
            return (named or []) + rest
    return named
