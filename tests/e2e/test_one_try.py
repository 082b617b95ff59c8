"""Senders that try nothing twice: through the overlap of a rotation they lose nothing, and they have no other net."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.kit.applications import SERIES, Application, npm_application, otel_application
from tests.kit.counter import losses, stored, wait_stored
from tests.kit.prometheus import Receiver
from tests.kit.promgate import Promgate, deliver, token_id, write_route
from tests.kit.wait import wait_for

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

pytestmark = pytest.mark.real


@pytest.mark.parametrize(
    ("start", "agent"), [(otel_application, "python-requests"), (npm_application, "node")], ids=["opentelemetry", "npm"]
)
def test_an_application_goes_through_a_rotation_and_loses_what_is_held(
    tmp_path: Path, start: Callable[..., Application], agent: str
) -> None:
    token_file = tmp_path / "token"
    with Receiver(tmp_path / "receiver") as receiver:
        config = {
            "tokens": {"overlap_period": "1h"},
            "routes": [write_route(f"http://127.0.0.1:{receiver.port}")],
        }
        promgate = Promgate(tmp_path / "promgate", config)
        first = promgate.token("create", "app")
        deliver(first, token_file)
        with (
            promgate,
            start(tmp_path / "app", url=promgate.write_url, token_file=token_file, ca_file=promgate.ca_file) as app,
        ):
            wait_stored(receiver, 3, SERIES)
            second = promgate.token("rotate", "app")
            deliver(second, token_file)
            promgate.wait_request(
                lambda line: line["token"] == token_id(second) and line["status"] == 204, "a delivery with the new one"
            )
            wait_stored(receiver, app.exports[-1][0] + 2, SERIES)
            assert losses(receiver, SERIES) == []
            assert {result for _, result in app.exports} == {"SUCCESS"}

            third = promgate.token("rotate", "app", "--overlap=0s")
            held = wait_for(lambda: next((n for n, result in app.exports if result == "FAILURE"), None), "a 503")
            deliver(third, token_file)
            wait_for(lambda: stored(receiver, SERIES)[-1] > held, "a delivery after it")
            assert held in losses(receiver, SERIES), "it is not tried again: the overlap must be long enough"
            assert {line["status"] for line in promgate.requests() if line["token"]} == {204, 503}
            assert {line["agent"].split("/")[0] for line in promgate.requests() if line["token"]} == {agent}
