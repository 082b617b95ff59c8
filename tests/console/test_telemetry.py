"""The telemetry listener, with real sockets: who is answered what, and who has to go."""

import asyncio
import contextlib
import socket

import pytest

from proxy.console import telemetry as module
from proxy.console.page import CONTENT_TYPE
from proxy.console.telemetry import MAX_CONNECTIONS, Telemetry
from tests.kit.process import free_port
from tests.relay.peer import Peer
from tests.relay.stage import both_loops, get, on_a_loop, until


class Shown:
    """A telemetry listener, how often its page was made, and what it says is missing."""

    def __init__(self, page=b"up 1\n"):
        self.page = page
        self.built = 0
        self.missing = ""
        self.port = free_port()
        self.telemetry = Telemetry(self._build, CONTENT_TYPE, lambda: self.missing)

        self._clients = []

    def _build(self):
        self.built += 1
        return self.page

    async def client(self, **options):
        peer = await Peer.connect(self.port, **options)
        self._clients.append(peer)
        return peer

    async def stop(self):
        self.telemetry.close()
        for peer in self._clients:
            peer.close()
        await until(lambda: not self.telemetry.connections)


@contextlib.asynccontextmanager
async def showing(page=b"up 1\n"):
    shown = Shown(page)
    await shown.telemetry.open("127.0.0.1", shown.port)
    try:
        yield shown
    finally:
        await shown.stop()


async def asked(shown, request, *, head_only=False):
    peer = await shown.client()
    await peer.send(request)
    return await peer.message(head_only=head_only)


@both_loops
@pytest.mark.parametrize(
    ("path", "status", "body"),
    [
        ("/metrics", 200, b"up 1\n"),
        ("/metrics?name=x", 200, b"up 1\n"),
        ("/-/healthy", 200, b"ok\n"),
        ("/-/ready", 200, b"ok\n"),
        ("/", 404, None),
        ("/metrics/", 404, None),
        ("/-/reload", 404, None),
        ("/-/", 404, None),
    ],
)
@on_a_loop
async def test_what_is_shown(loop, path, status, body):
    async with showing() as shown:
        answer = await asked(shown, get(path))
        assert answer.status == status
        assert body is None or answer.body == body
        assert answer.get("content-type").startswith("text/plain")
        head = await asked(shown, get(path, method="HEAD"), head_only=True)
        assert (head.start, head.fields) == (answer.start, answer.fields)


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "OPTIONS", "GRAB"])
@pytest.mark.parametrize("path", ["/metrics", "/-/healthy", "/-/ready"])
@on_a_loop
async def test_nothing_but_looking(path, method):
    async with showing() as shown:
        answer = await asked(shown, get(path, method=method))
        assert (answer.status, answer.get("allow")) == (405, "GET, HEAD")
        assert (await asked(shown, get("/other", method=method))).status == 404


@on_a_loop
async def test_the_format_is_named():
    async with showing() as shown:
        assert (await asked(shown, get("/metrics"))).get("content-type") == CONTENT_TYPE


@on_a_loop
async def test_what_is_missing_is_named_in_one_line():
    async with showing() as shown:
        shown.missing = "the token store cannot be read, upstream 127.0.0.1:9090 cannot be reached"
        answer = await asked(shown, get("/-/ready"))
        assert (answer.status, answer.body) == (503, f"not ready: {shown.missing}\n".encode())
        assert (await asked(shown, get("/-/healthy"))).status == 200
        shown.missing = ""
        assert (await asked(shown, get("/-/ready"))).status == 200


@on_a_loop
async def test_a_scrape_in_a_hurry_is_given_the_same_page(monkeypatch):
    monkeypatch.setattr(module, "PAGE_LIVES_S", 3600.0)
    async with showing() as shown:
        shown.telemetry._page_at = -3600.0
        for _ in range(20):
            assert (await asked(shown, get("/metrics"))).body == b"up 1\n"
        assert shown.built == 1
        monkeypatch.setattr(module, "PAGE_LIVES_S", 0.0)
        shown.page = b"up 2\n"
        assert (await asked(shown, get("/metrics"))).body == b"up 2\n"


# Connections


@both_loops
@on_a_loop
async def test_a_connection_is_kept(loop):
    async with showing() as shown:
        peer = await shown.client()
        for _ in range(3):
            await peer.send(get("/-/healthy"))
            assert (await peer.message()).status == 200
        assert len(shown.telemetry.connections) == 1
        await peer.send(get("/-/healthy", b"Connection: close\r\n"))
        assert (await peer.message()).get("connection") == "close"
        assert await peer.end() == "fin"


@both_loops
@on_a_loop
async def test_requests_sent_ahead_are_answered_in_order(loop):
    async with showing() as shown:
        peer = await shown.client()
        await peer.send((get("/-/healthy") + get("/metrics") + get("/none")) * 50)
        answers = [(await peer.message()).status for _ in range(150)]
        assert answers == [200, 200, 404] * 50


@both_loops
@on_a_loop
async def test_a_request_may_come_byte_by_byte(loop):
    async with showing() as shown:
        peer = await shown.client()
        for octet in get("/metrics"):
            await peer.send(bytes([octet]))
        assert (await peer.message()).body == b"up 1\n"


@both_loops
@on_a_loop
async def test_a_half_closed_client_gets_all_of_its_answer(loop):
    async with showing(b"x" * 4_000_000) as shown:
        peer = await shown.client()
        await peer.send(get("/metrics"))
        peer.half_close()
        assert len((await peer.message()).body) == 4_000_000
        assert await peer.end() == "fin"


@both_loops
@pytest.mark.parametrize(
    ("request_", "status"),
    [
        (b"GET /metrics HTTP/1.1\r\n\r\n", 400),
        (b"GET /metrics HTTP/1.1\nHost: h\n\n", 400),
        (b"GET /metrics HTTP/1.1\r\nHost: h\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n", 400),
        (b"GET /metrics HTTP/2.0\r\nHost: h\r\n\r\n", 505),
        (b"GET /" + b"x" * 20_000, 414),
        (b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + b"\0" * 60, 400),
    ],
)
@on_a_loop
async def test_what_is_not_lawful_is_refused_and_ends(loop, request_, status):
    async with showing() as shown:
        peer = await shown.client()
        await peer.send(request_)
        assert (await peer.message()).status == status
        assert await peer.end() == "fin"


@both_loops
@on_a_loop
async def test_a_body_is_not_read(loop):
    """Neither is it taken for the next request; and the answer is not lost to a reset while it still comes."""
    async with showing() as shown:
        peer = await shown.client()
        hidden = get("/-/ready")
        await peer.send(get("/metrics", b"Content-Length: %d\r\n" % (len(hidden) * 100)) + hidden * 50)
        assert (await peer.message()).get("connection") == "close"
        await peer.send(hidden * 50)
        assert await peer.rest() == b""


# Bounds


@both_loops
@on_a_loop
async def test_the_connection_that_was_silent_longest_makes_room(loop):
    async with showing() as shown:
        first, *others = [await shown.client() for _ in range(MAX_CONNECTIONS)]
        await until(lambda: len(shown.telemetry.connections) == MAX_CONNECTIONS)
        await first.send(get("/metrics"))
        await first.message()
        newcomers = [await shown.client() for _ in range(3)]
        for peer in newcomers:
            await peer.send(get("/metrics"))
            assert (await peer.message()).status == 200
        assert len(shown.telemetry.connections) == MAX_CONNECTIONS
        for peer in others[:3]:
            await peer.end()  # the oldest, which never asked
        await first.send(get("/metrics"))
        assert (await first.message()).status == 200


@both_loops
@pytest.mark.parametrize("sent", [b"", b"GET", get("/metrics")[:-1]], ids=["nothing", "a word", "all but one"])
@on_a_loop
async def test_a_head_that_does_not_end_is_cut(loop, sent, monkeypatch):
    monkeypatch.setattr(module, "HEAD_S", 0.15)
    async with showing() as shown:
        peer = await shown.client()
        await peer.send(sent)
        await peer.end()


@on_a_loop
async def test_a_trickle_earns_no_time(monkeypatch):
    monkeypatch.setattr(module, "HEAD_S", 0.3)
    async with showing() as shown:
        peer = await shown.client()

        async def trickle():
            for octet in get("/metrics", b"X: %b\r\n" % (b"y" * 1000)):
                await peer.send(bytes([octet]))
                await asyncio.sleep(0.01)

        with pytest.raises(ConnectionError):
            await trickle()


@on_a_loop
async def test_a_client_between_two_scrapes_is_kept_and_then_closed(monkeypatch):
    monkeypatch.setattr(module, "HEAD_S", 0.1)
    monkeypatch.setattr(module, "IDLE_S", 0.6)
    async with showing() as shown:
        peer = await shown.client()
        await peer.send(get("/metrics"))
        await peer.message()
        await asyncio.sleep(0.3)  # longer than a head may take
        await peer.send(get("/metrics"))
        await peer.message()
        await peer.end()


@both_loops
@on_a_loop
async def test_a_client_that_takes_no_answer_is_cut_and_costs_little(loop, monkeypatch):
    monkeypatch.setattr(module, "SEND_S", 0.3)
    async with showing(b"x" * 4_000_000) as shown:
        peer = await shown.client(receive_buffer=4096)
        await peer.send(get("/metrics") * 100)
        await until(lambda: any(connection._choked for connection in shown.telemetry.connections))
        (connection,) = shown.telemetry.connections
        assert connection._transport.get_write_buffer_size() <= 4_100_000, "one answer at a time"
        await until(lambda: not shown.telemetry.connections)


@on_a_loop
async def test_a_client_that_asks_on_and_takes_nothing_is_cut():
    async with showing(b"x" * 4_000_000) as shown:
        peer = await shown.client(receive_buffer=4096)
        with pytest.raises(ConnectionError):
            await peer.send(get("/metrics") * 1_000_000)


@on_a_loop
async def test_a_port_in_use_is_named():
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(OSError, match=rf"cannot listen on 127\.0\.0\.1:{port} \(telemetry\)"):
            await Shown().telemetry.open("127.0.0.1", port)


@on_a_loop
async def test_closing_ends_all_connections():
    async with showing() as shown:
        peer = await shown.client()
        await until(lambda: shown.telemetry.connections)
        shown.telemetry.close()
        await peer.end()
        with pytest.raises(OSError):
            await shown.client()
