"""The headline, with a real Prometheus agent: ten rotations in a minute, and not one sample lost."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

import pytest

from tests.kit.agent_site import agent_site
from tests.kit.counter import losses, wait_stored
from tests.kit.fetch import bearer, fetch
from tests.kit.promgate import deliver, token_id
from tests.kit.remote_write import HEADERS, build_body
from tests.kit.wait import wait_for

if TYPE_CHECKING:
    from pathlib import Path

    from tests.kit.promgate import Promgate

pytestmark = pytest.mark.real

ROTATIONS = 10
SCRAPES_BETWEEN = 5
OVERLAP_S = 2.0


def test_ten_rotations_in_a_minute_lose_nothing(tmp_path: Path) -> None:
    with agent_site(tmp_path, {"overlap_period": f"{OVERLAP_S:g}s", "retry_grace": "1h"}) as site:
        promgate, secrets = site.promgate, [site.secret]
        _wait_sent(promgate, secrets[0])
        for _ in range(ROTATIONS):
            next_at = site.target.served + SCRAPES_BETWEEN
            began_at = time.monotonic()
            secrets.append(promgate.token("rotate", "agent"))
            deliver(secrets[-1], site.token_file)
            _wait_sent(promgate, secrets[-1])
            _wait_held(promgate, secrets[-2], began_at)
            site.target.wait_served(next_at)
        wait_stored(site.receiver, site.target.served)

        assert losses(site.receiver) == []
        assert site.agent.given_up == 0
        of_agent = [line for line in promgate.requests() if line["agent"].startswith("Prometheus/")]
        assert {line["identity"] for line in of_agent} == {"token:agent"}
        # Nothing but success and "not now": the hold, had the agent been late with a token.
        assert {line["status"] for line in of_agent} <= {204, 503}
        assert {line["token"] for line in of_agent if line["status"] == 204} == {token_id(s) for s in secrets}


def _wait_sent(promgate: Promgate, secret: str) -> None:
    """Wait until the agent delivered with this token."""
    promgate.wait_request(
        lambda line: line["token"] == token_id(secret) and line["status"] == 204 and "Prometheus/" in line["agent"],
        f"a delivery with token {token_id(secret)}",
    )


def _wait_held(promgate: Promgate, secret: str, began_at: float) -> None:
    """Wait until the token of before the rotation is told "not now", which is not before the overlap ended."""
    body = build_body("by_hand", 1.0)

    def held() -> bool:
        answer = fetch(
            promgate.write_url, method="POST", body=body, headers=HEADERS | bearer(secret), ca_file=promgate.ca_file
        )
        assert answer.status in {204, 503}
        assert answer.status == 204 or 5 <= int(answer.headers["Retry-After"]) <= 30
        return answer.status == 503

    wait_for(held, "the end of the overlap", timeout_s=OVERLAP_S + 5, interval_s=0.1)
    # The deadline was set while the command ran: it cannot be over sooner than that after its begin.
    assert time.monotonic() - began_at >= OVERLAP_S
