"""What `tokens.deliver` and `tokens.canary` mean: the targets and the rules that come out."""

from __future__ import annotations

import pytest

from proxy.config.read import ConfigError, load
from proxy.tokens.targets import CanaryRules, CommandTarget, FileTarget, WebhookTarget

HASH = "$2b$10$sudAnJyWmIO4YC8l5y.rSekVPzG7eMlH8TUTSP0YnaQgLkS5Q4XUi"
ROUTES = f"""
basic_auth_users: {{ann: {HASH}}}
roles: {{viewer: ["basic:ann", "token:grafana"], notifier: "token:alerts"}}
routes:
  - {{name: w, path: /p/api/v1/write, kind: remote_write, upstream: "http://127.0.0.1:1", auth: write_token,
      allow: write}}
  - {{name: r, path: /p, upstream: "http://127.0.0.1:1", auth: [basic, bearer], allow: viewer}}
"""
READER = "basic_auth: {username: ann, password_file: ann.password}"


@pytest.fixture
def read(tmp_path):
    for name in ("key", "ann.password", "token"):
        (tmp_path / name).write_text("a secret\n")
        (tmp_path / name).chmod(0o600)

    def rules(tokens, routes=ROUTES, before="", **options):
        path = tmp_path / "promgate.yml"
        path.write_text(f"{before}\ntokens:\n  store: sqlite:///promgate.db\n{tokens}{routes}")
        return load(path, **options).snapshot.token_rules

    return rules


def test_targets(read, tmp_path):
    deliver = """
  deliver:
    agent:
      - file: agent.token
      - command: [put, -n]
      - {command: [put], timeout: 5s, environment: [VAULT_ADDR, _X9]}
      - {webhook: "https://h/x", secret_file: key, tls_config: {server_name: y}, timeout: 1m}
    grafana: {file: /etc/grafana/token}
"""
    assert read(deliver).deliver == {
        "agent": (
            FileTarget(str(tmp_path / "agent.token")),
            CommandTarget(("put", "-n"), 30.0),
            CommandTarget(("put",), 5.0, ("VAULT_ADDR", "_X9")),
            WebhookTarget("https://h/x", str(tmp_path / "key"), "", "y", 60.0),
        ),
        "grafana": (FileTarget("/etc/grafana/token"),),
    }


def test_without_any(read):
    assert (read("").deliver, read("").canary) == ({}, None)


def test_a_canary_by_default(read, tmp_path):
    assert read(f"  canary: {{{READER}}}").canary == CanaryRules(
        "http://127.0.0.1:9443/p/api/v1/write",
        "http://127.0.0.1:9443/p/api/v1/query",
        username="ann",
        password_file=str(tmp_path / "ann.password"),
        timeout_s=20.0,
        readers=frozenset({"grafana"}),
    )


@pytest.mark.parametrize(
    ("before", "base"),
    [
        ("listen: 127.0.0.2:1234", "http://127.0.0.2:1234"),
        ("listen: [':1234', '127.0.0.1:5']\ninsecure_plaintext: true", "http://127.0.0.1:1234"),
        ("listen: 0.0.0.0:1234\ninsecure_plaintext: true", "http://127.0.0.1:1234"),
        ("listen: '[::]:1234'\ninsecure_plaintext: true", "http://[::1]:1234"),
        ("listen: '[::1]:1234'", "http://[::1]:1234"),
        ("listen: ['127.0.0.1:0', 'localhost:9']", "http://localhost:9"),
    ],
)
def test_the_listener_is_reached_from_this_machine(read, before, base):
    rules = read(f"  canary: {{{READER}}}", before=before).canary
    assert (rules.push_url, rules.query_url) == (f"{base}/p/api/v1/write", f"{base}/p/api/v1/query")


def test_tls_makes_it_https(read, tmp_path, certs):
    for name in ("server.crt", "server.key"):
        (tmp_path / name).write_bytes((certs / name).read_bytes())
        (tmp_path / name).chmod(0o600)
    rules = read(
        f"  canary: {{{READER}, tls_config: {{ca_file: server.crt, server_name: p.example.net}}}}",
        before="tls_server_config: {cert_file: server.crt, key_file: server.key}",
    ).canary
    assert rules.push_url == "https://127.0.0.1:9443/p/api/v1/write"
    assert (rules.ca_file, rules.server_name) == (str(tmp_path / "server.crt"), "p.example.net")


def test_a_virtual_host_is_asked_by_its_name(read):
    named = ROUTES.replace("path: /p/api", "host: [b.example.net, a.example.net], path: /p/api")
    assert read(f"  canary: {{{READER}}}", routes=named).canary.server_name == "a.example.net"


def test_or_by_its_external_name(read):
    rules = read(f"  canary: {{{READER}}}", before="external_url: https://p.example.net:443").canary
    assert (rules.push_url, rules.server_name) == ("http://127.0.0.1:9443/p/api/v1/write", "p.example.net")
    explicit = f"  canary: {{{READER}, url: 'http://127.0.0.1:9443/p/api/v1/write'}}"
    assert read(explicit, before="external_url: https://p.example.net").canary.server_name == ""


@pytest.mark.parametrize(("path", "pushed"), [("/", "/api/v1/write"), ("/w", "/w/api/v1/write")])
def test_a_write_route_that_is_a_prefix(read, path, pushed):
    routes = ROUTES.replace("path: /p/api/v1/write", f"path: {path}")
    rules = read(f"  canary: {{{READER}, query_url: 'http://127.0.0.1:9443/p/api/v1/query'}}", routes=routes).canary
    assert rules.push_url == f"http://127.0.0.1:9443{pushed}"


def test_an_open_reading_route_needs_no_reader(read):
    routes = ROUTES.replace("auth: [basic, bearer], allow: viewer", "auth: none")
    assert read("  canary: {}", routes=routes).canary.username == ""


def test_all_written_out(read, tmp_path):
    rules = read(
        "  canary: {url: 'https://p.example.net/w', query_url: 'https://q.example.net/api/v1/query', timeout: 3s, "
        "authorization: {credentials_file: token}}"
    ).canary
    assert rules == CanaryRules(
        "https://p.example.net/w",
        "https://q.example.net/api/v1/query",
        credentials_file=str(tmp_path / "token"),
        timeout_s=3.0,
    )


def test_a_command_does_not_look_at_files_that_it_may_not_read(read, tmp_path):
    (tmp_path / "key").unlink()
    (tmp_path / "ann.password").unlink()
    text = f"""
  deliver: {{agent: {{webhook: "https://h/x", secret_file: key}}}}
  canary: {{{READER}}}
"""
    with pytest.raises(ConfigError, match="cannot be read"):
        read(text)
    rules = read(text, open_files=False)
    assert rules.deliver["agent"] == (WebhookTarget("https://h/x", str(tmp_path / "key")),)
    assert rules.canary.password_file == str(tmp_path / "ann.password")


def test_a_directory_for_everybody(read, tmp_path):
    (tmp_path / "open").mkdir()
    (tmp_path / "open").chmod(0o1777)
    with pytest.raises(ConfigError) as refused:
        read("  deliver: {agent: {file: open/agent.token}}")
    assert str(refused.value) == (
        f"{tmp_path}/promgate.yml:4: tokens.deliver.agent.file: anybody on this machine can write into "
        f"{tmp_path}/open (mode 1777); choose the sender's own directory"
    )


def test_a_link_to_a_file_in_use_is_seen_through(read, tmp_path):
    (tmp_path / "link").symlink_to("promgate.db")
    with pytest.raises(ConfigError, match="cannot be a target: it belongs to the token store"):
        read("  deliver: {agent: {file: link}}")


@pytest.mark.parametrize("open_files", [True, False])
@pytest.mark.parametrize("place", ["upstream.password", "reader.token", "idp.secret", "ca.crt", "audit.jsonl", "users"])
def test_a_file_that_something_else_lives_from_is_no_target(tmp_path, place, open_files):
    """Whether it is opened or not: a `token` command would write over what the server reads."""
    for name in ("upstream.password", "reader.token", "idp.secret"):
        (tmp_path / name).write_text("secret-secret-secret-secret")
        (tmp_path / name).chmod(0o600)
    (tmp_path / "users").write_text("admin:$2b$10$sudAnJyWmIO4YC8l5y.rSekVPzG7eMlH8TUTSP0YnaQgLkS5Q4XUi\n")
    path = tmp_path / "promgate.yml"
    path.write_text(f"""
htpasswd_file: users
roles: {{admin: basic:admin}}
audit: {{file: audit.jsonl}}
introspection:
  {{issuer: "https://idp.example", client_id: promgate, client_secret_file: idp.secret, ca_file: ca.crt}}
tokens:
  store: sqlite:///promgate.db
  deliver:
    agent: {{file: {place}}}
  canary: {{authorization: {{credentials_file: reader.token}}}}
routes:
  - name: write
    path: /prometheus/api/v1/write
    kind: remote_write
    methods: [POST]
    upstream:
      url: http://127.0.0.1:9090
      basic_auth: {{username: promgate, password_file: upstream.password}}
    auth: [write_token]
    allow: [write]
  - {{name: read, path: /prometheus, upstream: "http://127.0.0.1:9090", auth: bearer, allow: admin}}
""")
    with pytest.raises(ConfigError) as refused:
        load(path, open_files=open_files)
    told = [problem.text for problem in refused.value.problems if problem.path.startswith("tokens.deliver")]
    assert len(told) == 1
    assert told[0].endswith("cannot be a target: the configuration reads it")
