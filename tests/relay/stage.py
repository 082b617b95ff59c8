"""A whole relay in the test's own process: real sockets, a real loop, and an upstream that keeps to a script.

    @on_a_loop
    async def test_something():
        async with upstream(answering(OK)) as origin, stage(origin.port) as relay:
            client = await relay.client()
"""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import functools
import secrets
import socket
from pathlib import Path
from time import monotonic
from typing import TYPE_CHECKING, Any

import pytest
import uvloop

from proxy.gate.ask import ABSENT
from proxy.gate.decide import Gate
from proxy.gate.memory import Memory
from proxy.gate.snapshot import Bounds, RateLimit, Route, RouteKind, Rule, Snapshot, Timeouts, Upstream, Way
from proxy.relay.context import RelayContext
from proxy.relay.listener import Listeners
from proxy.relay.upstream import WRITE_LIMIT
from proxy.tokens.ports import Changes
from proxy.tokens.secret import SCHEME, mint
from proxy.tokens.token import Token, TokenKind
from tests.relay.peer import Cut, Message, Peer

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine

    from proxy.gate.ask import Answer, Question
    from proxy.observe.outcome import Outcome
    from proxy.pki.groups import ServerContext
    from proxy.tokens.secret import Minted

OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"
both_loops = pytest.mark.parametrize("loop", ["asyncio", "uvloop"])
_SWEEP_S = 0.1
#: Nothing is measured by these two: they end what would never end, on however busy a machine.
_TEST_S = 90.0
_UNTIL_S = 30.0


def on_a_loop(test: Callable[..., Coroutine[Any, Any, None]]) -> Callable[..., None]:
    """Run the test under uvloop, or the loop named by its argument `loop`; what the loop had to catch fails it."""

    @functools.wraps(test)
    def run(**given: Any) -> None:
        async def watched() -> None:
            faults: list[dict[str, Any]] = []
            asyncio.get_running_loop().set_exception_handler(lambda _, what: faults.append(what))
            async with asyncio.timeout(_TEST_S):
                await test(**given)
            assert faults == []

        factory = asyncio.new_event_loop if given.get("loop") == "asyncio" else uvloop.new_event_loop
        with asyncio.Runner(loop_factory=factory) as runner:
            runner.run(watched())

    return run


async def until(condition: Callable[[], object], timeout_s: float = _UNTIL_S) -> None:
    async with asyncio.timeout(timeout_s):
        while not condition():  # noqa: ASYNC110 - conditions have no event to wait for
            await asyncio.sleep(0.005)


class Lag:
    """How late the loop has given turns since this was made: what a busy machine adds to a deadline."""

    _EACH_S = 0.02

    def __init__(self) -> None:
        self.late_s = 0.0
        self._feeling = asyncio.create_task(self._feel())  # ended with its loop

    async def _feel(self) -> None:
        while True:
            since = monotonic()
            await asyncio.sleep(self._EACH_S)
            self.late_s += max(0.0, monotonic() - since - 1.5 * self._EACH_S)


# The upstream


def answer(body: bytes) -> bytes:
    return b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%b" % (len(body), body)


def live(origin: ScriptedUpstream) -> list[Peer]:
    """Its connections that neither the relay nor the end of the script has closed."""
    return [peer for peer in origin.peers if not gone(peer)]


def gone(peer: Peer) -> bool:
    return peer.sock.fileno() < 0


class ScriptedUpstream:
    """Each connection is played by `script(peer)` and closed after it; a script ends early when the relay leaves."""

    def __init__(self, script: Callable[[Peer], Awaitable[None]], port: int | Path) -> None:
        self.peers: list[Peer] = []
        self.requests: list[Message] = []
        self.faults: list[BaseException] = []
        self._script = script
        self._plays: set[asyncio.Task[None]] = set()
        if isinstance(port, Path):
            self._listener = socket.socket(socket.AF_UNIX)
            self._listener.bind(str(port))
            self._listener.listen(256)
        else:
            self._listener = socket.create_server(("127.0.0.1", port), backlog=256)
            self.port: int = self._listener.getsockname()[1]
        self._listener.setblocking(False)
        self._accepting = asyncio.create_task(self._accept())

    async def _accept(self) -> None:
        while True:
            sock, _ = await asyncio.get_running_loop().sock_accept(self._listener)
            sock.setblocking(False)
            peer = Peer(sock, self.requests)
            self.peers.append(peer)
            play = asyncio.create_task(self._play(peer))
            self._plays.add(play)
            play.add_done_callback(self._plays.discard)

    async def _play(self, peer: Peer) -> None:
        try:
            await self._script(peer)
        except (Cut, ConnectionError):
            pass
        except Exception as fault:  # noqa: BLE001 - told at the end of the test
            self.faults.append(fault)
        finally:
            peer.close()

    async def stop(self) -> None:
        """As a process that is killed: all connections end, and the port refuses."""
        tasks = [self._accepting, *self._plays]
        for task in tasks:
            task.cancel()
        await asyncio.wait(tasks)
        self._listener.close()


@contextlib.asynccontextmanager
async def upstream(
    script: Callable[[Peer], Awaitable[None]], port: int | Path = 0
) -> AsyncIterator[ScriptedUpstream]:
    """At a TCP port, or at a unix socket's path."""
    playing = ScriptedUpstream(script, port)
    try:
        yield playing
    finally:
        await playing.stop()
        assert playing.faults == []


def answering(*answers: bytes) -> Callable[[Peer], Awaitable[None]]:
    """Take whole requests and give these answers in turn, the last one for ever after; keep the connection."""

    async def script(peer: Peer) -> None:
        turn = 0
        while True:
            await peer.message()
            await peer.send(answers[min(turn, len(answers) - 1)])
            turn += 1

    return script


class Filling:
    """An upstream whose answer ends with the very piece that fills the relay's buffer for who does not read."""

    _PIECE = 64 * 1024

    def __init__(self) -> None:
        self.size = 0
        self._pieces: asyncio.Queue[bool] = asyncio.Queue()

    async def script(self, peer: Peer) -> None:
        await peer.message()
        await peer.send(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
        last = False
        while not last:
            last = await self._pieces.get()
            chunk = b"%x\r\n%b\r\n" % (self._PIECE, bytes(self._PIECE))
            await peer.send(chunk + b"0\r\n\r\n" if last else chunk)
        await answering(OK)(peer)

    async def fill(self, relay: Stage) -> None:
        """`relay` has one connection, with its request to us under way."""
        await until(lambda: any(connection.exchange for connection in relay.context.connections))
        (connection,) = relay.context.connections
        exchange = connection.exchange
        last = False
        while not last:
            last = relay.unsent() > WRITE_LIMIT - self._PIECE
            self._pieces.put_nowait(last)
            self.size += self._PIECE
            await until(lambda: exchange.bytes_out >= self.size)


# The relay


class Nobody:
    """The finder of a relay without a store."""

    async def answer(self, _question: Question) -> Answer:
        return ABSENT


def routes(port: int | Path, limit: RateLimit | None = None) -> tuple[Route, ...]:
    """`/` is open to anyone, `/plain` to the token, `/write` to it for remote write; the last two are `limit`ed."""
    there = Upstream("", 0, str(port)) if isinstance(port, Path) else Upstream("127.0.0.1", port)
    token = frozenset({Way.WRITE_TOKEN})
    write = (Rule("write"),)
    return (
        Route("open", "/", there, ways=frozenset({Way.NONE}), rules=(Rule("anyone"),), max_body_bytes=2 << 30),
        Route("plain", "/plain", there, ways=token, rules=write, rate_limit=limit),
        Route("write", "/write", there, RouteKind.REMOTE_WRITE, token, write, frozenset({b"POST"}), limit),
        Route("small", "/small", there, ways=frozenset({Way.NONE}), rules=(Rule("anyone"),), max_body_bytes=1000),
    )


class Stage:
    def __init__(self, snapshot: Snapshot, finder: Any, context: ServerContext | None) -> None:
        self.outcomes: list[Outcome] = []
        self.memory = Memory(secrets.token_bytes(32))
        minted = mint(TokenKind.WRITE, secrets.token_bytes)
        self.bearer = f"Authorization: Bearer {minted.secret.reveal()}\r\n".encode()
        self.memory.book.apply(
            Changes(1, (Token(minted.id, "sender", TokenKind.WRITE, minted.digest, SCHEME, 0.0, 0.0),))
        )
        self.context = RelayContext(Gate(snapshot, self.memory), finder, self.outcomes.append)
        self.context.use_upstreams(snapshot.routes)
        self.listeners = Listeners(self.context, context)
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.port: int = free.getsockname()[1]
        self._clients: list[Peer] = []

    def learn(self, minted: Minted) -> None:
        """Take a token into the book, as a look into the store would."""
        token = Token(minted.id, "new", TokenKind.WRITE, minted.digest, SCHEME, 0.0, 0.0)
        self.memory.book.apply(Changes(self.memory.book.generation + 1, (token,)))

    async def client(self, first: bytes = b"", **options: Any) -> Peer:
        """A new connection on which `first` was sent."""
        peer = await Peer.connect(self.port, **options)
        self._clients.append(peer)
        await peer.send(first)
        return peer

    async def reasons(self, count: int) -> list[str]:
        """The reasons of all outcomes, once there are `count`."""
        await until(lambda: len(self.outcomes) >= count)
        return [str(outcome.reason) for outcome in self.outcomes]

    def unsent(self) -> int:
        """What waits in the relay's memory for the one client to read it."""
        return sum(connection._out._transport.get_write_buffer_size() for connection in self.context.connections)

    def unsent_up(self) -> int:
        """What waits in the relay's memory for the upstreams to read it."""
        pools = self.context.pools.values()
        return sum(connection._transport.get_write_buffer_size() for pool in pools for connection in pool._all)

    def held(self) -> int:
        """What the relay has taken of requests that it cannot send on yet."""
        return sum(
            len(connection._buffer) + sum(map(len, connection.exchange._pending if connection.exchange else ()))
            for connection in self.context.connections
        )

    async def sweep(self) -> None:
        while True:
            await asyncio.sleep(_SWEEP_S)
            self.listeners.sweep(monotonic())

    async def stop(self) -> None:
        for client in self._clients:
            client.close()
        self.listeners.close()
        for pool in self.context.pools.values():
            pool.close()
        await until(lambda: not self.context.connections)


@contextlib.asynccontextmanager
async def stage(
    port: int | Path,
    *,
    limit: RateLimit | None = None,
    bounds: Bounds | None = None,
    finder: Any = None,
    context: ServerContext | None = None,
    change: Callable[[Snapshot], Snapshot] = lambda snapshot: snapshot,
    proxied: bool = False,
    **timeouts: float,
) -> AsyncIterator[Stage]:
    """A relay before the upstream at `port`; `timeouts` replace those of gate.snapshot.Timeouts, `change` anything."""
    snapshot = Snapshot(
        routes(port, limit), timeouts=dataclasses.replace(Timeouts(), **timeouts), bounds=bounds or Bounds()
    )
    relay = Stage(change(snapshot), finder or Nobody(), context)
    await relay.listeners.open([("127.0.0.1", relay.port)], proxied=proxied)
    sweeping = asyncio.create_task(relay.sweep())
    try:
        yield relay
    finally:
        sweeping.cancel()
        await relay.stop()


def get(path: str = "/x", *fields: bytes, method: str = "GET") -> bytes:
    return f"{method} {path} HTTP/1.1\r\nHost: h\r\n".encode() + b"".join(fields) + b"\r\n"


def post(path: str, body: bytes, *fields: bytes, length: int | None = None) -> bytes:
    """A POST; `length` announces more than `body`, which is the beginning then."""
    announced = b"Content-Length: %d\r\n" % (len(body) if length is None else length)
    return get(path, announced, *fields, method="POST") + body
