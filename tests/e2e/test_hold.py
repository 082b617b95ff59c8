"""The net under a rotation: an agent that was forgotten shows its retired token for a while, and loses nothing.

`make soak` plays it for three minutes (PROMGATE_HOLD_S), `make test` for half of one. The control is an agent told 401.
"""

from __future__ import annotations

import os
import re
from typing import TYPE_CHECKING, NamedTuple

import pytest

from tests.kit.agent_site import agent_site
from tests.kit.counter import losses, wait_stored
from tests.kit.fetch import fetch
from tests.kit.process import free_port
from tests.kit.promgate import deliver, token_id

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = pytest.mark.real

#: One scrape a second, so as many seconds as well.
SCRAPES_HELD = int(os.environ.get("PROMGATE_HOLD_S", "30"))


class Forgotten(NamedTuple):
    """What became of it."""

    missing: list[int]
    given_up: float
    statuses: set[int]
    told: int
    page: str
    log: str


@pytest.mark.parametrize("grace", ["1h", "0s"], ids=["held", "refused"])
def test_a_forgotten_agent_loses_nothing_while_it_is_held_and_much_when_it_is_refused(
    tmp_path: Path, grace: str
) -> None:
    seen = _forget_an_agent(tmp_path, grace)
    lines = re.findall(r'msg="127\.0\.0\.1 Prometheus/\S+ shows token (\w+) of agent, which was replaced', seen.log)
    if grace == "1h":
        assert seen.missing == []
        assert seen.given_up == 0
        assert seen.statuses == {204, 503}
        assert len(lines) == 1, "one line for a sender, however often it asks"
        assert _value(seen.page, "promgate_held_requests_total") == seen.told > 0
    else:
        assert len(seen.missing) >= SCRAPES_HELD - 5
        assert seen.given_up >= len(seen.missing)
        assert seen.statuses == {204, 401}
        assert lines == []
        assert _value(seen.page, "promgate_held_requests_total") == seen.told == 0


def _forget_an_agent(directory: Path, grace: str) -> Forgotten:
    telemetry = free_port()
    tokens = {"overlap_period": "1s", "max_overlap": "1s", "retry_grace": grace}
    with agent_site(directory, tokens, {"telemetry": {"listen": f"127.0.0.1:{telemetry}"}}) as site:
        promgate = site.promgate
        wait_stored(site.receiver, 3)
        old, new = site.secret, promgate.token("rotate", "agent")
        promgate.wait_request(lambda line: line["token"] == token_id(old) and line["status"] != 204, "the end")
        site.target.wait_served(site.target.served + SCRAPES_HELD, timeout_s=SCRAPES_HELD + 60.0)
        deliver(new, site.token_file)
        promgate.wait_request(lambda line: line["token"] == token_id(new) and line["status"] == 204, "the new one")
        wait_stored(site.receiver, site.target.served)
        page = fetch(f"http://127.0.0.1:{telemetry}/metrics").body.decode()  # which writes the log, too
        lines = [line for line in promgate.requests() if line["token"]]
        return Forgotten(
            losses(site.receiver),
            site.agent.given_up,
            {line["status"] for line in lines},
            sum(line["reason"] == "token_retired" for line in lines),
            page,
            promgate.log,
        )


def _value(page: str, name: str) -> float:
    return sum(float(line.rpartition(" ")[2]) for line in page.splitlines() if line.startswith(f"{name}{{"))
