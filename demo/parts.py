"""The demo's programs, their files and secrets: built here, started in order, ended together."""

from __future__ import annotations

import contextlib
import secrets
import shutil
import socket
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml

from tests.kit.alertmanager import Alertmanager
from tests.kit.counter import CounterTarget
from tests.kit.process import free_port
from tests.kit.prometheus import Agent, Receiver
from tests.kit.promgate import COMMAND, Promgate, deliver, environment, write_route

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.kit.process import Process

PORT = 9443
COUNTER = "demo_scrapes_total"
OVERLAP_S = 30
#: All of them together, after which the rest is killed: the demo ends within 5 s.
_STOP_S = 2.0


class Parts:
    """Everything of one run. `directory` is 0700, what is secret in it 0600."""

    def __init__(self, directory: Path, port: int) -> None:
        self.password_file = directory / "admin.password"
        self.token_file = directory / "agent.token"
        self.ca_file = directory / "ca.crt"
        self.amtool_file = directory / "amtool.yml"
        self.target = CounterTarget(COUNTER)
        self.receiver = Receiver(directory / "receiver")
        self.alertmanager = Alertmanager(directory / "alertmanager")
        deliver(secrets.token_urlsafe(18), self.password_file)
        self.promgate = Promgate(directory / "promgate", self._config(), port)
        shutil.copy(self.promgate.ca_file, self.ca_file)
        deliver(self.promgate.token("create", "agent"), self.token_file)
        user = {"username": "admin", "password_file": str(self.password_file)}
        trust = {"ca_file": str(self.ca_file)}
        self.amtool_file.write_text(yaml.safe_dump({"basic_auth": user, "tls_config": trust}))
        self.agent = Agent(
            directory / "agent",
            target=self.target.address,
            url=self.promgate.write_url,
            credentials_file=self.token_file,
            ca_file=self.ca_file,
        )
        self.python = Path(sys.prefix) / "bin" / "python"
        self.url = f"https://localhost:{self.promgate.port}"
        self.programs: dict[str, Process] = {
            "Prometheus (receiver)": self.receiver,
            "Alertmanager": self.alertmanager,
            "promgate": self.promgate,
            "Prometheus agent": self.agent,
        }

    def start(self) -> Iterator[str]:
        """Start one after the other; the name of each once it is ready. RuntimeError with its log when one is not."""
        self.target.__enter__()
        for name, program in self.programs.items():
            program.start()
            yield name

    def dead(self) -> str | None:
        """The name of a program that ended by itself."""
        return next((name for name, program in self.programs.items() if not program.running), None)

    def stop(self) -> None:
        """End all of them. The scrape target's thread ends with the process."""
        running = [program for program in self.programs.values() if program.running]
        for program in running:
            program.ask_to_end()
        deadline = time.monotonic() + _STOP_S
        for program in running:
            program.stop(max(0.0, deadline - time.monotonic()))

    def _config(self) -> dict[str, Any]:
        hashed = subprocess.run(
            [*COMMAND, "hash-password"],
            input=self.password_file.read_bytes(),
            capture_output=True,
            check=True,
            env=environment(),
        )
        prometheus = f"http://127.0.0.1:{self.receiver.port}"
        alertmanager = f"http://127.0.0.1:{self.alertmanager.port}"
        return {
            "basic_auth_users": {"admin": hashed.stdout.decode().strip()},
            "roles": {"admin": ["basic:admin"], "viewer": ["token:grafana"]},
            "tokens": {"overlap_period": f"{OVERLAP_S}s"},
            "timeouts": {"drain": "1s"},
            "routes": [
                write_route(prometheus),
                {
                    "name": "prometheus",
                    "path": "/prometheus",
                    "upstream": prometheus,
                    "auth": ["basic", "bearer"],
                    "allow": ["viewer", "admin"],
                },
                {
                    "name": "alertmanager",
                    "path": "/alertmanager",
                    "upstream": alertmanager,
                    "auth": ["basic"],
                    "allow": ["viewer", "admin"],
                },
            ],
        }


def choose_port(friendly: int = PORT) -> int:
    """The friendly one if nobody listens there on either address of localhost, else a free one."""
    for host in ("127.0.0.1", "::1"):
        with contextlib.suppress(OSError), socket.create_connection((host, friendly), timeout=1.0):
            return free_port()
    return friendly
