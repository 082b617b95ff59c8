"""A real agent whose token is renewed from its own machine: promgate writes no file of it, and no sample is lost."""

from __future__ import annotations

import http.client
import json
import sqlite3
import ssl
import subprocess
from contextlib import closing, contextmanager
from typing import TYPE_CHECKING, Any

import pytest

from tests.kit.agent_site import AgentSite, agent_site
from tests.kit.counter import losses, wait_stored
from tests.kit.fetch import bearer, fetch
from tests.kit.process import free_port
from tests.kit.promgate import COMMAND, deliver, environment, issue_client, run, token_id
from tests.kit.wait import wait_for

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

pytestmark = pytest.mark.real


def _status(site: AgentSite) -> dict[str, Any]:
    told: dict[str, Any] = json.loads(site.promgate.token("status", "agent", "--output=json"))
    return told


def _wait_sent(site: AgentSite, secret: str) -> None:
    site.promgate.wait_request(
        lambda line: line["token"] == token_id(secret) and line["agent"].startswith("Prometheus/"),
        "the agent with that token",
    )


def _wait_renewed(site: AgentSite, held: str) -> str:
    """The successor, once it lies in the file and is current."""
    wait_for(lambda: site.token_file.read_text().strip() != held, "the successor", timeout_s=60)
    fresh = site.token_file.read_text().strip()
    wait_for(lambda: _status(site)["current"] == token_id(fresh), "its receipt", timeout_s=60)
    return fresh


def _renew(site: AgentSite, *more: str) -> list[str]:
    where = ["--url", site.promgate.base, "--ca-file", str(site.promgate.ca_file)]
    return ["token", "renew", *where, "--credentials-file", str(site.token_file), *more]


def _ask_from(site: AgentSite, address: str, secret: str, certificate: str = "") -> tuple[int, bytes]:
    """A pick-up by another machine: from another of the loopback's addresses."""
    trust = ssl.create_default_context(cafile=str(site.promgate.ca_file))
    if certificate:
        trust.load_cert_chain(*_pair(site, certificate))
    connection = http.client.HTTPSConnection(
        "127.0.0.1", site.promgate.port, timeout=30, context=trust, source_address=(address, 0)
    )
    agent = {"User-Agent": "promgate-renew/1"} if certificate else {}
    connection.request("POST", "/-/api/v1/renew", headers=bearer(secret) | agent)
    answer = connection.getresponse()
    told = answer.status, answer.read()
    connection.close()
    return told


def _pair(site: AgentSite, name: str) -> tuple[str, str]:
    certs = site.promgate.ca_file.parent
    return f"{certs}/{name}.crt", f"{certs}/{name}.key"


def _is_known(site: AgentSite, where: str, column: str = "address") -> bool:
    """Whether the ledger has the agent there."""
    ledger = site.promgate.config_file.with_name("promgate.db-ledger")
    with closing(sqlite3.connect(f"file:{ledger}?mode=ro", uri=True)) as opened:
        asked = f"SELECT 1 FROM sighting WHERE {column} = ? AND agent LIKE 'Prometheus%'"
        return opened.execute(asked, [where]).fetchone() is not None


@contextmanager
def _watching(site: AgentSite) -> Iterator[subprocess.Popen[str]]:
    child = subprocess.Popen(
        [*COMMAND, *_renew(site, "--watch", "--interval", "1s")], env=environment(), stderr=subprocess.PIPE, text=True
    )
    try:
        yield child
    finally:
        child.kill()
        child.wait()


def test_a_sender_renews_itself_through_three_rotations_and_a_kill(tmp_path: Path) -> None:
    with agent_site(tmp_path, {"senders": {"agent": "one"}}) as site, _watching(site) as child:
        _wait_sent(site, site.secret)
        held = site.secret
        for turn in range(3):
            assert site.promgate.token("rotate", "agent") == ""
            held = _wait_renewed(site, held)
            _wait_sent(site, held)
            if turn == 0:  # an outage that the watch lives through
                site.promgate.kill()
                site.promgate.start()
        wait_stored(site.receiver, site.target.served + 1, timeout_s=60)
        child.terminate()
        _, said = child.communicate(timeout=60)
        assert child.returncode == 0
        assert said.count("the file holds the successor") == 3
        assert losses(site.receiver) == []
        assert site.agent.given_up == 0


def test_a_stranger_with_the_token_stops_the_rotation_and_is_an_alarm(tmp_path: Path) -> None:
    telemetry = f"127.0.0.1:{free_port()}"
    with agent_site(tmp_path, {"senders": {"agent": "one"}}, {"telemetry": {"listen": telemetry}}) as site:
        _wait_sent(site, site.secret)
        wait_for(lambda: _is_known(site, "127.0.0.1"), "the ledger")
        assert _ask_from(site, "127.0.0.9", site.secret)[0] == 204
        site.promgate.token("rotate", "agent")
        assert _ask_from(site, "127.0.0.9", site.secret) == (
            409,
            b"promgate: this rotation was stopped: ask who runs promgate\n",
        )
        done = run(*_renew(site))
        assert done.returncode == 1
        assert "answered 409" in done.stderr
        assert site.token_file.read_text().strip() == site.secret
        assert "ALARM: rotation " in site.promgate.log
        assert "127.0.0.9" in site.promgate.log
        assert b"\npromgate_renew_strangers_total 1.0\n" in fetch(f"http://{telemetry}/metrics").body
        assert _status(site)["current"] == token_id(site.secret)
        # Both have used the token a moment ago: it is not traded again before that is long over, or it is revoked.
        site.promgate.token("rollback", "agent")
        site.promgate.token("rotate", "agent")
        assert run(*_renew(site)).returncode == 1
        wait_stored(site.receiver, site.target.served + 1, timeout_s=60)
        assert losses(site.receiver) == []
        assert site.agent.given_up == 0


def test_a_sender_with_a_certificate_is_known_by_it_wherever_it_comes_from(tmp_path: Path) -> None:
    """Its address is another one each time, as a pod's; somebody else's certificate from its own address is no help."""
    telemetry = f"127.0.0.1:{free_port()}"
    tls = {
        "cert_file": "certs/localhost.crt",
        "key_file": "certs/localhost.key",
        "client_auth_type": "VerifyClientCertIfGiven",
        "client_ca_file": "certs/ca.crt",
    }
    sections = {"tls_server_config": tls, "telemetry": {"listen": telemetry}, "audit": {"file": "audit.jsonl"}}
    with agent_site(tmp_path, {"senders": {"agent": "one"}}, sections, client="edge") as site:
        issue_client(site.promgate.ca_file.parent, "other")
        _wait_sent(site, site.secret)
        wait_for(lambda: _is_known(site, "cert:CN=edge", "sender"), "the ledger")
        shown = ["--cert-file", _pair(site, "edge")[0], "--key-file", _pair(site, "edge")[1]]

        site.promgate.token("rotate", "agent")
        status, body = _ask_from(site, "127.0.0.9", site.secret, "edge")
        assert status == 200, body
        held = json.loads(body)["token"]
        deliver(held, site.token_file)
        done = run(*_renew(site, *shown))  # shows the successor, from 127.0.0.1
        assert (done.returncode, done.stderr) == (0, "promgate: nothing to do\n")
        assert _status(site)["current"] == token_id(held)
        _wait_sent(site, held)

        site.promgate.token("rotate", "agent")
        done = run(*_renew(site, *shown))
        assert done.returncode == 0, done.stderr
        held = _wait_renewed(site, held)
        _wait_sent(site, held)

        site.promgate.token("rotate", "agent")
        assert _ask_from(site, "127.0.0.1", held, "other")[0] == 409
        assert "cert:CN=other 127.0.0.1" in site.promgate.log
        assert b"\npromgate_renew_strangers_total 1.0\n" in fetch(f"http://{telemetry}/metrics").body
        records = [json.loads(line) for line in (tmp_path / "promgate" / "audit.jsonl").read_text().splitlines()]
        (alarm,) = [one for one in records if one["outcome"] == "alarm"]
        assert alarm["address"] == "cert:CN=other 127.0.0.1 promgate-renew"
        assert site.token_file.read_text().strip() == held
        wait_stored(site.receiver, site.target.served + 1, timeout_s=60)
        assert losses(site.receiver) == []
        assert site.agent.given_up == 0


@pytest.mark.parametrize("half", ["--cert-file", "--key-file"])
def test_half_a_certificate_is_wrong_usage(tmp_path: Path, half: str) -> None:
    where = ["token", "renew", "--url", "https://localhost", "--credentials-file", str(tmp_path / "token")]
    done = run(*where, half, "x.pem")
    assert (done.returncode, done.stdout) == (2, "")
    assert "--cert-file and --key-file belong together" in done.stderr
    done = run(*where, "--cert-file", "gone.pem", "--key-file", "gone.key")
    assert done.returncode == 1
