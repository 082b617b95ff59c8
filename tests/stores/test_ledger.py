"""The ledger's file: what is added up in it, what it survives, and that it is never taken for whole when it is not."""

from __future__ import annotations

import asyncio
import logging
import os
import sqlite3
from contextlib import closing
from dataclasses import replace

import pytest

from proxy.stores.ledger import LedgerFile, ledger_beside
from proxy.stores.ledger_writer import LedgerWriter
from proxy.tokens.ledger import KEEP_S, LATER_S, Kind, Known, Sighting, Tally
from proxy.tokens.ports import StoreError
from tests.kit.rig import FAULTS, KILL, TORN, Rig
from tests.stores.loops import on_both_loops, run, until
from tests.tokens.test_ledger import see

NOW = 1_700_000_000.0
ONE = Sighting("prom", "t1", "10.0.0.7 vmagent", "10.0.0.7", "vmagent/1.126", NOW, NOW + 5, 3)


@pytest.fixture
def path(tmp_path):
    return ledger_beside(tmp_path / "promgate.db")


def known(path, name="prom"):
    with closing(LedgerFile(path)) as ledger:
        return ledger.known(name)


def test_it_stands_beside_the_store_for_us_alone(path):
    umask = os.umask(0)
    try:
        LedgerFile(path, NOW).close()
    finally:
        os.umask(umask)
    assert path.name == "promgate.db-ledger"
    assert path.stat().st_mode & 0o777 == 0o600


def test_what_is_recorded_is_there_and_adds_up(path):
    with closing(LedgerFile(path, NOW)) as ledger:
        ledger.record([ONE, replace(ONE, name="other", token_id="t2")])
        ledger.record([replace(ONE, first_seen=NOW + 6, last_seen=NOW + 9, count=2, address="x", agent="vmagent/2")])
        # Of another server on the same store, which is late.
        ledger.record([replace(ONE, first_seen=NOW - 9, last_seen=NOW - 3, count=1, address="y", agent="vmagent/0")])
        ledger.record([])
        sum_of_it = replace(ONE, first_seen=NOW - 9, last_seen=NOW + 9, count=6, address="x", agent="vmagent/2")
        assert ledger.known("prom") == Known((sum_of_it,), NOW)
        assert ledger.known("nobody") == Known((), NOW)
    assert known(path).sightings == (sum_of_it,)


def test_kinds_are_kept_apart(path):
    more = [replace(ONE, kind=Kind.HELD), replace(ONE, kind=Kind.DROPPED, sender="", address="", agent="")]
    with closing(LedgerFile(path, NOW)) as ledger:
        ledger.record([ONE, *more])
        assert {one.kind for one in ledger.known("prom").sightings} == {Kind.USED, Kind.HELD, Kind.DROPPED}


def test_it_is_loaded_newest_first_and_forgets(path):
    with closing(LedgerFile(path, NOW)) as ledger:
        ledger.record([replace(ONE, sender=str(n), last_seen=NOW + n) for n in range(5)])
        assert [one.sender for one in ledger.load()] == ["4", "3", "2", "1", "0"]
        ledger.forget(NOW + 3)
        assert [one.sender for one in ledger.load()] == ["4", "3"]


def test_only_a_server_begins_one(path):
    with pytest.raises(StoreError, match="no ledger is there yet"):
        LedgerFile(path)
    assert not path.exists()


def test_a_second_opening_keeps_the_time_of_the_first(path):
    LedgerFile(path, NOW).close()
    LedgerFile(path, NOW + 99).close()
    assert known(path).since == NOW


def _cut(path):
    path.write_bytes(path.read_bytes()[:700])


def _replace_by_text(path):
    path.write_text("these are not the bytes that you are looking for " * 20)


def _make_foreign(path):
    path.unlink()
    with closing(sqlite3.connect(path)) as db:
        db.execute("CREATE TABLE token (id)")
    path.chmod(0o600)


def _make_newer(path):
    with closing(sqlite3.connect(path)) as db:
        db.execute("PRAGMA user_version = 99")


def _empty(path):
    path.write_bytes(b"")


@pytest.mark.parametrize("harm", [_cut, _replace_by_text, _make_foreign, _make_newer, _empty])
@pytest.mark.parametrize("now", [None, NOW])
def test_what_is_no_whole_ledger_is_an_error_and_is_left_alone(path, harm, now):
    with closing(LedgerFile(path, NOW)) as ledger:
        ledger.record([ONE])
    harm(path)
    before = path.read_bytes()
    if harm is _empty and now is not None:
        with closing(LedgerFile(path, now + 1)) as ledger:  # a server was killed as it made it
            assert ledger.known("prom") == Known((), now + 1)
        return
    with pytest.raises(StoreError, match=r"promgate\.db-ledger: "):
        LedgerFile(path, now)
    assert path.read_bytes() == before


def test_a_ledger_that_everybody_may_write_is_refused(path):
    LedgerFile(path, NOW).close()
    path.chmod(0o606)
    with pytest.raises(StoreError, match="0606"):
        LedgerFile(path, NOW)


def test_a_ledger_that_was_removed_in_use_takes_nothing_more(path):
    with closing(LedgerFile(path, NOW)) as ledger:
        path.unlink()
        with pytest.raises(StoreError, match="removed or replaced"):
            ledger.record([ONE])


# Faults at every call that changes the file


def record(arguments):
    """In the rig's worker: begin it, and add to it twice."""
    try:
        with closing(LedgerFile(ledger_beside_of(arguments), NOW)) as ledger:
            ledger.record([ONE])
            print("one", flush=True)
            ledger.record([replace(ONE, count=1), replace(ONE, sender="b", count=1)])
            print("two", flush=True)
    except StoreError as error:
        print(error)
        return 1
    return 0


def ledger_beside_of(arguments):
    from pathlib import Path  # noqa: PLC0415 - the worker needs no more of it

    return ledger_beside(Path(arguments[0]))


@pytest.mark.parametrize("what", FAULTS.values(), ids=FAULTS)
def test_a_fault_at_any_call_costs_what_was_not_told_as_written_and_nothing_else(tmp_path, rig_library, what):
    state = tmp_path / "state"
    state.mkdir()
    path = ledger_beside(state / "promgate.db")
    rig = Rig(rig_library, state, "tests.stores.test_ledger:record")
    at, struck = 0, True
    while struck:
        at += 1
        for file in state.iterdir():
            file.unlink()
        ended = rig.run([str(state / "promgate.db")], at, what)
        struck = ended.struck
        told = ended.stdout.count("one\n") * 3 + ended.stdout.count("two\n") * 2
        assert "Traceback" not in ended.stderr
        if struck and what not in (KILL, TORN):
            assert ended.code == 0 or str(path) in ended.stdout
        with closing(LedgerFile(path, NOW)) as ledger:  # it can be gone on with, whatever happened
            written = sum(one.count for one in ledger.known("prom").sightings)
            assert written in {told, 3, 5}
            assert written >= told
            ledger.record([ONE])
    rig.close()
    assert at > 8, "the rig hardly struck"


# The writer, on a loop


class Office:
    """A writer at a time of our choice."""

    def __init__(self, path, **bounds):
        self.now = NOW
        self.path = path
        self.tally = Tally(**bounds)
        self.writer = LedgerWriter(path, self.tally, clock=lambda: self.now)

    async def __aenter__(self):
        await self.writer.start()
        self._task = asyncio.create_task(self.writer.run())
        return self

    async def __aexit__(self, *_):
        self._task.cancel()
        await self.writer.stop()

    def see(self, *names, **how):
        for name in names:
            see(self.tally, name, at=self.now, **how)
        if self.tally.new:
            self.writer.wake()

    def counts(self):
        return {one.sender: one.count for one in known(self.path).sightings}


@on_both_loops
def test_a_first_sight_is_written_by_itself_and_a_later_one_with_the_next(loop, path):
    async def main():
        async with Office(path) as office:
            office.see("a")
            await until(lambda: office.counts() == {"a": 1})
            office.see("a")
            office.see("b")
            await until(lambda: "b" in office.counts())
            assert office.counts() == {"a": 1, "b": 1}
            office.now += LATER_S
            office.see("c")
            await until(lambda: office.counts() == {"a": 2, "b": 1, "c": 1})

    run(loop, main)


def test_a_flush_writes_all_and_a_stop_too(path):
    async def main():
        async with Office(path) as office:
            office.see("a")
            await until(office.counts)
            office.see("a", times=4)
            await office.writer.flush()
            assert office.counts() == {"a": 5}
            office.see("a")
        assert office.counts() == {"a": 6}

    asyncio.run(main())


def test_a_restart_goes_on_where_it_was(path):
    async def main():
        async with Office(path) as office:
            office.see("a")
        async with Office(path, per_token=1) as office:
            assert [mark.sender for mark in office.tally] == ["a"]
            office.see("a", "b")
        assert office.counts() == {"a": 2, "": 1}
        assert known(path).since == NOW

    asyncio.run(main())


def test_what_was_seen_long_ago_is_forgotten_in_the_file_too(path):
    async def main():
        async with Office(path) as office:
            office.see("old")
            await until(office.counts)
            office.now += KEEP_S + 1
            office.see("new")
            await office.writer.flush()
            assert office.counts() == {"new": 1}
            assert [mark.sender for mark in office.tally] == ["new"]

    asyncio.run(main())


def test_a_ledger_that_cannot_be_opened_stops_nobody_and_is_taken_up_when_it_can(path, caplog, monkeypatch):
    monkeypatch.setattr("proxy.stores.ledger_writer._AGAIN_S", 0.01)
    path.mkdir()

    async def main():
        async with Office(path) as office:
            office.see("a")
            with pytest.raises(StoreError, match="ledger"):
                await office.writer.flush()
            assert office.writer.trouble is not None
            path.rmdir()
            office.see("b")
            await until(lambda: office.writer.trouble is None)
            await office.writer.flush()
            assert office.counts() == {"a": 1, "b": 1}

    with caplog.at_level(logging.INFO):
        asyncio.run(main())
    said = [record.levelname for record in caplog.records if record.name == "promgate.ledger"]
    assert said == ["ERROR", "INFO"], "one line when it is lost, one when it is back"


def test_a_ledger_that_was_moved_away_is_begun_anew_with_all_that_is_known(path, monkeypatch):
    monkeypatch.setattr("proxy.stores.ledger_writer._AGAIN_S", 0.01)

    async def main():
        async with Office(path) as office:
            office.see("a", times=3)
            await office.writer.flush()
            for file in path.parent.iterdir():
                file.rename(file.with_name(f"moved-{file.name}"))
            office.now += 10
            office.see("a")
            with pytest.raises(StoreError, match="removed or replaced"):
                await office.writer.flush()
            office.writer.wake()
            await until(lambda: office.writer.trouble is None)
            await office.writer.flush()
            assert office.counts() == {"a": 4}
            assert known(path).since == NOW + 10, "it is not taken for one that saw what was before"

    asyncio.run(main())
