from __future__ import annotations

import asyncio
import logging
import sqlite3
import threading
import time
from contextlib import asynccontextmanager, closing

import pytest

from proxy.stores import watch as watch_module
from proxy.stores.memory import MemoryStore
from proxy.stores.nudge import nudge, serve_nudges
from proxy.stores.sqlite import open_store
from proxy.stores.watch import StoreWatch
from proxy.tokens import lifecycle
from proxy.tokens.book import TokenBook
from proxy.tokens.ports import Changes, StoreError
from proxy.tokens.token import TokenState, state_at
from tests.stores.loops import on_both_loops, run, until
from tests.tokens.play import committed, create, rotate

NEVER_S = 3600.0


class Disk(MemoryStore):
    """A store that can be made to fail, to wait, or to go back in time; counts its reads."""

    def __init__(self):
        super().__init__()
        self.reads = 0
        self.failure = None
        self.gate = threading.Event()
        self.gate.set()
        self.threads = set()

    def changes_since(self, generation, mark=b""):
        self.reads += 1
        self.threads.add(threading.current_thread())
        self.gate.wait(10)
        if self.failure is not None:
            raise self.failure
        return super().changes_since(generation, mark)


@asynccontextmanager
async def watching(store, book, poll_s=NEVER_S, look=None):
    watch = StoreWatch(store, book, poll_s=poll_s, look=look)
    await watch.start()
    try:
        yield watch
    finally:
        await watch.stop()


@pytest.fixture
def disk():
    made = Disk()
    yield made
    made.gate.set()


@pytest.fixture
def book():
    return TokenBook()


@on_both_loops
def test_a_start_loads_all(loop, disk, book):
    for name in ("a", "b"):
        committed(disk, name)

    async def main():
        async with watching(disk, book):
            assert {token.name for token in book.tokens.values()} == {"a", "b"}
            assert (book.generation, book.readable) == (2, True)

    run(loop, main)


@on_both_loops
def test_a_store_that_is_new_is_known_to_be_new_before_it_holds_a_token(loop, tmp_path, book):
    async def main():
        with closing(open_store(tmp_path / "promgate.db")) as store:
            async with watching(store, book) as watch:
                made_at = book.made_at
                assert time.time() - 60 < made_at <= time.time()
                committed(store, "a")
                await watch.sync(1)
                assert book.made_at == made_at

    run(loop, main)


@on_both_loops
def test_a_start_without_a_readable_store_fails_and_logs_nothing(loop, disk, book, caplog):
    disk.failure = StoreError("x.db: the file is damaged")

    async def main():
        with pytest.raises(StoreError, match="damaged"):
            await StoreWatch(disk, book).start()

    run(loop, main)
    assert caplog.records == []


@on_both_loops
def test_the_poll_takes_in_what_others_commit(loop, disk, book):
    async def main():
        async with watching(disk, book, poll_s=0.001):
            committed(disk, "a")
            await until(lambda: book.generation == 1)
            disk.commit(rotate("a", disk.named("a"), now=5.0).change)
            await until(lambda: len(book) == 2)
            assert sorted(state_at(token, 6.0) for token in book.tokens.values()) == ["current", "previous"]

    run(loop, main)


@on_both_loops
def test_a_store_that_looks_unchanged_is_not_read_at_each_poll(loop, disk, book):
    sign = ["as it was"]
    looks = 0

    def look():
        nonlocal looks
        looks += 1
        return sign[0]

    async def main():
        async with watching(disk, book, poll_s=0.001, look=look):
            await until(lambda: looks > 20)
            assert disk.reads <= 2  # at the start, and at the first look
            committed(disk, "a")
            sign[0] = "changed"
            await until(lambda: book.generation == 1)

    run(loop, main)


@on_both_loops
def test_a_store_that_looks_unchanged_is_read_now_and_then(loop, disk, book, monkeypatch):
    monkeypatch.setattr(watch_module, "READ_EACH_S", 0.02)

    async def main():
        async with watching(disk, book, poll_s=0.001, look=lambda: "as it was"):
            committed(disk, "a")  # in the same tick of the file system's clock, and of the same size
            await until(lambda: book.generation == 1)

    run(loop, main)


@on_both_loops
def test_sync_has_all_that_was_committed_before_it(loop, disk, book):
    async def main():
        async with watching(disk, book) as watch:
            for generation in range(1, 20):
                committed(disk, f"name-{generation}")
                assert await watch.sync(generation) == generation
                assert len(book) == generation

    run(loop, main)


@on_both_loops
def test_sync_during_a_read_waits_for_the_next_one(loop, disk, book):
    """The read under way may have looked before the commit."""

    async def main():
        async with watching(disk, book) as watch:
            disk.gate.clear()
            early = asyncio.create_task(watch.sync())
            await until(lambda: disk.reads == 2)
            committed(disk, "a")
            late = [asyncio.create_task(watch.sync(1)) for _ in range(50)]
            await asyncio.sleep(0)
            disk.gate.set()
            await early
            assert await asyncio.gather(*late) == [1] * 50
            assert disk.reads == 3

    run(loop, main)


@on_both_loops
def test_a_generation_of_another_store_is_told_from_ours(loop, disk, book):
    async def main():
        async with watching(disk, book) as watch:
            with pytest.raises(StoreError, match=r"at generation 0.*tokens\.store"):
                await watch.sync(7)
            assert book.readable

    run(loop, main)


@on_both_loops
def test_find_looks_into_the_store_for_what_the_book_does_not_know(loop, disk, book):
    async def main():
        async with watching(disk, book) as watch:
            committed(disk, "a")
            (token,) = disk.named("a")
            assert book.find(token.digest) is None
            assert await watch.find(token.digest) == token
            assert book.find(token.digest) == token
            reads = disk.reads
            assert await watch.find(token.digest) == token
            assert disk.reads == reads
            assert await watch.find(b"\0" * 32) is None

    run(loop, main)


@on_both_loops
def test_a_thousand_unknown_tokens_cost_two_reads(loop, disk, book):
    async def main():
        async with watching(disk, book) as watch:
            disk.gate.clear()
            looks = [asyncio.create_task(watch.find(b"\0" * 32))]
            await until(lambda: disk.reads == 2)
            looks += [asyncio.create_task(watch.find(number.to_bytes(32, "big"))) for number in range(1000)]
            await asyncio.sleep(0)
            disk.gate.set()
            assert set(await asyncio.gather(*looks)) == {None}
            assert disk.reads == 3

    run(loop, main)


@on_both_loops
def test_one_who_leaves_does_not_end_the_look_of_the_others(loop, disk, book):
    async def main():
        async with watching(disk, book) as watch:
            committed(disk, "a")
            disk.gate.clear()
            leaver = asyncio.create_task(watch.find(b"\0" * 32))
            stayer = asyncio.create_task(watch.find(disk.named("a")[0].digest))
            await until(lambda: disk.reads == 2)
            leaver.cancel()
            await asyncio.wait([leaver])
            assert leaver.cancelled()
            disk.gate.set()
            assert (await stayer).name == "a"

    run(loop, main)


@on_both_loops
def test_a_look_that_takes_too_long_cannot_tell(loop, disk, book, monkeypatch):
    monkeypatch.setattr(watch_module, "LOOK_TIMEOUT_S", 0.02)

    async def main():
        async with watching(disk, book) as watch:
            disk.gate.clear()
            with pytest.raises(StoreError, match="did not answer"):
                await watch.find(b"\0" * 32)
            disk.gate.set()

    run(loop, main)


@on_both_loops
def test_a_store_that_is_lost_and_found_is_marked_and_logged_once_each(loop, disk, book, caplog):
    caplog.set_level(logging.INFO, "promgate.store")
    committed(disk, "a")

    async def main():
        async with watching(disk, book, poll_s=0.001) as watch:
            disk.failure = StoreError("x.db: the disk failed")
            await until(lambda: not book.readable)
            failed_at = disk.reads
            await until(lambda: disk.reads > failed_at + 2)
            (token,) = book.tokens.values()
            assert await watch.find(token.digest) == token
            with pytest.raises(StoreError):
                await watch.find(b"\0" * 32)
            with pytest.raises(StoreError, match="the disk failed"):
                await watch.sync()
            disk.failure = None
            committed(disk, "b")
            await until(lambda: book.readable)
            assert len(book) == 2

    run(loop, main)
    assert [(record.levelname, record.name) for record in caplog.records] == [
        ("ERROR", "promgate.store"),
        ("INFO", "promgate.store"),
    ]
    assert "x.db: the disk failed" in caplog.messages[0]
    assert "can be read again, generation 2" in caplog.messages[1]


@on_both_loops
def test_unknown_tokens_do_not_add_to_the_load_of_a_failing_store(loop, disk, book):
    async def main():
        async with watching(disk, book) as watch:
            disk.failure = StoreError("x.db: the disk failed")
            with pytest.raises(StoreError):
                await watch.find(b"\0" * 32)
            reads = disk.reads
            for _ in range(10):
                with pytest.raises(StoreError):
                    await watch.find(b"\0" * 32)
            assert disk.reads == reads

    run(loop, main)


def test_the_poll_of_a_failing_store_slows_down_to_a_limit(disk, book, monkeypatch):
    waits = []

    async def main():
        real_sleep = asyncio.sleep

        async def sleep(seconds):
            waits.append(seconds)
            disk.failure = StoreError("x") if len(waits) < 9 else None
            await (real_sleep(0) if len(waits) < 12 else asyncio.Event().wait())

        monkeypatch.setattr(watch_module.asyncio, "sleep", sleep)
        async with watching(disk, book, poll_s=0.2):
            while len(waits) < 12:
                await real_sleep(0.001)

    asyncio.run(main())
    assert waits == [0.2, 0.4, 0.8, 1.6, 3.2, 5.0, 5.0, 5.0, 5.0, 0.2, 0.2, 0.2]


@on_both_loops
def test_a_defect_in_a_store_does_not_end_the_poll(loop, disk, book):
    async def main():
        async with watching(disk, book, poll_s=0.001):
            disk.failure = ZeroDivisionError("oops")
            await until(lambda: not book.readable)
            disk.failure = None
            await until(lambda: book.readable)

    run(loop, main)


@on_both_loops
def test_a_store_that_goes_back_in_time_is_not_believed(loop, disk, book, caplog):
    """A revoked token would come back."""
    committed(disk, "a")
    committed(disk, "b")

    async def main():
        async with watching(disk, book) as watch:
            disk._marks.pop()
            with pytest.raises(StoreError, match=r"went back from generation 2 to 1.*restart"):
                await watch.sync(1)
            assert (len(book), book.readable) == (2, False)

    run(loop, main)


@on_both_loops
def test_of_an_older_copy_in_its_place_only_revocations_are_believed(loop, tmp_path, book):
    """The copy has got more changes since than the store had, all between two looks."""
    path, ended = tmp_path / "promgate.db", []

    async def main():
        with closing(open_store(path)) as served, closing(open_store(path)) as command:
            for name in ("a", "b"):
                committed(command, name)
            put_back = copy_of(path, tmp_path / "copy.db")
            command.commit(lifecycle.revoke("a", command.named("a"), now=5.0))
            async with watching(served, book, look=served.look) as watch:
                watch.on_revoked = ended.append
                (a,), (b,) = command.named("a"), command.named("b")
                put_back()
                assert command.named("a")[0].revoked_at is None
                command.commit(rotate("a", command.named("a"), now=6.0).change)
                committed(command, "c")
                generation = command.commit(lifecycle.revoke("b", command.named("b"), now=7.0))
                assert generation > book.generation
                for _ in range(2):
                    with pytest.raises(StoreError, match="went back from generation 3 to 5"):
                        await watch.sync(generation)
                assert book.find(a.digest) == a
                assert a.revoked_at == 5.0
                assert book.find(b.digest).revoked_at == 7.0
                assert ended == [{b.id}]
                assert book.undone == (a,)
                with pytest.raises(StoreError):
                    await watch.find(command.named("c")[0].digest)
                assert (len(book), book.readable) == (2, False)

    run(loop, main)


def copy_of(path, copy):
    """What puts the store back to what it is now, in place, as `sqlite3 X.db '.restore COPY'` does."""
    with closing(sqlite3.connect(path)) as store, closing(sqlite3.connect(copy)) as saved:
        store.backup(saved)

    def put_back():
        with closing(sqlite3.connect(path)) as store, closing(sqlite3.connect(copy)) as saved:
            saved.backup(store)

    return put_back


@on_both_loops
def test_the_right_copy_is_followed_again_once_it_is_put_back(loop, tmp_path, book):
    path = tmp_path / "promgate.db"

    async def main():
        with closing(open_store(path)) as served:
            committed(served, "a")
            old = copy_of(path, tmp_path / "old.db")
            committed(served, "b")
            right = copy_of(path, tmp_path / "right.db")
            async with watching(served, book, poll_s=0.001) as watch:
                old()
                await until(lambda: not book.readable)
                right()
                await until(lambda: book.readable)
                assert await watch.sync(committed(served, "c")) == 3
                assert (len(book), book.undone) == (3, None)

    run(loop, main)


@on_both_loops
def test_a_disk_that_hangs_neither_blocks_the_loop_nor_goes_unseen(loop, disk, book, monkeypatch):
    monkeypatch.setattr(watch_module, "READ_TIMEOUT_S", 0.05)
    committed(disk, "a")

    async def main():
        async with watching(disk, book, poll_s=0.001):
            disk.gate.clear()
            latest, worst = time.perf_counter(), 0.0
            while book.readable:
                await asyncio.sleep(0.001)
                latest, worst = time.perf_counter(), max(worst, time.perf_counter() - latest)
            assert worst < 2.0
            disk.gate.set()
            committed(disk, "b")
            await until(lambda: book.readable and len(book) == 2)

    run(loop, main)


@on_both_loops
def test_all_reads_are_in_one_thread_that_is_not_ours_and_ends(loop, disk, book):
    async def main():
        async with watching(disk, book, poll_s=0.001) as watch:
            await asyncio.gather(*(watch.sync() for _ in range(10)))
            await until(lambda: disk.reads > 5)

    run(loop, main)
    (thread,) = disk.threads
    assert thread is not threading.current_thread()
    thread.join(5)
    assert not thread.is_alive()


@on_both_loops
def test_a_stop_lets_those_who_wait_have_their_answer(loop, disk, book):
    async def main():
        watch = StoreWatch(disk, book, poll_s=NEVER_S)
        await watch.start()
        committed(disk, "a")
        disk.gate.clear()
        waiting = asyncio.create_task(watch.sync(1))
        await until(lambda: disk.reads == 2)
        stopping = asyncio.create_task(watch.stop())
        await asyncio.sleep(0)
        disk.gate.set()
        await stopping
        assert await waiting == 1

    run(loop, main)


def test_older_news_is_nothing_to_a_book(book):
    book.apply(Changes(3, ()))
    book.apply(Changes(2, create("a").change.put))
    assert (len(book), book.generation) == (0, 3)


@on_both_loops
def test_with_sqlite_and_the_nudge_a_change_is_in_use_when_the_command_has_its_answer(loop, tmp_path, book):
    path = tmp_path / "state" / "promgate.db"

    async def main():
        with closing(open_store(path)) as served, closing(open_store(path)) as command:
            async with watching(served, book) as watch:
                server = await serve_nudges(path, watch.sync)
                generation = committed(command, "a")
                assert await asyncio.to_thread(nudge, path, generation) == generation
                (token,) = book.tokens.values()
                assert state_at(token, 0.0) is TokenState.CURRENT
                server.close()

    run(loop, main)


@on_both_loops
def test_a_store_that_is_taken_away_leaves_the_known_tokens_in_use(loop, tmp_path, book, caplog):
    path = tmp_path / "state" / "promgate.db"

    async def main():
        with closing(open_store(path)) as served:
            committed(served, "a")
            async with watching(served, book, poll_s=0.005) as watch:
                path.rename(tmp_path / "taken.db")
                await until(lambda: not book.readable)
                (token,) = book.tokens.values()
                assert await watch.find(token.digest) == token
                with pytest.raises(StoreError):
                    await watch.find(b"\0" * 32)
                (tmp_path / "taken.db").rename(path)
                await until(lambda: book.readable)

    run(loop, main)
    assert "removed or replaced while in use" in caplog.text
