"""Reloads under load: nobody notices one, a bad one least of all."""

from __future__ import annotations

import http.client
import os
import re
import signal
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
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

    from tests.kit.http_server import Request

#: `make soak`: a minute of reloads, at 500 requests a second or more.
SOAK = bool(os.environ.get("PROMGATE_SOAK"))
RELOADS = 120 if SOAK else 16
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


def test_reloads_under_load(tmp_path: Path, upstream: str) -> None:
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
        if SOAK:
            assert sum(client.served for client in clients) >= 500 * RELOADS * EACH_S
        assert {ask(connection, "GET", "/open/x").status for connection in idle} == {200}
        for connection in idle:
            connection.close()
        assert promgate.log.count("promgate.yml taken: ") == RELOADS


FIXTURES = Path(__file__).parents[1] / "config" / "testdata"
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


def _refusals(promgate: Promgate) -> list[str]:
    return [line for line in promgate.log.splitlines() if "was not taken" in line]


def test_a_hundred_bad_ones_in_a_row(tmp_path: Path, upstream: str) -> None:
    """R6, C1. Each is refused in one line that names lines of it, and the old one serves; nobody has to ask."""
    config = {"routes": [_open_route(upstream)], "reload": {"watch": True}}
    bad = [*BAD, *(path.read_text("utf-8") for path in sorted(FIXTURES.glob("*.bad.yml")))]
    assert len(bad) > 100
    with Promgate(tmp_path / "promgate", config) as promgate:
        good = promgate.config_file.read_text()
        connection = connect(promgate.base, ca_file=promgate.ca_file)
        for turn, text in enumerate(bad, 1):
            _put(promgate, text)
            os.kill(promgate.pid, signal.SIGHUP)
            wait_for(lambda turn=turn: len(_refusals(promgate)) >= turn, f"the refusal of {text!r}")  # type: ignore[misc]
            assert ask(connection, "GET", "/open/x").status == 200
        refusals = _refusals(promgate)
        assert len(refusals) == len(bad)
        assert [line for line in refusals if not re.search(r"promgate\.yml:[1-9][0-9]*: ", line)] == []
        assert "promgate.yml taken: " not in promgate.log
        _put(promgate, good.replace("/open", "/opened"))
        wait_for(lambda: ask(connection, "GET", "/opened/x").status == 200, "the good one, without being asked for")
        assert ask(connection, "GET", "/open/x").status == 404
        connection.close()


def test_a_config_map_is_swapped_under_way(tmp_path: Path, upstream: str) -> None:
    """As the kubelet does it: the file is a link through `..data`, and only `..data` is replaced."""
    promgate = Promgate(tmp_path / "promgate", {"routes": [_open_route(upstream)], "reload": {"watch": True}})
    first = yaml.safe_load(promgate.config_file.read_text())
    directory = promgate.config_file.parent
    for name, path in (("..1", "/open"), ("..2", "/opened")):
        (directory / name).mkdir()
        text = yaml.safe_dump({**first, "routes": [_open_route(upstream, path=path)]})
        (directory / name / promgate.config_file.name).write_text(text)
    (directory / "..data").symlink_to("..1")
    promgate.config_file.unlink()
    promgate.config_file.symlink_to(f"..data/{promgate.config_file.name}")
    with promgate:
        connection = connect(promgate.base, ca_file=promgate.ca_file)
        assert ask(connection, "GET", "/open/x").status == 200
        (directory / "..data_tmp").symlink_to("..2")
        (directory / "..data_tmp").rename(directory / "..data")
        wait_for(lambda: ask(connection, "GET", "/opened/x").status == 200, "the other configuration")
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


def test_who_waits_for_a_provider_that_a_reload_replaces_gets_an_answer(tmp_path: Path, upstream: str) -> None:
    """Once its connection was left open, without any answer."""
    asked, release = Event(), Event()

    def hang(_: Request) -> Reply:
        asked.set()
        release.wait(60)
        return Reply(500)

    with HttpServer(hang) as provider:
        introspection = {"url": f"{provider.base}/i", "audience": "promgate", "client_id": "a", "client_secret": "b"}
        route = {"name": "it", "path": "/", "upstream": upstream, "auth": "introspection", "allow": "viewer"}
        roles = {"viewer": "introspection:client_id=agent"}
        config = {"introspection": introspection, "roles": roles, "routes": [route]}
        with Promgate(tmp_path, config) as promgate, ThreadPoolExecutor(1) as beside:
            shown = {"Authorization": "Bearer opaque"}
            waiting = beside.submit(fetch, f"{promgate.base}/x", headers=shown, ca_file=promgate.ca_file, timeout_s=60)
            try:
                assert asked.wait(60)
                _put(promgate, promgate.config_file.read_text().replace(f"{provider.base}/i", f"{provider.base}/moved"))
                os.kill(promgate.pid, signal.SIGHUP)
                answer = waiting.result(60)
            finally:
                release.set()
            assert (answer.status, "Retry-After" in answer.headers) == (503, True)
