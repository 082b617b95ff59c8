"""One request and its answer, when all goes well and when either side does what it may or may not do."""

import asyncio
import contextlib
import secrets
from time import monotonic

import pytest

from proxy.gate.ask import ABSENT, FOUND
from proxy.gate.snapshot import Bounds, RateLimit
from proxy.tokens.secret import mint
from proxy.tokens.token import TokenKind
from tests.relay.peer import Cut
from tests.relay.stage import LOOPS, OK, Filling, answering, get, on_a_loop, post, stage, until, upstream

KB = 1024
MB = 1024 * KB
NO_CONTENT = b"HTTP/1.1 204 No Content\r\n\r\n"
both_loops = pytest.mark.parametrize("loop", LOOPS)


def answer(body, *fields):
    return b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n%b\r\n%b" % (len(body), b"".join(fields), body)


def gone(peer):
    """Whether the relay has left this upstream connection (and its script is over)."""
    return peer.sock.fileno() < 0


def live(origin):
    return [peer for peer in origin.peers if not gone(peer)]


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
        assert (await asyncio.wait_for(quick.message(), 2)).body == b"ok"
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
        assert (await asyncio.wait_for(client.message(), 2)).status == 200
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
            assert (await asyncio.wait_for(client.message(), 2)).status == 502


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
        await asyncio.wait_for(ended.wait(), 2)
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
        await until(lambda: relay.outcomes and not relay.context.connections, 1.5)


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


@pytest.mark.parametrize("status", [301, 302, 303])
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


@pytest.mark.parametrize("status", [307, 308])
@on_a_loop
async def test_a_redirect_that_keeps_the_body_passes(status):
    redirect = b"HTTP/1.1 %d Moved\r\nLocation: /there\r\nContent-Length: 0\r\n\r\n" % status
    async with upstream(answering(redirect)) as origin, stage(origin.port) as relay:
        client = await relay.client(post("/write", b"abc", relay.bearer))
        assert (await client.message()).status == status


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


# Rates


@on_a_loop
async def test_a_rate_waits_first_and_then_says_not_now_to_a_sender_and_slow_down_to_others():
    limit = RateLimit(rate=10, interval_s=1.0, burst=1, max_delay_s=0.35)
    async with upstream(answering(OK)) as origin, stage(origin.port, limit=limit) as relay:
        for path, refused in (("/write", 503), ("/plain", 429)):
            clients = [await relay.client() for _ in range(8)]
            since = monotonic()
            await asyncio.gather(*(client.send(post(path, b"abc", relay.bearer)) for client in clients))
            messages = [await client.message() for client in clients]
            took = monotonic() - since
            statuses = sorted(message.status for message in messages)
            passed = statuses.count(200)
            assert statuses == [200] * passed + [refused] * (8 - passed)
            assert 4 <= passed <= 5, "one at once, three within the delay"
            assert 0.25 <= took < 1.0
            assert all(m.get("retry-after") for m in messages if m.status != 200)
        assert len(origin.requests) == len([o for o in relay.outcomes if o.reason == "ok"])


# Questions that take their time


class SlowFinder:
    """Answers when it is told to; knows how many questions were given up."""

    def __init__(self):
        self.asked = 0
        self.given_up = 0
        self.go = asyncio.Event()
        self.result = ABSENT

    async def answer(self, _question):
        self.asked += 1
        try:
            await self.go.wait()
        except asyncio.CancelledError:
            self.given_up += 1
            raise
        return self.result


def unknown_bearer():
    minted = mint(TokenKind.WRITE, secrets.token_bytes)
    return minted, f"Authorization: Bearer {minted.secret.reveal()}\r\n".encode()


@both_loops
@on_a_loop
async def test_a_question_whose_client_left_is_given_up(loop):
    finder = SlowFinder()
    async with upstream(answering(OK)) as origin, stage(origin.port, finder=finder) as relay:
        _, bearer = unknown_bearer()
        client = await relay.client(post("/plain", b"abc", bearer))
        await until(lambda: finder.asked)
        client.reset()
        await until(lambda: finder.given_up)
        assert await relay.reasons(1) == ["client_gone"]
        assert relay.outcomes[0].path == b"/plain"


@on_a_loop
async def test_a_wait_for_a_rate_whose_client_left_is_given_up():
    limit = RateLimit(rate=1, interval_s=2.0, burst=1, max_delay_s=5.0)
    async with upstream(answering(OK)) as origin, stage(origin.port, limit=limit) as relay:
        client = await relay.client(get("/plain", relay.bearer) * 2)
        await client.message()
        await asyncio.sleep(0.05)
        client.reset()
        assert await relay.reasons(2) == ["ok", "client_gone"]


@both_loops
@on_a_loop
async def test_who_closes_in_the_middle_of_a_body_during_a_question_has_left(loop):
    finder = SlowFinder()
    finder.result = FOUND
    async with upstream(answering(OK)) as origin, stage(origin.port, finder=finder) as relay:
        await (await relay.client(get())).message()  # an upstream connection is at hand
        minted, bearer = unknown_bearer()
        client = await relay.client(post("/plain", b"abc", bearer, length=1000))
        client.half_close()
        await until(lambda: finder.asked)
        await asyncio.sleep(0.05)
        relay.learn(minted)
        finder.go.set()
        assert await relay.reasons(2) == ["ok", "client_gone"]
        await asyncio.wait_for(client.end(), 2)
        assert len(origin.requests) == 1


@both_loops
@on_a_loop
async def test_after_a_question_the_connection_goes_on(loop):
    finder = SlowFinder()
    finder.go.set()
    async with upstream(answering(OK)) as origin, stage(origin.port, finder=finder) as relay:
        _, bearer = unknown_bearer()
        client = await relay.client(get("/plain", bearer) * 2)
        for _ in range(2):
            assert (await asyncio.wait_for(client.message(), 2)).status == 401
        await client.send(get("/plain", bearer) + get("/x"))
        assert (await asyncio.wait_for(client.message(), 2)).status == 401
        assert (await asyncio.wait_for(client.message(), 2)).status == 200


@both_loops
@on_a_loop
async def test_a_token_that_is_found_brings_its_whole_body_through(loop):
    finder = SlowFinder()
    finder.result = FOUND
    body = secrets.token_bytes(3 * MB)
    async with upstream(answering(OK)) as origin, stage(origin.port, finder=finder) as relay:
        minted, bearer = unknown_bearer()
        client = await relay.client()
        sending = asyncio.create_task(client.send(post("/write", body, bearer)))
        await until(lambda: finder.asked)
        await asyncio.sleep(0.1)
        assert relay.held() < MB, "who is not known yet does not fill memory"
        relay.learn(minted)
        finder.go.set()
        assert (await client.message()).status == 200
        await sending
        assert origin.requests[0].body == body


@both_loops
@on_a_loop
async def test_a_half_closed_client_gets_the_answer_to_a_question_and_the_end(loop):
    finder = SlowFinder()
    async with upstream(answering(OK)) as origin, stage(origin.port, finder=finder) as relay:
        client = await relay.client(get("/plain", unknown_bearer()[1]))
        client.half_close()
        await until(lambda: finder.asked)
        await asyncio.sleep(0.05)
        finder.go.set()
        assert (await client.message()).status == 401
        assert await asyncio.wait_for(client.end(), 2) == "fin"


# Drain


@both_loops
@on_a_loop
async def test_drain_breaks_no_request(loop):
    broken, served, told = [], 0, 0

    async def slow(peer):
        while True:
            await peer.message()
            await asyncio.sleep(0.01)
            await peer.send(OK)

    async def sender(client, body):
        nonlocal served, told
        while True:
            try:
                await client.send(post("/x", body))
                message = await client.message()
            except (Cut, ConnectionError) as error:
                broken.append(error)
                return
            assert message.status == 200
            served += 1
            if message.get("connection") == "close":
                told += 1
                return
            await asyncio.sleep(0)

    async with upstream(slow) as origin, stage(origin.port, bounds=Bounds()) as relay:
        senders = [asyncio.create_task(sender(await relay.client(), bytes(1000 * n))) for n in range(40)]
        await until(lambda: served > 200)
        assert await relay.listeners.drain() == 0
        await asyncio.gather(*senders)
        assert (len(broken), told) == (0, 40)
        with pytest.raises(ConnectionRefusedError):
            await relay.client()
        await until(lambda: not live(origin))


@both_loops
@on_a_loop
async def test_a_request_on_its_way_when_the_drain_begins_is_answered(loop):
    async with upstream(answering(OK)) as origin, stage(origin.port) as relay:
        clients = [await relay.client(get()) for _ in range(3)]
        for client in clients:
            await client.message()
        await until(lambda: len(relay.outcomes) == 3)
        requests = (get(), post("/write", b"abc", relay.bearer), get("/plain"))
        for client, request_bytes in zip(clients, requests, strict=True):
            client.sock.send(request_bytes)
        assert await relay.listeners.drain() == 0
        for client, status in zip(clients, (200, 200, 401), strict=True):
            message = await client.message()
            assert (message.status, message.get("connection")) == (status, "close")


@both_loops
@on_a_loop
async def test_drain_does_not_wait_for_idle_connections(loop):
    async with upstream(answering(OK)) as origin, stage(origin.port, drain=10) as relay:
        client = await relay.client(get())
        await client.message()
        since = monotonic()
        assert await relay.listeners.drain() == 0
        assert monotonic() - since < 1.5
        assert await client.end() == "fin"


@on_a_loop
async def test_during_drain_ready_says_no():
    async def slow(peer):
        await peer.message()
        await asyncio.sleep(0.3)
        await peer.send(OK)

    async with upstream(slow) as origin, stage(origin.port) as relay:
        busy, idle = await relay.client(get()), await relay.client()
        await until(lambda: origin.requests)
        draining = asyncio.create_task(relay.listeners.drain())
        await asyncio.sleep(0)
        await idle.send(get("/-/ready"))
        assert (await idle.message()).status == 503
        assert (await busy.message()).get("connection") == "close"
        assert await draining == 0
