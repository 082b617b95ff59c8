"""`promgate explain --request-id`: what was recorded, and what is judged anew, told apart."""

from __future__ import annotations

import json
import time
from dataclasses import replace

import pytest

from proxy.cli import main
from proxy.observe.access_log import AccessLog
from proxy.observe.outcome import Outcome
from proxy.observe.recorded import find_recorded

ID = "00f86d081884c7d6"
READ = Outcome(
    at=1_700_000_000.125, duration_s=0.5, ip="192.0.2.7", method=b"GET", path=b"/prometheus/graph", status=200,
    reason="ok", route="prometheus", identity="basic:ann", token_id="", agent=b'curl "8"', bytes_in=0, bytes_out=7,
    id=int(ID, 16),
)  # fmt: skip


@pytest.fixture
def config(tmp_path):
    file = tmp_path / "promgate.yml"
    file.write_text("""
listen: 127.0.0.1:9443
access_log: {file: access.log}
tokens: {store: "sqlite:///promgate.db", retry_grace: 1h}
basic_auth_users: {ann: $2b$10$sudAnJyWmIO4YC8l5y.rSekVPzG7eMlH8TUTSP0YnaQgLkS5Q4XUi}
roles: {viewer: ["basic:ann"]}
routes:
  - {name: remote-write, path: /prometheus/api/v1/write, methods: POST, upstream: "http://127.0.0.1:9090",
     kind: remote_write, auth: write_token, allow: write, host: noc.example.net}
  - {name: prometheus, path: /prometheus, upstream: "http://127.0.0.1:9090", auth: basic, allow: viewer,
     host: noc.example.net, rate_limit: {rate: 10, burst: 20}}
""")
    return file


def write(config, *outcomes, log_format="json", name="access.log"):
    log = AccessLog(config.parent / name, log_format)
    log.write([replace(READ, id=1, path=ID.encode(), agent=f"id={ID} ".encode()), *outcomes, replace(READ, id=2)])
    log.close()


@pytest.fixture
def told(config, capsys):
    def run(*words):
        code = main(["explain", f"--request-id={ID}", f"--config.file={config}", "--output=json", *words])
        return code, json.loads(capsys.readouterr().out)

    return run


@pytest.mark.parametrize("log_format", ["json", "logfmt"])
def test_what_was_recorded_and_what_is_judged_are_told_apart(config, told, log_format):
    write(config, READ, log_format=log_format)
    code, said = told()
    assert code == 0
    assert said["recorded"] == {
        "time": "2023-11-14T22:13:20.125Z", "request": "GET /prometheus/graph", "client": "192.0.2.7",
        "agent": 'curl "8"', "route": "prometheus", "identity": "basic:ann", "reason": "ok", "status": 200,
        "duration": "0.500000 s",
    }  # fmt: skip
    assert said["judged"]["rule"] == "viewer: GET, HEAD everywhere on the route"
    assert said["judged"]["limit"] == "10 in 1 s, 20 at once, by identity, more is refused"
    assert (said["judged"]["decision"], said["note"]) == ("forward", "both agree")


@pytest.mark.parametrize(
    ("change", "judged", "note"),
    [
        ({"method": b"POST", "status": 403, "reason": "not_allowed"}, "not_allowed", "both agree"),
        ({"identity": "", "status": 401, "reason": "no_credential"}, "no_credential", "both agree"),
        ({"path": b"/prometheus/-/quit", "status": 403, "reason": "blocked"}, "blocked", "both agree"),
        ({"identity": "", "status": 302, "reason": "login_needed"}, "no_credential", "both agree"),
        ({"status": 200, "reason": "granted"}, "ok", "both agree"),
        ({"status": 429, "reason": "over_rate"}, "ok", "only the running server knew"),
        ({"status": 502, "reason": "upstream_refused"}, "ok", "came after it"),
        ({"status": 403, "reason": "not_allowed"}, "ok", "have changed"),
        ({"path": b"/gone", "route": "old"}, "no_route", "it was ok then and is no_route now"),
        ({"identity": "", "status": 401, "reason": "bad_credential"}, None, "what was shown is written nowhere"),
        ({"identity": "", "status": 429, "reason": "too_many_guesses"}, None, "what was shown is written nowhere"),
        ({"identity": "jwt:carol"}, None, "the roles of jwt:carol come from what its provider said"),
        ({"identity": "token:x", "token_id": "Gone1234"}, None, "does not hold the token Gone1234"),
        ({"method": b"", "path": b"", "status": 400, "reason": "unlawful", "identity": ""}, None, "no lawful request"),
        ({"route": "", "identity": "", "status": 421, "reason": "wrong_host"}, None, "the host that it named"),
        ({"reason": "of_another_version"}, "ok", "it was of_another_version then"),
    ],
)
def test_the_two_go_together(config, told, change, judged, note):
    write(config, replace(READ, **change))
    code, said = told()
    assert code == (0 if said["recorded"]["status"] < 400 else 1)
    assert (said["judged"] and said["judged"]["reason"]) == judged
    assert note in said["note"]


def test_a_token_is_judged_as_of_then(config, told, capsys):
    """It is revoked now; at the time of the request it was good."""
    assert main(["token", "create", "agent", f"--config.file={config}"]) == 0
    token_id = capsys.readouterr().out.split("_")[1]
    then = time.time()
    assert main(["token", "revoke", "agent", f"--config.file={config}"]) == 0
    capsys.readouterr()
    sent = replace(
        READ, at=then, method=b"POST", path=b"/prometheus/api/v1/write", status=204, route="remote-write",
        identity="token:agent", token_id=token_id,
    )  # fmt: skip
    write(config, sent)
    code, said = told()
    assert (code, said["note"]) == (0, "both agree")
    assert said["judged"]["token"].startswith(f"{token_id} (write): current")
    assert said["judged"]["host"] == "noc.example.net", "a host of its route: which one it was is not recorded"
    write(config, replace(sent, at=then + 60, status=401, reason="token_revoked"), name="later.log")
    code, said = told(f"--log={config.parent / 'later.log'}")
    assert (code, said["judged"]["reason"], said["note"]) == (1, "token_revoked", "both agree")


def test_as_a_person_reads_it(config, capsys):
    write(config, replace(READ, method=b"POST", status=403, reason="not_allowed"))
    assert main(["explain", f"--request-id={ID}", f"--config.file={config}"]) == 1
    out = capsys.readouterr().out
    assert out.startswith("Recorded by the server:\ntime ")
    assert "\nJudged anew, as of then, by the configuration and the tokens as they are now:\nrequest " in out
    assert out.endswith("\nboth agree\n")


@pytest.mark.parametrize(
    ("words", "code", "text"),
    [
        (["--request-id=nonsense"], 1, "16 hexadecimal digits"),
        ([f"--request-id={ID}"], 1, "No such file"),
        ([f"--request-id={ID}", "--log=/dev/null"], 1, f"/dev/null has no request {ID}"),
        ([f"--request-id={ID}", "/prometheus"], 2, "or --request-id"),
        ([], 2, "write the URL"),
        (["--log=x", "/prometheus"], 2, "goes with --request-id"),
        ([f"--request-id={ID}", "--as=basic:ann"], 2, "leave the rest out"),
    ],
)
def test_what_cannot_be_found_is_said(config, capsys, words, code, text):
    assert main(["explain", f"--config.file={config}", *words]) == code
    assert text in capsys.readouterr().err


@pytest.mark.parametrize(
    "line",
    [
        f'{{"ts": "2023-11-14T22:13:20.125Z", "id": "{ID}"',
        f'["{ID}"]',
        f'{{"id": "{ID}"}}',
        f"ts=yesterday id={ID} client=1",
        f'agent="id={ID} " id=other',
        f"id={ID}",
        ID,
    ],
)
def test_a_line_that_was_cut_or_is_no_line_of_ours_is_passed_over(line):
    assert find_recorded([line.encode()], ID) is None
