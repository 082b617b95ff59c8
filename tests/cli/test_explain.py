"""`promgate explain` tells what the gate does, and shows no secret."""

from __future__ import annotations

import json

import bcrypt
import pytest

from proxy.cli import main

PASSWORD = "correct horse"


@pytest.fixture
def config(tmp_path):
    hashed = bcrypt.hashpw(PASSWORD.encode(), bcrypt.gensalt(4)).decode()
    file = tmp_path / "promgate.yml"
    file.write_text(f"""
listen: 127.0.0.1:9443
trusted_proxies: 10.0.0.0/8
tokens: {{store: "sqlite:///state/promgate.db", overlap_period: 1h}}
basic_auth_users: {{ann: "{hashed}"}}
roles: {{viewer: ["basic:ann"]}}
tenants: {{"token:agent": team-a}}
allowed_sources: {{"token:agent": [127.0.0.0/8, 10.1.0.0/16], "role:viewer": 192.168.0.0/16}}
routes:
  - {{name: remote-write, path: /prometheus/api/v1/write, methods: POST, upstream: "http://127.0.0.1:9090",
     kind: remote_write, auth: write_token, allow: write, tenant_header: X-Scope-OrgID,
     rate_limit: {{rate: 100, burst: 200, mode: delay}}}}
  - {{name: prometheus, path: /prometheus, upstream: "http://127.0.0.1:9090", auth: basic, allow: viewer,
     strip_prefix: true, allow_from: [127.0.0.0/8, 192.168.0.0/16]}}
""")
    return file


@pytest.fixture
def told(config, capsys):
    """Runs `explain`; (exit code, what it told)."""

    def run(*words):
        code = main(["explain", f"--config.file={config}", "--output=json", *words])
        return code, json.loads(capsys.readouterr().out)

    return run


@pytest.fixture
def token(config, tmp_path, capsys):
    assert main(["token", "create", "agent", f"--config.file={config}"]) == 0
    file = tmp_path / "agent.token"
    file.write_text(capsys.readouterr().out)
    return file


WRITE = ("-X", "POST", "https://noc.example.net/prometheus/api/v1/write")


@pytest.mark.parametrize("how", ["shown", "named"])
def test_a_write(told, token, how):
    code, said = told(*WRITE, *([f"--credentials-file={token}"] if how == "shown" else ["--as=token:agent"]))
    token_id = token.read_text().split("_")[1]
    assert code == 0
    assert said == {
        "request": "POST /prometheus/api/v1/write",
        "host": "noc.example.net",
        "client": "127.0.0.1",
        "route": "remote-write: prefix /prometheus/api/v1/write, kind remote_write, auth write_token",
        "credential": "a token of promgate's form",
        "identity": "token:agent",
        "way": "write_token",
        "roles": ["write"],
        "token": f"{token_id} (write): current",
        "sources": ["token:agent from 127.0.0.0/8, 10.1.0.0/16: fits"],
        "rule": "write: every method everywhere on the route",
        "limit": "100 in 1 s, 200 at once, by identity, more is delayed up to 10 s",
        "decision": "forward",
        "reason": "ok",
        "upstream": "127.0.0.1:9090",
        "sent": "/prometheus/api/v1/write",
        "told": ["X-Scope-OrgID: team-a"],
    }


def test_the_state_of_a_replaced_token(told, token, config, capsys):
    assert main(["token", "rotate", "agent", "--overlap=30m", f"--config.file={config}"]) == 0
    capsys.readouterr()
    code, said = told(*WRITE, f"--credentials-file={token}")
    assert (code, said["decision"]) == (0, "forward")
    assert ": previous for 1" in said["token"]
    assert main(["token", "revoke", "agent", f"--config.file={config}"]) == 0
    capsys.readouterr()
    code, said = told(*WRITE, f"--credentials-file={token}")
    assert (code, said["status"], said["reason"]) == (1, 401, "token_revoked")


def test_a_reader_by_password(told, tmp_path):
    (tmp_path / "password").write_text(PASSWORD + "\n")
    shown = ("--user=ann", f"--password-file={tmp_path / 'password'}", "--from=192.168.0.1")
    code, said = told("https://noc.example.net/prometheus/graph?g0.expr=up", *shown)
    assert (code, said["identity"], said["sent"]) == (0, "basic:ann", "/graph")
    assert said["rule"] == "viewer: GET, HEAD everywhere on the route"

    code, said = told("-X", "DELETE", "/prometheus/api/v1/series", *shown)
    assert (code, said["status"], said["reason"]) == (1, 403, "not_allowed")
    assert said["rules"][0] == "viewer: GET, HEAD everywhere on the route"

    (tmp_path / "password").write_text("wrong")
    code, said = told("/prometheus/graph", *shown)
    assert (code, said["status"], said["reason"]) == (1, 401, "bad_credential")


def test_where_somebody_comes_from(told, token):
    code, said = told(*WRITE, f"--credentials-file={token}", "--from=192.0.2.1")
    assert (code, said["status"], said["reason"]) == (1, 503, "source_not_allowed")
    assert said["sources"] == ["token:agent from 127.0.0.0/8, 10.1.0.0/16: does not fit"]
    assert "10.1" not in said["answer"]
    code, said = told("/prometheus/graph", "--as=basic:ann", "--from=127.0.0.1")
    assert (code, said["status"], said["reason"]) == (1, 403, "source_not_allowed")
    assert said["sources"] == ["role:viewer from 192.168.0.0/16: does not fit"]


@pytest.mark.parametrize(
    ("words", "code", "status", "reason"),
    [
        (["/prometheus/graph"], 1, 401, "no_credential"),
        (["/nowhere"], 1, 404, "no_route"),
        (["/prometheus/api/v1/admin/tsdb"], 1, 403, "blocked"),
        (["/prometheus/api/v1/write"], 1, 405, "method_not_taken"),
        (["/prometheus/graph", "--from=10.9.9.9"], 1, 403, "address_not_allowed"),
        (["/prometheus/../etc"], 1, 400, "unlawful"),
        (["/prometheus/", "-H", "Transfer-Encoding: cow"], 1, 501, "unlawful"),
        (["/-/healthy"], 0, 200, "health"),
    ],
)
def test_what_is_refused_or_answered_here(told, words, code, status, reason):
    found, said = told(*words)
    assert (found, said["status"], said["reason"]) == (code, status, reason)


def test_a_trusted_proxy_says_who_its_client_is(told):
    through = ("--as=basic:ann", "--from=10.0.0.1", "-H", "X-Forwarded-For: 192.168.7.7")
    code, said = told("/prometheus/graph", *through)
    assert (code, said["client"]) == (0, "192.168.7.7")


def test_text_for_people(config, capsys):
    assert main(["explain", f"--config.file={config}", "--as=basic:ann", "--from=192.168.0.1", "/prometheus/"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "request     GET /prometheus/"
    assert "decision    forward" in lines


@pytest.mark.parametrize(
    ("words", "code", "text"),
    [
        (["--as=token:gone", "/"], 1, "there is no token named 'gone'"),
        (["--as=ann", "/"], 1, "token:NAME, basic:USER and cert:CN=NAME are taken"),
        (["--credentials-file=/gone", "/"], 1, "No such file"),
        (["--from=here", "/"], 1, "--from 'here' is not an IP address"),
        (["ftp://x/"], 1, "is not a URL of http or https"),
        (["--user=ann", "/"], 2, "--user and --password-file go together"),
    ],
)
def test_what_cannot_be_explained_is_said(config, capsys, words, code, text):
    assert main(["explain", f"--config.file={config}", *words]) == code
    out, err = capsys.readouterr()
    assert (out, text in err) == ("", True)


def test_no_secret_is_shown(config, token, tmp_path, capsys):
    (tmp_path / "password").write_text(PASSWORD)
    for shown in ([f"--credentials-file={token}"], ["--user=ann", f"--password-file={tmp_path / 'password'}"]):
        for output in ("text", "json"):
            main(["explain", f"--config.file={config}", *WRITE, *shown, f"--output={output}"])
    seen = "".join(capsys.readouterr())
    assert token.read_text().split("_")[2][:8] not in seen
    assert PASSWORD not in seen
