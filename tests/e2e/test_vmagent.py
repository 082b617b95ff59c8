"""A sender of another make through a rotation: vmagent moves to the new token by itself, and nothing is lost."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.kit.counter import CounterTarget, losses, wait_stored
from tests.kit.prometheus import Receiver
from tests.kit.promgate import Promgate, deliver, token_id, write_route
from tests.kit.vmagent import VmAgent

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = pytest.mark.real


def test_a_rotation_under_vmagent_loses_nothing(tmp_path: Path) -> None:
    token_file = tmp_path / "token"
    with Receiver(tmp_path / "receiver") as receiver:
        config = {
            "tokens": {"overlap_period": "3s"},
            "routes": [write_route(f"http://127.0.0.1:{receiver.port}")],
        }
        promgate = Promgate(tmp_path / "promgate", config)
        first = promgate.token("create", "vmagent")
        deliver(first, token_file)
        with (
            promgate,
            CounterTarget() as target,
            VmAgent(
                tmp_path / "vmagent",
                target=target.address,
                url=promgate.write_url,
                token_file=token_file,
                ca_file=promgate.ca_file,
            ),
        ):
            wait_stored(receiver, 3)
            second = promgate.token("rotate", "vmagent")
            deliver(second, token_file)
            promgate.wait_request(
                lambda line: line["token"] == token_id(second) and line["status"] == 204, "a delivery with the new one"
            )
            wait_stored(receiver, target.served + 3)

            assert losses(receiver) == []
            lines = promgate.requests()
            assert {line["identity"] for line in lines if line["agent"] == "vmagent"} == {"token:vmagent"}
            assert {line["token"] for line in lines if line["status"] == 204} == {token_id(first), token_id(second)}
