"""What the tests of the wire say to it."""

from __future__ import annotations

from proxy.gate.edits import IDENTITY_FIELDS
from proxy.wire.head import RequestHead, RequestMemo, admit_request
from proxy.wire.unlawful import Unlawful


def memo():
    return RequestMemo(IDENTITY_FIELDS)


def admit(data, *, with_memo=None, known_line=None):
    """The head of `data`, which ends with its blank line."""
    assert data.endswith(b"\r\n\r\n")
    return admit_request(data, len(data) - 4, with_memo or memo(), known_line)


def request(*fields, line=b"GET / HTTP/1.1", host=b"Host: a"):
    return b"\r\n".join([line, *([host] if host else []), *fields, b"", b""])


def verdict(judge, *args, **kwargs):
    """All that can be told of a judgement, as a value: what was admitted, or how it was refused."""
    try:
        admitted = judge(*args, **kwargs)
    except Unlawful as wrong:
        return wrong.status, wrong.text
    if isinstance(admitted, RequestHead):
        seen = [name for name in RequestHead.__slots__ if name != "_section"]
        return {name: getattr(admitted, name) for name in (*seen, "upgrade", "cookies")}
    return admitted


def refusal(judge, *args, **kwargs):
    """The status of the refusal, or None."""
    try:
        judge(*args, **kwargs)
    except Unlawful as wrong:
        return wrong.status
    return None
