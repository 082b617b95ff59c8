"""The desk of a server on a real store: what it does beside its deliveries, however long one of them takes."""

from __future__ import annotations

import asyncio
from contextlib import closing

import pytest

from proxy.desk.rotating import create, rotate
from proxy.desk.serving import Followed, ServerDesk
from proxy.gate.snapshot import TokenRules
from proxy.stores.ledger import LedgerFile, ledger_beside
from proxy.stores.nudge import serve_nudges
from proxy.stores.sqlite import open_store
from proxy.stores.watch import StoreWatch
from proxy.tokens.book import TokenBook
from proxy.tokens.ledger import Sighting
from proxy.tokens.schedule import Period
from proxy.tokens.targets import CommandTarget
from proxy.tokens.token import TokenKind
from tests.desk.play import Stage
from tests.kit.wait import wait_for
from tests.tokens.play import DAY, HOUR


class Office(Stage):
    """The name `late` in its overlap, with a sender that has not moved; the name `slow`, which is due for a rotation,
    and whose target does not end before its file is there.
    """

    def __init__(self, directory):
        super().__init__("file:here")
        self.started, self.released = directory / "started", directory / "released"
        wait = f"touch {self.started}; while ! [ -e {self.released} ]; do sleep 0.05; done"
        slow = CommandTarget(("/bin/sh", "-c", wait), timeout_s=300.0)
        self.rules = TokenRules(
            overlap_s=HOUR, max_overlap_s=DAY, rotation=Period(30 * DAY), deliver={"slow": (slow,)}
        )
        self.store = open_store(directory / "promgate.db")
        self.now -= 31 * DAY
        create(self.desk(), "slow", kind=TokenKind.WRITE)
        create(self.desk(), "late", kind=TokenKind.WRITE)
        self.now += 31 * DAY
        rotate(self.desk(), "late")
        self.now += 2 * 60.0  # never two names within a minute
        self.old, self.fresh = self.store.named("late")
        self.end = self.old.accepted_until

    def nears_its_end(self):
        """A minute is left, and the old token was in use just now."""
        began, self.now = self.now, self.end - 60.0
        with closing(LedgerFile(ledger_beside(self.store.path), began - DAY)) as ledger:
            address = "10.0.0.7"
            ledger.record([Sighting("late", self.old.id, address, address, "x", began - HOUR, self.now, 9999)])

    async def open(self):
        async def flushed():
            pass

        watch = StoreWatch(self.store, TokenBook())
        self.nudges = await serve_nudges(self.store.path, watch.sync)
        return ServerDesk(Followed(self.store, watch, self.nudges), self.rules, lambda: self.now, flushed)


@pytest.fixture
def office(tmp_path):
    made = Office(tmp_path)
    yield made
    made.released.touch()
    made.store.close()


def test_a_delivery_that_hangs_does_not_end_the_overlap_of_another_name(office):
    async def play():
        desk = await office.open()
        desk.start()
        try:
            await asyncio.to_thread(wait_for, office.started.exists, "the delivery that hangs")
            office.nears_its_end()
            await asyncio.to_thread(
                wait_for, lambda: office.store.named("late")[0].accepted_until > office.end, "a longer overlap"
            )
            assert office.store.story("slow").rotations[-1].is_open
        finally:
            office.released.touch()
            await asyncio.to_thread(desk.stop)
            office.nudges.close()

    asyncio.run(play())
