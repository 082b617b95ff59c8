"""The admin API of a real server with a real store: what it mints is taken at once, and what it revokes is not."""

from __future__ import annotations

import json
import os
import signal
import sqlite3
import threading
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import yaml

from tests.kit.fetch import Answer, basic, bearer, fetch
from tests.kit.http_server import HttpServer, Reply
from tests.kit.promgate import Promgate, write_route
from tests.kit.users import htpasswd, write_private
from tests.kit.wait import wait_for

if TYPE_CHECKING:
    from collections.abc import Iterator

API = "/-/api/v1"
JSON = {"Content-Type": "application/json"}


class Site:
    """promgate before a receiver that takes everything, and its admin."""

    def __init__(self, promgate: Promgate) -> None:
        self.promgate = promgate

    def ask(self, method: str, path: str, said: object = None, user: str = "root") -> Answer:
        headers = basic(user, user) | (JSON if said is not None else {})
        body = None if said is None else json.dumps(said).encode()
        return fetch(
            self.promgate.base + API + path, method=method, body=body, headers=headers, ca_file=self.promgate.ca_file
        )

    def told(self, method: str, path: str, said: object = None) -> dict[str, Any]:
        answer = self.ask(method, path, said)
        assert answer.status in {200, 201}, answer.body
        told: dict[str, Any] = json.loads(answer.body)
        return told

    def push(self, token: str) -> int:
        return fetch(
            self.promgate.write_url, method="POST", body=b"x", headers=bearer(token), ca_file=self.promgate.ca_file
        ).status


@pytest.fixture
def site(tmp_path: Path) -> Iterator[Site]:
    write_private(tmp_path / "promgate" / "users", htpasswd("root", "ann"))
    with HttpServer(lambda _: Reply(204)) as receiver:
        config = {
            "console": {},
            "htpasswd_file": "users",
            "roles": {"admin": ["basic:root"], "viewer": ["basic:ann"]},
            "tokens": {"overlap_period": "10m", "deliver": {"filed": [{"file": str(tmp_path / "filed.token")}]}},
            "routes": [write_route(receiver.base)],
        }
        with Promgate(tmp_path / "promgate", config) as promgate:
            yield Site(promgate)


def test_what_it_does_counts_from_its_answer_on(site: Site) -> None:
    first = site.told("POST", "/tokens", {"name": "agent"})
    assert site.push(first["secret"]) < 300
    second = site.told("POST", "/tokens/agent/rotate", {})
    assert site.push(second["secret"]) < 300
    assert site.push(first["secret"]) < 300, "the overlap"
    site.told("POST", "/tokens/agent/revoke", {"token": first["token"]})
    assert site.push(first["secret"]) == 401
    assert site.push(second["secret"]) < 300
    listed = json.loads(site.promgate.token("show", "agent", "--output=json"))
    assert [row["state"] for row in listed] == ["revoked", "current"], "the command line sees the same store"
    assert site.ask("POST", "/tokens", {"name": "x"}, user="ann").status == 403
    store = site.promgate.config_file.parent / "promgate.db"
    for secret in (first["secret"], second["secret"]):
        assert secret.encode() not in store.read_bytes()
        assert secret not in (site.promgate.config_file.parent / "promgate.log").read_text()


def test_a_command_and_the_api_at_once_are_one_rotation(site: Site, tmp_path: Path) -> None:
    """K8: whoever is second is told so, and nothing is minted twice."""
    site.told("POST", "/tokens", {"name": "filed"})
    results: list[int] = []
    threads = [
        threading.Thread(target=lambda: results.append(site.ask("POST", "/tokens/filed/rotate", {}).status))
        for _ in range(4)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert results.count(200) >= 1
    assert set(results) <= {200, 409}
    rows = json.loads(site.promgate.token("show", "filed", "--output=json"))
    assert len(rows) == 1 + results.count(200)
    assert [row["state"] for row in rows].count("current") == 1
    assert site.push((tmp_path / "filed.token").read_text().strip()) < 300


def test_a_store_that_is_locked_holds_nobody_else_up(site: Site) -> None:
    """K3: a change waits its three seconds in a thread and says why; the loop goes on."""
    token = site.told("POST", "/tokens", {"name": "agent"})["secret"]
    store = sqlite3.connect(site.promgate.config_file.parent / "promgate.db", isolation_level=None)
    store.execute("BEGIN IMMEDIATE")
    answers: list[Answer] = []
    waiting = threading.Thread(target=lambda: answers.append(site.ask("POST", "/tokens/agent/rotate", {})))
    waiting.start()
    pushes = 0
    while waiting.is_alive() and pushes < 20:
        assert site.push(token) < 300
        pushes += 1
    waiting.join()
    store.execute("ROLLBACK")
    store.close()
    assert pushes >= 1
    assert answers[0].status == 503
    assert b"locked" in answers[0].body
    assert site.ask("POST", "/tokens/agent/rotate", {}).status == 200


def test_a_foreign_host_is_not_answered_until_it_is_named(site: Site) -> None:
    """G4. The name is the operator's to give: `console.hosts`, taken by a reload."""
    url, ca_file = site.promgate.base + API + "/tokens", site.promgate.ca_file
    named = basic("root", "root") | {"Host": "noc.example.net"}
    assert fetch(url, headers=named, ca_file=ca_file).status == 421
    written = yaml.safe_load(site.promgate.config_file.read_text())
    written["console"]["hosts"] = ["noc.example.net"]
    site.promgate.config_file.write_text(yaml.safe_dump(written))
    os.kill(site.promgate.pid, signal.SIGHUP)
    wait_for(lambda: fetch(url, headers=named, ca_file=ca_file).status == 200, "the new name")


def test_console_and_renewal_begin_with_a_reload_and_nobody_is_told_502(tmp_path: Path) -> None:
    """They cost memory where they are not used, so nothing of them is there before; then all of it is, at once."""
    write_private(tmp_path / "promgate" / "users", htpasswd("root"))
    with HttpServer(lambda _: Reply(204)) as receiver:
        config: dict[str, Any] = {
            "htpasswd_file": "users",
            "roles": {"admin": ["basic:root"]},
            "tokens": {},
            "routes": [write_route(receiver.base)],
        }
        with Promgate(tmp_path / "promgate", config) as promgate:
            token = promgate.token("create", "agent")
            written = yaml.safe_load(promgate.config_file.read_text())
            seen: list[tuple[int, int, int]] = []

            def look() -> tuple[int, int, int]:
                ca_file, root = promgate.ca_file, basic("root", "root")
                renewed = fetch(f"{promgate.base}{API}/renew", method="POST", headers=bearer(token), ca_file=ca_file)
                listed = fetch(f"{promgate.base}{API}/tokens", headers=root, ca_file=ca_file)
                shown = fetch(f"{promgate.base}/-/console", headers=root, ca_file=ca_file)
                seen.append((renewed.status, listed.status, shown.status))
                return seen[-1]

            def take(**sections: Any) -> None:
                fresh = promgate.config_file.with_suffix(".new")
                fresh.write_text(yaml.safe_dump(written | sections))
                fresh.replace(promgate.config_file)
                os.kill(promgate.pid, signal.SIGHUP)

            assert look() == (404, 404, 404)
            assert not _has_loaded(promgate, "aiohttp")
            tokens = written["tokens"] | {"senders": {"agent": "one"}}
            take(tokens=tokens)
            wait_for(lambda: look() == (204, 404, 404), "renewal")
            take(tokens=tokens, console={})
            wait_for(lambda: look() == (204, 200, 200), "the console")
            take(console={})
            wait_for(lambda: look()[0] == 403, "the end of renewal: the API takes no write token")
            take()
            wait_for(lambda: look() == (404, 404, 404), "the end of the console")
            take(console={})
            wait_for(lambda: look()[1:] == (200, 200), "the console again")
            assert {status for each in seen for status in each} <= {200, 204, 403, 404}


def _has_loaded(promgate: Promgate, package: str) -> bool:
    """Whether a compiled part of it is mapped into the process."""
    return f"/{package}/" in Path(f"/proc/{promgate.pid}/maps").read_text()
