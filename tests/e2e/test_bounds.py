"""Goals that are figures: memory for many addresses and idle connections, a drain and an outage under load.

Each is held in seconds here; with PROMGATE_SOAK=1 (`make soak`) at its full size.
"""

from __future__ import annotations

import http.client
import os
import resource
import signal
import subprocess
import sys
import time
from pathlib import Path
from threading import Event, Thread
from typing import TYPE_CHECKING, Any

import pytest

from tests.kit.fetch import ask, bearer, connect
from tests.kit.http_server import HttpServer, Reply
from tests.kit.process import Process, accepts, free_port
from tests.kit.promgate import ROOT, Promgate, environment, write_route
from tests.kit.wait import wait_for

if TYPE_CHECKING:
    from collections.abc import Iterator

SOAK = bool(os.environ.get("PROMGATE_SOAK"))
ADDRESSES = 1_000_000 if SOAK else 100_000
IDLE = 10_000 if SOAK else 400
OUTAGE_S = 2.5 if SOAK else 0.5
CLIENTS = 8
#: In a drain, who has not sent for so long is between requests, and is closed.
LAST_CALL_S = 0.4


@pytest.fixture
def upstream() -> Iterator[str]:
    with HttpServer(lambda _: Reply(body=b"ok")) as server:
        yield server.base


def _open_route(upstream: str) -> dict[str, Any]:
    return {"name": "open", "path": "/open", "upstream": upstream, "auth": ["none"]}


def test_many_addresses_take_little_memory() -> None:
    """D2. Each asks an open route, guesses a password at a user of its own, and shows a token that nobody knows."""
    command = [sys.executable, "-m", "tests.e2e.addresses", str(ADDRESSES)]
    done = subprocess.run(command, cwd=ROOT, env=environment(), capture_output=True, text=True, check=True)
    assert float(done.stdout) < 50


def _rss_mib(promgate: Promgate) -> float:
    rollup = Path(f"/proc/{promgate.pid}/smaps_rollup").read_text().splitlines()
    return int(next(line for line in rollup if line.startswith("Rss:")).split()[1]) / 1024


def test_idle_connections_take_little_memory_and_give_it_back(tmp_path: Path, upstream: str) -> None:
    """R8. TLS; each has had an answer. 10,000 of them fit into 500 MiB, and a second 10,000 take no more."""
    resource.setrlimit(resource.RLIMIT_NOFILE, (resource.getrlimit(resource.RLIMIT_NOFILE)[1],) * 2)
    config = {"routes": [_open_route(upstream)], "limits": {"max_connections_per_ip": 2 * IDLE}}
    with Promgate(tmp_path / "promgate", config) as promgate:
        base, rounds = _rss_mib(promgate), []
        for _ in range(2):
            held = []
            for _ in range(IDLE):
                connection = connect(promgate.base, ca_file=promgate.ca_file)
                assert ask(connection, "GET", "/-/healthy").status == 200
                held.append(connection)
            rounds.append(_rss_mib(promgate))
            times = []
            for _ in range(100):
                since = time.perf_counter()
                assert ask(held[0], "GET", "/open/x").status == 200
                times.append(time.perf_counter() - since)
            for connection in held:
                connection.close()
        assert (rounds[0] - base) * 1024 / IDLE < 45  # KiB each: 500 MiB less the process itself, in 10,000 parts
        assert rounds[1] < 1.1 * rounds[0]
        if SOAK:
            assert sorted(times)[-2] < 0.05


class _Sender:
    """One kept-alive connection that sends without a pause until it is told to close, or `stop` is set."""

    def __init__(self, promgate: Promgate, path: str, stop: Event, token: str = "") -> None:
        self.statuses: list[int] = []
        self.broken: list[str] = []
        self._connection = connect(promgate.base, ca_file=promgate.ca_file, timeout_s=30.0)
        self._path, self._stop, self._token = path, stop, token
        self._thread = Thread(target=self._run)
        self._thread.start()

    def _run(self) -> None:
        method, body = ("POST", bytes(2000)) if self._token else ("GET", None)
        headers = bearer(self._token) if self._token else {}
        answered_at = time.monotonic()
        while not self._stop.is_set():
            try:
                answer = ask(self._connection, method, self._path, body=body, headers=headers)
            except (OSError, http.client.HTTPException) as failure:
                if time.monotonic() - answered_at < LAST_CALL_S:  # else this thread had no turn: it was idle
                    self.broken.append(repr(failure))
                return
            answered_at = time.monotonic()
            self.statuses.append(answer.status)
            if answer.headers.get("Connection") == "close" and answer.status == 200:
                return

    def join(self) -> None:
        self._thread.join()
        self._connection.close()


def test_sigterm_under_load_breaks_nothing(tmp_path: Path, upstream: str) -> None:
    """R15. Whoever sends is told that this was the last answer, and gets it whole; exit code 0."""
    with Promgate(tmp_path / "promgate", {"routes": [_open_route(upstream)]}) as promgate:
        stop = Event()
        senders = [_Sender(promgate, "/open/x", stop) for _ in range(CLIENTS)]
        wait_for(lambda: all(len(sender.statuses) > 20 for sender in senders), "a load")
        os.kill(promgate.pid, signal.SIGTERM)
        for sender in senders:
            sender.join()
        assert [sender.broken for sender in senders] == [[]] * CLIENTS
        assert {status for sender in senders for status in sender.statuses} == {200}
        assert promgate.stop(timeout_s=30.0) == 0
        assert "stopped, 0 connections cut" in promgate.log


def test_an_upstream_that_is_down_under_load_costs_few_writes(tmp_path: Path) -> None:
    """R7. Killed, and back before the time to connect is over: under 1 % of writes are told 5xx."""
    port, stop = free_port(), Event()
    command = [sys.executable, "-m", "tests.e2e.taking", str(port)]
    upstream = Process(command, tmp_path / "upstream.log", lambda: accepts(port), env=environment())
    config = {"routes": [write_route(f"http://127.0.0.1:{port}")], "timeouts": {"connect": "3s" if SOAK else "10s"}}
    with upstream, Promgate(tmp_path / "promgate", config) as promgate:
        token = promgate.token("create", "agent")
        senders = [_Sender(promgate, "/prometheus/api/v1/write", stop, token) for _ in range(CLIENTS)]

        def taken() -> int:
            return sum(sender.statuses.count(204) for sender in senders)

        try:
            wait_for(lambda: taken() > 1000, "writes before the outage", timeout_s=60.0)
            upstream.kill()
            time.sleep(OUTAGE_S)  # what is tested is how long it is away
            upstream.start()
            before = taken()
            wait_for(lambda: taken() > before + 1000, "writes after it", timeout_s=60.0)
        finally:
            stop.set()
            for sender in senders:
                sender.join()
        assert [sender.broken for sender in senders] == [[]] * CLIENTS
        statuses = [status for sender in senders for status in sender.statuses]
        failed = [status for status in statuses if status != 204]
        assert set(failed) <= {502, 503, 504}
        assert len(failed) < 0.01 * len(statuses)
