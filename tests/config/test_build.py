"""What a good file means: the Snapshot and the Settings that come out."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from proxy.config.read import ConfigError, load
from proxy.config.schema import AccessLog, Settings, Tls
from proxy.config.units import Address
from proxy.gate.snapshot import (
    Bounds,
    JwtIssuer,
    RateLimit,
    Route,
    RouteKind,
    Rule,
    Snapshot,
    Timeouts,
    TokenRules,
    Upstream,
    Way,
)

HASH = "$2b$10$sudAnJyWmIO4YC8l5y.rSekVPzG7eMlH8TUTSP0YnaQgLkS5Q4XUi"
OTHER_HASH = "$2y$12$sudAnJyWmIO4YC8l5y.rSekVPzG7eMlH8TUTSP0YnaQgLkS5Q4XUi"
JWKS = '{"keys": [{"kty": "EC"}]}'

FULL = f"""
version: 1
listen: [127.0.0.1:9443, "[::1]:9443"]
tls_server_config: {{cert_file: server.crt, key_file: server.key, min_version: TLS13}}
basic_auth_users:
  admin: {HASH}
  oncall: [{HASH}, {OTHER_HASH}]
roles:
  admin: ["basic:admin"]
  viewer: [basic:oncall, basic:admin, "token:grafana"]
  reporter: ["jwt:reporter", "jwt:sub=a=b"]
tokens: {{store: "sqlite:////var/lib/promgate/promgate.db", overlap_period: 12h, max_overlap: 14d, retry_grace: 30m}}
jwt: [{{issuer: https://idp, audience: promgate, jwks_file: keys.json}}]
timeouts: {{tls_handshake: 1s, header: 2s, idle: 6m, body: 4s, connect: 5s, response: 6s, stream: 7s, tunnel: 7500ms,
  send: 8s, linger: 9s, upstream_idle: 10s, drain_delay: 12s, drain: 11s}}
limits:
  body_min_rate: 1KB
  max_connections: 100
  max_connections_per_ip: 10
  guesses: {{rate: 5, interval: 2s, burst: 6}}
  guesses_per_user: {{rate: 3, interval: 1m, burst: 7}}
access_log: {{file: access.log, format: json}}
telemetry: {{listen: "0.0.0.0:9099"}}
routes:
  - name: remote-write
    path: /prometheus/api/v1/write
    methods: [POST]
    upstream: "http://127.0.0.1:9090"
    kind: remote_write
    auth: [write_token, jwt]
    allow: [write, reporter]
    rate_limit: {{rate: 100, interval: 1s, burst: 200, by: identity, mode: delay, max_delay: 5s}}
    max_body_bytes: 1MB
  - {{name: prometheus, path: /prometheus, upstream: "http://[::1]:9090", auth: [basic, bearer], allow: [viewer, admin],
     rate_limit: {{rate: 0.5, burst: 20, by: ip}}}}
  - {{name: am, path: /alertmanager, upstream: "http://am:9093", auth: basic,
     allow: [{{role: viewer, methods: [GET, HEAD]}}, {{role: admin}}]}}
  - {{name: open, path: /, upstream: "http://127.0.0.1:8080", auth: none}}
"""


@pytest.fixture
def directory(tmp_path, certs):
    for name in ("server.crt", "server.key", "other.key", "encrypted.key"):
        shutil.copy(certs / name, tmp_path / name)
    (tmp_path / "keys.json").write_text(JWKS + "\n")
    return tmp_path


#: The ready-made role on a route with the prefix /prometheus.
QUERIES = ("query", "query_range", "query_exemplars", "series", "labels", "format_query", "parse_query")
VIEWER = (
    Rule("viewer", frozenset({b"GET", b"HEAD"})),
    Rule("viewer", frozenset({b"POST"}), tuple(f"/prometheus/api/v1/{name}".encode() for name in QUERIES)),
)


def load_text(directory, text, **options):
    path = directory / "promgate.yml"
    path.write_text(text)
    return load(path, **options)


def test_a_full_file(directory):
    snapshot, settings, warnings, *_ = load_text(directory, FULL)
    assert warnings == []
    assert settings == Settings(
        path=directory / "promgate.yml",
        listen=(Address("127.0.0.1", 9443), Address("::1", 9443)),
        tls=Tls(directory / "server.crt", directory / "server.key", "TLS13"),
        store=Path("/var/lib/promgate/promgate.db"),
        access_log=AccessLog(directory / "access.log", "json"),
        telemetry=Address("0.0.0.0", 9099),
        watch=False,
        proxy_protocol=False,
    )
    post = frozenset({b"POST"})
    assert snapshot == Snapshot(
        routes=(
            Route(
                name="remote-write",
                path="/prometheus/api/v1/write",
                upstream=Upstream("127.0.0.1", 9090),
                kind=RouteKind.REMOTE_WRITE,
                ways=frozenset({Way.WRITE_TOKEN, Way.JWT}),
                rules=(Rule("write"), Rule("reporter")),
                methods=post,
                rate_limit=RateLimit(100.0, 1.0, 200, by_identity=True, max_delay_s=5.0),
                max_body_bytes=1024 * 1024,
            ),
            Route(
                name="prometheus",
                path="/prometheus",
                upstream=Upstream("::1", 9090),
                ways=frozenset({Way.BASIC, Way.BEARER}),
                rules=(*VIEWER, Rule("admin")),
                rate_limit=RateLimit(0.5, 1.0, 20, by_identity=False, max_delay_s=0.0),
            ),
            Route(
                name="am",
                path="/alertmanager",
                upstream=Upstream("am", 9093),
                ways=frozenset({Way.BASIC}),
                rules=(Rule("viewer", frozenset({b"GET", b"HEAD"})), Rule("admin")),
            ),
            Route(
                name="open",
                path="/",
                upstream=Upstream("127.0.0.1", 8080),
                ways=frozenset({Way.NONE}),
                rules=(Rule("anyone"),),
            ),
        ),
        users={"admin": (HASH.encode(),), "oncall": (HASH.encode(), OTHER_HASH.encode())},
        roles={
            "basic:admin": frozenset({"admin", "viewer"}),
            "basic:oncall": frozenset({"viewer"}),
            "token:grafana": frozenset({"viewer"}),
            "jwt:reporter": frozenset({"reporter"}),
            "jwt:a=b": frozenset({"reporter"}),
        },
        token_rules=TokenRules(12 * 3600.0, 14 * 86400.0, 1800.0),
        timeouts=Timeouts(1.0, 2.0, 360.0, 4.0, 5.0, 6.0, 7.0, 7.5, 8.0, 9.0, 10.0, 12.0, 11.0),
        bounds=Bounds(1024, 100, 10, RateLimit(5.0, 2.0, 6, by_identity=False), RateLimit(3.0, 60.0, 7)),
        jwt_issuers=(JwtIssuer("https://idp", "promgate", JWKS, jwks_file=str(directory / "keys.json")),),
    )


def test_what_is_left_out_is_as_the_gate_has_it(directory):
    """The schema's defaults and those of the Snapshot's own dataclasses are the same."""
    text = """
routes: [{name: open, path: /, upstream: "http://127.0.0.1:8080", auth: none}]
"""
    snapshot, settings, warnings, *_ = load_text(directory, text)
    route = Route(
        name="open",
        path="/",
        upstream=Upstream("127.0.0.1", 8080),
        ways=frozenset({Way.NONE}),
        rules=(Rule("anyone"),),
    )
    assert snapshot == Snapshot(routes=(route,))
    assert settings.listen == (Address("127.0.0.1", 9443),)
    assert settings.tls is None
    assert settings.store is None
    assert settings.access_log == AccessLog(None, "logfmt")
    assert settings.telemetry is None
    assert warnings == []


@pytest.mark.parametrize("section", ["telemetry:", "telemetry: {}", "telemetry: {listen: 127.0.0.1:9099}"])
def test_telemetry_has_an_address_once_it_is_written(directory, section):
    text = f"""
{section}
routes: [{{name: open, path: /, upstream: "http://127.0.0.1:8080", auth: none}}]
"""
    assert load_text(directory, text).settings.telemetry == Address("127.0.0.1", 9099)


def test_the_longest_delay_has_a_default(directory):
    text = f"""
basic_auth_users: {{admin: {HASH}}}
roles: {{admin: basic:admin}}
routes: [{{name: a, path: /, upstream: "http://127.0.0.1:1", auth: basic, allow: admin,
  rate_limit: {{rate: 1, burst: 2, mode: delay}}}}]
"""
    assert load_text(directory, text).snapshot.routes[0].rate_limit == RateLimit(1.0, 1.0, 2, max_delay_s=10.0)


def test_an_inline_key_set(directory):
    text = FULL.replace("jwks_file: keys.json", f"jwks: '{JWKS}'")
    assert load_text(directory, text).snapshot.jwt_issuers[0].jwks == JWKS


@pytest.mark.parametrize("content", [b"\xff" + JWKS.encode(), b" " * (1024 * 1024) + JWKS.encode()])
def test_a_key_set_that_is_no_text_or_endless(directory, content):
    (directory / "keys.json").write_bytes(content)
    with pytest.raises(ConfigError, match=r":13: jwt\[0\]\.jwks_file: .*keys\.json cannot be read: not a text of"):
        load_text(directory, FULL)


@pytest.mark.parametrize(
    ("key", "text"),
    [
        ("other.key", "{here}/other.key: not the key of {here}/server.crt: give the two that were issued together"),
        ("encrypted.key", "{here}/encrypted.key is encrypted; a server cannot be asked for a passphrase"),
        ("server.crt", "{here}/server.crt holds no private key in PEM"),
        ("gone.key", "{here}/gone.key cannot be read: No such file or directory"),
    ],
)
def test_keys_that_cannot_be_served(directory, key, text):
    with pytest.raises(ConfigError) as refused:
        load_text(directory, FULL.replace("server.key", key))
    problem = text.replace("{here}", str(directory))
    assert str(refused.value) == f"{directory / 'promgate.yml'}:4: tls_server_config.key_file: {problem}"


@pytest.mark.parametrize("name", ["server.crt", "server.key"])
def test_a_damaged_pem(directory, name):
    pem = (directory / name).read_text()
    (directory / name).write_text(pem.replace(pem[60:100], "A" * 40))
    with pytest.raises(ConfigError, match=r"server\.crt, .*: OpenSSL cannot use them"):
        load_text(directory, FULL)


def test_modes_of_the_key(directory):
    path = f"{directory / 'promgate.yml'}:4: tls_server_config.key_file"
    key = directory / "server.key"
    key.chmod(0o644)
    assert [str(warning) for warning in load_text(directory, FULL).warnings] == [
        f"{path}: anybody on this machine can read {key} (mode 0644); run chmod o-r"
    ]
    key.chmod(0o642)
    with pytest.raises(ConfigError) as refused:
        load_text(directory, FULL)
    assert str(refused.value) == f"{path}: anybody on this machine can change {key} (mode 0642); run chmod o-w"
    key.chmod(0o440)
    assert load_text(directory, FULL).warnings == []


def test_a_thousand_routes(directory):
    routes = "".join(
        f"  - {{name: r{n}, path: /r{n}, upstream: 'http://127.0.0.1:9090', auth: basic, allow: admin}}\n"
        for n in range(1000)
    )
    text = f"basic_auth_users: {{admin: {HASH}}}\nroles: {{admin: basic:admin}}\nroutes:\n{routes}"
    assert len(load_text(directory, text).snapshot.routes) == 1000
