"""The TLS layer on real sockets, under both loops."""

import asyncio
import contextlib
import random
import ssl
import subprocess
from datetime import UTC, datetime
from time import monotonic

import pytest
import uvloop

from proxy.pki.authority import Leaf, issue, make_authority
from proxy.pki.context import build_server_context
from proxy.relay import tls
from proxy.relay.tls import TlsListener
from tests.relay.tls_peer import Peer, trusting

BOTH_VERSIONS = (ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3)


@pytest.fixture(scope="module")
def pki(tmp_path_factory):
    directory = tmp_path_factory.mktemp("pki")
    now = datetime.now(UTC)
    make_authority(directory, now)
    issue(directory, Leaf("one", dns=["localhost"]), now)
    issue(directory, Leaf("two", dns=["localhost"]), now)
    return directory


def server_context(pki, name="one"):
    return build_server_context(pki / f"{name}.crt", pki / f"{name}.key", ssl.TLSVersion.TLSv1_2)


@pytest.fixture(params=["asyncio", "uvloop"])
def run(request):
    """Run a test's coroutine; an exception that a loop had to handle is a failure."""

    def run(play):
        async def watched():
            faults = []
            asyncio.get_running_loop().set_exception_handler(lambda _, what: faults.append(what))
            await asyncio.wait_for(play(), 90)
            assert faults == []

        (asyncio.run if request.param == "asyncio" else uvloop.run)(watched())

    return run


class Recorder:
    """An inner protocol that writes down what it is told, and checks the rule of the shared BIOs each time."""

    keeps_open_at_eof = False

    def __init__(self, listener=None):
        self.listener = listener
        self.events = []
        self.writing_pauses = 0
        self._changed = asyncio.Event()

    def connection_made(self, transport):
        self.transport = transport
        self.note("made")

    def data_received(self, data):
        assert type(data) is bytes
        assert data
        self.note(data)

    def eof_received(self):
        self.note("eof")
        return self.keeps_open_at_eof

    def connection_lost(self, _exc):
        self.note("lost")

    def pause_writing(self):
        self.writing_pauses += 1

    def resume_writing(self):
        pass

    def note(self, event):
        if self.listener is not None:
            assert not self.listener.incoming.pending
            assert not self.listener.outgoing.pending
        self.events.append(event)
        self._changed.set()

    async def until(self, event):
        while event not in self.events:
            self._changed.clear()
            await self._changed.wait()

    @property
    def data(self):
        return [event for event in self.events if type(event) is bytes]


class Echo(Recorder):
    def data_received(self, data):
        self.note(data)
        self.transport.write(data)

    def pause_writing(self):
        super().pause_writing()
        self.transport.pause_reading()

    def resume_writing(self):
        self.transport.resume_reading()


@contextlib.asynccontextmanager
async def served(pki, kind=Recorder, **options):
    """A listener, its port, and the queue of the inner protocols that it makes."""
    made = asyncio.Queue()
    inners = []

    def make_inner():
        inner = kind(listener)
        inners.append(inner)
        made.put_nowait(inner)
        return inner

    def connection():
        connections.append(listener.connection())
        return connections[-1]

    connections = []
    listener = TlsListener(server_context(pki), make_inner, **options)
    server = await asyncio.get_running_loop().create_server(connection, "127.0.0.1", 0)
    try:
        yield listener, server.sockets[0].getsockname()[1], made
    finally:
        server.close()
        await server.wait_closed()
        for one in connections:
            one.abort()
        for inner in inners:
            await inner.until("lost")
        await asyncio.sleep(0.01)  # the loop has to close what was cut, or warns of it later


async def until(condition):
    while not condition():  # noqa: ASYNC110 - what is waited for is the listener's own state
        await asyncio.sleep(0.005)


@pytest.mark.parametrize("version", BOTH_VERSIONS)
def test_a_small_exchange(run, pki, version):
    async def play():
        async with served(pki, Echo) as (listener, port, made):
            context = trusting(pki / "ca.crt")
            context.maximum_version = version
            peer = await Peer.connect(port, context)
            await peer.send(b"ping")
            assert await peer.read(4) == b"ping"
            inner = await made.get()
            assert inner.events == ["made", b"ping"]
            assert inner.transport.get_extra_info("peername")[0] == "127.0.0.1"
            assert inner.transport.get_extra_info("ssl_object").version() == peer.tls.version()
            assert listener.counts.completed == 1
            assert listener.handshaking == 0
            peer.leave()
            await inner.until("lost")

    run(play)


def test_bodies_both_ways_wait_for_a_slow_reader(run, pki):
    async def play():
        async with served(pki, Echo) as (_, port, made):
            peer = await Peer.connect(port, trusting(pki / "ca.crt"))
            body = random.Random(1).randbytes(12_000_000)
            sending = asyncio.create_task(peer.send_raw(peer.records(body)))
            inner = await made.get()
            await until(lambda: inner.writing_pauses)
            held = inner.transport.get_write_buffer_size()
            assert held < 1_000_000, "a reader that does not read is waited for, not buffered for"
            assert await peer.read(len(body)) == body
            await sending
            peer.leave()
            await inner.until("lost")

    run(play)


def test_one_write_may_be_larger_than_a_slice(run, pki):
    async def play():
        async with served(pki) as (_, port, made):
            peer = await Peer.connect(port, trusting(pki / "ca.crt"))
            inner = await made.get()
            body = random.Random(2).randbytes(1_000_001)
            inner.transport.write(memoryview(body))
            inner.transport.write(b"")
            inner.transport.close()
            assert await peer.read(len(body) + 1) == body
            await inner.until("lost")
            peer.leave()

    run(play)


def test_the_records_of_one_read_are_one_delivery(run, pki):
    async def play():
        async with served(pki) as (_, port, made):
            peer = await Peer.connect(port, trusting(pki / "ca.crt"))
            inner = await made.get()
            await peer.send(b"a" * 10, b"b" * 16384, b"c")
            await inner.until(b"a" * 10 + b"b" * 16384 + b"c")
            peer.leave()
            await inner.until("lost")

    run(play)


def test_data_that_came_with_the_finished_waits_for_a_paused_inner(run, pki):
    class PausesAtOnce(Recorder):
        def connection_made(self, transport):
            super().connection_made(transport)
            transport.pause_reading()

    async def play():
        async with served(pki, PausesAtOnce) as (_, port, made):
            peer = await Peer.connect_tcp(port, trusting(pki / "ca.crt"))
            await peer.handshake(send_last=False)
            await peer.send(b"early")
            inner = await made.get()
            await peer.send(b"later")
            await asyncio.sleep(0.05)  # nothing must come, and nothing announces that
            assert inner.events == ["made"]
            inner.transport.resume_reading()
            assert inner.events == ["made"], "a delivery from within resume_reading"
            await until(lambda: b"".join(inner.data) == b"earlylater")
            peer.leave()
            await inner.until("lost")

    run(play)


def test_the_end_waits_for_a_paused_inner(run, pki):
    class PausesOnData(Recorder):
        keeps_open_at_eof = True

        def data_received(self, data):
            super().data_received(data)
            self.transport.pause_reading()

    async def play():
        async with served(pki, PausesOnData) as (_, port, made):
            peer = await Peer.connect(port, trusting(pki / "ca.crt"))
            inner = await made.get()
            await peer.send_raw(peer.records(b"last words", close_notify=True))
            await inner.until(b"last words")
            await asyncio.sleep(0.05)  # as above
            assert inner.events == ["made", b"last words"]
            for _ in range(2):  # the end is told once, however often reading is resumed
                inner.transport.resume_reading()
                await inner.until("eof")
                inner.transport.pause_reading()
            inner.transport.resume_reading()
            inner.transport.write(b"an answer after the end")
            inner.transport.close()
            await inner.until("lost")
            assert inner.events == ["made", b"last words", "eof", "lost"]
            peer.leave()

    run(play)


@pytest.mark.parametrize("tail", [b"", b"\x17\x03\x03\x00\x20" + b"x" * 32, b"junk" * 5000])
def test_close_notify_is_the_end_whatever_follows(run, pki, tail):
    async def play():
        async with served(pki) as (_, port, made):
            peer = await Peer.connect(port, trusting(pki / "ca.crt"))
            inner = await made.get()
            await peer.send_raw(peer.records(b"whole", close_notify=True) + tail)
            await inner.until("lost")
            assert inner.events == ["made", b"whole", "eof", "lost"]
            peer.leave()

    run(play)


def test_a_fin_is_an_end_too(run, pki):
    async def play():
        async with served(pki) as (_, port, made):
            peer = await Peer.connect(port, trusting(pki / "ca.crt"))
            inner = await made.get()
            peer.writer.write_eof()
            await inner.until("lost")
            assert inner.events == ["made", "eof", "lost"]
            assert await peer.read(1) == b"", "our close_notify"
            peer.leave()

    run(play)


def test_close_ends_lawfully_and_abort_cuts(run, pki):
    async def play():
        async with served(pki) as (_, port, made):
            for end in ("close", "abort"):
                peer = await Peer.connect(port, trusting(pki / "ca.crt"))
                inner = await made.get()
                inner.transport.write(b"half of it")
                assert await peer.read(10) == b"half of it"
                getattr(inner.transport, end)()
                if end == "close":
                    assert await peer.read(1) == b""
                else:
                    with pytest.raises(ssl.SSLError, match="UNEXPECTED_EOF"):
                        await peer.read(1)
                await inner.until("lost")
                peer.leave()

    run(play)


@pytest.mark.parametrize(
    "step", ["close", "abort", "write+close", "pause_reading", "pause_reading+resume_reading", "close+close+abort"]
)
def test_the_inner_protocol_may_act_from_within_data_received(run, pki, step):
    class Acts(Recorder):
        def data_received(self, data):
            super().data_received(data)
            transport = self.transport
            for word in step.split("+"):
                if word == "write":
                    transport.write(b"bye")
                else:
                    getattr(transport, word)()

    async def play():
        async with served(pki, Acts) as (_, port, made):
            peer = await Peer.connect(port, trusting(pki / "ca.crt"))
            inner = await made.get()
            await peer.send_raw(peer.records(b"1", b"2") + peer.records(b"3")[:10])
            await inner.until(b"12")
            if step == "write+close":
                assert await peer.read(4) == b"bye"
            peer.leave()
            if step == "pause_reading":
                inner.transport.abort()  # who does not read does not see the peer go
            await inner.until("lost")
            assert inner.data == [b"12"]

    run(play)


def test_a_lost_connection_takes_any_call(run, pki):
    async def play():
        async with served(pki) as (_, port, made):
            peer = await Peer.connect(port, trusting(pki / "ca.crt"))
            inner = await made.get()
            peer.leave()
            await inner.until("lost")
            transport = inner.transport
            transport.write(b"x")
            transport.pause_reading()
            transport.resume_reading()
            transport.set_write_buffer_limits(1)
            transport.close()
            transport.abort()
            assert transport.is_closing()
            assert transport.get_extra_info("ssl_object") is None
            assert inner.events.count("lost") == 1

    run(play)


def test_a_broken_record_ends_its_connection_and_no_other(run, pki):
    async def play():
        async with served(pki, Echo) as (listener, port, made):
            good = await Peer.connect(port, trusting(pki / "ca.crt"))
            await made.get()
            bad = await Peer.connect(port, trusting(pki / "ca.crt"))
            broken = await made.get()
            record = bytearray(bad.records(b"never delivered"))
            record[-1] ^= 1
            await bad.send_raw(bytes(record) + b"\x17\x03\x03\x40\x00 and the beginning of another")
            await broken.until("lost")
            assert broken.data == []
            assert not listener.incoming.pending
            assert not listener.outgoing.pending
            await good.send(b"still here")
            assert await good.read(10) == b"still here"
            good.leave()
            bad.leave()

    run(play)


def test_connections_cut_in_pieces_and_mixed_keep_apart(run, pki):
    """The BIOs are shared: bytes of many connections arrive in turns, at any cut, with broken ones among them."""
    chance = random.Random(7)

    async def talk(port, context, *, breaks):
        peer = await Peer.connect_tcp(port, context)
        flight = peer.hello()
        await dribble(peer, flight)
        await peer.handshake()
        sent = chance.randbytes(chance.randrange(1, 60_000))
        await dribble(peer, peer.records(sent) + (b"\x17\x03\x03\x00\x11broken for certain" if breaks else b""))
        if breaks:
            with contextlib.suppress(ConnectionResetError):
                await peer.reader.read()
        else:
            assert await peer.read(len(sent)) == sent
        peer.leave()

    async def dribble(peer, data):
        while data:
            cut = chance.choice((1, 5, 6, 100, 3000, 20_000))
            await peer.send_raw(data[:cut])
            await asyncio.sleep(0)
            data = data[cut:]

    async def play():
        context = trusting(pki / "ca.crt")
        async with served(pki, Echo) as (listener, port, _):
            await asyncio.gather(*(talk(port, context, breaks=n % 4 == 0) for n in range(40)))
            # A broken record that came with the Finished is a failed handshake.
            assert listener.counts.completed >= 30
            assert listener.counts.completed + listener.counts.failed == 40

    run(play)


@pytest.mark.parametrize("start", ["nothing", "one byte", "half a hello", "a hello and no Finished"])
def test_a_slow_handshake_is_cut_at_its_deadline(run, pki, start):
    """T10: ten seconds, unless it is told otherwise."""

    async def play():
        async with served(pki) as (listener, port, made):
            peer = await Peer.connect_tcp(port, trusting(pki / "ca.crt"))
            hello = peer.hello()
            await peer.send_raw({"nothing": b"", "one byte": hello[:1], "half a hello": hello[:80]}.get(start, hello))
            await until(lambda: listener.handshaking)
            listener.sweep(monotonic() + 9)
            assert listener.handshaking == 1
            listener.sweep(monotonic() + 11)
            assert listener.handshaking == 0
            with contextlib.suppress(ConnectionResetError):
                while await peer.reader.read(65536):
                    pass
            assert listener.counts.expired == 1
            assert listener.counts.failed == 0
            assert made.empty()
            peer.leave()

    run(play)


def test_concurrent_handshakes_are_bounded(run, pki, monkeypatch):
    """T10."""

    async def play():
        async with served(pki, max_handshakes=2) as (listener, port, made):
            stalled = [await asyncio.open_connection("127.0.0.1", port) for _ in range(2)]
            await until(lambda: listener.handshaking == 2)
            reader, writer = await asyncio.open_connection("127.0.0.1", port)
            assert await reader.read() == b"", "those before it have not had their second yet"
            writer.close()
            assert listener.counts.refused == 1

            monkeypatch.setattr(tls, "HANDSHAKE_CHANCE_S", 0.0)
            peer = await Peer.connect(port, trusting(pki / "ca.crt"))
            await made.get()
            assert listener.counts.expired == 1
            assert await stalled[0][0].read() == b"", "the one that waited longest made room"
            peer.leave()
            for _, writer in stalled:
                writer.close()

    run(play)


def test_a_peer_that_does_not_take_the_end_is_cut(run, pki):
    async def play():
        async with served(pki, close_timeout_s=10.0) as (listener, port, made):
            peer = await Peer.connect(port, trusting(pki / "ca.crt"))
            inner = await made.get()
            inner.transport.write(bytes(20_000_000))
            inner.transport.close()
            inner.transport.write(b"too late")
            listener.sweep(monotonic() + 9)
            assert await peer.read(6_000_000)
            listener.sweep(monotonic() + 11)
            await asyncio.sleep(0.05)
            assert "lost" not in inner.events, "who takes bytes is given more time"
            while "lost" not in inner.events:  # what is on the way still arrives, and counts as taken
                await asyncio.sleep(0.02)
                listener.sweep(monotonic() + 11)
            peer.leave()

    run(play)


@pytest.mark.parametrize("request_line", [b"GET / HTTP/1.1\r\n", b"POST /api/v1/write HTTP/1.1\r\n"])
def test_plain_http_is_told_so(run, pki, request_line):
    """And loses nothing by it: a sender drops its data at a 400, and sends it again after a 503."""

    async def play():
        async with served(pki) as (listener, port, made):
            reader, writer = await asyncio.open_connection("127.0.0.1", port)
            writer.write(request_line + b"Host: x\r\n\r\n")
            answer = await reader.read()
            assert answer.startswith(b"HTTP/1.1 503 Service Unavailable\r\nRetry-After: 30\r\n")
            assert answer.endswith(b"\r\npromgate: send this to the https URL; its token came in clear: rotate it\n")
            assert listener.counts.failed == 1
            assert made.empty()
            writer.close()

    run(play)


@pytest.mark.parametrize("junk", [b"\x00" * 400, b"SSH-2.0-OpenSSH_9.2\r\n", b"\x16\x03\x01\xff\xff" + b"a" * 70_000])
def test_junk_ends_without_a_traceback(run, pki, junk, caplog):
    async def play():
        async with served(pki) as (listener, port, made):
            reader, writer = await asyncio.open_connection("127.0.0.1", port)
            writer.write(junk)
            with contextlib.suppress(ConnectionResetError):
                await reader.read()
            await until(lambda: listener.counts.failed == 1)
            assert made.empty()
            assert not listener.outgoing.pending
            writer.close()

    with caplog.at_level("DEBUG", "promgate.relay"):
        run(play)
    assert len(caplog.records) == 1
    assert caplog.records[0].exc_info is None


async def s_client(port, *options, script=()):
    """OpenSSL's own client, for what Python's cannot do: its exit code, and what it printed.

    Each step of the script is what to type and what to wait for then.
    """

    def talk():
        command = ["timeout", "10", "openssl", "s_client", "-connect", f"127.0.0.1:{port}", *options]
        with subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, bufsize=0
        ) as process:
            output = b""
            for say, awaits in script:
                process.stdin.write(say)
                while awaits not in output and (part := process.stdout.read(4096)):
                    output += part
            rest, _ = process.communicate()
        return process.returncode, output + rest

    return await asyncio.to_thread(talk)


@pytest.mark.parametrize(
    "options",
    [
        ("-tls1_1", "-cipher", "ALL:@SECLEVEL=0"),
        ("-tls1_2", "-cipher", "ECDHE-ECDSA-AES128-SHA256"),
        ("-tls1_2", "-cipher", "ECDHE-ECDSA-AES256-SHA384"),
        ("-tls1_2", "-cipher", "ECDHE-ECDSA-AES128-SHA"),
        ("-tls1_2", "-cipher", "ECDHE-ECDSA-AES128-CCM"),
        ("-tls1_2", "-groups", "P-521"),
        *(("-tls1_3", "-groups", group) for group in ("P-384", "P-521", "X448", "ffdhe2048", "ffdhe8192")),
    ],
)
def test_weak_handshakes_are_refused(run, pki, options):
    """T1, T2: and those that are dear, of which one hello would hold all others up (D(HE)at, CVE-2002-20001)."""

    async def play():
        async with served(pki) as (listener, port, made):
            code, output = await s_client(port, *options)
            assert code != 0
            assert b"Cipher is (NONE)" in output or b"Cipher    : 0000" in output
            assert listener.counts.failed == 1
            assert made.empty()

    run(play)


@pytest.mark.parametrize(
    ("options", "cipher"),
    [
        (("-tls1_2",), b"ECDHE-ECDSA-"),
        (("-tls1_2", "-cipher", "ECDHE-ECDSA-CHACHA20-POLY1305"), b"ECDHE-ECDSA-CHACHA20-POLY1305"),
        (("-ciphersuites", "TLS_AES_128_GCM_SHA256:TLS_AES_256_GCM_SHA384"), b"TLS_AES_128_GCM_SHA256"),
        (("-tls1_2", "-groups", "P-256"), b"ECDHE-ECDSA-"),
    ],
)
def test_strong_handshakes_in_the_order_of_the_client(run, pki, options, cipher):
    """T2."""

    async def play():
        async with served(pki) as (_, port, made):
            code, output = await s_client(port, *options)
            assert code == 0
            assert b"Cipher is " + cipher in output
            assert made.qsize() == 1

    run(play)


@pytest.mark.parametrize(
    ("groups", "hellos"),
    [
        ("X25519:P-256", 1),
        ("P-256", 1),
        ("P-256:X25519", 1),
        ("P-384:X25519:P-256", 2),
        ("ffdhe8192:X25519:P-256", 2),
    ],
)
def test_a_second_hello_is_for_those_alone_who_begin_with_another_group(run, pki, groups, hellos):
    async def play():
        async with served(pki) as (_, port, made):
            code, output = await s_client(port, "-msg", "-tls1_3", "-groups", groups)
            assert code == 0
            assert output.count(b"ClientHello") == hellos
            assert made.qsize() == 1

    run(play)


def test_a_hello_in_two_pieces_is_served(run, pki):
    """Its group is chosen by the first of them, which does not tell yet."""

    async def play():
        async with served(pki, Echo) as (_, port, _made):
            peer = await Peer.connect_tcp(port, trusting(pki / "ca.crt"))
            hello = peer.hello()
            await peer.send_raw(hello[:60])
            await until(lambda: peer.writer.transport.get_write_buffer_size() == 0)
            await asyncio.sleep(0.05)  # whether it comes in one read or in two, it is served
            await peer.send_raw(hello[60:])
            await peer.handshake()
            await peer.send(b"there")
            assert await peer.read(5) == b"there"
            peer.leave()

    run(play)


def test_renegotiation_is_refused(run, pki):
    """T8: and so is compression."""

    async def play():
        async with served(pki) as (_, port, _made):
            _, output = await s_client(port, "-tls1_2", "-comp", script=[(b"R\n", b"no renegotiation")])
            assert b"no renegotiation" in output
            assert b"Compression: NONE" in output

    run(play)


@pytest.mark.parametrize("version", BOTH_VERSIONS)
def test_nobody_is_given_a_ticket(run, pki, version):
    """T11: nothing of a session is known outside its process, and in TLS 1.3 none is taken up at all."""

    async def play():
        async with served(pki, Echo) as (_, port, _made):
            context = trusting(pki / "ca.crt")
            context.minimum_version = context.maximum_version = version
            peer = await Peer.connect(port, context)
            await peer.send(b"all")
            assert await peer.read(3) == b"all", "after this a ticket would have come"
            assert not peer.tls.session.has_ticket
            peer.leave()

    run(play)


def test_a_key_update_is_answered_and_the_talk_goes_on(run, pki):
    async def play():
        async with served(pki, Echo) as (_, port, made):
            ours = b"<<< TLS 1.3, Handshake [length 0005], KeyUpdate"
            script = [(b"K\n", b", KeyUpdate"), (b"after it\n", b"\nafter it\n")]
            code, output = await s_client(port, "-msg", script=script)
            assert code == 0
            assert ours in output
            inner = await made.get()
            await inner.until("lost")
            assert inner.data == [b"after it\n"]

    run(play)


def test_a_new_context_is_taken_by_the_next_handshake(run, pki):
    def serial_of(peer):
        return peer.tls.getpeercert()["serialNumber"]

    async def play():
        async with served(pki, Echo) as (listener, port, _):
            before = await Peer.connect(port, trusting(pki / "ca.crt"))
            listener.context = server_context(pki, "two")
            after = await Peer.connect(port, trusting(pki / "ca.crt"))
            assert serial_of(before) != serial_of(after)
            for peer in (before, after):
                await peer.send(b"both live")
                assert await peer.read(9) == b"both live"
                peer.leave()

    run(play)
