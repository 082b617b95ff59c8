"""A rotation with canary and delivery, under a real agent: whatever breaks, the old token goes on, nothing is lost."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import TYPE_CHECKING, Any, NamedTuple

import pytest
import yaml

from tests.kit.agent_site import AgentSite, agent_site
from tests.kit.counter import losses, wait_stored
from tests.kit.fault_switch import FaultSwitch
from tests.kit.fetch import answers_ok, bearer, fetch
from tests.kit.process import accepts, free_port
from tests.kit.prometheus import Receiver
from tests.kit.promgate import COMMAND, Promgate, environment, make_certificates, run, token_id, write_route
from tests.kit.remote_write import HEADERS, build_body
from tests.kit.users import htpasswd, write_private
from tests.kit.wait import wait_for

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

pytestmark = pytest.mark.real

#: Copies its standard input to a file; refuses where `broken` lies beside it.
PUT = """
import pathlib, sys
place = pathlib.Path(sys.argv[1])
if place.with_name("broken").exists():
    sys.exit("the vault is sealed")
place.write_text(sys.stdin.read())
"""


class Stage(NamedTuple):
    site: AgentSite
    writing: FaultSwitch
    reading: FaultSwitch
    first: Path
    vault: Path

    @property
    def targets(self) -> tuple[Path, ...]:
        return self.first, self.vault, self.site.token_file

    def rotate(self, *arguments: str, canary: dict[str, Any] | None = None) -> tuple[int, str]:
        """`promgate token rotate agent`, by a configuration with other words for the canary; exit code and stderr."""
        config_file = self.site.promgate.config_file
        if canary:
            config = yaml.safe_load(config_file.read_text())
            config["tokens"]["canary"].update(canary)
            config_file = config_file.with_name("changed.yml")
            config_file.write_text(yaml.safe_dump(config))
        done = run("token", "rotate", "agent", *arguments, f"--config.file={config_file}", timeout_s=120)
        assert done.stdout == ""
        return done.returncode, done.stderr

    def verify(self, *arguments: str, shown: str | None = None) -> tuple[int, str]:
        """`promgate token verify agent`, with `shown` on its stdin; exit code and stderr."""
        command = [*COMMAND, "token", "verify", "agent", *arguments, f"--config.file={self.site.promgate.config_file}"]
        done = subprocess.run(
            command, input=shown, capture_output=True, text=True, env=environment(), timeout=120, check=False
        )
        assert done.stdout == ""
        return done.returncode, done.stderr

    def status(self) -> dict[str, Any]:
        told: dict[str, Any] = json.loads(self.site.promgate.token("status", "agent", "--output=json"))
        return told

    def touched(self) -> list[tuple[bytes, int]]:
        """What would differ if a target had been touched: bytes and inode of each."""
        return [(path.read_bytes(), path.stat().st_ino) for path in self.targets]

    def wait_more(self) -> None:
        """Wait until the agent has delivered what it scraped by now."""
        wait_stored(self.site.receiver, self.site.target.served + 1, timeout_s=60)


@pytest.fixture
def stage(tmp_path: Path) -> Iterator[Stage]:
    first, vault, program = tmp_path / "first.token", tmp_path / "vault", tmp_path / "put.py"
    program.write_text(PUT)
    write_private(tmp_path / "promgate" / "users.htpasswd", htpasswd("reader"))
    write_private(tmp_path / "promgate" / "reader.password", "reader\n")
    tokens = {
        "deliver": {
            "agent": [
                {"file": str(first)},
                {"command": [sys.executable, str(program), str(vault)]},
                {"file": str(tmp_path / "token")},
            ]
        },
        "canary": {
            "basic_auth": {"username": "reader", "password_file": "reader.password"},
            "tls_config": {"ca_file": "certs/ca.crt"},
            "timeout": "4s",
        },
    }
    port = free_port()
    base = f"http://127.0.0.1:{port}"
    with FaultSwitch(base) as writing, FaultSwitch(base) as reading:
        writing.strikes = lambda request: request.headers["User-Agent"] == "promgate-canary"
        read = {"name": "read", "path": "/prometheus", "upstream": reading.base, "auth": "basic", "allow": "viewer"}
        more = {
            "routes": [write_route(writing.base), read],
            "htpasswd_file": "users.htpasswd",
            "roles": {"viewer": ["basic:reader"]},
        }
        with agent_site(tmp_path, tokens, more, port=port) as site:
            yield Stage(site, writing, reading, first, vault)


@contextmanager
def _fault(switch: FaultSwitch, status: int) -> Iterator[None]:
    switch.fault = status
    yield
    switch.fault = None


@contextmanager
def _no_upstream(receiver: Receiver) -> Iterator[None]:
    receiver.kill()
    yield
    receiver.start()


@contextmanager
def _another_certificate(promgate: Promgate, directory: Path) -> Iterator[None]:
    """The listener shows a certificate of an authority that nobody trusts, until it has its own again."""
    own, stranger = promgate.config_file.parent / "certs", directory / "stranger"
    make_certificates(stranger)
    shutil.copytree(own, directory / "kept")
    for source, trusted in ((stranger, False), (directory / "kept", True)):
        for name in ("localhost.key", "localhost.crt"):
            shutil.copy(source / name, own / f"{name}.new")
            (own / f"{name}.new").replace(own / name)
        _wait_trusted(promgate, trusted=trusted)
        if not trusted:
            yield


def _wait_trusted(promgate: Promgate, *, trusted: bool) -> None:
    url = f"{promgate.base}/-/healthy"
    wait_for(lambda: answers_ok(url, promgate.ca_file) is trusted, "the listener's other certificate")


def test_a_canary_that_dies_leaves_every_target_and_the_agent_alone(stage: Stage, tmp_path: Path) -> None:
    site, promgate = stage.site, stage.site.promgate
    stage.wait_more()
    first = stage.status()["current"]
    before = stage.touched()
    assert before[0][0] == before[1][0] == before[2][0]

    query_url = f"{promgate.base}/prometheus/api/v1/query"
    faults: list[tuple[str, AbstractContextManager[None], dict[str, Any]]] = [
        ("tls", _another_certificate(promgate, tmp_path), {}),
        ("route", nullcontext(), {"url": f"{promgate.base}/nowhere", "query_url": query_url}),
        ("push", _no_upstream(site.receiver), {}),
        ("push", _fault(stage.writing, 400), {}),
        ("query", _fault(stage.reading, 503), {}),
        ("query", nullcontext(), {"basic_auth": {"username": "nobody", "password_file": "reader.password"}}),
    ]
    for number, (step, fault, canary) in enumerate(faults):
        with fault:
            code, said = stage.rotate(f"--id=fault-{number}", canary=canary)
        assert code == 1, said
        assert f"the canary failed at step {step}: " in said
        assert "Traceback" not in said
        told = stage.status()
        assert (told["current"], told["accepted"]) == (first, [])
        assert told["rotation"]["id"] == f"fault-{number}"
        assert told["rotation"]["phase"] == "given up"
        assert stage.touched() == before, "a target was touched"
        stage.wait_more()

    code, said = stage.rotate("--id=good")
    assert code == 0, said
    told = stage.status()
    assert told["current"] != first
    assert told["rotation"]["proven"] is not None
    command = f"command:{sys.executable} {tmp_path / 'put.py'} {stage.vault}"
    assert set(told["rotation"]["receipts"]) == {f"file:{stage.first}", command, f"file:{site.token_file}"}
    (content,) = {path.read_text() for path in stage.targets}
    assert token_id(content) == told["current"]
    promgate.wait_request(
        lambda line: line["token"] == told["current"] and line["agent"].startswith("Prometheus/"),
        "the agent with the new token",
    )
    stage.wait_more()
    (canary_series,) = site.receiver.query(f'last_over_time(promgate_canary{{token="{told["current"]}"}}[1h])')
    assert canary_series["metric"]["name"] == "agent"
    assert losses(site.receiver) == []
    assert site.agent.given_up == 0


def test_a_delivery_that_fails_leaves_the_old_token_going_on(stage: Stage) -> None:
    site = stage.site
    stage.wait_more()
    first = stage.status()["current"]
    before = stage.touched()
    broken = stage.vault.with_name("broken")
    broken.touch()

    code, said = stage.rotate("--id=halted")
    assert code == 1
    assert "ended with exit code 1: the vault is sealed" in said
    assert "--id halted" in said
    told = stage.status()
    assert told["current"] == first
    assert told["rotation"]["phase"] == "halted"
    assert list(told["rotation"]["receipts"]) == [f"file:{stage.first}"]
    assert told["rotation"]["missing"][-1] == f"file:{site.token_file}"
    after = stage.touched()
    assert after[1:] == before[1:]
    half = stage.first.read_text().strip()
    assert token_id(half) == told["rotation"]["token"] != first
    # Whoever has the half-delivered token can use it, and the old one has no deadline.
    assert _takes(stage.site.promgate, half)
    assert told["accepted"] == [{"id": token_id(half), "state": "pending", "until": None, "until_at_most": None}]
    stage.wait_more()

    broken.unlink()
    code, said = stage.rotate("--id=halted")
    assert code == 0, said
    (content,) = {path.read_text() for path in stage.targets}
    told = stage.status()
    assert token_id(content) == told["current"] not in {first, token_id(half)}
    assert {one["id"] for one in told["accepted"]} == {first, token_id(half)}
    stage.wait_more()

    # Halted once more, and the canary dies when it is taken up: the first target's token goes on until it is replaced.
    broken.touch()
    assert stage.rotate("--id=again")[0] == 1
    broken.unlink()
    half = stage.first.read_text().strip()
    with _fault(stage.reading, 503):
        code, said = stage.rotate("--id=again")
    assert code == 1
    assert "the canary failed at step query: " in said
    assert f"file:{stage.first} holds token {token_id(half)} of a rotation that did not end" in said
    assert _takes(stage.site.promgate, half)
    assert stage.status()["left_behind"] == {f"file:{stage.first}": token_id(half)}
    code, said = stage.rotate("--id=again")
    assert code == 1
    assert "its id begins no other" in said
    code, said = stage.rotate()
    assert code == 0, said
    (content,) = {path.read_text() for path in stage.targets}
    assert token_id(content) == stage.status()["current"]
    stage.wait_more()
    assert losses(site.receiver) == []
    assert site.agent.given_up == 0


def test_verify_says_whether_the_token_in_use_works_and_what_is_broken_if_not(stage: Stage, tmp_path: Path) -> None:
    site = stage.site
    stage.wait_more()
    before, first = stage.touched(), stage.status()["current"]
    code, said = stage.verify()
    assert (code, said) == (0, f"promgate: agent: token {first} (current) works\n")
    (series,) = site.receiver.query(f'last_over_time(promgate_canary{{token="{first}"}}[1h])')
    assert series["metric"]["name"] == "agent"

    faults = [
        ("tls", _another_certificate(site.promgate, tmp_path)),
        ("push", _fault(stage.writing, 400)),
        ("query", _fault(stage.reading, 503)),
    ]
    for step, fault in faults:
        with fault:
            code, said = stage.verify()
        assert code == 1, said
        assert f"token {first} of agent does not work: the canary failed at step {step}: " in said
        assert "Traceback" not in said
        assert site.secret not in said
        stage.wait_more()
    assert stage.touched() == before
    assert stage.status()["current"] == first

    # Any sender's token can be shown: of its file, or by stdin; one that was replaced works on, and that is said.
    assert stage.rotate()[0] == 0
    code, said = stage.verify("--credentials-file=-", shown=f"{site.secret}\n")
    assert code == 0, said
    assert f"token {first} (previous) works" in said
    assert "warning: it is not the current one any more, and ends at " in said
    current = stage.status()["current"]
    assert stage.verify(f"--credentials-file={site.token_file}") == (
        0, f"promgate: agent: token {current} (current) works\n"
    )  # fmt: skip
    code, said = stage.verify(f"--credentials-file={stage.first.with_name('nowhere')}")
    assert code == 1
    assert "nowhere cannot be read: No such file or directory" in said
    site.promgate.token("revoke", "agent", f"--id={first}")
    code, said = stage.verify("--credentials-file=-", shown=site.secret)
    assert code == 1
    assert f"token {first} of agent is revoked: its sender is refused" in said
    stage.wait_more()
    assert losses(site.receiver) == []
    assert site.agent.given_up == 0


def _takes(promgate: Promgate, secret: str) -> bool:
    answer = fetch(
        promgate.write_url,
        method="POST",
        body=build_body("half_delivered", 1.0),
        headers=HEADERS | bearer(secret),
        ca_file=promgate.ca_file,
    )
    return answer.status == 204


def test_the_canary_goes_where_the_server_listens(tmp_path: Path) -> None:
    """`serve --web.listen-address` stands for the file's `listen`, of which a command would know nothing."""
    target, elsewhere = tmp_path / "token", free_port()
    with Receiver(tmp_path / "receiver") as receiver:
        base = f"http://127.0.0.1:{receiver.port}"
        read = {"name": "read", "path": "/prometheus", "upstream": base, "auth": "none"}
        tokens = {
            "deliver": {"agent": [{"file": str(target)}]},
            "canary": {"tls_config": {"ca_file": "certs/ca.crt"}, "timeout": "5s"},
        }
        promgate = Promgate(tmp_path / "promgate", {"tokens": tokens, "routes": [write_route(base), read]}, elsewhere)
        promgate.port = free_port()
        promgate.base = f"https://127.0.0.1:{promgate.port}"
        promgate.command.append(f"--web.listen-address=127.0.0.1:{promgate.port}")
        promgate.token("create", "agent")
        first = target.read_text()
        with promgate:
            assert not accepts(elsewhere)
            promgate.token("rotate", "agent")
        assert target.read_text() != first
