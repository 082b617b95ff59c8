"""Real nginx, Caddy, Traefik and Envoy ask promgate about what they relay, by what docs/forward-auth.md has for each.

Clients come from addresses of their own in 127.0.0.0/8; only 127.0.0.1, from where the proxies ask, is trusted.
"""

from __future__ import annotations

import contextlib
import http.client
import json
import re
import ssl
from typing import TYPE_CHECKING

import pytest

from tests.kit.fetch import Answer, ask, basic, bearer
from tests.kit.http_server import HttpServer, Reply, Request
from tests.kit.promgate import ROOT, Promgate
from tests.kit.users import htpasswd, write_private
from tests.kit.wait import wait_for
from tests.kit.web_proxies import Caddy, Envoy, Nginx, Traefik

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

pytestmark = pytest.mark.real

CLIENT = "127.0.0.7"
ANN = basic("ann", "ann")
WRITE = "/api/v1/write"


def _snippet(name: str) -> str:
    """What the page has under this heading."""
    _, _, below = (ROOT / "docs" / "forward-auth.md").read_text().partition(f"\n## {name}\n")
    (found,) = re.findall(r"```[a-z]+\n(.*?)```", below.partition("\n## ")[0], re.DOTALL)
    return str(found)




Proxy = Nginx | Caddy | Traefik | Envoy
_PROXIES: dict[str, type[Proxy]] = {"nginx": Nginx, "Caddy": Caddy, "Traefik": Traefik, "Envoy": Envoy}


class Site:
    """One promgate that is asked, and what the proxies relay to: it answers with the fields that it was sent."""

    def __init__(self, promgate: Promgate, upstream: HttpServer) -> None:
        self.promgate = promgate
        self._upstream = upstream

    def proxy(self, name: str, directory: Path) -> Proxy:
        text = _snippet(name)
        for told, here in (
            ("9443", str(self.promgate.port)),
            ("3000", self._upstream.address.rpartition(":")[2]),
            (f"/etc/{name.lower()}/promgate-ca.crt", str(self.promgate.ca_file)),
        ):
            assert told in text
            text = text.replace(told, here)
        return _PROXIES[name](directory, text)


def _echo(request: Request) -> Reply:
    return Reply(body=json.dumps([request.method, request.path, *map(list, request.headers.items())]).encode())


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    directory = tmp_path_factory.mktemp("forward-auth")
    write_private(directory / "users", htpasswd("ann", "bob"))
    with contextlib.ExitStack() as stack:
        upstream = stack.enter_context(HttpServer(_echo))
        there = f"http://{upstream.address}"
        config = {
            "trusted_proxies": ["127.0.0.1"],
            "forward_auth": {},
            "htpasswd_file": str(directory / "users"),
            "roles": {"viewer": ["basic:ann"], "admin": ["basic:bob"]},
            "tokens": {"overlap_period": "1s", "max_overlap": "1s", "retry_grace": "1h"},
            # Those at one user come from all four proxies.
            "limits": {
                "guesses": {"rate": 1, "interval": "1h", "burst": 4}, "guesses_per_user": {"rate": 1000, "burst": 1000},
            },
            "routes": [
                {"name": "pages", "path": "/", "upstream": there, "auth": ["basic"], "allow": ["viewer", "admin"]},
                {
                    "name": "write", "path": WRITE, "methods": ["POST"], "upstream": there, "kind": "remote_write",
                    "auth": ["write_token"], "allow": ["write"],
                },
            ],
        }  # fmt: skip
        yield Site(stack.enter_context(Promgate(directory / "promgate", config)), upstream)


@pytest.fixture(scope="module", params=list(_PROXIES))
def proxy(request: pytest.FixtureRequest, site: Site, tmp_path_factory: pytest.TempPathFactory) -> Iterator[int]:
    """Its port."""
    with site.proxy(request.param, tmp_path_factory.mktemp(request.param)) as running:
        yield running.port


def _ask(
    port: int, path: str, headers: dict[str, str] | None = None, *, method: str = "GET", client: str = CLIENT
) -> Answer:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=10.0, source_address=(client, 0))
    with contextlib.closing(connection):
        return ask(connection, method, path, headers=headers, body=b"" if method == "POST" else None)


def _client_of(proxy: int, number: int) -> str:
    """An address that no other proxy's clients have."""
    return f"127.{number}.{proxy // 250}.{proxy % 250 + 1}"


def test_who_may_pass_does_and_the_upstream_knows_who_it_is(proxy: int) -> None:
    spoofed = {"X-Promgate-Identity": "basic:bob", "X-Promgate-Roles": "admin"}
    answer = _ask(proxy, "/graph?g0=%2F..%2F&x", {**ANN, **spoofed})
    assert answer.status == 200
    method, path, *fields = json.loads(answer.body)
    told = [(name.lower(), value) for name, value in fields]
    assert (method, path) == ("GET", "/graph?g0=%2F..%2F&x")
    assert [value for name, value in told if name.startswith("x-promgate")] == ["basic:ann", "viewer"]
    assert not [value for name, value in told if name == "authorization"]


def test_who_shows_nothing_is_asked_for_a_password(proxy: int) -> None:
    answer = _ask(proxy, "/graph")
    assert answer.status == 401
    assert answer.headers["WWW-Authenticate"].startswith("Basic ")


def test_who_may_not_does_not(proxy: int) -> None:
    assert _ask(proxy, "/api/v1/status", ANN, method="POST").status == 403
    assert _ask(proxy, "/-/quit", basic("bob", "bob"), method="POST").status == 403
    assert _ask(proxy, WRITE, ANN).status == 405


@pytest.mark.parametrize(
    ("path", "headers"),
    [
        ("/x/../graph", {}),
        ("/x/%2e%2e/graph", {}),
        ("/x%2f..%2fgraph", {}),
        ("//graph", {}),
        # a client says what only its proxy may say
        ("/graph", {"X-Forwarded-Uri": "/", "X-Forwarded-Method": "GET", "X-Original-URL": "/"}),
    ],
)
def test_no_path_is_read_in_two_ways(
    proxy: int, site: Site, path: str, headers: dict[str, str], request: pytest.FixtureRequest
) -> None:
    """It is refused; or the proxy has made another of it (Traefik), or drops what is said (Envoy), before it asks."""
    client = _client_of(proxy, 3)
    answer = _ask(proxy, path, {**ANN, **headers}, client=client)
    if answer.status == 400 or request.node.callspec.params["proxy"] in {"nginx", "Caddy"}:
        assert answer.status == 400
        return
    assert answer.status == 200
    _, relayed, *_ = json.loads(answer.body)
    granted = site.promgate.wait_request(lambda line: (line["client"], line["reason"]) == (client, "granted"), "it")
    assert (relayed, granted["path"]) == ("/graph", "/graph")


@pytest.mark.parametrize(
    "headers",
    [
        {"X-Original-URL": "http://h/public", "X-Original-Method": "GET"},
        {"X-Forwarded-Uri": "/public", "X-Forwarded-Method": "GET"},
        {"X-Forwarded-For": "127.0.0.1", "X-Real-IP": "127.0.0.1"},
        {"X-Forwarded-Host": "other"},
    ],
)
def test_what_a_client_says_of_its_request_lets_nobody_in(proxy: int, headers: dict[str, str]) -> None:
    """What promgate would let pass is a GET; it is a POST that is sent."""
    assert _ask(proxy, "/api/v1/admin", {**ANN, **headers}, method="POST").status in {400, 403}
    assert _ask(proxy, "/graph", headers).status in {400, 401}


def test_a_sender_that_is_held_keeps_its_data(proxy: int, site: Site, request: pytest.FixtureRequest) -> None:
    name = f"agent-{proxy}"
    secret = site.promgate.token("create", name)
    assert _ask(proxy, WRITE, bearer(secret), method="POST").status == 200
    site.promgate.token("rotate", name)
    wait_for(lambda: _ask(proxy, WRITE, bearer(secret), method="POST").status != 200, "the end of the overlap")
    answer = _ask(proxy, WRITE, bearer(secret), method="POST")
    assert answer.status == 503
    if request.node.callspec.params["proxy"] == "Envoy":  # it takes each 5xx for a failure, and answers by itself
        return
    assert 5 <= int(answer.headers["Retry-After"]) <= 30


def test_a_guesser_is_stopped_and_his_neighbours_are_not(proxy: int) -> None:
    guesser, neighbour = _client_of(proxy, 1), _client_of(proxy, 2)
    assert _ask(proxy, "/", ANN, client=guesser).status == 200
    statuses = [_ask(proxy, "/", basic("ann", f"guess{n}"), client=guesser).status for n in range(6)]
    assert statuses[0] == 401
    assert statuses[-1] == 429
    assert _ask(proxy, "/", basic("ann", "guess"), client=neighbour).status == 401
    assert _ask(proxy, "/", ANN, client=guesser).status == 200, "who was let in before is not kept out"


def test_nobody_else_may_ask(site: Site) -> None:
    about = {"X-Original-URL": "http://h/graph", "X-Original-Method": "GET", "X-Forwarded-For": "192.0.2.1", **ANN}
    trust = ssl.create_default_context(cafile=str(site.promgate.ca_file))
    statuses = []
    for client in (CLIENT, "127.0.0.1"):
        connection = http.client.HTTPSConnection(
            "127.0.0.1", site.promgate.port, timeout=10.0, source_address=(client, 0), context=trust
        )
        with contextlib.closing(connection):
            statuses.append(ask(connection, "GET", "/-/auth", headers=about).status)
    assert statuses == [403, 200]
    site.promgate.wait_request(lambda line: line["reason"] == "not_a_proxy" and line["client"] == CLIENT, "the refusal")
    granted = site.promgate.wait_request(lambda line: line["client"] == "192.0.2.1", "the grant")
    seen = [granted[key] for key in ("reason", "path", "route", "identity")]
    assert seen == ["granted", "/graph", "pages", "basic:ann"]
