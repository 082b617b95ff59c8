"""The ready-made roles against the real endpoints: what a role promises is what Prometheus and Alertmanager then do."""

from __future__ import annotations

import json
import os
import signal
from typing import TYPE_CHECKING

import pytest

from tests.kit.alertmanager import Alertmanager
from tests.kit.fetch import Answer, basic, bearer, fetch
from tests.kit.prometheus import Receiver
from tests.kit.promgate import Promgate, write_route
from tests.kit.remote_write import HEADERS, build_body
from tests.kit.users import htpasswd, write_private
from tests.kit.wait import wait_for

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = pytest.mark.real

SILENCE = {
    "matchers": [{"name": "alertname", "value": "Noise", "isRegex": False, "isEqual": True}],
    "startsAt": "2020-01-01T00:00:00Z",
    "endsAt": "2090-01-01T00:00:00Z",
    "createdBy": "test",
    "comment": "test",
}
ALERTS = [{"labels": {"alertname": "Noise"}}]
USERS = ("viewer", "silencer", "notifier", "admin")


def ask(promgate: Promgate, user: str, method: str, path: str, body: object = None) -> Answer:
    headers = {"Content-Type": "application/json"}
    if user:
        headers |= basic(user, user)
    sent = None if body is None else json.dumps(body).encode()
    url = f"{promgate.base}/alertmanager{path}"
    return fetch(url, method=method, body=sent, headers=headers, ca_file=promgate.ca_file)


def route_to(alertmanager: Alertmanager, allow: list[str], **more: object) -> dict[str, object]:
    upstream = f"http://127.0.0.1:{alertmanager.port}"
    return {
        "name": "alertmanager", "path": "/alertmanager", "upstream": upstream, "auth": ["basic"], "allow": allow, **more
    }  # fmt: skip


def test_roles_of_alertmanager(tmp_path: Path) -> None:
    directory = tmp_path / "promgate"
    write_private(directory / "users", htpasswd(*USERS))
    with Alertmanager(tmp_path / "am") as alertmanager:
        route = route_to(alertmanager, list(USERS), exempt=["/-/ready"])
        config = {"htpasswd_file": "users", "roles": {user: [f"basic:{user}"] for user in USERS}, "routes": [route]}
        with Promgate(directory, config) as promgate:
            assert ask(promgate, "", "GET", "/-/ready").status == 200
            assert ask(promgate, "", "GET", "/api/v2/status").status == 401
            posted = {user: ask(promgate, user, "POST", "/api/v2/alerts", ALERTS).status for user in USERS}
            assert posted == {"viewer": 403, "silencer": 403, "notifier": 200, "admin": 200}
            seen = {user: ask(promgate, user, "GET", "/api/v2/alerts").status for user in USERS}
            assert seen == {"viewer": 200, "silencer": 200, "notifier": 403, "admin": 200}
            made = {user: ask(promgate, user, "POST", "/api/v2/silences", SILENCE) for user in USERS}
            assert {user: answer.status for user, answer in made.items()} == {
                "viewer": 403, "silencer": 200, "notifier": 403, "admin": 200
            }  # fmt: skip
            of_admin, own = (json.loads(made[user].body)["silenceID"] for user in ("admin", "silencer"))
            assert ask(promgate, "viewer", "DELETE", f"/api/v2/silence/{own}").status == 403
            assert ask(promgate, "silencer", "DELETE", f"/api/v2/silence/{own}").status == 200
            assert ask(promgate, "silencer", "DELETE", f"/api/v2/silence/{of_admin}").status == 200
            assert ask(promgate, "admin", "POST", "/-/reload").status == 403  # closed, whoever asks


def test_a_reloader_beside_promgate_needs_no_credential(tmp_path: Path) -> None:
    directory = tmp_path / "promgate"
    write_private(directory / "users", htpasswd("admin"))
    with Alertmanager(tmp_path / "am") as alertmanager:
        exempt = {"path": "/-/reload", "methods": ["POST"], "allow_from": ["127.0.0.1"]}
        route = route_to(alertmanager, ["admin"], unblock=["/-/reload"], exempt=[exempt])
        config = {"htpasswd_file": "users", "roles": {"admin": ["basic:admin"]}, "routes": [route]}
        with Promgate(directory, config) as promgate:

            def reload(**headers: str) -> int:
                url = f"{promgate.base}/alertmanager/-/reload"
                return fetch(url, method="POST", headers=headers, ca_file=promgate.ca_file).status

            assert reload() == 200
            assert reload(**{"X-Forwarded-For": "127.0.0.1"}) == 401  # a proxy on this machine passed it on
            assert ask(promgate, "", "POST", "/api/v2/alerts", ALERTS).status == 401
            assert "trusted_proxies" not in promgate.log
            for _ in range(2):  # who is let in by its credential tells of its proxy, which nobody named
                assert reload(**{"X-Forwarded-For": "192.0.2.1"}, **basic("admin", "admin")) == 200
            hint = "127.0.0.1 passes requests on (X-Forwarded-For), and trusted_proxies is empty"
            wait_for(lambda: promgate.log.count(hint) == 1, "the hint")


def test_sighup_reads_the_htpasswd_file_again(tmp_path: Path) -> None:
    directory = tmp_path / "promgate"
    write_private(directory / "users", htpasswd("admin"))
    with Alertmanager(tmp_path / "am") as alertmanager:
        route = route_to(alertmanager, ["viewer"])
        config = {"htpasswd_file": "users", "roles": {"viewer": ["basic:admin"]}, "routes": [route]}
        with Promgate(directory, config) as promgate:

            def status() -> int:
                return ask(promgate, "admin", "GET", "/api/v2/status").status

            assert status() == 200
            changed = htpasswd("other").replace("other:", "admin:")
            write_private(directory / "users", changed)
            os.kill(promgate.pid, signal.SIGHUP)
            wait_for(lambda: status() == 401, "the old password to end")
            write_private(directory / "users", "admin:$apr1$abcdefgh$0123456789012345678901\n")
            os.kill(promgate.pid, signal.SIGHUP)
            wait_for(lambda: "users:1: admin: <secret>" in promgate.log, "the refusal")
            assert status() == 401  # the last good file goes on


def test_a_token_and_a_role_within_their_networks(tmp_path: Path) -> None:
    """Told from the address that a trusted proxy has seen. A sender from elsewhere keeps its data: 503."""
    directory = tmp_path / "promgate"
    write_private(directory / "users", htpasswd("both"))
    with Receiver(tmp_path / "receiver") as receiver:
        upstream = f"http://127.0.0.1:{receiver.port}"
        pages = {"name": "pages", "path": "/prometheus", "upstream": upstream, "auth": ["basic"]}
        config = {
            "htpasswd_file": "users",
            "trusted_proxies": ["127.0.0.1"],
            "roles": {"viewer": ["basic:both"], "admin": ["basic:both"]},
            "allowed_sources": {"token:agent": "10.0.0.0/8", "role:admin": "10.0.0.0/8"},
            "routes": [write_route(upstream), {**pages, "allow": ["viewer", "admin"], "identity_headers": True}],
        }
        with Promgate(directory, config) as promgate:
            secret = promgate.token("create", "agent")

            def write(address: str) -> Answer:
                headers = {**HEADERS, **bearer(secret), "X-Forwarded-For": address}
                body = build_body("sent", 1.0)
                return fetch(promgate.write_url, method="POST", body=body, headers=headers, ca_file=promgate.ca_file)

            def read(method: str, address: str) -> int:
                headers = {**basic("both", "both"), "X-Forwarded-For": address}
                url = f"{promgate.base}/prometheus/api/v1/rules"
                return fetch(url, method=method, headers=headers, ca_file=promgate.ca_file).status

            outside, inside = write("192.0.2.1"), write("10.1.1.1")
            assert (outside.status, inside.status) == (503, 204)
            assert b"10." not in outside.body
            assert (read("GET", "192.0.2.1"), read("PUT", "192.0.2.1")) == (200, 403)
            assert read("PUT", "10.1.1.1") == 405  # Prometheus' own word: it was let through
