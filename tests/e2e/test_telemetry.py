"""promgate watched by a real Prometheus, which also stores what passes through it."""

from __future__ import annotations

import os
import re
import signal
import subprocess
from pathlib import Path

import pytest

from tests.kit.fetch import Answer, bearer, connect, fetch
from tests.kit.http_server import HttpServer, Reply
from tests.kit.process import free_port
from tests.kit.prometheus import Receiver
from tests.kit.promgate import Promgate, token_id, write_route
from tests.kit.remote_write import HEADERS, build_body
from tests.kit.wait import wait_for
from tests.login.issuer import Issuer

pytestmark = pytest.mark.real

DOCS = Path(__file__).parents[2] / "docs" / "metrics.md"
WRITES = 7


OF_OTHER_PARTS = ("promgate_audit_", "promgate_sessions", "promgate_logins_")


def _watched(directory: Path, upstream: str, telemetry: int, provider: str = "http://127.0.0.1:9") -> Promgate:
    """`provider` shows keys at any path."""
    return Promgate(
        directory,
        {
            "jwt": {"issuer": "https://idp", "audience": "promgate", "jwks_url": f"{provider}/keys"},
            "introspection": {"url": f"{provider}/i", "audience": "a", "client_id": "b", "client_secret": "c"},
            "telemetry": {"listen": f"127.0.0.1:{telemetry}"},
            "tokens": {"overlap_period": "1ms", "retry_grace": "1h"},
            "routes": [write_route(upstream)],
        },
    )


def _write(promgate: Promgate, secret: str) -> int:
    body, headers = build_body("by_hand", 1.0), HEADERS | bearer(secret)
    return fetch(promgate.write_url, method="POST", body=body, headers=headers, ca_file=promgate.ca_file).status


def _page(telemetry: int) -> str:
    return fetch(f"http://127.0.0.1:{telemetry}/metrics").body.decode()


def _ready(telemetry: int) -> Answer:
    return fetch(f"http://127.0.0.1:{telemetry}/-/ready")


def test_a_real_prometheus_scrapes_it_and_counts_right(tmp_path: Path) -> None:
    telemetry = free_port()
    keys = Issuer().jwks().encode()
    with (
        HttpServer(lambda _: Reply(200, keys, "application/json")) as provider,
        Receiver(tmp_path / "receiver", scrapes=f"127.0.0.1:{telemetry}") as receiver,
    ):
        promgate = _watched(tmp_path / "promgate", f"http://127.0.0.1:{receiver.port}", telemetry, provider.base)
        secret = promgate.token("create", "agent")
        with promgate:
            wait_for(lambda: receiver.value('up{job="scraped"}') == 1, "a first scrape")
            for _ in range(WRITES):
                assert _write(promgate, secret) == 204
            for _ in range(2):
                assert _write(promgate, "pgw_nobody") == 401
            fresh = promgate.token("rotate", "agent")
            assert _write(promgate, fresh) == 204
            assert _write(promgate, secret) == 503

            total = 'promgate_requests_total{route="remote-write",'
            wait_for(lambda: receiver.value(total + 'reason="ok",code="204"}') == WRITES + 1, "the writes")
            wait_for(lambda: receiver.value(total + 'reason="token_retired",code="503"}') == 1, "the held write")
            assert receiver.value(total + 'code="401"}') == 2
            assert receiver.value("sum(promgate_held_requests_total)") == 1
            assert receiver.value('promgate_request_duration_seconds_count{route="remote-write"}') == WRITES + 4
            assert receiver.value('promgate_tls_handshakes_total{result="completed"} >= 11') is not None
            assert receiver.value('promgate_tokens{kind="write",state="current"}') == 1
            assert receiver.value('promgate_tokens{kind="write",state="retired"}') == 1
            assert receiver.value("promgate_upstream_reachable") == 1
            ends = 'promgate_certificate_not_after_timestamp_seconds{option="tls_server_config.cert_file"}'
            wait_for(lambda: receiver.value(f"{ends} > time()") is not None, "the end of the certificate")
            wait_for(lambda: receiver.value('promgate_jwks_fetches_total{result="ok"}') == 1, "the issuer's keys")
            assert receiver.value("promgate_jwks_age_seconds < 300") is not None
            assert receiver.value("up") == 1

            page = _page(telemetry)
            _look_at(page)
            kept = {one["metric"]["__name__"] for one in receiver.query('{job="scraped"}')}
            shown = {re.sub(r"_bucket$|_sum$|_count$", "", name) for name in kept}
            assert set(re.findall(r"^# TYPE (\S+) ", page, re.MULTILINE)) <= shown
            for word in (secret, fresh, token_id(secret), token_id(fresh), "agent", str(tmp_path)):
                assert word not in page


def _look_at(page: str) -> None:
    """Prometheus' own linter has nothing to say, and the page and docs/metrics.md name the same metrics."""
    lint = subprocess.run(["promtool", "check", "metrics"], input=page, capture_output=True, text=True, check=False)
    assert (lint.returncode, lint.stdout, lint.stderr) == (0, "", "")
    shown = set(re.findall(r"^# TYPE (\S+) ", page, re.MULTILINE))
    documented = set(re.findall(r"^\| `(\S+)` \|", DOCS.read_text(), re.MULTILINE))
    assert shown <= documented
    # Shown where an audit, or a login of people, is configured.
    assert {name for name in documented - shown if not name.startswith(OF_OTHER_PARTS)} == set()


def test_ready_names_what_is_missing(tmp_path: Path) -> None:
    telemetry = free_port()
    with Receiver(tmp_path / "receiver") as receiver:
        promgate = _watched(tmp_path / "promgate", f"http://127.0.0.1:{receiver.port}", telemetry)
        promgate.token("create", "agent")
        with promgate:
            wait_for(lambda: _ready(telemetry).status == 200, "the first check of the upstream")
            receiver.kill()
            wait_for(lambda: _ready(telemetry).status == 503, "the loss of the upstream")
            assert _ready(telemetry).body.decode() == (
                f"not ready: upstream 127.0.0.1:{receiver.port} cannot be reached\n"
            )
            assert fetch(f"{promgate.base}/-/ready", ca_file=promgate.ca_file).status == 200
            assert fetch(f"http://127.0.0.1:{telemetry}/-/healthy").status == 200
            receiver.start()
            wait_for(lambda: _ready(telemetry).status == 200, "the upstream's return")


def test_a_drain_can_be_watched_to_its_end(tmp_path: Path) -> None:
    telemetry = free_port()
    with Receiver(tmp_path / "receiver") as receiver:
        promgate = _watched(tmp_path / "promgate", f"http://127.0.0.1:{receiver.port}", telemetry)
        secret = promgate.token("create", "agent")
        with promgate:
            wait_for(lambda: _ready(telemetry).status == 200, "the first check of the upstream")
            sender = connect(promgate.base, ca_file=promgate.ca_file)
            sender.putrequest("POST", "/prometheus/api/v1/write")
            for name, value in {**bearer(secret), "Content-Length": "10"}.items():
                sender.putheader(name, value)
            sender.endheaders(b"half")
            wait_for(lambda: "\npromgate_connections 1.0\n" in _page(telemetry), "the request to be under way")
            promgate.ask_to_end()
            wait_for(lambda: _ready(telemetry).body == b"not ready: draining\n", "the drain to show")
            assert "\npromgate_connections 1.0\n" in _page(telemetry)
            sender.close()
            assert promgate.stop() == 0


def test_a_bad_reload_shows(tmp_path: Path) -> None:
    telemetry = free_port()
    promgate = _watched(tmp_path, "http://127.0.0.1:1", telemetry)

    def successful() -> bool:
        return "\npromgate_config_last_reload_successful 1.0\n" in _page(telemetry)

    good = promgate.config_file.read_text()
    with promgate:
        assert successful()
        promgate.config_file.write_text(good + "nonsense: 1\n")
        os.kill(promgate.pid, signal.SIGHUP)
        wait_for(lambda: not successful(), "the bad configuration to show")
        promgate.config_file.write_text(good)
        os.kill(promgate.pid, signal.SIGHUP)
        wait_for(successful, "the good configuration to show")


def test_a_port_in_use_is_told_at_the_start(tmp_path: Path) -> None:
    telemetry = free_port()
    with (
        _watched(tmp_path / "first", "http://127.0.0.1:1", telemetry),
        pytest.raises(RuntimeError, match=rf"cannot listen on 127\.0\.0\.1:{telemetry} \(telemetry\)"),
    ):
        _watched(tmp_path / "second", "http://127.0.0.1:1", telemetry).start()
