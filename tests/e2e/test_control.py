"""The proof that the loss tests can fail: a status that loses data is reported as a loss, one that does not is not."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.kit.counter import CounterTarget, losses, stored, wait_stored
from tests.kit.fault_switch import FaultSwitch
from tests.kit.prometheus import Agent, Receiver
from tests.kit.wait import wait_for

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = pytest.mark.real

FAULT_SCRAPES = 10


def _losses_with(status: int, directory: Path) -> tuple[list[int], float]:
    with (
        Receiver(directory / "receiver") as receiver,
        FaultSwitch(f"http://127.0.0.1:{receiver.port}") as switch,
        CounterTarget() as target,
        Agent(directory / "agent", target=target.address, url=f"{switch.base}/prometheus/api/v1/write") as agent,
    ):
        wait_for(lambda: stored(receiver), "the first samples")
        switch.fault = status
        target.wait_served(target.served + FAULT_SCRAPES)
        switch.fault = None
        wait_stored(receiver, target.served + 3)
        assert switch.answered[status] > 0, "the fault was never seen by the sender"
        return losses(receiver), agent.given_up


def test_ten_seconds_of_401_are_reported_as_a_loss(tmp_path: Path) -> None:
    missing, given_up = _losses_with(401, tmp_path)
    # The scrapes at both edges may fall on either side of the switch.
    assert FAULT_SCRAPES - 3 <= len(missing) <= FAULT_SCRAPES + 3
    assert given_up >= len(missing)


def test_ten_seconds_of_503_lose_nothing(tmp_path: Path) -> None:
    assert _losses_with(503, tmp_path) == ([], 0)
