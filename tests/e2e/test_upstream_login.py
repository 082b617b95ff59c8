"""A Prometheus that wants a password of promgate, and gets another one while an agent sends through promgate."""

from __future__ import annotations

from typing import TYPE_CHECKING

import bcrypt
import pytest
import yaml

from tests.kit.counter import CounterTarget, losses, wait_stored
from tests.kit.fetch import basic
from tests.kit.prometheus import Agent, Receiver
from tests.kit.promgate import Promgate, deliver, write_route

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = pytest.mark.real


def _let_in(web_config: Path, password: str) -> None:
    """This password and no other; Prometheus reads its web config for each request."""
    hashed = bcrypt.hashpw(password.encode(), bcrypt.gensalt(4)).decode()
    fresh = web_config.with_suffix(".new")
    fresh.write_text(yaml.safe_dump({"basic_auth_users": {"promgate": hashed}}))
    fresh.replace(web_config)


def test_no_sample_is_lost_while_the_upstreams_password_changes(tmp_path: Path) -> None:
    web_config, password, token = tmp_path / "web.yml", tmp_path / "password", tmp_path / "token"
    _let_in(web_config, "first")
    deliver("first", password)
    receiver = Receiver(tmp_path / "receiver", web_config=web_config, headers=basic("promgate", "first"))
    route = write_route("")
    own = {"username": "promgate", "password_file": str(password)}
    route["upstream"] = {"url": f"http://127.0.0.1:{receiver.port}", "basic_auth": own}
    with receiver, Promgate(tmp_path / "promgate", {"routes": [route]}) as promgate, CounterTarget() as target:
        deliver(promgate.token("create", "agent", "--print"), token)
        agent = Agent(
            tmp_path / "agent",
            target=target.address,
            url=promgate.write_url,
            credentials_file=token,
            ca_file=promgate.ca_file,
        )
        with agent:
            wait_stored(receiver, 2)
            _let_in(web_config, "second")
            receiver.headers = basic("promgate", "second")
            refused = promgate.wait_request(lambda line: line["reason"] == "upstream_login", "a refused login")
            target.wait_served(target.served + 3)
            deliver("second", password)
            wait_stored(receiver, target.served + 1)
            given_up = agent.given_up
        assert refused["status"] == 502
        assert {line["status"] for line in promgate.requests()} <= {200, 204, 502}
        assert losses(receiver) == []
        assert given_up == 0
        assert promgate.log.count("it does not take promgate's own login") == 1
