"""Before anything is timed: each server is shown to do the work it is timed for."""

from __future__ import annotations

import http.client
from typing import TYPE_CHECKING

from bench.process import BenchError

if TYPE_CHECKING:
    import ssl
    from collections.abc import Iterator
    from pathlib import Path

    from bench.servers import Server
    from bench.stage import Stage

WRITE_PATH = "/prometheus/api/v1/write"
READ_PATH = "/prometheus/api/v1/query?query=up"
KEPT_ALIVE = 20


def prove(stage: Stage, server: Server) -> str:
    """The TLS agreed on. BenchError unless tokens are checked, bodies whole, connections kept, requests logged."""
    if server.is_direct:
        return "none"
    context = stage.client_context()
    connection = http.client.HTTPSConnection("127.0.0.1", server.port, timeout=10.0, context=context)
    connection.connect()
    socket: ssl.SSLSocket = connection.sock
    cipher = socket.cipher()
    tls = f"{socket.version()} {cipher[0] if cipher else '?'}"
    _require(socket.version() == "TLSv1.3", server, f"speaks {socket.version()}, not TLSv1.3")
    before = _size(server.access_log)
    try:
        _prove_requests(stage, server, connection)
    finally:
        connection.close()
    server.child.await_that(
        lambda: _size(server.access_log) > before + KEPT_ALIVE * 20, f"{server.name} to write its access log"
    )
    _prove_refusal(server, context)
    return tls


def _prove_requests(stage: Stage, server: Server, connection: http.client.HTTPSConnection) -> None:
    body = stage.body("200k").read_bytes()
    upstream = stage.upstream

    def chunks() -> Iterator[bytes]:
        for at in range(0, len(body), 10_000):
            yield body[at : at + 10_000]

    for kind, sent in (("Content-Length", body), ("chunked", chunks())):
        before = upstream.counters()
        status = _ask(connection, "POST", WRITE_PATH, server.tokens.write, sent)
        arrived = upstream.counters().body_bytes - before.body_bytes
        _require(status == 204, server, f"answers {status} to a {kind} write with the right token")
        _require(arrived == len(body), server, f"passed {arrived} of {len(body)} bytes of a {kind} body")

    before = upstream.counters()
    for _ in range(KEPT_ALIVE):
        status = _ask(connection, "GET", READ_PATH, server.tokens.read)
        _require(status == 200, server, f"answers {status} to a query with the right token")
    after = upstream.counters()
    _require(after.requests - before.requests == KEPT_ALIVE, server, "answers some queries by itself")
    opened = after.connections - before.connections
    _require(opened <= 1, server, f"opened {opened} upstream connections for {KEPT_ALIVE} requests")


def _size(log: Path | None) -> int:
    return log.stat().st_size if log is not None and log.exists() else 0


def _prove_refusal(server: Server, context: ssl.SSLContext) -> None:
    for method, path, right in (("GET", READ_PATH, server.tokens.read), ("POST", WRITE_PATH, server.tokens.write)):
        wrong = right[:-1] + ("0" if right[-1] != "0" else "1")
        connection = http.client.HTTPSConnection("127.0.0.1", server.port, timeout=10.0, context=context)
        status = _ask(connection, method, path, wrong, b"x" if method == "POST" else None)
        connection.close()
        _require(status == 401, server, f"answers {status} instead of 401 to a {method} with a wrong token")


def _ask(
    connection: http.client.HTTPSConnection,
    method: str,
    path: str,
    token: str,
    body: bytes | Iterator[bytes] | None = None,
) -> int:
    connection.request(method, path, body, {"Authorization": f"Bearer {token}"})
    answer = connection.getresponse()
    answer.read()
    return answer.status


def _require(holds: bool, server: Server, what: str) -> None:  # noqa: FBT001 - reads as an assertion
    if not holds:
        raise BenchError(f"{server.name} {what}: it does not do the work it would be timed for")
