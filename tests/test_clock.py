"""A step of the machine's clock, an hour either way, moves nothing in a process that runs."""

from __future__ import annotations

import time
from dataclasses import replace

import pytest

from proxy.clock import Clock
from proxy.desk.rotating import create, rotate
from proxy.tokens.token import TokenKind
from tests.desk.play import Stage
from tests.tokens.play import HOUR


class Machine:
    """A wall clock that can be set, and one that only goes on."""

    def __init__(self, monkeypatch):
        self.wall, self.up = 1_700_000_000.0, 5000.0
        monkeypatch.setattr(time, "time", lambda: self.wall)
        monkeypatch.setattr(time, "monotonic", lambda: self.up)

    def goes_on(self, seconds):
        self.wall += seconds
        self.up += seconds


@pytest.fixture
def machine(monkeypatch):
    return Machine(monkeypatch)


@pytest.mark.parametrize("step", [HOUR, -HOUR])
def test_a_step_of_the_clock_is_not_seen(machine, step):
    clock = Clock()
    machine.wall += step
    machine.goes_on(10.0)
    assert clock.now() == 1_700_000_010.0
    assert clock.at(machine.up - 4.0) == 1_700_000_006.0
    assert Clock().now() == 1_700_000_010.0 + step, "a process that is started then goes by the clock as it is then"


@pytest.mark.parametrize("step", [HOUR, -HOUR])
def test_both_tokens_are_accepted_until_the_deadline_that_was_set_before_the_step(machine, step):
    stage = Stage("file:a", rules=replace(Stage().rules, overlap_s=2 * HOUR))
    clock = Clock()

    def desk():
        stage.now = clock.now()
        return stage.desk(clock=clock.now)

    def states():
        stage.now = clock.now()
        return stage.states()

    create(desk(), "prom", kind=TokenKind.WRITE)
    rotate(desk(), "prom")
    machine.goes_on(HOUR / 2)
    machine.wall += step
    machine.goes_on(HOUR)
    assert states() == ["previous", "current"]
    machine.goes_on(HOUR / 2 - 1.0)
    assert states() == ["previous", "current"]
    machine.goes_on(1.0)
    assert states() == ["retired", "current"]


@pytest.mark.parametrize("step", [HOUR, -HOUR])
def test_it_knows_how_far_the_machine_s_time_went_from_it(machine, step):
    clock = Clock()
    assert clock.drift_s() == 0.0
    machine.wall += step
    machine.goes_on(10.0)
    assert (clock.drift_s(), clock.machine()) == (step, machine.wall)


def test_a_clock_can_go_by_another(machine):
    clock = Clock(42.0)
    machine.goes_on(1.0)
    assert clock.now() == 43.0
