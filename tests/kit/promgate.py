"""promgate as its users run it: a config file, a directory of its own, the command line; nothing of it is imported."""

from __future__ import annotations

import copy
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml

from tests.kit.fetch import answers_ok
from tests.kit.process import Process, free_port
from tests.kit.wait import wait_for

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

ROOT = Path(__file__).resolve().parents[2]
COMMAND = [sys.executable, "-m", "proxy"]
WRITE_PATH = "/prometheus/api/v1/write"


def run(*arguments: str, timeout_s: float = 60.0) -> subprocess.CompletedProcess[str]:
    """`promgate ARGUMENTS`, in a process of its own."""
    return subprocess.run(
        [*COMMAND, *arguments], capture_output=True, text=True, timeout=timeout_s, env=environment(), check=False
    )


def environment() -> dict[str, str]:
    """Ours, with the working tree first on the path, so that it is never an installed promgate that is tested."""
    return {**os.environ, "PYTHONPATH": str(ROOT)}


def write_route(upstream: str) -> dict[str, Any]:
    """The remote-write route to a receiver (`http://host:port`)."""
    return {
        "name": "remote-write",
        "path": WRITE_PATH,
        "methods": ["POST"],
        "upstream": upstream,
        "kind": "remote_write",
        "auth": ["write_token"],
        "allow": ["write"],
    }


class Promgate(Process):
    """One promgate speaking TLS with a certificate of its own CA (`ca_file`), on a free port unless `port` is given.

    `config` is merged over what every test wants; certificates, store and access log lie in `directory`.
    Tokens may be made before it is started. `ready` says when it serves, where it hears nobody without a certificate.
    """

    def __init__(
        self,
        directory: Path,
        config: Mapping[str, Any],
        port: int | None = None,
        *,
        ready: Callable[[], bool] | None = None,
    ) -> None:
        directory.mkdir(parents=True, exist_ok=True)
        self.port = port or free_port()
        self.base = f"https://127.0.0.1:{self.port}"
        self.write_url = self.base + WRITE_PATH
        self.config_file = directory / "promgate.yml"
        self._access_log = directory / "access.log"
        self.ca_file = make_certificates(directory / "certs")
        merged: dict[str, Any] = {
            "version": 1,
            "listen": [f"127.0.0.1:{self.port}"],
            "tls_server_config": {"cert_file": "certs/localhost.crt", "key_file": "certs/localhost.key"},
            "tokens": {},
            "access_log": {"file": str(self._access_log), "format": "json"},
            **copy.deepcopy(dict(config)),
        }
        merged["tokens"].setdefault("store", "sqlite:///promgate.db")
        self.config_file.write_text(yaml.safe_dump(merged))
        super().__init__(
            [*COMMAND, "serve", f"--config.file={self.config_file}"],
            directory / "promgate.log",
            ready or (lambda: answers_ok(f"{self.base}/-/healthy", self.ca_file)),
            env=environment(),
        )

    def token(self, *arguments: str) -> str:
        """`promgate token ARGUMENTS` on this store: what it printed, the secret where one was minted."""
        done = run("token", *arguments, f"--config.file={self.config_file}")
        if done.returncode != 0:
            raise RuntimeError(f"promgate token {' '.join(arguments)} ended with {done.returncode}: {done.stderr}")
        return done.stdout.strip()

    def requests(self) -> list[dict[str, Any]]:
        """The access log so far. A kill may have cut its last line."""
        if not self._access_log.exists():
            return []
        whole, _, _ = self._access_log.read_text().rpartition("\n")
        return [json.loads(line) for line in whole.splitlines()]

    def wait_request(self, matches: Callable[[dict[str, Any]], bool], what: str) -> dict[str, Any]:
        """The first line of the access log that matches, as soon as it is there."""
        return wait_for(lambda: next(filter(matches, self.requests()), None), what)


def make_certificates(directory: Path) -> Path:
    """A CA of its own and a certificate for localhost and 127.0.0.1, by `promgate certs`; the CA's file."""
    for arguments in (["init"], ["issue", "localhost", "--dns=localhost", "--ip=127.0.0.1"]):
        done = run("certs", *arguments, f"--dir={directory}")
        if done.returncode != 0:
            raise RuntimeError(f"promgate certs {arguments[0]} ended with {done.returncode}: {done.stderr}")
    return directory / "ca.crt"


def issue_client(directory: Path, name: str) -> None:
    """NAME.crt and NAME.key for a client, of the authority in `directory`."""
    done = run("certs", "issue", name, "--client", f"--dir={directory}")
    if done.returncode != 0:
        raise RuntimeError(f"promgate certs issue ended with {done.returncode}: {done.stderr}")


def token_id(secret: str) -> str:
    """The public part of a token: pgw_ID_SECRET."""
    return secret.split("_")[1]


def deliver(secret: str, file: Path) -> None:
    """Put a secret where a sender reads it, whole or not at all: a sender drops a batch for an empty file."""
    fresh = file.with_suffix(".new")
    fresh.touch(mode=0o600)
    fresh.write_text(secret + "\n")
    fresh.replace(file)
