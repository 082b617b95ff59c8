"""Who still uses the old token: named by `token status`, waited for by the overlap, and let go of when it has moved."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest

from tests.kit.agent_site import AgentSite, agent_site
from tests.kit.counter import losses, wait_stored
from tests.kit.fetch import bearer, fetch
from tests.kit.promgate import deliver, run, token_id
from tests.kit.remote_write import HEADERS, build_body
from tests.kit.wait import wait_for

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = pytest.mark.real

OVERLAP_S = 3.0


def test_a_late_agent_is_named_waited_for_and_let_go_of(tmp_path: Path) -> None:
    tokens = {"overlap_period": f"{OVERLAP_S:g}s", "max_overlap": "1h"}
    with agent_site(tmp_path, tokens) as site:
        promgate = site.promgate
        wait_stored(site.receiver, 3)
        new = promgate.token("rotate", "agent")

        # It is on the old token for three times as long as the overlap was to last.
        site.target.wait_served(site.target.served + 3 * int(OVERLAP_S))
        overlap = _status(site)["overlap"]
        assert (overlap["verdict"], overlap["senders"], overlap["moved"]) == ("WAIT", 1, 0)
        (late,) = overlap["stragglers"]
        assert (late["address"], late["token"], late["why"]) == ("127.0.0.1", token_id(site.secret), "still")
        assert late["agent"].startswith("Prometheus/")
        assert late["seconds_ago"] < 10, "the server was asked, not the minute before"
        verdict = "\nWAIT: 1 of 1 senders still on the previous token: 127.0.0.1 Prometheus/"
        assert verdict in promgate.token("status", "agent")
        refused = run("token", "finish", "agent", f"--config.file={promgate.config_file}")
        assert refused.returncode == 1
        assert "WAIT: 1 of 1 senders" in refused.stderr
        assert _shown(site, site.secret) == 204

        deliver(new, site.token_file)
        wait_stored(site.receiver, site.target.served + 2)
        assert losses(site.receiver) == []
        of_agent = [line for line in promgate.requests() if line["agent"].startswith("Prometheus/")]
        assert {line["status"] for line in of_agent} == {204}, "it was never told to wait"
        wait_for(lambda: _shown(site, site.secret) == 503, "the end of what nobody needs any more", interval_s=0.5)
        assert _status(site)["overlap"]["verdict"] == "WAIT", "now it is we who show it"


def test_an_overlap_ends_when_it_is_said_to_be_safe(tmp_path: Path) -> None:
    with agent_site(tmp_path, {"overlap_period": "1h", "max_overlap": "1h"}) as site:
        promgate = site.promgate
        wait_stored(site.receiver, 3)
        deliver(promgate.token("rotate", "agent"), site.token_file)
        wait_for(lambda: _status(site)["overlap"]["verdict"] == "SAFE", "all to have moved", timeout_s=40, interval_s=1)
        assert "all 1 senders that were seen" in promgate.token("status", "agent")
        promgate.token("finish", "agent")
        assert _shown(site, site.secret) == 503
        wait_stored(site.receiver, site.target.served)
        assert losses(site.receiver) == []

        promgate.kill()
        told = _status(site)["overlap"]
        assert "no server is running" in told["notes"][0]
        assert told["senders"] >= 1, "what was seen outlives the server"
        promgate.start()
        assert _status(site)["overlap"]["notes"] == []


def _status(site: AgentSite) -> dict[str, Any]:
    told: dict[str, Any] = json.loads(site.promgate.token("status", "agent", "--output=json"))
    return told


def _shown(site: AgentSite, secret: str) -> int:
    """What somebody else with that token is told."""
    body, headers = build_body("by_hand", 1.0), HEADERS | bearer(secret)
    url, ca_file = site.promgate.write_url, site.promgate.ca_file
    return fetch(url, method="POST", body=body, headers=headers, ca_file=ca_file).status
