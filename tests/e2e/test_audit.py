"""The audit of a running server and of commands beside it: one chain; and what happens when it cannot be written."""

from __future__ import annotations

import json
import os
import signal
from typing import TYPE_CHECKING, Any

import pytest

from tests.kit.fetch import Answer, basic, bearer, fetch
from tests.kit.http_server import HttpServer, Reply
from tests.kit.process import free_port
from tests.kit.promgate import Promgate, run, write_route
from tests.kit.users import htpasswd, write_private
from tests.kit.wait import wait_for

if TYPE_CHECKING:
    import subprocess
    from collections.abc import Iterator
    from pathlib import Path

API = "/-/api/v1"


class Site:
    """promgate with an audit, before a receiver that takes everything."""

    def __init__(self, promgate: Promgate, audit: Path, telemetry: str) -> None:
        self.promgate = promgate
        self.audit = audit
        self.telemetry = f"http://{telemetry}"

    def ask(self, method: str, path: str, said: object = None) -> Answer:
        headers = basic("root", "root") | ({"Content-Type": "application/json"} if said is not None else {})
        body = None if said is None else json.dumps(said).encode()
        return fetch(
            self.promgate.base + API + path, method=method, body=body, headers=headers, ca_file=self.promgate.ca_file
        )

    def push(self, token: str) -> int:
        return fetch(
            self.promgate.write_url, method="POST", body=b"x", headers=bearer(token), ca_file=self.promgate.ca_file
        ).status

    def has(self, sample: bytes) -> bool:
        return sample in fetch(f"{self.telemetry}/metrics").body

    def verify(self, *words: str) -> subprocess.CompletedProcess[str]:
        return run("audit", "verify", *words, f"--config.file={self.promgate.config_file}")

    def records(self) -> list[dict[str, Any]]:
        return [json.loads(line) for line in self.audit.read_text().splitlines()]


@pytest.fixture
def site(tmp_path: Path) -> Iterator[Site]:
    write_private(tmp_path / "promgate" / "users", htpasswd("root"))
    telemetry, log = f"127.0.0.1:{free_port()}", tmp_path / "log"
    log.mkdir()
    with HttpServer(lambda _: Reply(204)) as receiver:
        config = {
            "console": {},
            "telemetry": {"listen": telemetry},
            "reload": {"http": True},
            "audit": {"file": str(log / "audit.jsonl")},
            "htpasswd_file": "users",
            "roles": {"admin": ["basic:root"]},
            "tokens": {"overlap_period": "10m"},
            "routes": [write_route(receiver.base)],
        }
        with Promgate(tmp_path / "promgate", config) as promgate:
            yield Site(promgate, log / "audit.jsonl", telemetry)


def test_server_and_commands_write_one_chain_that_verifies(site: Site) -> None:
    first = site.promgate.token("create", "agent")
    made = json.loads(site.ask("POST", "/tokens/agent/rotate", {}).body)
    assert site.ask("POST", "/tokens/nobody/rotate", {}).status == 404
    assert run("token", "rollback", "nobody", f"--config.file={site.promgate.config_file}").returncode == 1
    site.promgate.token("revoke", "agent")

    records = site.records()
    assert [one["seq"] for one in records] == list(range(1, len(records) + 1))
    by_command, by_api = ([one for one in records if one["way"] == way] for way in ("cli", "basic"))
    assert len(by_command) + len(by_api) == len(records)
    assert {(one["identity"], one["address"]) for one in by_api} == {("basic:root", "127.0.0.1")}
    assert [one["action"] for one in records if one["outcome"] == "refused"] == ["rotateToken", "rollback"]
    assert records[-2]["changes"][0]["what"] == "revoked"
    text = site.audit.read_text()
    assert first not in text
    assert made["secret"] not in text
    shown = json.loads(site.ask("GET", "/audit?limit=2").body)["records"]
    assert shown == records[:-3:-1]

    whole = site.verify()
    assert (whole.returncode, whole.stderr) == (0, "")
    assert f"{len(records)} records, whole, head {len(records)}:" in whole.stdout
    head = whole.stdout.split("head ")[1].strip()
    assert site.verify("--head", head).returncode == 0
    lines = site.audit.read_bytes().splitlines(keepends=True)
    site.audit.write_bytes(b"".join(lines[:-1]))
    cut = site.verify()
    assert (cut.returncode, cut.stdout) == (1, "")
    assert f"record {len(records)} was written: cut off at the end" in cut.stderr


def test_who_asks_for_a_reload_is_on_record_and_what_cannot_be_recorded_is_not_done(site: Site) -> None:
    """By the admin API and by the telemetry listener; a signal is of this machine's own operator, and in the log."""
    good = site.promgate.config_file.read_text()

    def reload() -> Answer:
        where, headers = f"{site.promgate.base}/-/reload", basic("root", "root")
        return fetch(where, method="POST", headers=headers, ca_file=site.promgate.ca_file)

    assert reload().status == 200
    site.promgate.config_file.write_text(good.replace("listen:", "lisen:", 1))
    assert reload().status == 500
    assert fetch(site.telemetry + "/-/reload", method="POST").status == 500
    site.promgate.config_file.write_text(good)
    told = [
        (one["identity"], one["way"], one["address"], one["outcome"])
        for one in site.records()
        if one["action"] == "reload"
    ]
    ann, anyone = ("basic:root", "basic", "127.0.0.1"), ("anyone", "telemetry", "127.0.0.1")
    assert told == [(*who, what) for who, what in (
        (ann, "intended"), (ann, "done"), (ann, "intended"), (ann, "failed"), (anyone, "intended"), (anyone, "failed"),
    )]  # fmt: skip
    assert "lisen" in site.records()[-1]["text"]
    site.audit.rename(site.audit.with_suffix(".moved"))
    site.audit.mkdir()
    refused = reload()
    assert refused.status == 500
    assert b"the audit cannot be written" in refused.body
    taken = site.promgate.log.count("taken: ")
    os.kill(site.promgate.pid, signal.SIGHUP)
    wait_for(lambda: site.promgate.log.count("taken: ") == taken + 1, "the reload by a signal")


def test_an_audit_that_cannot_be_written_stops_changes_and_not_requests(site: Site) -> None:
    token = site.promgate.token("create", "agent")
    moved = site.audit.rename(site.audit.with_suffix(".moved"))
    site.audit.mkdir()
    for path, said in (("/tokens/agent/rotate", {}), ("/tokens/agent/revoke", {}), ("/tokens", {"name": "other"})):
        answer = site.ask("POST", path, said)
        assert answer.status == 503, answer.body
        assert b"the audit cannot be written (Is a directory)" in answer.body
        assert b"what cannot be recorded is not changed" in answer.body
    for words in (("rotate", "agent"), ("revoke", "agent"), ("create", "other")):
        done = run("token", *words, f"--config.file={site.promgate.config_file}")
        assert (done.returncode, done.stdout) == (1, "")
        assert str(site.audit) in done.stderr
        assert "Traceback" not in done.stderr
    assert site.push(token) == 204
    assert [row["state"] for row in json.loads(site.promgate.token("show", "agent", "--output=json"))] == ["current"]
    assert site.has(b"\npromgate_audit_writable 0.0\n")
    assert not site.has(b"\npromgate_audit_failures_total 0.0\n")
    assert site.promgate.log.count("the audit cannot be written") >= 1

    site.audit.rmdir()
    moved.rename(site.audit)
    assert site.ask("POST", "/tokens/agent/rotate", {}).status == 200
    wait_for(lambda: site.has(b"\npromgate_audit_writable 1.0\n"), "the metric")
    assert site.verify().returncode == 0
