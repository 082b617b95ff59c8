"""Memory: of a process at start and after the runs, and of one idle TLS connection that has been used.

A connection counts as used once it has carried 1 MB down and 200 KB up. Its price is a slope: how the memory of the
process grows from FEW to MANY such connections, so that what is paid once is not counted.
"""

from __future__ import annotations

import contextlib
import http.client
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

from bench.process import BenchError
from bench.proof import WRITE_PATH

if TYPE_CHECKING:
    from bench.process import Child, Memory
    from bench.servers import Server
    from bench.stage import Stage

FEW = 100
DOWN_PATH = "/prometheus/answer/1m"
DOWN_BYTES = 1 << 20


@dataclass(frozen=True, slots=True)
class Idle:
    """KiB of PSS that each of `connections` idle used connections holds."""

    server: str
    connections: int
    kib_per_connection: float


def measure_idle(stage: Stage, server: Server, connections: int) -> Idle:
    with contextlib.ExitStack() as held:
        _open_used(stage, server, FEW, held)
        few = _settled(server.child)
        _open_used(stage, server, connections, held)
        many = _settled(server.child)
    return Idle(server.name, connections, (many.pss_kib - few.pss_kib) / connections)


def _open_used(stage: Stage, server: Server, count: int, held: contextlib.ExitStack) -> None:
    body = stage.body("200k").read_bytes()
    context = stage.client_context()
    for _ in range(count):
        connection = http.client.HTTPSConnection("127.0.0.1", server.port, timeout=20.0, context=context)
        held.callback(connection.close)
        for method, path, token, sent, size in (
            ("GET", DOWN_PATH, server.tokens.read, None, DOWN_BYTES),
            ("POST", WRITE_PATH, server.tokens.write, body, 0),
        ):
            connection.request(method, path, sent, {"Authorization": f"Bearer {token}"})
            got = len(connection.getresponse().read())
            if got != size:
                raise BenchError(f"{server.name} gave {got} bytes instead of {size} for {path}")


def _settled(child: Child, pause_s: float = 0.5, timeout_s: float = 10.0) -> Memory:
    """Once the memory no longer moves: a server may give back buffers some time after the last byte."""
    end = time.monotonic() + timeout_s
    last = child.memory()
    while time.monotonic() < end:
        time.sleep(pause_s)
        now = child.memory()
        if now == last:
            break
        last = now
    return last
