"""The workshop for exporters, whole: an authority of one's own, a pair for each node, and nobody heard without one.

Prometheus shows its certificate to promgate, which demands it; promgate shows its own to node_exporter, which does too.
"""

from __future__ import annotations

import re
import ssl
import subprocess
import time
from typing import TYPE_CHECKING, Any

import pytest
import yaml

from tests.kit.fetch import answers_ok, bearer, fetch
from tests.kit.node_exporter import NodeExporter
from tests.kit.process import free_port
from tests.kit.prometheus import Receiver
from tests.kit.promgate import Promgate, run
from tests.kit.wait import wait_for

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = pytest.mark.real

REQUIRED = "RequireAndVerifyClientCert"


def _certs(directory: Path, *issues: str) -> Path:
    """An authority, and a pair for each of `issues` (`NAME [OPTION..]`)."""
    for words in ("init", *(f"issue {issue}" for issue in issues)):
        done = run("certs", *words.split(), f"--dir={directory}")
        assert done.returncode == 0, done.stderr
    return directory


def _sign_itself(directory: Path, name: str) -> None:
    """As the usual instructions for exporters have it: P-256, 29,220 days, a common name and nothing else."""
    subprocess.run(
        ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-days", "29220",
         "-nodes", "-subj", f"/commonName={name}", "-keyout", directory / f"{name}.key", "-out",
         directory / f"{name}.crt"],
        check=True,
        capture_output=True,
    )  # fmt: skip


def _pair(certs: Path, name: str) -> dict[str, str]:
    return {"cert_file": str(certs / f"{name}.crt"), "key_file": str(certs / f"{name}.key")}


def _demanding(directory: Path, certs: Path, clients: Path) -> NodeExporter:
    """A node_exporter with the certificate of prom_node that hears whoever `clients` stands for."""
    directory.mkdir()
    web = directory / "web.yml"
    demands = {**_pair(certs, "prom_node"), "client_auth_type": REQUIRED, "client_ca_file": str(clients)}
    web.write_text(yaml.safe_dump({"tls_server_config": demands}))
    return NodeExporter(directory, web)


def _scrape(job: str, port: int, path: str, **tls: str) -> dict[str, Any]:
    return {
        "job_name": job,
        "scrape_interval": "1s",
        "scheme": "https",
        "metrics_path": path,
        "tls_config": tls,
        "static_configs": [{"targets": [f"127.0.0.1:{port}"]}],
    }


def _ends(telemetry: int) -> dict[str, float]:
    """When the certificates of each option end, by the metric."""
    page = fetch(f"http://127.0.0.1:{telemetry}/metrics").body.decode()
    found = re.findall(r'^promgate_certificate_not_after_timestamp_seconds{option="(.*)"} (.*)$', page, re.MULTILINE)
    return {option: float(end) for option, end in found}


def test_scraping_an_exporter_that_demands_a_certificate(tmp_path: Path) -> None:
    certs = _certs(tmp_path / "certs", "prom_node --dns=prom_node", "promgate --dns=promgate --client")
    with _demanding(tmp_path / "exporter", certs, certs / "ca.crt") as exporter:
        url = f"https://127.0.0.1:{exporter.port}"
        trusts = {"ca_file": str(certs / "ca.crt"), "server_name": "prom_node"}
        with_pair = {
            "url": [f"https://127.0.0.1:{free_port()}", url],
            "tls_config": {**trusts, **_pair(certs, "promgate")},
            "health_path": "/metrics",
        }
        without = {"url": url, "tls_config": trusts}
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


@pytest.mark.parametrize("kind", ["issued", "self-signed"])
def test_each_hop_demands_a_certificate(tmp_path: Path, kind: str) -> None:
    """A certificate that signs itself is its own authority, to promgate as to the exporter."""
    certs = _certs(tmp_path / "certs", "prom_node --dns=prom_node", "gate --dns=gate")
    ca_file = clients = certs / "ca.crt"
    if kind == "issued":
        done = run("certs", "issue", "prometheus", "--client", f"--dir={certs}")
        assert done.returncode == 0, done.stderr
    else:
        _sign_itself(certs, "prometheus")
        clients = certs / "prometheus.crt"
    telemetry = free_port()
    with _demanding(tmp_path / "exporter", certs, clients) as exporter:
        upstream = {
            "url": f"https://127.0.0.1:{exporter.port}",
            "tls_config": {"ca_file": str(ca_file), "server_name": "prom_node", **_pair(certs, "prometheus")},
        }
        node = {"name": "node", "path": "/node", "strip_prefix": True, "upstream": upstream}
        config = {
            "tls_server_config": {**_pair(certs, "gate"), "client_auth_type": REQUIRED, "client_ca_file": str(clients)},
            "telemetry": {"listen": f"127.0.0.1:{telemetry}"},
            "roles": {"viewer": ["cert:CN=prometheus"]},
            "routes": [{**node, "auth": ["client_cert"], "allow": ["viewer"]}],
        }
        ready = lambda: answers_ok(f"http://127.0.0.1:{telemetry}/-/ready")  # noqa: E731
        with Promgate(tmp_path / "promgate", config, ready=ready) as promgate:
            wait_for(lambda: len(_ends(telemetry)) == 4, "a look at all certificates")
            ends = _ends(telemetry)
            assert set(ends) == {
                "tls_server_config.cert_file",
                "tls_server_config.client_ca_file",
                "routes[0].upstream.tls_config.ca_file",
                "routes[0].upstream.tls_config.cert_file",
            }
            if kind == "self-signed":
                assert ends["routes[0].upstream.tls_config.cert_file"] > time.time() + 29_000 * 86400
            trusts = {"ca_file": str(ca_file), "server_name": "gate"}
            jobs = [
                _scrape("whole", promgate.port, "/node/metrics", **trusts, **_pair(certs, "prometheus")),
                _scrape("bare", promgate.port, "/node/metrics", **trusts),
                _scrape("direct", exporter.port, "/metrics", ca_file=str(ca_file), server_name="prom_node"),
                _scrape(
                    "node", exporter.port, "/metrics", ca_file=str(ca_file), server_name="prom_node",
                    **_pair(certs, "prometheus"),
                ),
            ]  # fmt: skip
            with Receiver(tmp_path / "prometheus", config={"scrape_configs": jobs}) as prometheus:
                both = 'count(node_load1{job=~"whole|node"})'
                wait_for(lambda: prometheus.value(both) == 2, "the load average, with and without us between")
                wait_for(lambda: prometheus.value('count(up{job=~"bare|direct"} == 0)') == 2, "who shows none")
                assert prometheus.value('min_over_time(up{job="whole"}[1m])') == 1
            promgate.wait_request(lambda line: line["status"] == 200, "a scrape in the access log")
            lines = promgate.requests()
    assert {(line["identity"], line["status"]) for line in lines} == {("cert:CN=prometheus", 200)}


def test_an_authority_is_replaced_under_a_scrape(tmp_path: Path) -> None:
    """Both stand in one file while the pairs are exchanged: no scrape fails, and then the old one opens nothing."""
    old, new = (
        _certs(tmp_path / name, "gate --dns=gate", "prometheus --client") for name in ("old", "new")
    )
    live = tmp_path / "live"
    live.mkdir()
    telemetry = free_port()

    def put(name: str, *sources: Path) -> None:
        fresh = live / "fresh"
        fresh.write_text("".join(source.read_text() for source in sources))
        fresh.chmod(0o600)
        fresh.replace(live / name)

    def put_pair(certs: Path, name: str) -> None:
        for suffix in ("crt", "key"):
            put(f"{name}.{suffix}", certs / f"{name}.{suffix}")

    def loads() -> float:
        page = fetch(f"http://127.0.0.1:{telemetry}/metrics").body.decode()
        name = "promgate_certificate_loads_total "
        return next(float(line.removeprefix(name)) for line in page.splitlines() if line.startswith(name))

    put("ca.crt", old / "ca.crt")
    for name in ("gate", "prometheus"):
        put_pair(old, name)
    with NodeExporter(tmp_path / "exporter") as exporter:
        node = {"name": "node", "path": "/node", "strip_prefix": True, "upstream": f"http://127.0.0.1:{exporter.port}"}
        clients = {"client_auth_type": "VerifyClientCertIfGiven", "client_ca_file": str(live / "ca.crt")}
        config = {
            "tls_server_config": {**_pair(live, "gate"), **clients},
            "telemetry": {"listen": f"127.0.0.1:{telemetry}"},
            "roles": {"viewer": ["cert:CN=prometheus"]},
            "routes": [{**node, "auth": ["client_cert"], "allow": ["viewer"]}],
        }
        ready = lambda: answers_ok(f"http://127.0.0.1:{telemetry}/-/ready")  # noqa: E731
        with Promgate(tmp_path / "promgate", config, ready=ready) as promgate:
            trusts = {"ca_file": str(live / "ca.crt"), "server_name": "gate"}
            jobs = [
                _scrape("moves", promgate.port, "/node/metrics", **trusts, **_pair(live, "prometheus")),
                _scrape("stays", promgate.port, "/node/metrics", **trusts, **_pair(old, "prometheus")),
            ]
            with Receiver(tmp_path / "prometheus", config={"scrape_configs": jobs}) as prometheus:
                wait_for(lambda: prometheus.value("count(up == 1)") == 2, "both to be scraped")
                put("ca.crt", old / "ca.crt", new / "ca.crt")
                wait_for(lambda: loads() == 2, "both authorities")
                put_pair(new, "prometheus")  # read when a connection is opened, and none is
                put_pair(new, "gate")
                wait_for(lambda: loads() == 3, "the pair by the new one")
                put("ca.crt", new / "ca.crt")
                wait_for(lambda: loads() == 4, "the end of the old one")
                wait_for(lambda: prometheus.value('up{job="stays"}') == 0, "the refusal of the old certificate")
                seen = len(prometheus.samples('up{job="moves"}'))
                wait_for(lambda: len(prometheus.samples('up{job="moves"}')) > seen + 1, "two more scrapes")
                assert prometheus.value('min_over_time(up{job="moves"}[1h])') == 1
