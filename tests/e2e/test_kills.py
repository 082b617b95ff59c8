"""kill -9 of what stands behind promgate, and of promgate itself, under a real agent: not one sample lost."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.kit.counter import CounterTarget, losses, wait_stored
from tests.kit.prometheus import Agent, Receiver
from tests.kit.promgate import Promgate, deliver, write_route

if TYPE_CHECKING:
    from pathlib import Path

    from tests.kit.process import Process

pytestmark = pytest.mark.real


def _kill_for(victim: Process, target: CounterTarget, scrapes: int) -> None:
    """kill -9, stay away for so many scrapes of one second each, come back on the same port and data."""
    victim.kill()
    target.wait_served(target.served + scrapes)
    victim.start()


def test_kill_9_of_the_receiver_and_of_promgate_loses_nothing(tmp_path: Path) -> None:
    token_file = tmp_path / "token"
    with Receiver(tmp_path / "receiver") as receiver:
        promgate = Promgate(tmp_path / "promgate", {"routes": [write_route(f"http://127.0.0.1:{receiver.port}")]})
        deliver(promgate.token("create", "agent"), token_file)
        with (
            promgate,
            CounterTarget() as target,
            Agent(
                tmp_path / "agent",
                target=target.address,
                url=promgate.write_url,
                credentials_file=token_file,
                ca_file=promgate.ca_file,
            ) as agent,
        ):
            wait_stored(receiver, 3)
            _kill_for(receiver, target, 10)
            wait_stored(receiver, target.served)
            _kill_for(promgate, target, 5)
            wait_stored(receiver, target.served)

            assert losses(receiver) == []
            assert agent.given_up == 0
            statuses = {line["status"] for line in promgate.requests() if line["identity"] == "token:agent"}
            assert 204 in statuses
            assert statuses & {502, 503, 504}, "the outage was never seen by the sender"
            assert statuses <= {204, 502, 503, 504}
