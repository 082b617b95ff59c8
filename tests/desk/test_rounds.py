"""A round is made when the store has changed, and when its time comes; what failed is done anew."""

from __future__ import annotations

import threading

import pytest

from proxy.desk.rounds import Rounds
from proxy.tokens.ports import StoreError
from tests.desk.play import Stage


class Work:
    """What it wants, or raises."""

    def __init__(self):
        self.stage, self.sign, self.wants, self.fails, self.done = Stage(), 0, None, None, 0
        self.often = threading.Event()
        self.rounds = Rounds("rounds", self.stage.desk, lambda: self.sign, self, tick_s=0.001)

    def __call__(self, _):
        self.done += 1
        if self.done == 5:
            self.often.set()
        if self.fails:
            raise self.fails
        return self.wants


@pytest.fixture
def work():
    return Work()


def test_a_round_is_made_when_the_store_changed_and_when_it_is_wanted(work):
    work.wants = work.stage.now + 10.0
    for step, done in ((0, 1), (9, 1), (1, 2)):
        work.stage.now += step
        work.rounds.turn()
        assert work.done == done
    work.wants = None
    work.sign = 1
    for step, done in ((0, 3), (29, 3), (1, 4)):
        work.stage.now += step
        work.rounds.turn()
        assert work.done == done


def test_it_looks_soon_before_its_time_and_seldom_else(work):
    work.rounds._tick_s = 1.0
    for wants, pause in ((0.5, 0.5), (0.01, 0.1), (20.0, 1.0)):
        work.wants, work.sign = work.stage.now + wants, wants
        for _ in range(2):
            work.rounds.turn()
            assert work.rounds._pause_s == pytest.approx(pause)


def test_what_failed_is_done_anew_though_nothing_has_changed(work):
    work.fails = StoreError("the disk is full")
    with pytest.raises(StoreError):
        work.rounds.turn()
    work.fails = None
    work.rounds.turn()
    assert work.done == 2


@pytest.mark.parametrize("error", [StoreError("the disk is full"), KeyError("a defect")])
def test_no_failure_ends_the_thread_and_each_is_said_once(work, error, caplog):
    work.fails = error
    work.rounds.start()
    try:
        assert work.often.wait(60)
    finally:
        work.rounds.stop()
    (line,) = caplog.records
    assert str(error) in line.getMessage() or line.exc_info
    assert (line.exc_info is None) == isinstance(error, StoreError)


def test_the_end_begins_nothing_more(work):
    work.rounds.end()
    work.rounds.start()
    work.rounds.stop()
    assert work.rounds.is_ending
    assert work.done == 0
