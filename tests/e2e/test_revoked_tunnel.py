"""`promgate token revoke` closes the websockets and event streams of the token, in the server that runs."""

from __future__ import annotations

import socket
import ssl
import time
from typing import TYPE_CHECKING

import pytest

from tests.kit.promgate import Promgate
from tests.kit.silent_upstream import HANDSHAKE, silent_upstream

if TYPE_CHECKING:
    from pathlib import Path

@pytest.mark.parametrize(("path", "asks", "status"), [("/ws", HANDSHAKE, b"101"), ("/events", b"", b"200")])
def test_a_revocation_closes_what_the_token_holds_open(
    tmp_path: Path, path: str, asks: bytes, status: bytes
) -> None:
    listener, port = silent_upstream()
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
