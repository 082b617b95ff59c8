"""One request and its answer: which upstream connection serves it, and what becomes of it when that fails."""

import asyncio

import pytest

from tests.relay.peer import Cut
from tests.relay.stage import (
    OK,
    Filling,
    answering,
    both_loops,
    get,
    gone,
    live,
    on_a_loop,
    post,
    stage,
    until,
    upstream,
)

KB = 1024
MB = 1024 * KB
NO_CONTENT = b"HTTP/1.1 204 No Content\r\n\r\n"


async def dead_at_the_second(peer):
    """Answer once; take the next request whole and close without a byte: what a stale connection looks like."""
    await peer.message()
    await peer.send(OK)
    await peer.message()


def stale_then(script):
    """`dead_at_the_second` for the first connection, `script` for those after it."""
    first = True

    async def play(peer):
        nonlocal first
        mine, first = first, False
        await (dead_at_the_second if mine else script)(peer)

    return play


# Upstream connections are used again, where the end of an answer is beyond doubt


@both_loops
@on_a_loop
async def test_one_upstream_connection_serves_many_requests_and_clients(loop):
    async with upstream(answering(OK)) as origin, stage(origin.port) as relay:
        for _ in range(2):
            client = await relay.client()
            for turn in (get(), post("/x", b"abc"), get(method="HEAD")):
                await client.send(turn)
                assert (await client.message(head_only=turn.startswith(b"HEAD"))).status == 200
        assert len(origin.peers) == 1 or live(origin)
        assert [request.start.split()[0] for request in origin.requests[:2]] == ["GET", "POST"]
        assert await relay.reasons(6) == ["ok"] * 6


@pytest.mark.parametrize(
    "first",
    [
        b"HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 2\r\n\r\nok",
        b"HTTP/1.0 200 OK\r\nContent-Length: 2\r\n\r\nok",
        OK + b"more",
        OK + OK,
    ],
    ids=["close", "1.0", "excess", "two answers"],
)
@on_a_loop
async def test_a_connection_in_doubt_is_not_used_again(first):
    async with upstream(answering(first)) as origin, stage(origin.port) as relay:
        client = await relay.client()
        for number in (1, 2):
            await client.send(get())
            assert (await client.message()).body == b"ok"
            await until(lambda number=number: len(origin.peers) == number and gone(origin.peers[-1]))


@both_loops
@on_a_loop
async def test_a_connection_that_was_paused_for_a_slow_reader_reads_again_for_the_next(loop):
    """The piece that fills the slow reader's buffer is the last one: the upstream connection is free, and must read."""
    filling = Filling()
    async with upstream(filling.script) as origin, stage(origin.port) as relay:
        slow = await relay.client(get(), receive_buffer=4096)
        await filling.fill(relay)
        assert await relay.reasons(1) == ["ok"]
        quick = await relay.client(get())
        assert (await quick.message()).body == b"ok"
        assert len((await slow.message()).body) == filling.size


@both_loops
@on_a_loop
async def test_a_connection_with_a_request_not_yet_taken_is_not_used_again(loop):
    """The answer came early: what is left of the first request would stand before the second, and in our memory."""
    answer_now = asyncio.Event()

    async def deaf(peer):
        await peer.head()
        await answer_now.wait()
        await peer.send(OK)
        await asyncio.sleep(5)

    async with upstream(deaf) as origin, stage(origin.port) as relay:
        client = await relay.client(get("/x", b"Transfer-Encoding: chunked\r\n", method="POST"))
        await until(lambda: origin.peers)
        piece, sent = b"10000\r\n%b\r\n" % bytes(64 * KB), 0
        while relay.unsent_up() <= 192 * KB:
            await client.send(piece)
            sent += 64 * KB
            await until(lambda sent=sent: sum(c.exchange.bytes_in for c in relay.context.connections) >= sent)
        await client.send(piece + b"0\r\n\r\n")
        await until(lambda: all(c.exchange.request_done for c in relay.context.connections))
        answer_now.set()
        assert (await client.message()).status == 200
        await client.send(get())
        assert (await client.message()).status == 200
        assert len(origin.peers) == 2


# A connection that turns out to be dead


@pytest.mark.parametrize(
    ("request_bytes", "delivered"),
    [
        (get(), b""),
        (get(method="HEAD"), b""),
        (post("/write", b"w" * 1000), b"w" * 1000),
        (post("/write", b"w" * 250 * KB), b"w" * 250 * KB),
    ],
    ids=["get", "head", "write", "large write"],
)
@both_loops
@on_a_loop
async def test_a_dead_connection_costs_a_repeatable_request_nothing(loop, request_bytes, delivered):
    async with upstream(stale_then(answering(OK))) as origin, stage(origin.port) as relay:
        client = await relay.client(get())
        await client.message()
        request_bytes = request_bytes.replace(b"\r\n", b"\r\n" + relay.bearer, 1)
        await client.send(request_bytes)
        assert (await client.message(head_only=request_bytes.startswith(b"HEAD"))).status == 200
        assert len(origin.peers) == 2
        assert [request.body for request in origin.requests[1:]] == [delivered] * 2
        assert await relay.reasons(2) == ["ok", "ok"]


@pytest.mark.parametrize(
    ("path", "size"), [("/plain", 10), ("/x", 10), ("/write", 300 * KB)], ids=["plain", "open", "write too large"]
)
@on_a_loop
async def test_a_request_that_may_have_been_taken_is_not_sent_twice(path, size):
    async with upstream(stale_then(answering(OK))) as origin, stage(origin.port) as relay:
        client = await relay.client(get())
        await client.message()
        await client.send(post(path, bytes(size), relay.bearer))
        refusal = await client.message()
        assert refusal.status == 502
        assert refusal.get("retry-after")
        assert len(origin.requests) == 2
        assert await relay.reasons(2) == ["ok", "upstream_broke"]


@on_a_loop
async def test_a_connection_that_closed_while_idle_is_not_taken_for_any_request():
    async def once(peer):
        await peer.message()
        await peer.send(OK)

    async with upstream(once) as origin, stage(origin.port) as relay:
        client = await relay.client()
        for number in range(1, 4):
            await client.send(post("/plain", b"abc", relay.bearer))
            assert (await client.message()).status == 200
            await until(lambda number=number: gone(origin.peers[number - 1]))
            await until(lambda: not any(pool._all for pool in relay.context.pools.values()))


@both_loops
@on_a_loop
async def test_a_connection_that_closes_in_the_same_breath_is_not_taken(loop):
    """Its end and the request are read in one turn of the loop, the end first."""
    served = asyncio.Event()

    async def once(peer):
        await peer.message()
        await peer.send(OK)
        await served.wait()

    async with upstream(once) as origin, stage(origin.port) as relay:
        client = await relay.client(post("/plain", b"abc", relay.bearer))
        await client.message()
        await until(lambda: relay.outcomes)
        origin.peers[0].half_close()
        client.sock.send(post("/plain", b"abc", relay.bearer))
        assert (await client.message()).status == 200
        served.set()


@pytest.mark.parametrize("request_bytes", [get(), post("/write", b"abc"), post("/plain", b"abc")])
@on_a_loop
async def test_an_upstream_that_always_hangs_up_is_asked_twice_at_most(request_bytes):
    async def hang_up(peer):
        await peer.message()

    async with upstream(hang_up) as origin, stage(origin.port) as relay:
        client = await relay.client(request_bytes.replace(b"\r\n", b"\r\n" + relay.bearer, 1))
        assert (await client.message()).status == 502
        assert len(origin.requests) <= 2


@both_loops
@on_a_loop
async def test_an_upstream_that_hangs_up_at_once_is_no_hang_here(loop):
    async def slam(peer):
        peer.reset()

    async with upstream(slam) as origin, stage(origin.port) as relay:
        for _ in range(20):
            client = await relay.client(get())
            assert (await client.message()).status == 502


@pytest.mark.parametrize(
    "wrong",
    [
        b"220 smtp ready\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Le",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\nxyz\r\n",
    ],
    ids=["smtp", "part", "no chunk"],
)
@on_a_loop
async def test_who_answers_wrongly_is_not_asked_again(wrong):
    """It has had the request: a second one is for connections that were dead before."""

    async def play(peer):
        await peer.message()
        await peer.send(wrong)

    async with upstream(play) as origin, stage(origin.port) as relay:
        client = await relay.client(get())
        assert (await client.message()).status == 502
        assert len(origin.requests) == 1


@on_a_loop
async def test_interim_answers_are_dropped_however_many():
    many = b"HTTP/1.1 100 Continue\r\n\r\n" * 5000
    async with upstream(answering(many + OK)) as origin, stage(origin.port) as relay:
        client = await relay.client(get())
        assert (await client.message()).start == "HTTP/1.1 200 OK"
        assert await relay.reasons(1) == ["ok"]


# An answer that is cut, early, or endless


@pytest.mark.parametrize(
    "part",
    [
        b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nabc",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n9\r\nabc",
    ],
    ids=["length", "no last chunk", "mid-chunk"],
)
@both_loops
@on_a_loop
async def test_a_cut_answer_is_cut_for_the_client_too(loop, part):
    async def play(peer):
        await peer.message()
        await peer.send(part)

    async with upstream(play) as origin, stage(origin.port) as relay:
        client = await relay.client(get())
        with pytest.raises(Cut):
            await client.message()
        assert await relay.reasons(1) == ["upstream_broke"]
        assert relay.outcomes[0].status == 200
        assert len(origin.requests) == 1


@both_loops
@on_a_loop
async def test_an_answer_without_a_length_ends_with_the_connection(loop):
    async def play(peer):
        await peer.message()
        await peer.send(b"HTTP/1.1 200 OK\r\n\r\n" + bytes(MB))

    async with upstream(play) as origin, stage(origin.port) as relay:
        client = await relay.client(get())
        message = await client.message()
        assert message.get("connection") == "close"
        assert len(message.body) == MB
        assert await client.end() == "fin"
        assert await relay.reasons(1) == ["ok"]


@pytest.mark.parametrize("chunked", [False, True], ids=["length", "chunked"])
@both_loops
@on_a_loop
async def test_an_early_answer_is_relayed_and_both_sides_are_closed(loop, chunked):
    async def early(peer):
        await peer.head()
        await peer.send(b"HTTP/1.1 413 Content Too Large\r\nContent-Length: 4\r\n\r\nbig\n")
        await peer.end()

    async with upstream(early) as origin, stage(origin.port) as relay:
        head = get("/write", b"Transfer-Encoding: chunked\r\n", relay.bearer, method="POST") + b"3\r\nabc\r\n"
        client = await relay.client(head if chunked else post("/write", b"abc", relay.bearer, length=30 * MB))
        message = await client.message()
        assert (message.status, message.body) == (413, b"big\n")
        assert message.get("connection") == "close"
        await client.send(b"3\r\ndef\r\n0\r\n\r\n" + get("/never"))
        client.half_close()
        await client.end()
        await until(lambda: not live(origin))
        assert await relay.reasons(1) == ["ok"]
        assert relay.outcomes[0].status == 413
        assert origin.requests == []


# The upstream comes and goes


@pytest.mark.parametrize("request_bytes", [get(), post("/write", bytes(5 * MB))], ids=["get", "large write"])
@both_loops
@on_a_loop
async def test_a_restart_within_the_connect_budget_goes_unnoticed(loop, request_bytes):
    async with upstream(answering(OK)) as origin:
        port = origin.port
    async with stage(port, connect=5) as relay:
        client = await relay.client()
        sending = asyncio.create_task(client.send(request_bytes.replace(b"\r\n", b"\r\n" + relay.bearer, 1)))
        await asyncio.sleep(0.5)
        assert relay.held() < MB, "what cannot be sent yet is left with the sender"
        async with upstream(answering(OK), port) as again:
            assert (await client.message()).status == 200
            await sending
            assert len(again.requests) == 1


@both_loops
@on_a_loop
async def test_an_upstream_that_is_down_is_not_now_and_the_connection_goes_on(loop):
    async with upstream(answering(OK)) as origin:
        port = origin.port
    async with stage(port, connect=0.3) as relay:
        client = await relay.client()
        for request_bytes in (get(), post("/write", b"abc", relay.bearer), get()):
            await client.send(request_bytes)
            refusal = await client.message()
            assert refusal.status == 502
            assert 5 <= int(refusal.get("retry-after")) <= 30
            assert refusal.get("connection") == ""
        assert await relay.reasons(3) == ["upstream_refused"] * 3
        assert relay.outcomes[1].identity == "token:sender"


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
@on_a_loop
async def test_a_redirect_never_reaches_a_sender(status):
    """It would follow with a GET, be told 200, and take its samples for stored."""
    redirect = b"HTTP/1.1 %d Moved\r\nLocation: /login\r\nContent-Length: 0\r\n\r\n" % status
    async with upstream(answering(redirect)) as origin, stage(origin.port) as relay:
        client = await relay.client(post("/write", b"abc", relay.bearer))
        refusal = await client.message()
        assert (refusal.status, refusal.get("location")) == (502, "")
        assert await relay.reasons(1) == ["upstream_redirects"]
        await client.send(get())
        assert (await client.message()).status == status, "elsewhere it passes"


# Answers without a body


@both_loops
@on_a_loop
async def test_answers_that_have_no_body_leave_the_connection_in_step(loop):
    head = b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n"
    unchanged = b"HTTP/1.1 304 Not Modified\r\nContent-Length: 7\r\n\r\n"
    async with upstream(answering(head, NO_CONTENT, unchanged, OK)) as origin, stage(origin.port) as relay:
        client = await relay.client(get(method="HEAD"))
        assert (await client.message(head_only=True)).get("content-length") == "5"
        for status in (204, 304, 200):
            await client.send(get())
            assert (await client.message()).status == status
        assert len(origin.peers) == 1
