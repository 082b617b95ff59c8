"""Every deadline of `gate.snapshot.Timeouts`, from both sides: who abuses it is cut, who is lawfully slow lives.

The times are scaled down. A deadline is kept to within 1 s (one sweep, and what a busy machine takes).
"""

import asyncio
import contextlib
import ssl
from datetime import UTC, datetime
from time import monotonic

import pytest

from proxy.gate.snapshot import Bounds, Timeouts
from proxy.pki.authority import Leaf, issue, make_authority
from proxy.pki.context import build_server_context
from proxy.relay.listener import SWEEP_S
from tests.relay import tls_peer
from tests.relay.peer import Cut
from tests.relay.stage import OK, Filling, Lag, answer, answering, get, on_a_loop, post, stage, until, upstream

MB = 1_000_000
GRACE_S = 1.0
#: Smaller than any answer below, so that a reader who does not read is felt at once.
TINY = 4096
SSE = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n"


class Watch:
    """Holds a deadline to its word: not before it, and no later than the grace and a busy machine allow."""

    def __init__(self):
        self.since = monotonic()
        self._lag = Lag()

    def says(self, deadline_s):
        assert deadline_s - 0.02 <= monotonic() - self.since
        self.says_at_most(deadline_s)

    def says_at_most(self, deadline_s):
        took, late = monotonic() - self.since, self._lag.late_s
        assert took <= deadline_s + GRACE_S + late, f"{took:.2f} s for {deadline_s} s, on a loop {late:.2f} s late"


async def drip(peer, piece, pause_s):
    """Send `piece` for ever, until the relay has had enough."""
    with contextlib.suppress(ConnectionError):
        while True:
            await peer.send(piece)
            await asyncio.sleep(pause_s)


@contextlib.asynccontextmanager
async def dripping(peer, piece, pause_s=0.1):
    task = asyncio.create_task(drip(peer, piece, pause_s))
    try:
        yield
    finally:
        task.cancel()
        await asyncio.wait([task])


async def silent(peer):
    """An upstream that takes a request and says nothing."""
    await peer.message()
    await peer.end()


# header, idle


@on_a_loop
async def test_who_sends_nothing_is_let_go():
    async with upstream(answering(OK)) as origin, stage(origin.port, header=0.4) as relay:
        client, watch = await relay.client(), Watch()
        assert await client.end() == "fin"
        watch.says(0.4)
        assert relay.outcomes == []


@pytest.mark.parametrize("piece", [b"a", b"X-A: b\r\n"], ids=["one line", "fields"])
@on_a_loop
async def test_a_head_that_drips_is_cut(piece):
    async with upstream(answering(OK)) as origin, stage(origin.port, header=0.5) as relay:
        client, watch = await relay.client(b"GET /x HTTP/1.1\r\n"), Watch()
        async with dripping(client, piece):
            await client.end()
            watch.says(0.5)
        assert await relay.reasons(1) == ["client_late"]
        assert origin.requests == []


@on_a_loop
async def test_empty_lines_buy_no_time():
    """One before a request is forgiven (RFC 9112 2.2)."""
    async with upstream(answering(OK)) as origin, stage(origin.port, header=0.5, linger=0.3) as relay:
        client, watch = await relay.client(b"\r\n"), Watch()
        async with dripping(client, b"\r\n"):
            await client.end()
        watch.says_at_most(0.5)
        assert origin.requests == []
        patient = await relay.client(b"\r\n" + get())
        assert (await patient.message()).status == 200


@on_a_loop
async def test_a_second_head_has_its_own_time():
    async with upstream(answering(OK)) as origin, stage(origin.port, header=0.5, idle=10) as relay:
        client = await relay.client(get())
        await client.message()
        await asyncio.sleep(0.8)
        await client.send(b"GET ")
        watch = Watch()
        await client.end()
        watch.says(0.5)


@on_a_loop
async def test_an_idle_connection_is_closed_after_idle_and_not_after_header():
    async with upstream(answering(OK)) as origin, stage(origin.port, header=0.2, idle=1.0) as relay:
        client = await relay.client(get())
        await client.message()
        watch = Watch()
        assert await client.end() == "fin"
        watch.says(1.0)


@on_a_loop
async def test_after_an_answer_of_ours_idle_counts_too():
    async with upstream(answering(OK)) as origin, stage(origin.port, header=0.2, idle=0.8) as relay:
        client = await relay.client(get("/plain"))
        assert (await client.message()).status == 401
        watch = Watch()
        assert await client.end() == "fin"
        watch.says(0.8)


# body, body_min_rate


@pytest.mark.parametrize("path", ["/x", "/write"])
@on_a_loop
async def test_a_body_that_stops_is_cut(path):
    async with upstream(answering(OK)) as origin, stage(origin.port, body=0.5) as relay:
        client, watch = await relay.client(post(path, b"ab", relay.bearer, length=100)), Watch()
        await client.end()
        watch.says(0.5)
        assert await relay.reasons(1) == ["client_late"]
        assert origin.requests == [], "a part is never taken for the whole"


@on_a_loop
async def test_a_body_that_stops_after_a_quick_start_is_cut_as_soon():
    """What came quickly buys no hours of silence."""
    async with upstream(answering(OK)) as origin, stage(origin.port, body=0.5) as relay:
        client = await relay.client(post("/x", bytes(MB), length=2 * MB))
        watch = Watch()
        await client.end()
        watch.says(0.5)


@pytest.mark.parametrize("chunked", [False, True], ids=["length", "chunked"])
@on_a_loop
async def test_a_body_that_trickles_below_the_rate_is_cut(chunked):
    bounds = Bounds(body_min_rate_bytes=1000)
    async with upstream(answering(OK)) as origin, stage(origin.port, bounds=bounds, body=0.5) as relay:
        head = get("/x", b"Transfer-Encoding: chunked\r\n", method="POST") if chunked else post("/x", b"", length=MB)
        client, watch = await relay.client(head), Watch()
        async with dripping(client, b"1\r\na\r\n" if chunked else b"a"):
            await client.end()
            watch.says(0.5)
        assert await relay.reasons(1) == ["client_late"]


@on_a_loop
async def test_a_slow_but_steady_uploader_lives():
    bounds = Bounds(body_min_rate_bytes=1000)
    async with upstream(answering(OK)) as origin, stage(origin.port, bounds=bounds, body=0.3, response=0.4) as relay:
        client = await relay.client(post("/x", b"", length=200 * 30))
        for _ in range(30):  # 2,000 bytes/s for five times `body`
            await client.send(bytes(200))
            await asyncio.sleep(0.05)
        assert (await client.message()).status == 200
        assert len(origin.requests[0].body) == 6000


@on_a_loop
async def test_an_uploader_is_not_blamed_for_an_upstream_that_reads_slowly():
    async def slow(peer):
        head = await peer.head()
        left = int(head.get("content-length"))
        while left:
            left -= len(await peer.receive(1_500_000))
            await asyncio.sleep(0.05)
        await peer.send(OK)

    async with upstream(slow) as origin, stage(origin.port, body=0.3, response=1.0, send=1.0) as relay:
        client = await relay.client()
        sending = asyncio.create_task(client.send(post("/x", bytes(24 * MB))))
        assert (await client.message()).status == 200
        await sending


# connect, response


@on_a_loop
async def test_an_upstream_that_refuses_is_tried_for_connect_and_no_longer():
    async with upstream(answering(OK)) as origin:
        port = origin.port
    async with stage(port, connect=0.6, header=0.2, body=0.2) as relay:
        client, watch = await relay.client(get()), Watch()
        refusal = await client.message()
        watch.says(0.6)
        assert refusal.status == 502
        assert 5 <= int(refusal.get("retry-after")) <= 30
        assert await relay.reasons(1) == ["upstream_refused"]


@pytest.mark.parametrize("request_bytes", [get(), post("/x", b"abc")], ids=["get", "post"])
@on_a_loop
async def test_an_upstream_that_does_not_answer_is_given_up(request_bytes):
    async with upstream(silent) as origin, stage(origin.port, response=0.6, header=0.2, body=0.2) as relay:
        client, watch = await relay.client(request_bytes), Watch()
        refusal = await client.message()
        watch.says(0.6)
        assert refusal.status == 504
        assert await relay.reasons(1) == ["upstream_late"]
        await until(lambda: not relay.context.pools or origin.peers[0].sock.fileno() < 0)


@on_a_loop
async def test_an_upstream_that_does_not_read_the_body_is_given_up():
    async def deaf(peer):
        await asyncio.sleep(5)

    async with upstream(deaf) as origin, stage(origin.port, response=0.6, body=0.2) as relay:
        client = await relay.client()
        sending = asyncio.create_task(client.send(post("/x", bytes(60 * MB))))
        watch = Watch()
        with contextlib.suppress(Cut):
            assert (await client.message()).status == 504
        watch.says(0.6)
        assert await relay.reasons(1) == ["upstream_late"]
        sending.cancel()
        await asyncio.wait([sending])


@on_a_loop
async def test_a_slow_query_outlives_header_body_and_send():
    async def slow(peer):
        await peer.message()
        await asyncio.sleep(1.2)
        await peer.send(OK)

    async with (
        upstream(slow) as origin,
        stage(origin.port, response=2.0, header=0.2, body=0.2, send=0.2, idle=0.3, connect=0.3, linger=0.2) as relay,
    ):
        clients = [await relay.client(get()), await relay.client(post("/x", b"query=up"))]
        assert [(await client.message()).body for client in clients] == [b"ok", b"ok"]


# stream


@on_a_loop
async def test_a_quiet_stream_outlives_response_send_and_idle():
    async def events(peer):
        await peer.message()
        await peer.send(SSE)
        await asyncio.sleep(1.2)
        await peer.send(b"9\r\ndata: x\n\n\r\n")
        await asyncio.sleep(1.2)
        await peer.send(b"0\r\n\r\n")

    short = {"response": 0.3, "send": 0.3, "idle": 0.3, "header": 0.3, "body": 0.3, "linger": 0.2, "upstream_idle": 0.2}
    async with upstream(events) as origin, stage(origin.port, stream=2.0, **short) as relay:
        client = await relay.client(get())
        assert (await client.message()).body == b"data: x\n\n"


@on_a_loop
async def test_an_answer_that_stops_in_the_middle_is_cut_and_not_ended():
    async def stalling(peer):
        await peer.message()
        await peer.send(SSE + b"3\r\nabc\r\n")
        await peer.end()

    async with upstream(stalling) as origin, stage(origin.port, stream=0.6) as relay:
        client, watch = await relay.client(get()), Watch()
        with pytest.raises(Cut):
            await client.message()
        watch.says(0.6)
        assert await relay.reasons(1) == ["upstream_late"]


# send


@on_a_loop
async def test_a_reader_that_does_not_read_is_cut():
    async with upstream(answering(answer(bytes(64 * MB)))) as origin, stage(origin.port, send=0.6, idle=9) as relay:
        await relay.client(get(), receive_buffer=TINY)
        watch = Watch()
        await until(lambda: not relay.context.connections)
        watch.says(0.6)
        assert await relay.reasons(1) == ["client_late"]


@pytest.mark.parametrize("fields", [b"", b"Connection: close\r\n"], ids=["kept", "closed"])
@on_a_loop
async def test_a_reader_that_does_not_read_the_end_is_cut_too(fields):
    """The upstream has finished and is free; what is left is with us."""
    filling = Filling()
    async with upstream(filling.script) as origin, stage(origin.port, send=0.6, idle=9) as relay:
        await relay.client(get("/x", fields), receive_buffer=TINY)
        await filling.fill(relay)
        watch = Watch()
        assert await relay.reasons(1) == ["ok"]
        await until(lambda: not relay.context.connections)
        watch.says(0.6)


@on_a_loop
async def test_a_reader_that_trickles_is_cut():
    """One byte in a while is no reading."""
    async with upstream(answering(answer(bytes(8 * MB)))) as origin, stage(origin.port, send=0.6) as relay:
        client = await relay.client(get(), receive_buffer=TINY)
        watch = Watch()

        async def sip():
            with contextlib.suppress(ConnectionError):
                while await client.receive(1):  # noqa: ASYNC110 - it is the pace that is tested
                    await asyncio.sleep(0.1)

        sipping = asyncio.create_task(sip())
        await until(lambda: not relay.context.connections)
        watch.says(0.6)
        sipping.cancel()
        await asyncio.wait([sipping])


@pytest.mark.parametrize("fields", [b"", b"Connection: close\r\n"], ids=["kept", "closed"])
@on_a_loop
async def test_a_slow_but_steady_reader_lives(fields):
    """Also for what is left when the upstream has long finished, and for the last of it before a close."""
    body = bytes(range(256)) * 24_000
    async with (
        upstream(answering(answer(body))) as origin,
        stage(origin.port, send=0.4, idle=0.4, linger=0.2, response=0.4) as relay,
    ):
        client = await relay.client(get("/x", fields), receive_buffer=65536)
        message = await client.head()
        got = bytearray()
        while len(got) < int(message.get("content-length")):
            part = await client.receive(200_000)
            assert part, f"cut after {len(got)}"
            got += part
            await asyncio.sleep(0.04 if len(got) < 2 * MB or len(got) > 5 * MB else 0)
        assert got == body
        assert await relay.reasons(1) == ["ok"]


@pytest.mark.parametrize("fields", [b"", b"Connection: close\r\n"], ids=["kept", "closed"])
@on_a_loop
async def test_a_reader_slower_than_the_kernel_tells_lives(fields):
    """The kernel holds some MB for it, and says that there is room again only when a third of them has gone."""
    body = bytes(range(256)) * 20_000
    async with (
        upstream(answering(answer(body))) as origin,
        stage(origin.port, send=0.7, idle=0.3, linger=0.1, response=0.3) as relay,
    ):
        client = await relay.client(get("/x", fields), receive_buffer=65536)
        await read_slowly(client.receive, body)


@pytest.fixture(scope="module")
def pki(tmp_path_factory):
    directory = tmp_path_factory.mktemp("pki")
    make_authority(directory, datetime.now(UTC))
    issue(directory, Leaf("one", dns=["localhost"]), datetime.now(UTC))
    return directory


@pytest.mark.parametrize("fields", [b"", b"Connection: close\r\n"], ids=["kept", "closed"])
@on_a_loop
async def test_a_slow_reader_over_tls_lives_too(pki, fields):
    body = bytes(range(256)) * 20_000
    context = build_server_context(pki / "one.crt", pki / "one.key", ssl.TLSVersion.TLSv1_2)
    async with (
        upstream(answering(answer(body))) as origin,
        stage(origin.port, context=context, send=0.7, idle=0.3, linger=0.1, response=0.3) as relay,
    ):
        plain = await relay.client(receive_buffer=65536)
        client = tls_peer.Peer(*await asyncio.open_connection(sock=plain.sock.dup()), tls_peer.trusting(pki / "ca.crt"))
        await client.handshake()
        await client.send(get("/x", fields))
        await read_slowly(client.read, body)
        client.leave()


async def read_slowly(receive, body):
    """Take an answer at 0.5 MB/s for twice `send`, then all the rest. (The kernel tells of room in steps of 0.2 MB.)"""
    data, since = b"", monotonic()
    while b"\r\n\r\n" not in data:
        data += await receive(1000)
    got = bytearray(data.partition(b"\r\n\r\n")[2])
    while len(got) < len(body):
        slow = monotonic() - since < 1.6
        part = await receive(min(len(body) - len(got), 16_000))
        assert part, f"cut after {len(got)}"
        got += part
        await asyncio.sleep(0.03 if slow else 0)
    assert got == body


# linger, upstream_idle, drain


CHUNKED = b"Transfer-Encoding: chunked\r\n"


@pytest.mark.parametrize(
    ("request_bytes", "status"),
    [
        (post("/plain", b"x", length=MB), 401),
        (post("/small", b"x", length=MB), 413),
        (get("/small", CHUNKED, method="POST") + b"fffff\r\n", 413),
        (get("/x", CHUNKED, method="POST") + b"no number\r\n", 400),
        (b"what is this\r\n\r\n", 400),
    ],
    ids=["denied", "length too large", "chunks too large", "bad chunk", "no request"],
)
@on_a_loop
async def test_who_goes_on_after_an_early_answer_is_closed_after_linger(request_bytes, status):
    async with upstream(answering(OK)) as origin, stage(origin.port, linger=0.5, body=9, idle=9) as relay:
        client, watch = await relay.client(request_bytes), Watch()
        assert (await client.message()).status == status
        async with dripping(client, b"x"):
            await client.end()
            watch.says(0.5)
        assert len(relay.outcomes) == 1


@on_a_loop
async def test_what_follows_an_early_answer_is_bounded_in_size_too():
    async with upstream(answering(OK)) as origin, stage(origin.port, linger=9) as relay:
        client = await relay.client(post("/plain", b"x", length=100 * MB))
        assert (await client.message()).status == 401
        watch = Watch()
        async with dripping(client, bytes(MB), 0):
            await client.end()
        watch.says_at_most(1.0)


@on_a_loop
async def test_an_idle_upstream_connection_is_closed_by_us_first():
    async with upstream(answering(OK)) as origin, stage(origin.port, upstream_idle=0.5) as relay:
        client = await relay.client(get())
        await client.message()
        watch = Watch()
        await until(lambda: origin.peers[0].sock.fileno() < 0)
        watch.says(0.5)
        await client.send(get())
        assert (await client.message()).body == b"ok"
        assert len(origin.peers) == 2


@on_a_loop
async def test_drain_waits_for_drain_and_then_cuts():
    async with upstream(silent) as origin, stage(origin.port, drain=0.6, linger=0.2) as relay:
        client = await relay.client(get())
        await until(lambda: origin.requests)
        watch = Watch()
        assert await relay.listeners.drain() == 1
        watch.says(0.6)
        await client.end()


# The defaults


def test_the_defaults_suit_what_prometheus_does():
    """Prometheus gives a query 2 minutes, an SSE or a long poll may be silent for half an hour."""
    defaults = Timeouts()
    query_s, silent_stream_s = 120, 30 * 60
    assert defaults.response > query_s + GRACE_S
    assert defaults.stream > silent_stream_s + GRACE_S
    assert SWEEP_S <= GRACE_S
    # Go's and vmagent's clients keep an idle connection for 90 s, Prometheus' remote write for 5 minutes: theirs
    # must end first, or a request meets our close (docs/behaviour.md).
    assert defaults.idle > 5 * 60
    # Prometheus as an upstream closes after 5 minutes (--web.read-timeout), Go programs after 1 or 2: ours end first.
    assert defaults.upstream_idle < 60
    # A sender's own deadline for a remote write is 30 s: what we wait before we say 502 must be well inside it.
    assert defaults.connect < 10
    # systemd and Kubernetes kill 90 s and 30 s after the first signal.
    assert defaults.drain <= 30
