from __future__ import annotations

import asyncio
import os
import socket
import threading

import pytest

from proxy.stores.nudge import ask_for_ledger, nudge, serve_nudges, socket_beside
from proxy.tokens.ports import StoreError
from tests.stores.loops import on_both_loops, run


@pytest.fixture
def path(tmp_path):
    return socket_beside(tmp_path / "promgate.db")


class Applier:
    """Applies what it is asked to, or fails as it is told."""

    def __init__(self, failure=None, lag=0):
        self.asked = []
        self.failure = failure
        self.lag = lag

    async def __call__(self, generation):
        self.asked.append(generation)
        if self.failure is not None:
            raise self.failure
        return generation - self.lag


async def ask(path, generation, **how):
    return await asyncio.to_thread(nudge, path, generation, **how)


def test_the_socket_stands_beside_the_store(tmp_path):
    assert socket_beside(tmp_path / "x.db") == tmp_path / "x.db.sock"


@on_both_loops
def test_the_answer_is_what_is_applied(loop, path):
    async def main():
        applier = Applier()
        server = await serve_nudges(path, applier)
        assert [await ask(path, 7), await ask(path, 8)] == [7, 8]
        assert applier.asked == [7, 8]
        assert path.stat().st_mode & 0o777 == 0o600
        server.close()

    run(loop, main)


def test_the_socket_is_ours_alone_whatever_the_umask(path):
    async def main():
        (await serve_nudges(path, Applier())).close()

    umask = os.umask(0)
    try:
        asyncio.run(main())
    finally:
        os.umask(umask)
    assert path.stat().st_mode & 0o777 == 0o600


def test_no_server_is_no_error(path):
    assert nudge(path, 1) is None
    assert nudge(path.parent / "nowhere" / "x.sock", 1) is None


@on_both_loops
def test_a_dead_socket_is_no_server_and_is_taken_over(loop, path):
    with socket.socket(socket.AF_UNIX) as dead:
        dead.bind(str(path))
        dead.listen()
    assert nudge(path, 1) is None

    async def main():
        server = await serve_nudges(path, Applier())
        assert await ask(path, 3) == 3
        server.close()

    run(loop, main)


@on_both_loops
def test_a_second_server_leaves_the_socket_to_the_first(loop, path):
    async def main():
        first, second = Applier(), Applier()
        server = await serve_nudges(path, first)
        assert await serve_nudges(path, second) is None
        assert await ask(path, 3) == 3
        assert (first.asked, second.asked) == ([3], [])
        server.close()
        await server.wait_closed()
        successor = await serve_nudges(path, second)
        assert await ask(path, 4) == 4
        assert second.asked == [4]
        successor.close()

    run(loop, main)


def test_of_servers_that_start_at_once_one_has_the_socket(path):
    """Each finds a dead socket; only the lock keeps them from removing each other's living one."""
    with socket.socket(socket.AF_UNIX) as dead:
        dead.bind(str(path))
    results = []
    gate, end = threading.Barrier(4), threading.Event()

    def serve():
        async def main():
            gate.wait()
            try:
                server = await serve_nudges(path, Applier())
            except StoreError as error:
                results.append(str(error))
                return
            results.append(server is not None)
            await asyncio.to_thread(end.wait)
            if server is not None:
                await ask(path, 1)  # answered after the others' looks at the socket, which came before it
                server.close()

        asyncio.run(main())

    threads = [threading.Thread(target=serve) for _ in range(4)]
    for thread in threads:
        thread.start()
    while len(results) < 4:
        end.wait(0.005)
    end.set()
    for thread in threads:
        thread.join()
    assert sorted(results, key=str) == [False, False, False, True]


@on_both_loops
@pytest.mark.parametrize("directory", [90, 150])
def test_a_long_path_is_no_matter(loop, tmp_path, directory):
    deep = tmp_path / ("d" * directory)
    deep.mkdir()
    path = socket_beside(deep / "promgate.db")

    async def main():
        server = await serve_nudges(path, Applier())
        assert path.is_socket()
        assert await ask(path, 5) == 5
        assert await serve_nudges(path, Applier()) is None
        server.close()

    run(loop, main)


def test_a_name_too_long_for_any_socket_is_named(tmp_path):
    path = socket_beside(tmp_path / ("x" * 120 + ".db"))
    with pytest.raises(StoreError, match="too long for a unix socket"):
        asyncio.run(serve_nudges(path, Applier()))
    with pytest.raises(StoreError, match="too long for a unix socket"):
        nudge(path, 1)


@pytest.mark.parametrize("what", ["file", "directory"])
def test_what_is_no_socket_is_not_removed(path, what):
    path.write_text("precious") if what == "file" else path.mkdir()
    with pytest.raises(StoreError, match="no socket"):
        asyncio.run(serve_nudges(path, Applier()))
    assert path.exists()


def test_a_directory_that_is_gone_is_named(tmp_path):
    with pytest.raises(StoreError, match=r"gone/x\.sock: cannot listen"):
        asyncio.run(serve_nudges(tmp_path / "gone" / "x.sock", Applier()))


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
        reader, writer = await asyncio.open_unix_connection(str(path))
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
        stranger.bind(str(path))
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
