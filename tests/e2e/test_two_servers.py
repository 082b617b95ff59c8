"""Two servers on one store, as in a rolling restart: each is told what changes, and each is asked what it has seen.

The hammer: a leaked token in a fast hand, 500 requests a second at each server on several connections. What counts is
when a request began, by this process' clock, against the moment at which `revoke` had returned: 100 ms at the server
that was told, a second at the other one.
"""

from __future__ import annotations

import json
import os
import signal
import threading
from contextlib import ExitStack, contextmanager
from functools import partial
from time import monotonic, sleep
from typing import TYPE_CHECKING, NamedTuple

import pytest

from tests.kit.fetch import ask, basic, bearer, connect, fetch
from tests.kit.http_server import HttpServer, Reply
from tests.kit.promgate import WRITE_PATH, Promgate, write_route
from tests.kit.users import htpasswd, write_private
from tests.kit.wait import wait_for

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

pytestmark = pytest.mark.real

CONNECTIONS, EACH_S = 4, 4 / 500
#: By the server that was told, and by any other one on the store.
PROMISED_S = {"told": 0.1, "other": 1.0}
ROUNDS = 2
#: Let in before, and asked on for so long after, or nothing is shown.
BEFORE, AFTER_S = 50, 1.5


class Shot(NamedTuple):
    """One request: when it began, when its answer was there, and which."""

    began: float
    ended: float
    status: int


class Site(NamedTuple):
    """`told` serves the admin API, and `other` the same store."""

    told: Promgate
    other: Promgate

    def revoke_by_cli(self, name: str) -> None:
        self.told.token("revoke", name)

    def revoke_by_api(self, name: str) -> None:
        url = f"{self.told.base}/-/api/v1/tokens/{name}/revoke"
        headers = basic("root", "root") | {"Content-Type": "application/json"}
        body = b"{}"
        answer = fetch(url, method="POST", body=body, headers=headers, ca_file=self.told.ca_file)
        assert answer.status == 200, answer.body


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    directory = tmp_path_factory.mktemp("hammer")
    for name in ("told", "other"):
        write_private(directory / name / "users", htpasswd("root"))
    with HttpServer(lambda _: Reply(204)) as receiver, ExitStack() as stack:
        config = {
            "console": {},
            "htpasswd_file": "users",
            "roles": {"admin": ["basic:root"]},
            "tokens": {"store": f"sqlite:///{directory}/told/promgate.db"},
            "routes": [write_route(receiver.base)],
        }
        yield Site(*(stack.enter_context(Promgate(directory / name, config)) for name in ("told", "other")))


@pytest.mark.parametrize("revoke", [Site.revoke_by_api, Site.revoke_by_cli], ids=["api", "cli"])
def test_a_revoked_token_opens_no_door_later_than_is_promised(
    site: Site, revoke: Callable[[Site, str], None], request: pytest.FixtureRequest
) -> None:
    for number in range(ROUNDS):
        name = f"{request.node.callspec.id}-{number}"
        secret = site.told.token("create", name)
        with _hammering(site.told, secret) as told, _hammering(site.other, secret) as other:
            _wait(told, other, lambda shots: sum(shot.status == 204 for shot in shots) >= BEFORE)
            revoke(site, name)
            returned_at = monotonic()
            _wait(told, other, partial(_has_begun_after, returned_at + AFTER_S))
        for server, shots in (("told", told), ("other", other)):
            late = max(shot.began for shot in shots if shot.status == 204) - returned_at
            # A machine that did not run the server at all for a while kept its poll waiting, too.
            stall = max(shot.ended - shot.began for shot in shots if shot.ended > returned_at)
            allowed = PROMISED_S[server] + (stall if server == "other" else 0.0)
            assert late <= allowed, f"{server}: let in {late:.3f} s after the revocation, slowest {stall:.3f} s"
            assert {shot.status for shot in shots if shot.began > returned_at + allowed} == {401}


def _wait(told: list[Shot], other: list[Shot], holds: Callable[[list[Shot]], bool]) -> None:
    wait_for(lambda: holds(told) and holds(other), "enough requests at both servers")


def _has_begun_after(at: float, shots: list[Shot]) -> bool:
    return any(shot.began > at for shot in shots)


def _push(promgate: Promgate, secret: str) -> int:
    headers = bearer(secret)
    return fetch(promgate.write_url, method="POST", body=b"x", headers=headers, ca_file=promgate.ca_file).status


def _status(site: Site, name: str) -> tuple[str, str]:
    told = json.loads(site.told.token("status", name, "--output=json"))
    return told["verdict"], told["reason"]


def test_a_status_knows_what_either_server_has_seen_until_now_or_says_wait(site: Site) -> None:
    old = site.told.token("create", "rolling")
    assert _push(site.told, old) == _push(site.other, old) == 204
    fresh = site.told.token("rotate", "rolling")
    assert _push(site.told, fresh) == 204
    for _ in range(3):  # each sight is a later one, which is written by the minute, unless somebody asks
        assert _push(site.other, old) == 204
        requests = json.loads(site.other.token("status", "rolling", "--output=json"))["stragglers"][0]["requests"]
    assert requests == 5
    os.kill(site.other.pid, signal.SIGSTOP)
    try:
        verdict, reason = _status(site, "rolling")
    finally:
        os.kill(site.other.pid, signal.SIGCONT)
    assert verdict == "WAIT"
    assert "did not answer within" in reason


@contextmanager
def _hammering(promgate: Promgate, secret: str) -> Iterator[list[Shot]]:
    """Requests at an even pace, with no pause after a slow one until it is made up for."""
    over, shots = threading.Event(), list[Shot]()

    def keep_asking() -> None:
        connection, next_at = connect(promgate.base, ca_file=promgate.ca_file), monotonic()
        while not over.is_set():
            began = monotonic()
            answer = ask(connection, "POST", WRITE_PATH, body=b"x", headers=bearer(secret))
            shots.append(Shot(began, monotonic(), answer.status))
            next_at = max(next_at + EACH_S, began - 1.0)
            sleep(max(0.0, next_at - monotonic()))
        connection.close()

    threads = [threading.Thread(target=keep_asking) for _ in range(CONNECTIONS)]
    for thread in threads:
        thread.start()
    try:
        yield shots
    finally:
        over.set()
        for thread in threads:
            thread.join()
