"""The workshop for exporters: node_exporter demands a client certificate, and promgate in between has one."""

from __future__ import annotations

import ssl
from typing import TYPE_CHECKING

import pytest
import yaml

from tests.kit.fetch import bearer, fetch
from tests.kit.node_exporter import NodeExporter
from tests.kit.process import free_port
from tests.kit.promgate import Promgate, run

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = pytest.mark.real


def test_scraping_an_exporter_that_demands_a_certificate(tmp_path: Path) -> None:
    certs = tmp_path / "certs"
    for words in (
        ["init"],
        ["issue", "prom_node", "--dns=prom_node"],
        ["issue", "promgate", "--dns=promgate", "--client"],
    ):
        done = run("certs", *words, f"--dir={certs}")
        assert done.returncode == 0, done.stderr
    web = tmp_path / "web.yml"
    demands = {
        "cert_file": str(certs / "prom_node.crt"),
        "key_file": str(certs / "prom_node.key"),
        "client_auth_type": "RequireAndVerifyClientCert",
        "client_ca_file": str(certs / "ca.crt"),
    }
    web.write_text(yaml.safe_dump({"tls_server_config": demands}))
    with NodeExporter(tmp_path / "exporter", web) as exporter:
        url = f"https://127.0.0.1:{exporter.port}"
        tls = {
            "ca_file": str(certs / "ca.crt"),
            "server_name": "prom_node",
            "cert_file": str(certs / "promgate.crt"),
            "key_file": str(certs / "promgate.key"),
        }
        with_pair = {"url": [f"https://127.0.0.1:{free_port()}", url], "tls_config": tls, "health_path": "/metrics"}
        without = {"url": url, "tls_config": {key: tls[key] for key in ("ca_file", "server_name")}}
        reading = {"auth": "bearer", "allow": "viewer", "methods": "GET"}
        config = {
            "roles": {"viewer": ["token:prometheus"]},
            "routes": [
                {"name": "node", "path": "/node", "strip_prefix": "true", "upstream": with_pair, **reading},
                {"name": "bare", "path": "/bare", "strip_prefix": "true", "upstream": without, **reading},
            ],
        }
        with Promgate(tmp_path / "promgate", config) as promgate:
            shown = bearer(promgate.token("create", "prometheus", "--kind=reader"))
            answer = fetch(f"{promgate.base}/node/metrics", headers=shown, ca_file=promgate.ca_file)
            assert (answer.status, b"node_load1 " in answer.body) == (200, True)
            refused = fetch(f"{promgate.base}/bare/metrics", headers=shown, ca_file=promgate.ca_file)
            assert refused.status == 502
            assert fetch(f"{promgate.base}/node/metrics", ca_file=promgate.ca_file).status == 401
        with pytest.raises(ssl.SSLError):
            fetch(f"{url}/metrics", ca_file=certs / "ca.crt")
