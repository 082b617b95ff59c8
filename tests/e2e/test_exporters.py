"""A real node_exporter that only promgate reaches, scraped through it by a real Prometheus."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from tests.kit.fetch import basic, fetch
from tests.kit.node_exporter import NodeExporter
from tests.kit.prometheus import Receiver
from tests.kit.promgate import Promgate, deliver
from tests.kit.users import htpasswd, write_private
from tests.kit.wait import wait_for

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

pytestmark = pytest.mark.real


@pytest.fixture(scope="module")
def promgate(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Promgate]:
    """With a node_exporter at /node, for the token `scraper` and the user `scraper`, its password the same."""
    directory = tmp_path_factory.mktemp("exporter")
    write_private(directory / "promgate" / "users", htpasswd("scraper", "stranger"))
    with NodeExporter(directory / "node") as exporter:
        route = {
            "name": "node",
            "path": "/node",
            "strip_prefix": True,
            "upstream": f"http://127.0.0.1:{exporter.port}",
            "auth": ["bearer", "basic"],
            "allow": ["viewer"],
        }
        roles = {"viewer": ["token:scraper", "basic:scraper"]}
        with Promgate(directory / "promgate", {"htpasswd_file": "users", "roles": roles, "routes": [route]}) as made:
            yield made


def _scraping(promgate: Promgate, directory: Path, **shown: Any) -> Receiver:
    scrapes = {
        "scheme": "https",
        "metrics_path": "/node/metrics",
        "tls_config": {"ca_file": str(promgate.ca_file)},
        "static_configs": [{"targets": [f"127.0.0.1:{promgate.port}"]}],
        **shown,
    }
    return Receiver(directory / "prometheus", scrapes=scrapes)


@pytest.mark.parametrize("kind", ["bearer", "basic"])
def test_it_is_scraped(promgate: Promgate, tmp_path: Path, kind: str) -> None:
    secret_file = tmp_path / "secret"
    if kind == "bearer":
        deliver(promgate.token("create", "scraper", "--kind=reader"), secret_file)
        shown: dict[str, Any] = {"authorization": {"credentials_file": str(secret_file)}}
    else:
        deliver("scraper", secret_file)
        shown = {"basic_auth": {"username": "scraper", "password_file": str(secret_file)}}
    with _scraping(promgate, tmp_path, **shown) as prometheus:
        wait_for(lambda: prometheus.value("up") == 1, "a scrape")
        wait_for(lambda: prometheus.value("node_load1") is not None, "the load average")
        deliver("wrong", secret_file)  # read again with each scrape
        wait_for(lambda: prometheus.value("up") == 0, "the refusal of a wrong secret")
    identity = {"bearer": "token:scraper", "basic": "basic:scraper"}[kind]
    lines = [line for line in promgate.requests() if "Prometheus/" in line["agent"] and line["identity"] == identity]
    assert {(line["path"], line["status"]) for line in lines} == {("/node/metrics", 200)}


def test_nobody_else_sees_it(promgate: Promgate) -> None:
    url = f"{promgate.base}/node/metrics"
    assert fetch(url, ca_file=promgate.ca_file).status == 401
    assert fetch(url, headers=basic("scraper", "x"), ca_file=promgate.ca_file).status == 401
    assert fetch(url, headers=basic("stranger", "stranger"), ca_file=promgate.ca_file).status == 403
    page = fetch(url, headers=basic("scraper", "scraper"), ca_file=promgate.ca_file)
    assert b"\nnode_load1 " in page.body
