"""Who still uses the old token: named by `token status`, waited for by the overlap, and let go of when it has moved."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest

from tests.kit.agent_site import AgentSite, agent_site
from tests.kit.counter import losses, wait_stored
from tests.kit.fetch import bearer, fetch
from tests.kit.process import free_port
from tests.kit.prometheus import Receiver
from tests.kit.promgate import Promgate, deliver, run, token_id, write_route
from tests.kit.remote_write import HEADERS, build_body
from tests.kit.wait import wait_for

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = pytest.mark.real

OVERLAP_S = 6.0


def test_a_late_agent_is_named_waited_for_and_let_go_of(tmp_path: Path) -> None:
    tokens = {"overlap_period": f"{OVERLAP_S:g}s", "max_overlap": "1h"}
    with agent_site(tmp_path, tokens) as site:
        promgate = site.promgate
        wait_stored(site.receiver, 3)
        new = promgate.token("rotate", "agent")

        # It is on the old token for twice as long as the overlap was to last.
        site.target.wait_served(site.target.served + 2 * int(OVERLAP_S))
        facts = _status(site)
        assert (facts["verdict"], facts["senders"], facts["moved"]) == ("WAIT", 1, 0)
        (late,) = facts["stragglers"]
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
        assert _status(site)["verdict"] == "WAIT", "now it is we who show it"


def test_an_overlap_ends_when_it_is_said_to_be_safe(tmp_path: Path) -> None:
    with agent_site(tmp_path, {"overlap_period": "1h", "max_overlap": "1h"}) as site:
        promgate = site.promgate
        wait_stored(site.receiver, 3)
        deliver(promgate.token("rotate", "agent"), site.token_file)
        wait_for(lambda: _status(site)["verdict"] == "SAFE", "all to have moved", timeout_s=40, interval_s=1)
        assert "all 1 senders that were seen" in promgate.token("status", "agent")
        promgate.token("finish", "agent")
        assert _shown(site, site.secret) == 503
        wait_stored(site.receiver, site.target.served)
        assert losses(site.receiver) == []

        promgate.kill()
        told = _status(site)
        assert "no server is running" in told["notes"][0]
        assert told["senders"] >= 1, "what was seen outlives the server"
        promgate.start()
        assert _status(site)["notes"] == []


def test_a_ledger_that_cannot_be_written_says_wait_and_serving_goes_on(tmp_path: Path) -> None:
    telemetry = free_port()
    with Receiver(tmp_path / "receiver") as receiver:
        more = {"telemetry": {"listen": f"127.0.0.1:{telemetry}"}}
        routes = [write_route(f"http://127.0.0.1:{receiver.port}")]
        promgate = Promgate(tmp_path / "promgate", {"routes": routes, **more})
        old = promgate.token("create", "agent")
        ledger = tmp_path / "promgate" / "promgate.db-ledger"
        ledger.mkdir()
        with promgate:
            assert _write(promgate, old) == 204
            new = promgate.token("rotate", "agent")
            assert [_write(promgate, secret) for secret in (old, new)] == [204, 204]
            told = json.loads(promgate.token("status", "agent", "--output=json"))
            assert told["verdict"] == "WAIT"
            assert str(ledger) in told["reason"]
            page = fetch(f"http://127.0.0.1:{telemetry}/metrics").body.decode()
            assert "\npromgate_ledger_writable 0.0\n" in page
            assert promgate.log.count("who sends with which token is kept in memory") == 1


def _status(site: AgentSite) -> dict[str, Any]:
    told: dict[str, Any] = json.loads(site.promgate.token("status", "agent", "--output=json"))
    return told


def _shown(site: AgentSite, secret: str) -> int:
    """What somebody else with that token is told."""
    return _write(site.promgate, secret)


def _write(promgate: Promgate, secret: str) -> int:
    body, headers = build_body("by_hand", 1.0), HEADERS | bearer(secret)
    return fetch(promgate.write_url, method="POST", body=body, headers=headers, ca_file=promgate.ca_file).status
