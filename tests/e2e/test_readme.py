"""README.md walked from its first command to its last, in its order and by its own words, before a real Prometheus.

What is changed of it: where things lie, the ports, and that promgate is the one of this tree and not installed.
"""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
from typing import TYPE_CHECKING, Any

import pytest
import yaml

from tests.kit.counter import CounterTarget, losses, wait_stored
from tests.kit.process import Process, free_port
from tests.kit.prometheus import Agent, Receiver
from tests.kit.promgate import ROOT, environment, token_id
from tests.kit.wait import wait_for

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = pytest.mark.real

OK = 200
HOST = "prometheus.example.net"
README = (ROOT / "README.md").read_text()
BLOCKS = re.findall(r"^```(\w*)\n(.*?)^```", README, re.DOTALL | re.MULTILINE)
COMMANDS = [line for kind, block in BLOCKS if not kind for line in block.splitlines()]
YAML = [block for kind, block in BLOCKS if kind == "yaml"]


class Walk:
    """Somebody at a shell, in a directory of their own, with `promgate` on their path."""

    def __init__(self, directory: Path, receiver: Receiver) -> None:
        self.directory = directory
        self.etc, self.var = directory / "etc", directory / "var"
        for made in (self.etc, self.var, directory / "bin"):
            made.mkdir(mode=0o700)
        self.port = free_port()
        self._moved = {
            "/etc/prometheus/": f"{self.etc}/",
            "/var/lib/promgate/": f"{self.var}/",
            "0.0.0.0:9443": f"127.0.0.1:{self.port}",
            "http://127.0.0.1:9090": f"http://127.0.0.1:{receiver.port}",
        }
        program = directory / "bin" / "promgate"
        program.write_text(f'#!/bin/sh\nexec {sys.executable} -m proxy "$@"\n')
        program.chmod(0o700)
        self.config = directory / "promgate.yml"
        self.env = environment() | {
            "PATH": f"{directory / 'bin'}:{os.environ['PATH']}",
            "PROMGATE_CONFIG_FILE": str(self.config),
        }
        self.walked: list[str] = []

    def moved(self, text: str) -> str:
        for written, here in self._moved.items():
            text = text.replace(written, here)
        return text

    def line(self, beginning: str) -> str:
        """The one command of the page that begins so."""
        (found,) = {line for line in COMMANDS if line.startswith(beginning)}
        self.walked.append(found)
        return self.moved(found)

    def run(self, beginning: str, given: str | None = None) -> tuple[str, str]:
        """Run it as it stands there, its comment and all; stdout and stderr."""
        return self.type(self.line(beginning), given)

    def type(self, line: str, given: str | None = None) -> tuple[str, str]:
        where: Any = {"cwd": self.directory, "env": self.env, "timeout": 60}
        done = subprocess.run(["bash", "-c", line], input=given, capture_output=True, text=True, check=False, **where)
        assert done.returncode == 0, f"{line}\n{done.stderr}"
        return done.stdout, done.stderr

    def curl(self, *words: str) -> int:
        """What a client of the public name is answered; 0 where it is not."""
        quiet = ["curl", "--silent", "--output", "/dev/null", "--write-out", "%{http_code}"]
        there = ["--cacert", "certs/ca.crt", "--connect-to", f"{HOST}:443:127.0.0.1:{self.port}"]
        command = [*quiet, *there, *words]
        return int(subprocess.run(command, cwd=self.directory, capture_output=True, text=True, check=False).stdout)

    def is_served(self) -> bool:
        return self.curl(f"https://{HOST}/-/healthy") == OK

    def states(self) -> dict[str, str]:
        shown, _ = self.type("promgate token show agent --output=json")
        return {row["id"]: row["state"] for row in json.loads(shown)}


def test_the_readme_is_walked(tmp_path: Path) -> None:
    with Receiver(tmp_path / "receiver") as receiver:
        walk = Walk(tmp_path, receiver)
        _make(walk)
        serving = walk.line("promgate serve").split(" #")[0]
        command = ["sh", "-c", f"cd {tmp_path} && exec {serving}"]
        with Process(command, tmp_path / "serve.log", walk.is_served, env=walk.env) as serve:
            walk.run("(umask 077; promgate token create agent")
            token = tmp_path / "agent.token"
            assert token.stat().st_mode & 0o777 == 0o600
            with CounterTarget() as target, _agent(walk, target.address, token) as agent:
                _print_the_next(walk, token, serve)
                _deliver_the_next(walk, token, serve)
                wait_stored(receiver, target.served + 1, timeout_s=60)
                assert losses(receiver) == []
                assert agent.given_up == 0
                _end(walk, token)
    _nothing_was_left_out(walk)


def _make(walk: Walk) -> None:
    """Certificates, hashes, and the file; then what is said of it before it serves."""
    walk.run("promgate certs init")
    made, _ = walk.run("promgate certs issue")
    assert [line.rpartition("/")[2] for line in made.split()] == ["server.crt", "server.key"]
    written = walk.moved(YAML[0])
    hashing = walk.line("promgate hash-password")
    for user in ("admin", "ann"):
        hashed, _ = walk.type(hashing, f"password of {user}\n")
        written = written.replace("$2b$10$...", hashed.strip(), 1)
    walk.config.write_text(written)
    said, _ = walk.run("promgate check")
    assert "ok, 2 routes" in said
    told, _ = walk.run("promgate explain")
    assert "prometheus" in told
    assert "viewer" in told


def _agent(walk: Walk, target: str, token: Path) -> Agent:
    """With what the page has for the sender, but for its port and the name that nobody resolves here."""
    (remote,) = yaml.safe_load(YAML[1])["remote_write"]
    assert set(remote) == {"url", "authorization", "tls_config"}
    assert set(remote["authorization"]) == {"credentials_file"}
    return Agent(
        walk.directory / "agent",
        target=target,
        url=remote["url"].replace(f"https://{HOST}/", f"https://127.0.0.1:{walk.port}/"),
        credentials_file=token,
        ca_file=walk.directory / "certs" / "ca.crt",
        tls={"server_name": HOST},
    )


def _print_the_next(walk: Walk, token: Path, serve: Process) -> None:
    """Without targets: a rotation prints, and `status` and `finish` tell of its end."""
    query = f"https://{HOST}/prometheus/api/v1/query?query=up"
    assert walk.curl("--user", "ann:password of ann", query) == 200
    assert walk.curl(query) == 401
    first = token.read_text().strip()
    _wait_sent(serve, first, 4)  # how often it comes is known then, and how soon it is missed
    walk.run("(umask 077; promgate token rotate agent > agent.token.new)")
    second = token.read_text().strip()
    assert second != first
    assert token.stat().st_mode & 0o777 == 0o600
    _wait_sent(serve, second)
    status = re.search(r"`(promgate token status agent)`", README)
    finish = re.search(r"`(promgate token finish agent)`", README)
    assert status is not None
    assert finish is not None
    wait_for(lambda: "SAFE" in walk.type(status[1])[0], "the verdict that it may end", timeout_s=120)
    walk.type(finish[1])
    assert walk.states() == {token_id(first): "retired", token_id(second): "current"}


def _deliver_the_next(walk: Walk, token: Path, serve: Process) -> None:
    """With a target: the file is replaced for whoever reads it; back, and again; and away with one that leaked."""
    config, delivered = yaml.safe_load(walk.config.read_text()), yaml.safe_load(walk.moved(YAML[2]))
    (walk.etc / "agent.token").symlink_to(token)
    config["tokens"] |= delivered["tokens"]
    walk.config.write_text(yaml.safe_dump(config))
    assert "`kill -HUP`" in README
    os.kill(serve.pid, signal.SIGHUP)
    wait_for(lambda: " taken: " in serve.log, "the changed configuration")

    second = token.read_text().strip()
    walk.run("promgate token rotate agent      #")
    third = token.read_text().strip()
    assert third != second
    _wait_sent(serve, third)
    walk.run("promgate token rollback agent")
    states = walk.states()
    assert (states[token_id(second)], states[token_id(third)]) == ("current", "previous")
    walk.run("promgate token rotate agent      #")
    leaked = token.read_text().strip()
    _wait_sent(serve, leaked)
    _, said = walk.run("promgate token revoke --leaked", f"{leaked}\n")
    assert f"token {token_id(leaked)} leaked and is revoked" in said
    assert "Prometheus/" in said, "and you see who used it"
    last = token.read_text().strip()
    assert walk.states()[token_id(leaked)] == "revoked"
    assert walk.states()[token_id(last)] == "current"
    _wait_sent(serve, last)
    listed, _ = walk.type("promgate token list")
    assert "agent" in listed


def _end(walk: Walk, token: Path) -> None:
    walk.type("promgate token revoke agent")
    assert set(walk.states().values()) <= {"revoked", "retired"}
    write = ["--request", "POST", "--header", f"Authorization: Bearer {token.read_text().strip()}"]
    assert walk.curl(*write, f"https://{HOST}/prometheus/api/v1/write") == 401


def _wait_sent(serve: Process, secret: str, times: int = 1) -> None:
    """By the access log, which goes to stderr beside the log."""
    one = f"token={token_id(secret)}"

    def sent() -> int:
        return sum(one in line and "status=204" in line for line in serve.log.splitlines())

    wait_for(lambda: sent() >= times, f"{times} deliveries with token {token_id(secret)}")


def _nothing_was_left_out(walk: Walk) -> None:
    """But for make, pip and the environment, which other tests and the machine see to."""
    left = {line for line in COMMANDS if line.strip()} - set(walk.walked)
    elsewhere = ("make ", "python3 -m venv", "/opt/promgate/bin/pip", "export PATH=", "WAIT: ")
    assert {line for line in left if not line.startswith(elsewhere)} == set()
