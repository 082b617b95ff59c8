"""What a token holds open ends with it, in the server that runs: websockets and event streams.

A token of the store ends by `promgate token revoke`, one that the configuration lists by a reload without it.
"""

from __future__ import annotations

import os
import signal
import socket
import ssl
import time
from hashlib import sha256
from typing import TYPE_CHECKING

import pytest

from tests.kit.promgate import Promgate
from tests.kit.silent_upstream import HANDSHAKE, silent_upstream

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

BOTH = pytest.mark.parametrize(("path", "asks", "status"), [("/ws", HANDSHAKE, b"101"), ("/events", b"", b"200")])


def _live(port: int) -> dict[str, object]:
    return {"name": "live", "path": "/", "upstream": f"http://127.0.0.1:{port}", "websocket": True}


def _wait_cut(
    promgate: Promgate, path: str, asks: bytes, status: bytes, secret: str, end: Callable[[], object]
) -> None:
    """Open `path` with this token, `end` it, and see it cut."""
    trust = ssl.create_default_context(cafile=promgate.ca_file)
    with (
        socket.create_connection(("127.0.0.1", promgate.port), 20) as plain,
        trust.wrap_socket(plain, server_hostname="localhost") as client,
    ):
        head = f"GET {path} HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {secret}\r\n".encode()
        client.sendall(head + asks + b"\r\n")
        assert client.recv(65536).split(b" ")[1] == status
        began = time.monotonic()
        end()
        client.settimeout(20)
        try:
            while client.recv(65536):
                pass
        except (ConnectionError, ssl.SSLError):
            pass  # it is cut: no close_notify
        assert time.monotonic() - began < 20
    logged = promgate.wait_request(lambda line: line["path"] == path, "the end of the stream in the access log")
    assert (logged["status"], logged["reason"]) == (int(status), "token_revoked")


@BOTH
def test_a_revocation_closes_what_the_token_holds_open(tmp_path: Path, path: str, asks: bytes, status: bytes) -> None:
    listener, port = silent_upstream()
    config = {
        "roles": {"viewer": ["token:dashboard"]},
        "routes": [{**_live(port), "auth": ["bearer"], "allow": ["viewer"]}],
    }
    with Promgate(tmp_path, config) as promgate, listener:
        secret = promgate.token("create", "dashboard", "--kind", "reader")
        _wait_cut(promgate, path, asks, status, secret, lambda: promgate.token("revoke", "dashboard"))


@BOTH
def test_so_does_a_reload_that_lists_it_no_more(tmp_path: Path, path: str, asks: bytes, status: bytes) -> None:
    listener, port = silent_upstream()
    secret = "a-secret-of-nobody-but-this-test"
    listed = f"sha256:{sha256(secret.encode()).hexdigest()}"
    config = {
        "write_tokens": {"edge": [listed, f"sha256:{'1' * 64}"]},
        "routes": [{**_live(port), "auth": ["write_token"], "allow": ["write"]}],
    }
    with Promgate(tmp_path, config) as promgate, listener:
        assert listed in promgate.config_file.read_text()

        def take_away() -> None:
            promgate.config_file.write_text(promgate.config_file.read_text().replace(f"- {listed}\n", ""))
            os.kill(promgate.pid, signal.SIGHUP)

        _wait_cut(promgate, path, asks, status, secret, take_away)
