"""One flight for one question: who shares it, who leaves, and what everybody is told when it fails or is ended."""

from __future__ import annotations

import asyncio
import gc
import logging
import time

import pytest

from proxy.login.flights import Flights, Missed


class Tower:
    """What is asked waits here until it may land; `asked` counts."""

    def __init__(self, most=10, keep_s=0.0):
        self.flights = Flights(most, keep_s)
        self.asked = 0
        self.leave = asyncio.Event()
        self.failure = None

    async def ask(self):
        self.asked += 1
        mine = self.asked
        await self.leave.wait()
        if self.failure is not None:
            raise self.failure
        return mine

    def join(self, key="a", wait_s=None):
        return self.flights.join(key, self.ask, wait_s)

    async def waiting(self, *keys):
        tasks = [asyncio.create_task(self.join(key)) for key in keys]
        for _ in range(2):  # to begin to wait, and to be asked
            await asyncio.sleep(0)
        return tasks


def on_a_loop(test):
    def run():
        asyncio.run(test())

    run.__name__, run.__doc__ = test.__name__, test.__doc__
    return run


@on_a_loop
async def test_all_who_ask_share_one_and_one_who_leaves_ends_it_for_nobody():
    tower = Tower()
    gone, *others = await tower.waiting("a", "a", "a", "b")
    assert "a" in tower.flights
    gone.cancel()
    with pytest.raises(asyncio.CancelledError):
        await gone
    tower.leave.set()
    assert await asyncio.gather(*others) == [1, 1, 2]
    assert await tower.join() == 3
    assert "a" not in tower.flights


@on_a_loop
async def test_it_lands_also_when_all_have_left():
    tower = Tower(keep_s=60.0)
    (gone,) = await tower.waiting("a")
    gone.cancel()
    tower.leave.set()
    await asyncio.wait([gone])
    assert await tower.join() == 1


@on_a_loop
async def test_no_more_than_its_bound_and_whoever_shares_is_no_more():
    tower = Tower(most=2)
    tasks = await tower.waiting("a", "b", "c", "a")
    tower.leave.set()
    assert await asyncio.gather(*tasks) == [1, 2, Missed.FULL, 1]
    assert await tower.join("c") == 3


@on_a_loop
async def test_who_waits_too_long_is_told():
    tower = Tower()
    assert await tower.join(wait_s=0.01) is Missed.LATE
    assert "a" in tower.flights, "others may wait longer"
    tower.leave.set()
    assert await tower.join(wait_s=60) == 1
    await tower.flights.aclose()


@on_a_loop
async def test_who_waits_for_what_is_closed_is_told_and_not_cancelled():
    """A CancelledError would look like the end of the request that waits."""
    tower = Tower()
    tasks = await tower.waiting("a", "a", "b")
    await tower.flights.aclose()
    assert await asyncio.gather(*tasks) == [Missed.CLOSED] * 3
    assert all(not task.cancelled() for task in tasks)
    tower.leave.set()
    assert await tower.join() == 3, "and it may be asked anew"


@on_a_loop
async def test_a_flight_that_is_closed_leaves_the_next_one_of_its_key_alone():
    tower = Tower()
    (before,) = await tower.waiting("a")
    tower.flights.close()
    (after,) = await tower.waiting("a")
    assert await before is Missed.CLOSED
    assert "a" in tower.flights
    tower.leave.set()
    assert await after == 2


@on_a_loop
async def test_an_answer_is_kept_and_a_failure_is_not():
    tower = Tower(keep_s=60.0)
    tower.leave.set()
    tower.failure = ConnectionError("once")
    told = await asyncio.gather(tower.join(), tower.join(), return_exceptions=True)
    assert [str(each) for each in told] == ["once", "once"]
    tower.failure = None
    assert [await tower.join() for _ in range(3)] == [2, 2, 2]
    assert await tower.join("b") == 3
    await tower.flights.aclose()
    assert await tower.join() == 4


@on_a_loop
async def test_an_answer_is_kept_for_its_time():
    tower = Tower(keep_s=0.01)
    tower.leave.set()
    assert await tower.join() == 1
    await asyncio.to_thread(time.sleep, 0.02)
    assert await tower.join() == 2


def test_what_nobody_waits_for_fails_loudly(caplog):
    async def act():
        flights = Flights(1)

        async def broken():
            raise ZeroDivisionError("a defect")

        assert flights.begin("a", broken)
        assert not flights.begin("b", broken)
        for _ in range(3):
            await asyncio.sleep(0)
        assert "a" not in flights
        gc.collect()

    with caplog.at_level(logging.ERROR):
        asyncio.run(act())
    assert "a defect" in caplog.text
