"""Websockets: nothing goes up before the upstream's consent, bytes pass as they are, and each one ends in time."""

from __future__ import annotations

import asyncio
import ssl
from dataclasses import replace
from datetime import UTC, datetime

import pytest

from proxy.pki.authority import Leaf, issue, make_authority
from proxy.pki.context import build_server_context
from proxy.relay.revoked import end_revoked
from proxy.relay.upstream import WRITE_LIMIT
from proxy.tokens.ports import Changes
from proxy.wire.websocket import accept_of
from tests.relay import tls_peer
from tests.relay.peer import Cut
from tests.relay.stage import OK, answering, both_loops, get, live, on_a_loop, stage, until, upstream
from tests.wire.test_websocket import KEY

ASK = (
    b"Connection: Upgrade\r\n",
    b"Upgrade: websocket\r\n",
    b"Sec-WebSocket-Version: 13\r\n",
    b"Sec-WebSocket-Key: " + KEY + b"\r\n",
)
FRAME = b"\x81\x85\x37\xfa\x21\x3d\x7f\x9f\x4d\x51\x58"
MB = 1 << 20


@pytest.fixture(scope="module")
def pki(tmp_path_factory):
    directory = tmp_path_factory.mktemp("pki")
    make_authority(directory, datetime.now(UTC))
    issue(directory, Leaf("one", dns=["localhost"]), datetime.now(UTC))
    return directory


def consent(key=KEY):
    return (
        b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
        b"Sec-WebSocket-Accept: " + accept_of(key) + b"\r\n\r\n"
    )


def live_routes(snapshot):
    return replace(snapshot, routes=tuple(replace(one, websocket=one.name != "write") for one in snapshot.routes))


def opened(port, **more):
    return stage(port, change=live_routes, **more)


class Server:
    """An upstream that consents, and then is the test's to play."""

    def __init__(self, early=b""):
        self.early = early
        self.peer = None
        self.ended = asyncio.Event()

    async def script(self, peer):
        request = await peer.head()
        peer.messages.append(request)
        await peer.send(consent() + self.early)
        self.peer = peer
        await self.ended.wait()

    async def there(self):
        await until(lambda: self.peer is not None)
        return self.peer


@both_loops
@on_a_loop
async def test_frames_pass_both_ways_as_they_are(loop):
    server = Server(early=b"early")
    async with upstream(server.script) as origin, opened(origin.port) as relay:
        client = await relay.client(get("/ws", *ASK, b"Sec-WebSocket-Protocol: a, b\r\n"))
        answer = await client.head()
        assert (answer.status, answer.get("connection"), answer.get("upgrade")) == (101, "Upgrade", "websocket")
        assert await client.exactly(5) == b"early"
        (asked,) = origin.requests
        assert (asked.get("connection"), asked.get("upgrade")) == ("Upgrade", "websocket")
        assert (asked.get("sec-websocket-key"), asked.get("sec-websocket-protocol")) == (KEY.decode(), "a, b")
        peer = await server.there()
        for piece in (FRAME, b"GET / HTTP/1.1\r\n\r\n", bytes(range(256)) * 4000):
            await client.send(piece)
            assert await peer.exactly(len(piece)) == piece
            await peer.send(piece)
            assert await client.exactly(len(piece)) == piece
        assert (relay.context.tunnels, relay.outcomes) == (1, [])
        server.ended.set()
        assert await client.end() == "fin"
        await until(lambda: relay.outcomes)
        (outcome,) = relay.outcomes
        size = len(FRAME) + 18 + 256 * 4000
        assert (outcome.status, outcome.reason, outcome.bytes_in, outcome.bytes_out) == (101, "ok", size, size + 5)
        await until(lambda: not relay.context.connections)
        assert relay.context.tunnels == 0


@both_loops
@on_a_loop
async def test_nothing_goes_up_before_the_upstream_has_consented(loop):
    consented = asyncio.Event()
    seen = bytearray()

    async def script(peer):
        peer.messages.append(await peer.head())
        waiting = asyncio.create_task(peer.receive())
        done, _ = await asyncio.wait([waiting], timeout=0.2)
        assert not done
        consented.set()
        await peer.send(consent())
        seen.extend(await waiting)
        await peer.rest()

    async with upstream(script) as origin, opened(origin.port) as relay:
        client = await relay.client(get("/ws", *ASK) + FRAME)
        await client.send(FRAME)
        await consented.wait()
        await client.head()
        await until(lambda: bytes(seen) == FRAME * 2)


@pytest.mark.parametrize("ahead", [FRAME, get("/second"), get("/second", method="DELETE")])
@on_a_loop
async def test_after_a_refused_upgrade_what_follows_is_judged_as_a_request(ahead):
    async with upstream(answering(OK)) as origin, opened(origin.port) as relay:
        client = await relay.client(get("/ws", *ASK) + ahead)
        assert (await client.message()).status == 200
        if ahead == FRAME:
            assert (await client.message()).status == 400
            assert len(origin.requests) == 1
        else:
            assert (await client.message()).status == 200
            first, second = origin.requests
            assert (second.start, second.get("x-forwarded-for")) == (ahead.split(b"\r\n")[0].decode(), "127.0.0.1")
            assert first.get("upgrade") == "websocket"


@pytest.mark.parametrize(
    ("answer", "asks"),
    [
        (consent(b"another"), ASK),
        (consent().replace(b"websocket", b"h2c"), ASK),
        (consent().replace(b"\r\n\r\n", b"\r\nContent-Length: 5\r\n\r\n") + b"hello", ASK),
        (consent(), ()),
        (consent(), ASK[1:]),
    ],
)
@on_a_loop
async def test_a_101_that_is_not_the_answer_is_a_502(answer, asks):
    async with upstream(answering(answer)) as origin, opened(origin.port) as relay:
        client = await relay.client(get("/ws", *asks))
        assert (await client.message()).status == 502
        await client.send(get("/next"))
        assert (await client.message()).status == 502
        await until(lambda: not live(origin))


@on_a_loop
async def test_where_the_route_does_not_say_so_the_upgrade_is_dropped():
    async with upstream(answering(OK)) as origin, stage(origin.port) as relay:
        client = await relay.client(get("/ws", *ASK))
        assert (await client.message()).status == 200
        assert (origin.requests[0].get("upgrade"), origin.requests[0].get("connection")) == ("", "")


@on_a_loop
async def test_a_page_of_another_site_gets_nothing():
    async with upstream(answering(OK)) as origin, opened(origin.port) as relay:
        client = await relay.client(get("/ws", *ASK, b"Origin: https://evil.example\r\n"))
        assert (await client.message()).status == 403
        assert (await relay.reasons(1), origin.requests) == (["foreign_origin"], [])


@both_loops
@on_a_loop
async def test_who_does_not_read_is_not_buffered_for(loop):
    server = Server()
    async with upstream(server.script) as origin, opened(origin.port) as relay:
        client = await relay.client(get("/ws", *ASK), receive_buffer=4096)
        await client.head()
        await assert_held(relay, await server.there())


@both_loops
@on_a_loop
async def test_who_does_not_read_is_not_buffered_for_over_tls(loop, pki):
    server = Server()
    context = build_server_context(pki / "one.crt", pki / "one.key", ssl.TLSVersion.TLSv1_2)
    async with upstream(server.script) as origin, opened(origin.port, context=context) as relay:
        client = await tls_peer.Peer.connect(relay.port, tls_peer.trusting(pki / "ca.crt"))
        await client.send(get("/ws", *ASK))
        assert await client.read(12) == b"HTTP/1.1 101"
        peer = await server.there()
        await client.send(FRAME)
        assert await peer.exactly(len(FRAME)) == FRAME
        await assert_held(relay, peer)
        client.leave()


async def assert_held(relay, peer):
    """What the upstream sends without end stays with it, once the client's buffers are full."""
    sending = asyncio.create_task(peer.send(bytes(64 * MB)))
    await until(lambda: relay.unsent() > WRITE_LIMIT)
    await asyncio.wait([sending], timeout=0.3)
    assert not sending.done()
    assert relay.unsent() < 3 * WRITE_LIMIT
    sending.cancel()


@both_loops
@on_a_loop
async def test_an_upstream_that_does_not_read_holds_its_client(loop):
    server = Server()
    async with upstream(server.script) as origin, opened(origin.port, send=2.0) as relay:
        client = await relay.client(get("/ws", *ASK))
        await client.head()
        await server.there()
        sending = asyncio.create_task(client.send(bytes(64 * MB)))
        await until(lambda: relay.unsent_up() > WRITE_LIMIT)
        await asyncio.wait([sending], timeout=0.3)
        assert not sending.done()
        assert relay.unsent_up() < 3 * WRITE_LIMIT
        assert await relay.reasons(1) == ["upstream_late"]
        with pytest.raises(ConnectionError):
            await sending


@both_loops
@on_a_loop
async def test_what_the_client_sent_before_it_left_reaches_the_upstream(loop):
    server = Server()
    async with upstream(server.script) as origin, opened(origin.port) as relay:
        client = await relay.client(get("/ws", *ASK))
        await client.head()
        peer = await server.there()
        sending = asyncio.create_task(client.send(bytes(8 * MB)))
        sending.add_done_callback(lambda _: client.half_close())
        assert len(await peer.rest()) == 8 * MB
        assert await client.end() == "fin"
        assert await relay.reasons(1) == ["ok"]


@both_loops
@on_a_loop
async def test_what_the_upstream_sent_before_it_left_reaches_the_client(loop):
    server = Server()
    async with upstream(server.script) as origin, opened(origin.port) as relay:
        client = await relay.client(get("/ws", *ASK))
        await client.head()
        peer = await server.there()
        sending = asyncio.create_task(peer.send(bytes(8 * MB)))
        sending.add_done_callback(lambda _: server.ended.set())
        assert len(await client.rest()) == 8 * MB
        assert await relay.reasons(1) == ["ok"]


@both_loops
@on_a_loop
async def test_a_reset_on_one_side_ends_the_other(loop):
    server = Server()
    async with upstream(server.script) as origin, opened(origin.port) as relay:
        client = await relay.client(get("/ws", *ASK))
        await client.head()
        (await server.there()).reset()
        assert await client.end() == "reset"
        server.peer = None
        other = await relay.client(get("/ws", *ASK))
        await other.head()
        peer = await server.there()
        other.reset()
        assert await peer.end() in {"fin", "reset"}
        assert sorted(await relay.reasons(2)) == ["client_gone", "upstream_broke"]


@on_a_loop
async def test_a_silent_tunnel_ends_and_one_with_traffic_in_one_direction_lives():
    server = Server()
    async with upstream(server.script) as origin, opened(origin.port, tunnel=0.5) as relay:
        client = await relay.client(get("/ws", *ASK))
        await client.head()
        peer = await server.there()
        for _ in range(10):
            await peer.send(b"tick")
            assert await client.exactly(4) == b"tick"
            await asyncio.sleep(0.1)
        assert relay.outcomes == []
        assert await client.end() == "fin"
        assert await relay.reasons(1) == ["tunnel_idle"]


@on_a_loop
async def test_who_takes_nothing_is_cut():
    server = Server()
    async with upstream(server.script) as origin, opened(origin.port, send=0.5) as relay:
        client = await relay.client(get("/ws", *ASK), receive_buffer=4096)
        await client.head()
        peer = await server.there()
        with pytest.raises(ConnectionError):
            await peer.send(bytes(64 * MB))
        assert await relay.reasons(1) == ["client_late"]


@both_loops
@on_a_loop
async def test_a_drain_ends_tunnels_at_once_with_what_they_are_owed(loop):
    server = Server()
    async with upstream(server.script) as origin, opened(origin.port) as relay:
        client = await relay.client(get("/ws", *ASK))
        await client.head()
        peer = await server.there()
        await peer.send(bytes(MB))
        await until(lambda: sum(c.exchange.bytes_out for c in relay.context.connections if c.exchange) == MB)
        draining = asyncio.create_task(relay.listeners.drain())
        assert len(await client.rest()) == MB
        assert await draining == 0
        assert await relay.reasons(1) == ["draining"]


@on_a_loop
async def test_no_tunnel_is_opened_while_draining():
    asked = asyncio.Event()
    go_on = asyncio.Event()

    async def script(peer):
        await peer.head()
        asked.set()
        await go_on.wait()
        await peer.send(consent())
        await peer.rest()

    async with upstream(script) as origin, opened(origin.port) as relay:
        client = await relay.client(get("/ws", *ASK))
        await asked.wait()
        draining = asyncio.create_task(relay.listeners.drain())
        await asyncio.sleep(0)
        go_on.set()
        answer = await client.message()
        assert (answer.status, answer.get("connection")) == (503, "close")
        await draining


# Revocation

EVENTS = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n6\r\ndata:\n\r\n"
SLOW = b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nhello"


def revoke(relay):
    """As the store's news would."""
    book = relay.memory.book
    tokens = tuple(replace(token, revoked_at=1.0) for token in book.tokens.values())
    end_revoked(relay.context, book.apply(Changes(book.generation + 1, tokens)))


@pytest.mark.parametrize("consented", [True, False])
@on_a_loop
async def test_a_revoked_token_closes_its_tunnel(consented):
    async def script(peer):
        await peer.head()
        if consented:
            await peer.send(consent())
        await peer.rest()

    async with upstream(script) as origin, opened(origin.port) as relay:
        client = await relay.client(get("/plain/ws", *ASK, relay.bearer))
        anybody = await relay.client(get("/ws", *ASK))
        if consented:
            await client.head()
            await anybody.head()
        else:
            await until(lambda: len(origin.peers) == 2)
            await until(lambda: all(c.exchange and c.exchange._upstream for c in relay.context.connections))
        revoke(relay)
        if consented:
            assert await client.end() == "reset"
        else:
            assert (await client.message()).status == 401
        assert await relay.reasons(1) == ["token_revoked"]
        await until(lambda: len(live(origin)) == 1)
        if consented:
            await anybody.send(FRAME)  # who came without a token stays
        anybody.reset()


@on_a_loop
async def test_a_revoked_token_closes_its_event_stream_and_lets_a_request_finish():
    go_on = asyncio.Event()

    async def script(peer):
        request = await peer.message()
        if request.target == "/plain/events":
            await peer.send(EVENTS)
            await peer.rest()
        await peer.send(SLOW)
        await go_on.wait()
        await peer.send(b"world")

    async with upstream(script) as origin, stage(origin.port) as relay:
        stream = await relay.client(get("/plain/events", relay.bearer))
        slow = await relay.client(get("/plain/slow", relay.bearer))
        assert await stream.head()
        assert await slow.head()
        assert await slow.exactly(5) == b"hello"
        revoke(relay)
        with pytest.raises(Cut):
            await stream.chunks()
        go_on.set()
        assert await slow.exactly(5) == b"world"
        await slow.send(get("/plain/slow", relay.bearer))
        assert (await slow.message()).status == 401
        assert await relay.reasons(3) == ["token_revoked", "ok", "token_revoked"]


@on_a_loop
async def test_what_calls_itself_no_stream_and_does_not_end_is_one_after_a_drain():
    async def script(peer):
        request = await peer.message()
        if request.target == "/plain/late":
            await asyncio.sleep(0.6)
            await peer.send(OK)
        await peer.send(SLOW)
        await peer.rest()

    async with upstream(script) as origin, stage(origin.port, drain=0.25) as relay:
        trickle = await relay.client(get("/plain/x", relay.bearer))
        late = await relay.client(get("/plain/late", relay.bearer))
        assert await trickle.head()
        revoke(relay)
        assert (await late.message()).status == 200  # slow to begin is not endless
        assert await trickle.end() == "reset"
        assert sorted(await relay.reasons(2)) == ["ok", "token_revoked"]
