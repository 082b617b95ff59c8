"""Reloads under load: nobody notices one, a bad one least of all."""

from __future__ import annotations

import http.client
import os
import signal
import time
from functools import partial
from threading import Event, Thread
from typing import TYPE_CHECKING, Any

import pytest
import yaml

from tests.kit.fetch import ask, connect, fetch
from tests.kit.http_server import HttpServer, Reply
from tests.kit.promgate import Promgate
from tests.kit.wait import wait_for

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

RELOADS = 20
EACH_S = 0.5
CLIENTS = 4


@pytest.fixture
def upstream() -> Iterator[str]:
    with HttpServer(lambda _: Reply(body=b"ok")) as server:
        yield server.base


def _open_route(upstream: str, name: str = "open", path: str = "/open") -> dict[str, Any]:
    return {"name": name, "path": path, "upstream": upstream, "auth": ["none"]}


def _put(promgate: Promgate, text: str) -> None:
    fresh = promgate.config_file.with_suffix(".new")
    fresh.write_text(text)
    fresh.replace(promgate.config_file)


class _Client:
    """One kept-alive connection that asks without a pause; what went wrong is kept."""

    def __init__(self, promgate: Promgate, stop: Event) -> None:
        self.served = 0
        self.failures: list[str] = []
        self._connection = connect(promgate.base, ca_file=promgate.ca_file)
        self._stop = stop
        self._thread = Thread(target=self._run)
        self._thread.start()

    def _run(self) -> None:
        while not self._stop.is_set():
            try:
                answer = ask(self._connection, "GET", "/open/x")
            except (OSError, http.client.HTTPException) as failure:
                self.failures.append(repr(failure))
                return
            if answer.status != 200:
                self.failures.append(str(answer.status))
            self.served += 1
            time.sleep(0.002)  # some hundred requests a second in all: the machine is shared

    def join(self) -> None:
        self._thread.join()
        self._connection.close()


def test_ten_seconds_of_reloads_under_load(tmp_path: Path, upstream: str) -> None:
    """R5, C2. No request fails, on busy connections or on ones that were idle all the while."""
    with Promgate(tmp_path / "promgate", {"routes": [_open_route(upstream)]}) as promgate:
        idle = [connect(promgate.base, ca_file=promgate.ca_file) for _ in range(8)]
        assert {ask(connection, "GET", "/open/x").status for connection in idle} == {200}
        first = yaml.safe_load(promgate.config_file.read_text())
        second = {**first, "timeouts": {"idle": "6m"}, "routes": [*first["routes"], _open_route(upstream, "b", "/b")]}
        stop = Event()
        clients = [_Client(promgate, stop) for _ in range(CLIENTS)]
        for turn in range(RELOADS):
            _put(promgate, yaml.safe_dump(first if turn % 2 else second))
            os.kill(promgate.pid, signal.SIGHUP)
            time.sleep(EACH_S)
            assert fetch(f"{promgate.base}/b", ca_file=promgate.ca_file).status == (404 if turn % 2 else 200)
        stop.set()
        for client in clients:
            client.join()
        assert [client.failures for client in clients] == [[]] * CLIENTS
        assert all(client.served > RELOADS for client in clients)
        assert {ask(connection, "GET", "/open/x").status for connection in idle} == {200}
        for connection in idle:
            connection.close()
        assert promgate.log.count(" taken: ") == RELOADS


BAD = [
    "",
    "routes: []\n",
    "- a list\n",
    "routes: [\n",
    "\tversion: 1\n",
    "version: 2\n",
    "nonsense: true\n",
    "listen: nowhere\n",
    "timeouts: {idle: never}\n",
    "*nobody\n",
    "${env:NO_SUCH_VARIABLE}\n",
    "a: 1\na: 2\n",
    "--- {}\n--- {}\n",
    "!!python/object:os.system {}\n",
    "routes: {}\n",
    "reload: {watch: perhaps}\n",
    "tls_server_config: {cert_file: no.crt, key_file: no.key}\n",
    "\ufeffversion: 1\n",
    "insecure_plaintext: [true]\n",
    "routes: [{name: x}]\n",
]


def _refused(promgate: Promgate, times: int) -> bool:
    return promgate.log.count("was not taken") >= times


def test_twenty_bad_ones_in_a_row(tmp_path: Path, upstream: str) -> None:
    """R6, C1. Each is refused in one line, and the old one serves; the file is watched, nobody has to ask."""
    config = {"routes": [_open_route(upstream)], "reload": {"watch": True}}
    with Promgate(tmp_path / "promgate", config) as promgate:
        good = promgate.config_file.read_text()
        connection = connect(promgate.base, ca_file=promgate.ca_file)
        for turn, bad in enumerate(BAD, 1):
            _put(promgate, bad)
            os.kill(promgate.pid, signal.SIGHUP)
            wait_for(partial(_refused, promgate, turn), f"the refusal of {bad!r}")
            assert ask(connection, "GET", "/open/x").status == 200
        assert promgate.log.count("was not taken") == len(BAD)
        assert " taken: " not in promgate.log
        _put(promgate, good.replace("/open", "/opened"))
        wait_for(lambda: ask(connection, "GET", "/opened/x").status == 200, "the good one, without being asked for")
        assert ask(connection, "GET", "/open/x").status == 404
        connection.close()


def test_what_needs_a_restart_is_said(tmp_path: Path, upstream: str) -> None:
    with Promgate(tmp_path / "promgate", {"routes": [_open_route(upstream)]}) as promgate:
        config = yaml.safe_load(promgate.config_file.read_text())
        config["listen"].append("127.0.0.1:0")
        config["access_log"]["format"] = "logfmt"
        _put(promgate, yaml.safe_dump(config))
        os.kill(promgate.pid, signal.SIGHUP)
        wait_for(lambda: "listen, access_log: not before a restart" in promgate.log, "the word on it")
