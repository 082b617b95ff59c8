from __future__ import annotations

import asyncio
import os
import socket
import threading
from functools import partial

import pytest

from proxy.stores.nudge import ask_for_ledger, ask_listen, ask_time, nudge, serve_nudges
from proxy.tokens.ports import StoreError
from tests.stores.loops import on_both_loops, run


@pytest.fixture
def path(tmp_path):
    """Of the store."""
    return tmp_path / "promgate.db"


def sockets(path):
    return sorted(path.parent.glob(f"{path.name}.sock-*"))


class Applier:
    """Applies what it is asked to, or fails as it is told."""

    def __init__(self, failure=None, lag=0):
        self.asked = []
        self.failure = failure
        self.lag = lag

    async def __call__(self, generation):
        self.asked.append(generation)
        await self.flush()
        return generation - self.lag

    async def flush(self):
        if self.failure is not None:
            raise self.failure


async def ask(path, generation, **how):
    return await asyncio.to_thread(nudge, path, generation, **how)


@on_both_loops
def test_the_answer_is_what_is_applied(loop, path):
    async def main():
        applier = Applier()
        server = await serve_nudges(path, applier)
        assert [await ask(path, 7), await ask(path, 8)] == [7, 8]
        assert applier.asked == [7, 8]
        assert sockets(path) == [server.path]
        assert server.path.stat().st_mode & 0o777 == 0o600
        server.close()
        assert sockets(path) == []
        assert await ask(path, 9) is None

    run(loop, main)


@on_both_loops
def test_it_says_where_the_server_listens(loop, path):
    async def main():
        server = await serve_nudges(path, Applier(), listen="127.0.0.1:9443 [::1]:9443")
        assert await asyncio.to_thread(ask_listen, path) == ["127.0.0.1:9443", "[::1]:9443"]
        server.close()
        mute = await serve_nudges(path, Applier())  # as one of an older version
        assert await asyncio.to_thread(ask_listen, path) == []
        mute.close()
        assert await asyncio.to_thread(ask_listen, path) == []

    run(loop, main)


def test_the_socket_is_ours_alone_whatever_the_umask(path):
    async def main():
        server = await serve_nudges(path, Applier())
        assert server.path.stat().st_mode & 0o777 == 0o600
        server.close()

    umask = os.umask(0)
    try:
        asyncio.run(main())
    finally:
        os.umask(umask)


def test_no_server_is_no_error(path):
    assert nudge(path, 1) is None
    assert nudge(path.parent / "nowhere" / "x.sock", 1) is None


def dead_socket(path):
    dead_path = path.with_name(path.name + ".sock-dead")
    with socket.socket(socket.AF_UNIX) as dead:
        dead.bind(str(dead_path))
        dead.listen()
    return dead_path


@on_both_loops
def test_a_dead_socket_is_no_server_and_the_next_server_removes_it(loop, path):
    dead_socket(path)
    assert nudge(path, 1) is None

    async def main():
        server = await serve_nudges(path, Applier())
        assert sockets(path) == [server.path]
        assert await ask(path, 3) == 3
        server.close()

    run(loop, main)


@on_both_loops
def test_in_a_rolling_restart_both_servers_are_asked_and_whoever_is_left_goes_on(loop, path):
    async def main():
        first, second, flushed = Applier(), Applier(lag=1), []

        async def flush(which):
            flushed.append(which)

        old = await serve_nudges(path, first, partial(flush, "old"), lambda: 50.0)
        new = await serve_nudges(path, second, partial(flush, "new"), lambda: 50.0)
        assert await ask(path, 3) == 2, "what all of them use"
        assert (first.asked, second.asked) == ([3], [3])
        assert await asyncio.to_thread(ask_for_ledger, path) is True
        assert sorted(flushed) == ["new", "old"]
        assert await asyncio.to_thread(ask_for_ledger, path, but=new.path) is True
        assert flushed[2:] == ["old"]
        assert await asyncio.to_thread(ask_time, path) == 50.0
        old.close()
        assert await ask(path, 4) == 3
        assert (first.asked, second.asked) == ([3], [3, 4])
        new.close()

    run(loop, main)


@on_both_loops
@pytest.mark.parametrize("failing", [0, 1])
def test_one_that_cannot_tell_is_not_covered_by_the_other_which_is_told_all_the_same(loop, path, failing):
    async def main():
        appliers = [Applier(), Applier()]
        servers = [await serve_nudges(path, applier, applier.flush) for applier in appliers]
        appliers[failing].failure = StoreError("the disk failed")
        with pytest.raises(StoreError, match="could not take the change: the disk failed"):
            await ask(path, 5)
        assert [applier.asked for applier in appliers] == [[5], [5]]
        with pytest.raises(StoreError, match="the disk failed"):
            await asyncio.to_thread(ask_for_ledger, path)
        for server in servers:
            server.close()

    run(loop, main)


def test_a_server_that_goes_instead_of_answering_is_none(path):
    dying = path.with_name(path.name + ".sock-dying")
    listening = socket.socket(socket.AF_UNIX)
    listening.bind(str(dying))
    listening.listen()

    def go():
        peer, _ = listening.accept()
        listening.close()
        peer.close()

    thread = threading.Thread(target=go)
    thread.start()
    assert nudge(path, 1) is None
    thread.join()


def test_servers_that_start_at_once_leave_each_other_alone(path):
    """Each finds a dead socket, and the others' between bind and listen: only the lock keeps it from removing those."""
    dead_socket(path)
    living = []
    gate, end = threading.Barrier(4), threading.Event()

    def serve():
        async def main():
            gate.wait()
            server = await serve_nudges(path, Applier())
            living.append(server.path)
            await asyncio.to_thread(end.wait)
            assert await ask(path, 1) == 1  # answered after the others' looks at the socket, which came before it
            await asyncio.to_thread(gate.wait)
            server.close()

        asyncio.run(main())

    threads = [threading.Thread(target=serve) for _ in range(4)]
    for thread in threads:
        thread.start()
    while len(living) < 4:
        end.wait(0.005)
    there = sockets(path)
    end.set()
    for thread in threads:
        thread.join()
    assert there == sorted(living)


@on_both_loops
@pytest.mark.parametrize("directory", [90, 150])
def test_a_long_path_is_no_matter(loop, tmp_path, directory):
    deep = tmp_path / ("d" * directory)
    deep.mkdir()
    path = deep / "promgate.db"

    async def main():
        server, other = await serve_nudges(path, Applier()), await serve_nudges(path, Applier())
        assert sockets(path) == sorted([server.path, other.path])
        assert await ask(path, 5) == 5
        other.close()
        server.close()
        assert sockets(path) == []

    run(loop, main)


def test_a_name_too_long_for_any_socket_is_named(tmp_path):
    with pytest.raises(StoreError, match="too long for a unix socket"):
        asyncio.run(serve_nudges(tmp_path / ("x" * 120 + ".db"), Applier()))


@pytest.mark.parametrize("what", ["file", "directory"])
def test_what_is_no_socket_is_not_removed(path, what):
    other = path.with_name(path.name + ".sock-other")
    other.write_text("precious") if what == "file" else other.mkdir()

    async def main():
        (await serve_nudges(path, Applier())).close()

    asyncio.run(main())
    assert other.exists()


def test_a_directory_that_is_gone_is_named(tmp_path):
    with pytest.raises(StoreError, match=r"gone/x\.db\.sock-\w+: cannot listen"):
        asyncio.run(serve_nudges(tmp_path / "gone" / "x.db", Applier()))


@on_both_loops
def test_a_server_that_cannot_read_the_store_says_why(loop, path):
    async def main():
        server = await serve_nudges(path, Applier(StoreError("x.db: is\ndamaged")))
        with pytest.raises(StoreError, match=r"could not take the change: x\.db: is damaged"):
            await ask(path, 1)
        server.close()

    run(loop, main)


@on_both_loops
def test_a_server_that_is_late_is_not_waited_for(loop, path):
    async def main():
        never = asyncio.Event()

        async def applied(generation):
            await never.wait()
            return generation

        server = await serve_nudges(path, applied)
        with pytest.raises(StoreError, match="did not answer within 0 s"):
            await ask(path, 1, timeout_s=0.05)
        never.set()
        server.close()

    run(loop, main)


def test_the_server_gives_up_before_its_client_does(path, monkeypatch):
    monkeypatch.setattr("proxy.stores.nudge._ANSWER_TIMEOUT_S", 0.05)

    async def main():
        async def applied(generation):
            await asyncio.Event().wait()

        server = await serve_nudges(path, applied)
        with pytest.raises(StoreError, match="could not take the change: the store did not answer"):
            await ask(path, 1)
        server.close()

    asyncio.run(main())


@on_both_loops
@pytest.mark.parametrize(
    "line", [b"\n", b"applied?\n", b"applied? -1\n", b"applied? x\n", b"\xff\n", b"x" * 5000 + b"\n", b""]
)
def test_nonsense_is_answered_and_the_server_lives(loop, path, line):
    async def main():
        applier = Applier()
        server = await serve_nudges(path, applier)
        reader, writer = await asyncio.open_unix_connection(str(server.path))
        writer.write(line)
        writer.write_eof()
        assert await reader.read() == b"failed not understood\n"
        writer.close()
        assert applier.asked == []
        assert await ask(path, 2) == 2
        server.close()

    run(loop, main)


@pytest.mark.parametrize(
    "answer", [b"", b"applied\n", b"applied x\n", b"HTTP/1.1 400 Bad Request\r\n\r\n", b"\xff\xff\n"]
)
def test_a_stranger_on_the_socket_is_not_believed(path, answer):
    with socket.socket(socket.AF_UNIX) as stranger:
        stranger.bind(str(path.with_name(path.name + ".sock-stranger")))
        stranger.listen()

        def serve():
            peer, _ = stranger.accept()
            with peer:
                peer.recv(100)
                peer.sendall(answer)

        thread = threading.Thread(target=serve)
        thread.start()
        with pytest.raises(StoreError, match="could not take the change"):
            nudge(path, 1)
        thread.join()


@on_both_loops
def test_a_command_waits_until_the_ledger_is_written(loop, path):
    async def main():
        flushed = []

        async def flush():
            flushed.append(True)
            if len(flushed) == 2:
                raise StoreError("the disk\nis full")

        server = await serve_nudges(path, Applier(), flush)
        assert await asyncio.to_thread(ask_for_ledger, path) is True
        assert await ask(path, 7) == 7
        with pytest.raises(StoreError, match=r"^the disk is full$"):
            await asyncio.to_thread(ask_for_ledger, path)
        server.close()

    run(loop, main)


def test_no_server_writes_no_ledger(path):
    assert ask_for_ledger(path) is False


def test_a_server_that_keeps_no_ledger_says_so(path):
    async def main():
        server = await serve_nudges(path, Applier())
        with pytest.raises(StoreError, match="not understood"):
            await asyncio.to_thread(ask_for_ledger, path)
        server.close()

    asyncio.run(main())
