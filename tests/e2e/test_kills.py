"""kill -9 of what stands behind promgate, and of promgate itself, under a real agent: not one sample lost."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.kit.agent_site import agent_site
from tests.kit.counter import losses, wait_stored

if TYPE_CHECKING:
    from pathlib import Path

    from tests.kit.counter import CounterTarget
    from tests.kit.process import Process

pytestmark = pytest.mark.real


def _kill_for(victim: Process, target: CounterTarget, scrapes: int) -> None:
    """kill -9, stay away for so many scrapes of one second each, come back on the same port and data."""
    victim.kill()
    target.wait_served(target.served + scrapes)
    victim.start()


def test_kill_9_of_the_receiver_and_of_promgate_loses_nothing(tmp_path: Path) -> None:
    with agent_site(tmp_path) as site:
        wait_stored(site.receiver, 3)
        _kill_for(site.receiver, site.target, 10)
        wait_stored(site.receiver, site.target.served)
        _kill_for(site.promgate, site.target, 5)
        wait_stored(site.receiver, site.target.served)

        assert losses(site.receiver) == []
        assert site.agent.given_up == 0
        statuses = {line["status"] for line in site.promgate.requests() if line["identity"] == "token:agent"}
        assert 204 in statuses
        assert statuses & {502, 503, 504}, "the outage was never seen by the sender"
        assert statuses <= {204, 502, 503, 504}
