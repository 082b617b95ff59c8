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
    assert said["allowed"] == "by no role of this route"

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


PROVIDERS = """
external_url: https://noc.example.net
tokens: {store: "sqlite:///p.db"}
tls_server_config: {cert_file: CERTS/server.crt, key_file: CERTS/server.key, client_auth_type: VerifyClientCertIfGiven,
                    client_ca_file: CERTS/server.crt}
jwt:
  - {issuer: "https://ci.example", audience: promgate, name: ci, jwks_url: "https://ci.example/keys"}
  - {issuer: "https://id.example", audience: promgate, name: id, jwks_url: "https://id.example/keys"}
introspection: {issuer: "https://id.example", audience: a, client_id: promgate, client_secret: x}
oauth2:
  - {issuer: "https://idp.example", client_id: promgate, client_secret: x}
  - {provider: github, client_id: promgate, client_secret: x}
roles:
  viewer: ["jwt:ci/groups=sre", "introspection:scope=read", "oidc:domain:example.net", "github:org:example",
           "cert:SAN=g"]
  silencer: ["oidc:group:oncall", "github:team:example/sre"]
tenants: {"oidc:group:oncall": night, "role:viewer": day}
routes:
  - {name: w, path: /w, methods: POST, upstream: "http://127.0.0.1:9090", kind: remote_write, auth: jwt, allow: write}
  - {name: am, path: /, upstream: "http://127.0.0.1:9093", auth: [jwt, introspection, client_cert, oauth2],
     allow: [viewer, silencer], tenant_header: X-Scope-OrgID}
"""
MAIL, ONCALL = "--as=oidc:user:Carol@example.net", "--as=oidc:group:oncall"


@pytest.mark.parametrize(
    ("words", "reason", "identity", "roles", "told_of"),
    [
        (["--as=jwt:ci/groups=sre", "/"], "ok", "jwt:ci/somebody", ["viewer"], "day"),
        (["--as=jwt:ci/groups=sre", "--as=jwt:ci/carol", "/"], "ok", "jwt:ci/carol", ["viewer"], "day"),
        (["--as=jwt:id/groups=sre", "/"], "not_allowed", "jwt:id/somebody", [], ""),
        (["--as=jwt:id/scope=write", "-X", "POST", "/w"], "ok", "jwt:id/somebody", ["write"], ""),
        (["--as=introspection:scope=read", "/"], "ok", "introspection:somebody", ["viewer"], "day"),
        (["--as=cert:CN=x", "--as=cert:SAN=g", "/"], "ok", "cert:CN=x", ["viewer"], "day"),
        (["--as=cert:CN=g", "/"], "not_allowed", "cert:CN=g", [], ""),
        ([MAIL, "/"], "ok", "oidc:user:carol@example.net", ["viewer"], "day"),
        ([MAIL, ONCALL, "/"], "ok", "oidc:user:carol@example.net", ["silencer", "viewer"], "night"),
        ([ONCALL, "-X", "DELETE", "/api/v2/silence/1"], "ok", "oidc:sub:somebody", ["silencer"], "night"),
        ([MAIL, "-X", "DELETE", "/api/v2/silence/1"], "not_allowed", "oidc:user:carol@example.net", ["viewer"], ""),
        (["--as=github:user:Carol", "--as=github:org:Example", "/"], "ok", "github:user:carol", ["viewer"], "day"),
        (["--as=github:any", "/"], "not_allowed", "github:user:somebody", [], ""),
    ],
)
def test_whom_providers_and_issuers_know(tmp_path, certs, capsys, words, reason, identity, roles, told_of):
    """By name alone: nobody is asked."""
    file = tmp_path / "promgate.yml"
    file.write_text(PROVIDERS.replace("CERTS", str(certs)))
    file.chmod(0o600)
    code = main(["explain", f"--config.file={file}", "--output=json", *words])
    said = json.loads(capsys.readouterr().out)
    assert (code, said["reason"], said["identity"], said["roles"]) == (int(reason != "ok"), reason, identity, roles)
    assert said.get("told") == ([f"X-Scope-OrgID: {told_of}"] if told_of else None)
    if reason == "not_allowed":
        assert said["allowed"] == ("silencer" if "DELETE" in words else "silencer, viewer")
    if identity.startswith("oidc"):
        assert said["credential"] == "the session of a person"


def test_one_person_comes_from_one_provider(tmp_path, certs, capsys):
    file = tmp_path / "promgate.yml"
    file.write_text(PROVIDERS.replace("CERTS", str(certs)))
    file.chmod(0o600)
    for words, said in (
        (["--as=oidc:group:a", "--as=github:org:b"], "taken are token:NAME"),
        (["--as=jwt:ci/a", "--as=jwt:id/b"], "of one issuer, which are known as jwt:ci/..., jwt:id/..."),
        (["--as=oidc:grup:a"], "names nobody; oidc:any, oidc:user:E-MAIL"),
    ):
        assert main(["explain", f"--config.file={file}", "/", *words]) == 1
        assert said in capsys.readouterr().err


def test_text_for_people(config, capsys):
    assert main(["explain", f"--config.file={config}", "--as=basic:ann", "--from=192.168.0.1", "/prometheus/"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "request     GET /prometheus/"
    assert "decision    forward" in lines


@pytest.mark.parametrize(
    ("words", "code", "text"),
    [
        (["--as=token:gone", "/"], 1, "there is no token named 'gone'"),
        (["--as=ann", "/"], 1, "--as 'ann': taken are token:NAME, basic:USER, cert:CN=NAME; or of one"),
        (["--as=basic:ann", "--as=token:x", "/"], 1, "taken are token:NAME"),
        (["--as=basic:ann", "--as=basic:bob", "/"], 1, "taken are token:NAME"),
        (["--as=cert:O=x", "/"], 1, "a certificate is named cert:CN=NAME or cert:SAN=NAME"),
        (["--as=jwt:x", "/"], 1, "known as none: there is no jwt"),
        (["--as=introspection:x", "/"], 1, "there is no introspection in the configuration"),
        (["--as=oidc:any", "/"], 1, "nobody can be it: oauth2 has no provider of kind oidc"),
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
