"""What a client may do in the course of a request: leave, close its side, send ahead, wait to be asked for its body."""

import asyncio
import contextlib
import secrets
from time import monotonic

import pytest

from tests.relay.stage import OK, answer, answering, both_loops, get, live, on_a_loop, post, stage, until, upstream

KB = 1024
MB = 1024 * KB


# The client's side


@pytest.mark.parametrize("request_bytes", [get(), post("/x", b"abc"), get() * 3], ids=["get", "post", "three"])
@both_loops
@on_a_loop
async def test_a_client_may_close_its_side_after_its_requests(loop, request_bytes):
    async def slow(peer):
        while True:
            await peer.message()
            await asyncio.sleep(0.1)
            await peer.send(OK)

    async with upstream(slow) as origin, stage(origin.port) as relay:
        client = await relay.client(request_bytes)
        client.half_close()
        for _ in range(request_bytes.count(b"HTTP/1.1")):
            assert (await client.message()).status == 200
        assert await client.end() == "fin"


@pytest.mark.parametrize("fields", [b"", b"Connection: close\r\n"], ids=["kept", "closed"])
@both_loops
@on_a_loop
async def test_closing_its_side_costs_a_reader_nothing_of_the_answer(loop, fields):
    body = secrets.token_bytes(8 * MB)
    async with upstream(answering(answer(body))) as origin, stage(origin.port) as relay:
        client = await relay.client(get("/x", fields), receive_buffer=4096)
        await client.head()
        got = await client.exactly(3 * MB + 512 * KB)
        await asyncio.sleep(0.05)
        client.half_close()
        await asyncio.sleep(0.05)
        assert got + await client.exactly(len(body) - len(got)) == body
        assert await client.end() == "fin"


@both_loops
@on_a_loop
async def test_an_early_refusal_reaches_a_client_that_closes_its_side(loop):
    async with upstream(answering(OK)) as origin, stage(origin.port) as relay:
        client = await relay.client(post("/plain", b"abc", length=1000))
        client.half_close()
        assert (await client.message()).status == 401
        assert await client.end() == "fin"


@pytest.mark.parametrize("how", ["reset", "close"])
@both_loops
@on_a_loop
async def test_a_client_that_leaves_takes_the_upstream_connection_with_it(loop, how):
    """A close is a FIN: with a whole request it may be no more than half of one, so here the body is not all sent."""

    async def waiting(peer):
        await peer.head()
        await peer.end()

    async with upstream(waiting) as origin, stage(origin.port) as relay:
        client = await relay.client(get() if how == "reset" else post("/x", b"abc", length=1000))
        await until(lambda: origin.peers)
        getattr(client, how)()
        assert await relay.reasons(1) == ["client_gone"]
        await until(lambda: not live(origin))
        assert origin.requests == []


@both_loops
@on_a_loop
async def test_a_client_that_leaves_an_endless_stream_ends_it(loop):
    ended = asyncio.Event()

    async def stream(peer):
        await peer.message()
        await peer.send(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
        try:
            while True:
                await peer.send(b"2\r\nab\r\n")
                await asyncio.sleep(0.01)
        finally:
            ended.set()

    async with upstream(stream) as origin, stage(origin.port) as relay:
        client = await relay.client(get())
        await client.head()
        client.close()
        await ended.wait()
        assert await relay.reasons(1) == ["client_gone"]


@pytest.mark.parametrize("request_bytes", [get(), post("/x", b"abc", length=1000)], ids=["get", "post"])
@both_loops
@on_a_loop
async def test_a_client_that_leaves_while_we_connect_leaves_nothing_behind(loop, request_bytes):
    async with upstream(answering(OK)) as origin:
        port = origin.port
    async with stage(port, connect=0.5) as relay:
        client = await relay.client(request_bytes)
        await until(lambda: any(c.exchange for c in relay.context.connections))
        client.reset()
        await until(lambda: relay.outcomes and not relay.context.connections)


# Requests sent ahead


@both_loops
@on_a_loop
async def test_requests_sent_ahead_are_answered_in_order_one_at_a_time(loop):
    under_way = most = 0

    async def counting(peer):
        nonlocal under_way, most
        while True:
            request = await peer.message()
            under_way += 1
            most = max(most, under_way)
            await asyncio.sleep(0.02)
            under_way -= 1
            await peer.send(answer(request.target.encode() + b" " + request.body))

    async with upstream(counting) as origin, stage(origin.port) as relay:
        ahead = b"".join(get(f"/{n}") + post(f"/p{n}", b"%d" % n) + get("/plain") for n in range(4))
        client = await relay.client(ahead)
        for n in range(4):
            assert (await client.message()).body == b"/%d " % n
            assert (await client.message()).body == b"/p%d %d" % (n, n)
            assert (await client.message()).status == 401
        assert most == 1


@pytest.mark.parametrize(("path", "status"), [("/plain", 401), ("/x", 200)], ids=["denied", "forwarded"])
@both_loops
@on_a_loop
async def test_two_thousand_requests_sent_ahead_do_not_recurse(loop, path, status):
    async with upstream(answering(OK)) as origin, stage(origin.port) as relay:
        client = await relay.client()
        sending = asyncio.create_task(client.send(get(path) * 2000))
        for _ in range(2000):
            assert (await client.message()).status == status
        await sending


@pytest.mark.parametrize("path", ["/plain", "/x"], ids=["denied", "forwarded"])
@both_loops
@on_a_loop
async def test_who_sends_ahead_and_reads_nothing_is_not_buffered_for(loop, path):
    size = 300 * KB
    async with upstream(answering(answer(bytes(size)))) as origin, stage(origin.port, send=1.0) as relay:
        client = await relay.client(receive_buffer=4096)
        sending = asyncio.create_task(client.send(get(path) * 400_000))
        await until(relay.unsent)
        most, deadline = 0, monotonic() + 0.5
        while monotonic() < deadline:
            most = max(most, relay.unsent())
            await asyncio.sleep(0.01)
        assert most < 3 * MB, "one read of tiny requests, or one answer: never more"
        assert len(relay.outcomes) < 100_000
        await until(lambda: not relay.context.connections)
        sending.cancel()
        with contextlib.suppress(ConnectionError, asyncio.CancelledError):
            await sending


# Expect: 100-continue


@on_a_loop
async def test_100_is_said_to_who_may_send():
    async with upstream(answering(OK)) as origin, stage(origin.port) as relay:
        client = await relay.client(post("/plain", b"", relay.bearer, b"Expect: 100-continue\r\n", length=3))
        assert (await client.head()).start == "HTTP/1.1 100 Continue"
        await client.send(b"abc")
        assert (await client.message()).status == 200
        assert origin.requests[0].body == b"abc"
        assert origin.requests[0].get("expect") == ""


@on_a_loop
async def test_a_refusal_comes_without_100_and_asks_for_no_body():
    async with upstream(answering(OK)) as origin, stage(origin.port) as relay:
        client = await relay.client(post("/plain", b"", b"Expect: 100-continue\r\n", length=3))
        refusal = await client.message()
        assert (refusal.status, refusal.get("connection")) == (401, "close")
        assert await client.end() == "fin"


@on_a_loop
async def test_no_100_to_http_1_0_nor_to_who_has_sent_already():
    async with upstream(answering(OK)) as origin, stage(origin.port) as relay:
        begun = await relay.client(post("/x", b"abc", b"Expect: 100-continue\r\n"))
        assert (await begun.message()).status == 200
        old = await relay.client(post("/x", b"", b"Expect: 100-continue\r\n", length=3).replace(b"/1.1", b"/1.0"))
        await until(lambda: len(relay.context.connections) == 2)
        await old.send(b"abc")
        assert (await old.message()).status == 200


@both_loops
@on_a_loop
async def test_who_asks_for_thousands_at_once_lets_others_in(loop):
    """Answers of our own cost no upstream's time: without turns, one connection would have the loop for itself."""
    async with upstream(answering(OK)) as origin, stage(origin.port) as relay:
        greedy = await relay.client()
        await greedy.send(b"GET /-/healthy HTTP/1.1\r\nHost: a\r\n\r\n" * 20_000)
        other = await relay.client()
        await other.send(get())
        assert (await other.message()).status == 200
        assert len(relay.outcomes) < 20_000


@both_loops
@on_a_loop
async def test_who_closes_its_side_is_not_waited_on_for_ever(loop):
    """Most of those who send FIN have gone: a query that was cancelled must not go on behind us."""
    asked = asyncio.Event()

    async def silent(peer):
        await peer.message()
        asked.set()
        await peer.end()

    async with upstream(silent) as origin, stage(origin.port, linger=0.3, response=60.0) as relay:
        client = await relay.client(get())
        await asked.wait()
        client.half_close()
        assert await relay.reasons(1) == ["client_gone"]
        await until(lambda: not live(origin))
