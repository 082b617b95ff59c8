"""`promgate token revoke` closes the websockets and event streams of the token, in the server that runs."""

from __future__ import annotations

import socket
import ssl
import threading
import time
from typing import TYPE_CHECKING

import pytest

from proxy.wire.websocket import accept_of
from tests.kit.promgate import Promgate

if TYPE_CHECKING:
    from pathlib import Path

_KEY = b"dGhlIHNhbXBsZSBub25jZQ=="
_CONSENT = (
    b"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Accept: "
    + accept_of(_KEY)
    + b"\r\n\r\n"
)
_EVENTS = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n\r\ndata: 1\n\n"
_ASK = b"Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: %b\r\n" % _KEY


def _upstream() -> tuple[socket.socket, int]:
    """It consents to each websocket, begins a stream for anything else, and then is silent until it is left."""
    listener = socket.create_server(("127.0.0.1", 0))

    def play(peer: socket.socket) -> None:
        with peer:
            request = b""
            while b"\r\n\r\n" not in request and (data := peer.recv(65536)):
                request += data
            peer.sendall(_CONSENT if b"Upgrade: websocket" in request else _EVENTS)
            while peer.recv(65536):
                pass

    def accept() -> None:
        while True:
            try:
                peer, _ = listener.accept()
            except OSError:
                return
            threading.Thread(target=play, args=(peer,), daemon=True).start()

    threading.Thread(target=accept, daemon=True).start()
    return listener, listener.getsockname()[1]


@pytest.mark.parametrize(("path", "asks", "status"), [("/ws", _ASK, b"101"), ("/events", b"", b"200")])
def test_a_revocation_closes_what_the_token_holds_open(
    tmp_path: Path, path: str, asks: bytes, status: bytes
) -> None:
    listener, port = _upstream()
    route = {"name": "live", "path": "/", "upstream": f"http://127.0.0.1:{port}", "websocket": True}
    config = {
        "roles": {"viewer": ["token:dashboard"]},
        "routes": [{**route, "auth": ["bearer"], "allow": ["viewer"]}],
    }
    with Promgate(tmp_path, config) as promgate, listener:
        secret = promgate.token("create", "dashboard", "--kind", "reader")
        trust = ssl.create_default_context(cafile=promgate.ca_file)
        with (
            socket.create_connection(("127.0.0.1", promgate.port), 20) as plain,
            trust.wrap_socket(plain, server_hostname="localhost") as client,
        ):
            head = f"GET {path} HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {secret}\r\n".encode()
            client.sendall(head + asks + b"\r\n")
            assert client.recv(65536).split(b" ")[1] == status
            began = time.monotonic()
            promgate.token("revoke", "dashboard")
            client.settimeout(20)
            try:
                while client.recv(65536):
                    pass
            except (ConnectionError, ssl.SSLError):
                pass  # it is cut: no close_notify
            assert time.monotonic() - began < 20
        logged = promgate.wait_request(lambda line: line["path"] == path, "the end of the stream in the access log")
        assert (logged["status"], logged["reason"]) == (int(status), "token_revoked")
