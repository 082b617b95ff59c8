"""The relay's own connections on transports of memory: no socket, no time, thousands of streams a second."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

from proxy.gate.decide import Gate
from proxy.gate.memory import Memory
from proxy.gate.snapshot import Route, Rule, Snapshot, Upstream, Way
from proxy.relay.connection import ClientConnection
from proxy.relay.context import RelayContext
from proxy.relay.pool import Pool
from proxy.relay.upstream import UpstreamConnection
from tests.attacks.recorder import message_end

if TYPE_CHECKING:
    from collections.abc import Sequence

_UPSTREAM = Upstream("127.0.0.1", 1)
_ROUTE = Route("read", "/", _UPSTREAM, ways=frozenset({Way.NONE}), rules=(Rule("anyone"),))
_QUIET_TURNS = 6
_PATIENCE_TURNS = 50


class MemoryTransport:
    """What a protocol needs of a transport; `written` is all that it wrote."""

    def __init__(self) -> None:
        self.written = bytearray()
        self.closed = False
        self.reading = True

    def write(self, data: bytes | memoryview) -> None:
        if not self.closed:
            self.written += data

    def writelines(self, pieces: Sequence[bytes | memoryview]) -> None:
        self.write(b"".join(pieces))

    def close(self) -> None:
        self.closed = True

    abort = close

    def is_closing(self) -> bool:
        return self.closed

    def pause_reading(self) -> None:
        self.reading = False

    def resume_reading(self) -> None:
        self.reading = True

    def set_write_buffer_limits(self, **_: int) -> None: ...

    def get_write_buffer_size(self) -> int:
        return 0

    def get_extra_info(self, name: str, default: Any = None) -> Any:
        return ("127.0.0.1", 1) if name == "peername" else default


class UpstreamTransport(MemoryTransport):
    """Answers each whole request in a later turn of the loop, as a socket would."""

    def __init__(self, pool: MemoryPool) -> None:
        super().__init__()
        self._pool = pool
        self._done = 0
        self.connection: UpstreamConnection | None = None

    def write(self, data: bytes | memoryview) -> None:
        super().write(data)
        _, end = message_end(bytes(self.written[self._done :]))
        if end < 0 or self.closed:
            return
        request = bytes(self.written[self._done : self._done + end])
        self._done += end
        self._pool.requests.append(request)
        answer = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n" + (b"" if request.startswith(b"HEAD") else b"ok")
        asyncio.get_running_loop().call_soon(self._answer, answer)

    def _answer(self, answer: bytes) -> None:
        if not self.closed and self.connection is not None:
            self.connection.data_received(answer)


class MemoryPool(Pool):
    """Always has a connection. `requests` are the whole ones that were sent on any of them."""

    def __init__(self, context: RelayContext) -> None:
        super().__init__(_UPSTREAM, context.response_memo)
        self._responses = context.response_memo
        self.requests: list[bytes] = []

    def take(self) -> UpstreamConnection:
        idle = super().take()
        if idle is not None:
            return idle
        transport = UpstreamTransport(self)
        connection = UpstreamConnection(self, self._responses)
        transport.connection = connection
        connection.connection_made(transport)
        return connection


class InProcess:
    """One relay; `play` is one client's life on it."""

    def __init__(self) -> None:
        self._context = RelayContext(Gate(Snapshot((_ROUTE,)), Memory(bytes(32))), _NeverAsked(), lambda _: None)
        self._runner = asyncio.Runner()

    def close(self) -> None:
        self._runner.close()

    def play(self, pieces: Sequence[bytes]) -> tuple[list[bytes], bytes]:
        """(the whole requests that went up, what the client got) for one connection that sends `pieces`."""
        return self._runner.run(self._play(pieces))

    async def _play(self, pieces: Sequence[bytes]) -> tuple[list[bytes], bytes]:
        faults: list[dict[str, Any]] = []
        asyncio.get_running_loop().set_exception_handler(lambda _, what: faults.append(what))
        pool = MemoryPool(self._context)
        self._context.backends = {_ROUTE.name: pool}
        transport = MemoryTransport()
        client = ClientConnection(self._context, "http")
        client.connection_made(transport)
        for piece in pieces:
            for _ in range(_PATIENCE_TURNS):
                if transport.reading or transport.closed:
                    break
                await asyncio.sleep(0)
            if transport.closed:
                break
            client.data_received(piece)  # also while reading is held: TLS may have decrypted it before
        quiet, seen = 0, -1
        while quiet < _QUIET_TURNS:
            await asyncio.sleep(0)
            progress = len(transport.written) + len(pool.requests)
            quiet, seen = (quiet + 1, seen) if progress == seen else (0, progress)
        client.connection_lost(None)
        assert not faults, faults
        return pool.requests, bytes(transport.written)


class _NeverAsked:
    async def answer(self, question: object) -> Any:
        raise AssertionError(f"asked {question!r} on an open route")
