"""A scheduled rotation that halts is seen by whoever looks: at the status, at the metrics, and once in the log."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from tests.kit.fetch import fetch
from tests.kit.http_server import HttpServer, Reply
from tests.kit.process import free_port
from tests.kit.promgate import Promgate, write_route
from tests.kit.wait import wait_for

if TYPE_CHECKING:
    from pathlib import Path


def test_a_scheduled_rotation_that_halts_is_seen_everywhere_and_said_once(tmp_path: Path) -> None:
    place, telemetry = tmp_path / "tokens", f"127.0.0.1:{free_port()}"
    place.mkdir(mode=0o700)
    with HttpServer(lambda _: Reply(204)) as receiver:
        config = {
            "telemetry": {"listen": telemetry},
            "tokens": {"rotation_period": "1s", "deliver": {"agent": [{"file": str(place / "agent.token")}]}},
            "routes": [write_route(receiver.base)],
        }
        promgate = Promgate(tmp_path / "promgate", config)
        promgate.token("create", "agent")
        place.rename(tmp_path / "away")

        def figures() -> bytes:
            return fetch(f"http://{telemetry}/metrics").body

        with promgate:
            wait_for(lambda: b'\npromgate_rotations_open{state="halted"} 1.0\n' in figures(), "the metric")
            assert b'\npromgate_rotations_total{result="failed"} 1.0\n' in figures()
            text = promgate.token("status", "agent")
            assert " is halted, begun " in text
            assert f"delivery failed: file:{place}/agent.token: " in text
            told = json.loads(promgate.token("status", "agent", "--output=json"))["rotation"]
            assert (told["phase"], told["missing"]) == ("halted", [f"file:{place}/agent.token"])
            (tmp_path / "away").rename(place)
            done = f"promgate token rotate agent --id {told['id']}"
            assert done in text
            promgate.token("rotate", "agent", "--id", told["id"])
            wait_for(lambda: b'\npromgate_rotations_open{state="halted"} 0.0\n' in figures(), "the metric")
        lines = [line for line in promgate.log.splitlines() if f"rotation {told['id']} of agent halted" in line]
        assert len(lines) == 1, lines
        assert "level=error" in lines[0]
