"""A flood of logins with wrong passwords: whoever is known goes on as before, from the flood's own address too."""

from __future__ import annotations

import statistics
import time
from threading import Event, Thread
from typing import TYPE_CHECKING

import bcrypt
import pytest

from tests.kit.fetch import ask, basic, bearer, connect
from tests.kit.http_server import HttpServer, Reply
from tests.kit.promgate import Promgate
from tests.kit.wait import wait_for

if TYPE_CHECKING:
    from pathlib import Path

FLOOD = 8
REQUESTS = 200
PATH = "/prometheus/api/v1/labels"
#: So dear that a loop that waited for one hash could not be taken for one that did not.
COST = 12


class _Flooder:
    """One kept-alive connection that tries one password after the other."""

    def __init__(self, promgate: Promgate, number: int, stop: Event) -> None:
        self.statuses: set[int] = set()
        self.tries = 0
        self._number = number
        self._stop = stop
        self._connection = connect(promgate.base, ca_file=promgate.ca_file, timeout_s=60.0)
        self._thread = Thread(target=self._run)
        self._thread.start()

    def _run(self) -> None:
        while not self._stop.is_set():
            shown = basic("ann", f"wrong-{self._number}-{self.tries}")
            self.statuses.add(ask(self._connection, "GET", PATH, headers=shown).status)
            self.tries += 1
        self._connection.close()

    def join(self) -> None:
        self._thread.join()


@pytest.mark.parametrize("limited", [False, True], ids=["every guess is hashed", "guesses are limited"])
def test_a_flood_of_logins_slows_nobody_who_is_known(tmp_path: Path, *, limited: bool) -> None:
    hashed = bcrypt.hashpw(b"right", bcrypt.gensalt(COST))
    began = time.perf_counter()
    bcrypt.checkpw(b"wrong", hashed)
    hash_s = time.perf_counter() - began
    generous = {"rate": 1_000_000, "interval": "1s", "burst": 1_000_000}
    with HttpServer(lambda _: Reply(body=b"ok")) as upstream:
        config = {
            "basic_auth_users": {"ann": hashed.decode()},
            "roles": {"viewer": ["basic:ann", "token:reader"]},
            "limits": {} if limited else {"guesses": generous, "guesses_per_user": generous},
            "routes": [
                {
                    "name": "read",
                    "path": "/prometheus",
                    "upstream": upstream.base,
                    "auth": ["basic", "bearer"],
                    "allow": ["viewer"],
                }
            ],
        }
        with Promgate(tmp_path / "promgate", config) as promgate:
            reader = bearer(promgate.token("create", "reader", "--kind=reader"))
            connection = connect(promgate.base, ca_file=promgate.ca_file, timeout_s=60.0)
            known = (basic("ann", "right"), reader)
            assert [ask(connection, "GET", PATH, headers=shown).status for shown in known] == [200, 200]
            stop = Event()
            flood = [_Flooder(promgate, number, stop) for number in range(FLOOD)]
            wait_for(lambda: all(one.tries > 1 for one in flood), "the flood", timeout_s=60.0)
            took_s = []
            for number in range(REQUESTS):
                began = time.perf_counter()
                assert ask(connection, "GET", PATH, headers=known[number % 2]).status == 200
                took_s.append(time.perf_counter() - began)
            stop.set()
            for one in flood:
                one.join()
            connection.close()
    assert set().union(*(one.statuses for one in flood)) <= {401, 429, 503}
    assert statistics.median(took_s) < hash_s / 4, (statistics.median(took_s), hash_s)
