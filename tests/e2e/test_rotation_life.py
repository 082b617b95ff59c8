"""Rotations that nobody notices, as an operator has them: delivered to the file that a real agent reads.

`make soak` plays the first one for ten minutes (PROMGATE_ROTATIONS=100), `make test` for half of one.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import threading
import time
from typing import TYPE_CHECKING, Any, Self

import pytest

from tests.kit.agent_site import agent_site
from tests.kit.counter import holes, losses, wait_stored
from tests.kit.fetch import ask, bearer, connect
from tests.kit.promgate import COMMAND, WRITE_PATH, deliver, environment, token_id
from tests.kit.remote_write import HEADERS, build_body
from tests.kit.wait import wait_for

if TYPE_CHECKING:
    from pathlib import Path

    from tests.kit.agent_site import AgentSite

pytestmark = pytest.mark.real

ROTATIONS = int(os.environ.get("PROMGATE_ROTATIONS", "10"))
#: A hundred in ten minutes.
EACH_S = 6.0 if ROTATIONS >= 100 else 3.0
SERIES = 1600
#: Several at a time, and fewer than the 16 previous tokens that a name may have.
OVERLAP = "20s"


def delivered_to(token_file: Path, **more: Any) -> dict[str, Any]:
    return {"overlap_period": OVERLAP, "deliver": {"agent": [{"file": str(token_file)}]}} | more


def nothing_is_lost(site: AgentSite, *, refused: int = 0) -> None:
    """Counted at the receiver, by the agent's own count, and in what each of its requests was answered."""
    wait_stored(site.receiver, site.target.served)
    assert losses(site.receiver) == []
    assert holes(site.receiver, site.target.series) == []
    assert site.agent.given_up == 0
    answers = [line["status"] for line in site.promgate.requests() if line["agent"].startswith("Prometheus/")]
    assert set(answers) <= {204, 503}
    assert answers.count(503) <= refused


def test_rotations_under_an_agent_with_many_series_lose_nothing(tmp_path: Path) -> None:
    with agent_site(tmp_path, delivered_to(tmp_path / "token"), series=SERIES) as site:
        used = [site.secret]
        started = time.monotonic()
        for number in range(1, ROTATIONS + 1):
            assert site.promgate.token("rotate", "agent") == "", "it goes to the file, and nowhere else"
            used.append(site.token_file.read_text().strip())
            wait_sent(site, used[-1])
            pause(started + number * EACH_S)
        assert len(set(used)) == ROTATIONS + 1
        nothing_is_lost(site)


def test_the_server_rotates_by_its_own_calendar_and_nobody_notices(tmp_path: Path) -> None:
    tokens = delivered_to(tmp_path / "token", rotation_period="4s", overlap_period="8s")
    with agent_site(tmp_path, tokens) as site:
        wait_for(lambda: len(tokens_in_use(site)) > 5, "deliveries with six tokens", timeout_s=120)
        assert site.token_file.read_text().strip() != site.secret
        nothing_is_lost(site)


def test_a_rotation_that_was_killed_is_taken_up_by_the_server(tmp_path: Path) -> None:
    """The first target has the new token, the second never answers; then the command is gone, by SIGKILL."""
    go = tmp_path / "go"
    stuck = ["sh", "-c", f"cat > /dev/null; test -e {go} || exec sleep 600"]
    targets = [{"file": str(tmp_path / "token")}, {"command": stuck, "timeout": "10m"}]
    go.touch()
    with agent_site(tmp_path, {"overlap_period": OVERLAP, "deliver": {"agent": targets}}) as site:
        go.unlink()
        command = [
            *COMMAND,
            "token",
            "rotate",
            "agent",
            "--id",
            "tuesday",
            f"--config.file={site.promgate.config_file}",
        ]
        with subprocess.Popen(command, env=environment(), start_new_session=True) as rotating:
            wait_for(lambda: site.token_file.read_text().strip() != site.secret, "the new token in the file")
            half_delivered = site.token_file.read_text().strip()
            wait_sent(site, half_delivered)
            assert "rotation tuesday of agent has not ended" in refused(site, "rotate", "agent")
            assert "is being driven" in refused(site, "rotate", "agent", "--id", "tuesday")
            os.killpg(rotating.pid, signal.SIGKILL)
            rotating.wait()
        go.touch()
        wait_for(lambda: site.token_file.read_text().strip() != half_delivered, "a newer token, by the server")
        wait_sent(site, site.token_file.read_text().strip())
        wait_for(lambda: "is done" in site.promgate.token("status", "agent"), "the end of the rotation")
        assert refused(site, "rotate", "agent", "--id", "tuesday", expected=0).count("is done") == 1
        nothing_is_lost(site)


def test_a_leaked_token_is_dead_at_once_and_its_own_sender_loses_nothing(tmp_path: Path) -> None:
    with agent_site(tmp_path, delivered_to(tmp_path / "token")) as site:
        wait_sent(site, site.secret)
        with Thief(site) as thief:
            wait_for(lambda: thief.let_in > 20, "the thief to be let in")
            command = [*COMMAND, "token", "revoke", "--leaked", f"--config.file={site.promgate.config_file}"]
            done = subprocess.run(
                command, input=f"{site.secret}\n", capture_output=True, text=True, env=environment(), check=False
            )
            returned_at = time.monotonic()
            after = thief.asked + 50
            wait_for(lambda: thief.asked > after, "more tries of the thief")
        assert done.returncode == 0, done.stderr
        assert done.stdout == ""
        assert f"token {token_id(site.secret)} leaked and is revoked" in done.stderr
        assert "used by 127.0.0.1 (the-thief)" in done.stderr
        assert site.secret not in done.stderr
        assert thief.last_let_in < returned_at
        assert thief.statuses == {204, 503}, "not now: what its own sender is told, until it has the successor"
        wait_sent(site, site.token_file.read_text().strip())
        nothing_is_lost(site, refused=5)


def test_a_rotation_is_rolled_back_when_the_agent_has_moved_already(tmp_path: Path) -> None:
    """It goes on with what it has, until its file has the old token or yet another one: none is refused."""
    with agent_site(tmp_path, delivered_to(tmp_path / "token", overlap_period="12s")) as site:
        wait_sent(site, site.secret)

        def roll_back_once_moved() -> str:
            site.promgate.token("rotate", "agent")
            moved_to = site.token_file.read_text().strip()
            wait_sent(site, moved_to)
            said = refused(site, "rollback", "agent", expected=0)
            assert f"token {token_id(site.secret)} is current again" in said
            assert f"file:{site.token_file} still holds the new token: rotate again before it ends" in said
            assert states(site)[token_id(site.secret)] == "current"
            wait_more_sent(site, moved_to)
            return moved_to

        # The operator gives the agent its old token back, and the overlap of the new one passes.
        left = roll_back_once_moved()
        deliver(site.secret, site.token_file)
        wait_more_sent(site, site.secret)
        wait_for(lambda: states(site)[token_id(left)] == "retired", "the end of the new token")
        wait_more_sent(site, site.secret)
        # Or rotates again, as the warning says.
        left = roll_back_once_moved()
        site.promgate.token("rotate", "agent")
        last = site.token_file.read_text().strip()
        wait_sent(site, last)
        assert len({site.secret, left, last}) == 3
        assert states(site)[token_id(last)] == "current"
        wait_for(lambda: states(site)[token_id(left)] == "retired", "the end of what was rolled back")
        wait_more_sent(site, last)
        nothing_is_lost(site)


class Thief:
    """Posts with the agent's token, without a pause, on a connection of its own."""

    def __init__(self, site: AgentSite) -> None:
        self._site = site
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._post)
        self.asked = self.let_in = 0
        self.last_let_in = 0.0
        self.statuses: set[int] = set()

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._thread.join()

    def _post(self) -> None:
        body = build_body("by_hand", 1.0)
        headers = HEADERS | bearer(self._site.secret) | {"User-Agent": "the-thief"}
        connection = connect(self._site.promgate.base, ca_file=self._site.promgate.ca_file)
        while not self._over.is_set():
            started_at = time.monotonic()
            status = ask(connection, "POST", WRITE_PATH, body=body, headers=headers).status
            self.statuses.add(status)
            self.asked += 1
            if status == 204:
                self.let_in += 1
                self.last_let_in = started_at
        connection.close()


def tokens_in_use(site: AgentSite) -> set[str]:
    """The ids with which the agent has delivered."""
    return {
        line["token"]
        for line in site.promgate.requests()
        if line["status"] == 204 and line["agent"].startswith("Prometheus/")
    }


def wait_sent(site: AgentSite, secret: str) -> None:
    """Wait until the agent delivered with this token."""
    site.promgate.wait_request(
        lambda line: line["token"] == token_id(secret) and line["status"] == 204 and "Prometheus/" in line["agent"],
        f"a delivery with token {token_id(secret)}",
    )


def wait_more_sent(site: AgentSite, secret: str) -> None:
    """Wait until the agent delivered twice more with this token: the second one began after this was called."""

    def sent() -> int:
        lines = site.promgate.requests()
        return sum(line["token"] == token_id(secret) and line["status"] == 204 for line in lines)

    before = sent()
    wait_for(lambda: sent() >= before + 2, f"more deliveries with token {token_id(secret)}")


def states(site: AgentSite) -> dict[str, str]:
    return {row["id"]: row["state"] for row in json.loads(site.promgate.token("show", "agent", "--output=json"))}


def refused(site: AgentSite, *words: str, expected: int = 1) -> str:
    """What `promgate token` says when it ends with that code."""
    command = [*COMMAND, "token", *words, f"--config.file={site.promgate.config_file}"]
    done = subprocess.run(command, capture_output=True, text=True, env=environment(), check=False)
    assert done.returncode == expected, done.stderr
    return done.stderr


def pause(until: float) -> None:
    """Rotations are asked for by the clock: a hundred in ten minutes."""
    time.sleep(max(0.0, until - time.monotonic()))
