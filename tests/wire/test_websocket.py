from __future__ import annotations

import pytest

from proxy.wire.response import ResponseMemo, admit_response
from proxy.wire.unlawful import Unlawful
from proxy.wire.websocket import Handshake, accept_of, check_switch, find_handshake
from tests.wire.play import admit, memo, request

#: RFC 6455 1.3
KEY = b"dGhlIHNhbXBsZSBub25jZQ=="
ACCEPT = b"s3pPLMBiTxaQ9kYGzzhZRbK+xOo="

ACCEPTED = b"Sec-WebSocket-Accept: " + ACCEPT
ASKING = {
    "Connection": b"Upgrade",
    "Upgrade": b"websocket",
    "Sec-WebSocket-Key": KEY,
    "Sec-WebSocket-Version": b"13",
}


def found(change=None, *more, line=b"GET /ws HTTP/1.1"):
    """The handshake in a head with these fields; None takes one away."""
    fields = {**ASKING, **(change or {})}
    lines = [b"%b: %b" % (name.encode(), value) for name, value in fields.items() if value is not None]
    return find_handshake(admit(request(*lines, *more, line=line)))


def test_a_handshake():
    assert found() == Handshake(KEY, None)
    assert found({"Connection": b"keep-alive, Upgrade", "Upgrade": b"WebSocket"}) == Handshake(KEY, None)
    assert found({"Origin": b"https://a"}) == Handshake(KEY, b"https://a")
    assert found(None, b"Content-Length: 0") == Handshake(KEY, None)
    assert found(None, b"Sec-WebSocket-Protocol: a", b"Sec-WebSocket-Extensions: permessage-deflate") is not None


@pytest.mark.parametrize(
    ("change", "more", "line"),
    [
        ({"Connection": None}, (), b"GET / HTTP/1.1"),
        ({"Connection": b"keep-alive"}, (), b"GET / HTTP/1.1"),
        ({"Connection": b"close, Upgrade"}, (), b"GET / HTTP/1.1"),
        ({"Connection": b"Upgrade, Sec-WebSocket-Key"}, (), b"GET / HTTP/1.1"),
        ({"Connection": b"Upgrade, Origin", "Origin": b"https://evil"}, (), b"GET / HTTP/1.1"),
        ({"Upgrade": None}, (), b"GET / HTTP/1.1"),
        ({"Upgrade": b"h2c"}, (), b"GET / HTTP/1.1"),
        ({"Upgrade": b"websocket, h2c"}, (), b"GET / HTTP/1.1"),
        ({}, (b"Upgrade: websocket",), b"GET / HTTP/1.1"),
        ({}, (b"Upgrade: h2c",), b"GET / HTTP/1.1"),
        ({"Sec-WebSocket-Key": None}, (), b"GET / HTTP/1.1"),
        ({"Sec-WebSocket-Key": b""}, (), b"GET / HTTP/1.1"),
        ({"Sec-WebSocket-Key": b"dGhlIHNhbXBsZSBub25jZQ="}, (), b"GET / HTTP/1.1"),
        ({"Sec-WebSocket-Key": b"dGhlIHNhbXBsZSBub25jZR=="}, (), b"GET / HTTP/1.1"),
        ({"Sec-WebSocket-Key": b"c2hvcnQ="}, (), b"GET / HTTP/1.1"),
        ({}, (b"Sec-WebSocket-Key: " + KEY,), b"GET / HTTP/1.1"),
        ({"Sec-WebSocket-Version": b"8"}, (), b"GET / HTTP/1.1"),
        ({"Sec-WebSocket-Version": None}, (), b"GET / HTTP/1.1"),
        ({}, (b"Sec-WebSocket-Version: 13",), b"GET / HTTP/1.1"),
        ({"Origin": b"https://a"}, (b"Origin: https://b",), b"GET / HTTP/1.1"),
        ({}, (b"Content-Length: 1",), b"GET / HTTP/1.1"),
        ({}, (b"Transfer-Encoding: chunked",), b"GET / HTTP/1.1"),
        ({}, (b"Expect: 100-continue",), b"GET / HTTP/1.1"),
        ({}, (), b"POST / HTTP/1.1"),
        ({}, (), b"HEAD / HTTP/1.1"),
        ({}, (), b"GET / HTTP/1.0"),
    ],
)
def test_what_is_no_handshake(change, more, line):
    assert found(change, *more, line=line) is None


def test_what_asks_for_it_belongs_to_the_connection_and_is_not_among_what_goes_on():
    head = admit(request(b"Connection: Upgrade", b"Upgrade: websocket", b"Sec-WebSocket-Key: " + KEY))
    assert b"upgrade" not in head.fields.lower()
    assert admit(request(b"Upgrade: websocket")).upgrade == b""


def test_what_a_page_may_hide_a_credential_in_is_not_remembered():
    mine = memo()
    admit(request(b"Sec-WebSocket-Protocol: base64url.bearer.authorization.k8s.io.dG9rZW4"), with_memo=mine)
    mine.keep()
    assert not any(b"bearer" in line for line in mine.sections.fields)


def switched(*fields, line=b"HTTP/1.1 101 Switching Protocols"):
    raw = b"\r\n".join([line, *fields])
    head = admit_response(raw, len(raw), ResponseMemo())
    check_switch(raw, head, KEY)
    return head.sent


def test_the_answer_of_the_rfc():
    assert accept_of(KEY) == ACCEPT
    sent = switched(b"Upgrade: WebSocket", b"Connection: keep-alive, Upgrade", ACCEPTED, b"X: y")
    assert sent == b"HTTP/1.1 101 Switching Protocols\r\nSec-WebSocket-Accept: " + ACCEPT + b"\r\nX: y\r\n"


@pytest.mark.parametrize(
    "fields",
    [
        (),
        (b"Upgrade: websocket", b"Connection: Upgrade"),
        (b"Upgrade: websocket", ACCEPTED),
        (b"Connection: Upgrade", ACCEPTED),
        (b"Upgrade: h2c", b"Connection: Upgrade", ACCEPTED),
        (b"Upgrade: websocket, h2c", b"Connection: Upgrade", ACCEPTED),
        (b"Upgrade: websocket", b"Connection: Upgrade", b"Sec-WebSocket-Accept: " + KEY),
        (b"Upgrade: websocket", b"Connection: Upgrade", b"Sec-WebSocket-Accept: " + ACCEPT.lower()),
        (b"Upgrade: websocket", b"Connection: Upgrade", *2 * (ACCEPTED,)),
        (b"Upgrade: websocket", b"Connection: Upgrade", ACCEPTED, b"Content-Length: 0"),
        (b"Upgrade: websocket", b"Connection: Upgrade", ACCEPTED, b"Transfer-Encoding: chunked"),
    ],
)
def test_what_is_no_answer_to_it(fields):
    with pytest.raises(Unlawful):
        switched(*fields)
