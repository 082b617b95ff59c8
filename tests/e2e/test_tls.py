"""The listener of a running promgate, as a scanner sees it, and as its certificate is replaced."""

from __future__ import annotations

import ssl
from typing import TYPE_CHECKING

import pytest

from proxy.pki.certificates import POLL_S
from tests.kit.fetch import fetch
from tests.kit.http_server import HttpServer, Reply
from tests.kit.process import free_port
from tests.kit.promgate import Promgate, run
from tests.kit.sslyze import scan
from tests.kit.wait import wait_for

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

pytestmark = pytest.mark.real


@pytest.fixture(scope="module")
def telemetry() -> int:
    return free_port()


@pytest.fixture(scope="module")
def promgate(tmp_path_factory: pytest.TempPathFactory, telemetry: int) -> Iterator[Promgate]:
    with HttpServer(lambda _: Reply(body=b"ok")) as upstream:
        config = {
            "telemetry": {"listen": f"127.0.0.1:{telemetry}"},
            "routes": [{"name": "open", "path": "/open", "upstream": upstream.base, "auth": ["none"]}],
        }
        with Promgate(tmp_path_factory.mktemp("tls"), config) as made:
            yield made


def test_a_scanner_finds_the_profile_of_mozilla(promgate: Promgate, tmp_path: Path) -> None:
    """T1, T2, T8: Mozilla's intermediate profile; its ciphers for certificates like ours, and its groups less P-384."""
    departures, results = scan(promgate.port, promgate.ca_file, tmp_path / "scan.json")
    assert departures == []

    def ciphers(version: str) -> set[str]:
        accepted = results[f"{version}_cipher_suites"]["result"]["accepted_cipher_suites"]
        return {one["cipher_suite"]["name"] for one in accepted}

    assert [ciphers(version) for version in ("ssl_2_0", "ssl_3_0", "tls_1_0", "tls_1_1")] == [set()] * 4
    assert ciphers("tls_1_2") == {
        "TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256",
        "TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384",
        "TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256",
    }
    curves = results["elliptic_curves"]["result"]["supported_curves"]
    assert {curve["name"] for curve in curves} == {"X25519", "secp256r1"}
    assert results["tls_compression"]["result"] == {"supports_compression": False}
    assert results["session_renegotiation"]["result"] == {
        "supports_secure_renegotiation": True,
        "is_vulnerable_to_client_renegotiation_dos": False,
        "client_renegotiations_success_count": 0,
    }


def test_a_new_pair_is_served_and_a_bad_one_is_not(promgate: Promgate, telemetry: int) -> None:
    """T6: within five seconds, which are three looks; a bad pair raises a metric and nothing else."""
    certs = promgate.ca_file.parent
    issue = ["certs", "issue", "localhost", "--dns=localhost", "--ip=127.0.0.1", f"--dir={certs}", "--force"]

    def served() -> str:
        return ssl.get_server_certificate(("127.0.0.1", promgate.port), ca_certs=str(promgate.ca_file))

    def metric(name: str) -> float:
        page = fetch(f"http://127.0.0.1:{telemetry}/metrics").body.decode()
        return next(float(line.split()[1]) for line in page.splitlines() if line.startswith(f"{name} "))

    assert 3 * POLL_S <= 5.0
    first = served()
    assert run(*issue).returncode == 0
    second = wait_for(lambda: (now := served()) != first and now, "the new certificate")
    assert metric("promgate_certificate_reload_failed") == 0
    (certs / "localhost.key").write_text("no key")
    wait_for(lambda: metric("promgate_certificate_reload_failed") == 1, "the bad pair in the metrics")
    assert served() == second
    assert run(*issue).returncode == 0
    wait_for(lambda: metric("promgate_certificate_reload_failed") == 0, "the end of the trouble")
    assert served() not in {first, second}
