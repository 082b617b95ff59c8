"""What is written of roles, rules, closed endpoints and users, put to a gate as requests: the table is the meaning."""

from __future__ import annotations

import base64

import bcrypt
import pytest

from proxy.config.read import ConfigError, load
from proxy.gate.authorize import READY_MADE
from proxy.gate.credentials import read_credential
from proxy.gate.decide import Gate
from proxy.gate.decision import Forward
from proxy.gate.memory import Memory
from tests.gate.play import decide, head

HASH = "$2b$10$sudAnJyWmIO4YC8l5y.rSekVPzG7eMlH8TUTSP0YnaQgLkS5Q4XUi"
ANN = read_credential(b"Basic " + base64.b64encode(b"ann:x"))
QUERY = "/api/v1/query"
SILENCE = "/api/v2/silence/0b0c"


def load_text(directory, text, name="promgate.yml", **options):
    path = directory / name
    path.write_text(text)
    return load(path, **options)


def passes(directory, role, method, path, *, route="", prefix="/p", allow=None):
    """Whether ann, who has `role`, may do this on a route with `allow`."""
    text = f"""
basic_auth_users: {{ann: {HASH}}}
roles: {{{role}: basic:ann}}
routes:
  - {{name: r, path: {prefix}, upstream: "http://127.0.0.1:1", auth: basic, allow: [{allow or role}]{route}}}
"""
    gate = Gate(load_text(directory, text).snapshot, Memory(bytes(32)))
    request = head(prefix.rstrip("/") + path, method)
    decision = gate.decide(request, ANN, "10.0.0.1", 1.0, 1.0)
    if hasattr(decision, "question"):
        decision = gate.decide(request, ANN, "10.0.0.1", 1.0, 1.0, {decision.question: decision.question.hashes[0]})
    return isinstance(decision, Forward)


@pytest.mark.parametrize("prefix", ["/p", "/"])
@pytest.mark.parametrize(
    ("method", "path", "who"),
    [
        ("GET", QUERY, "viewer silencer admin own"),
        ("HEAD", "/graph", "viewer silencer admin own"),
        ("GET", "/api/v2/silences", "viewer silencer admin own"),
        ("POST", QUERY, "viewer silencer admin own"),  # P12: a long query comes as a form
        ("POST", "/api/v1/query_range", "viewer silencer admin own"),
        ("POST", "/api/v1/query_exemplars", "viewer silencer admin own"),
        ("POST", "/api/v1/series", "viewer silencer admin own"),
        ("POST", "/api/v1/labels", "viewer silencer admin own"),
        ("POST", "/api/v1/format_query", "viewer silencer admin own"),
        ("POST", "/api/v1/parse_query", "viewer silencer admin own"),
        ("DELETE", "/api/v1/series", "admin own"),
        ("PUT", QUERY, "admin own"),
        ("OPTIONS", QUERY, "admin own"),
        ("POST", "/api/v1/queryX", "admin own"),
        ("POST", "/x/api/v1/query", "admin own"),
        ("POST", "/API/v1/query", "admin own"),
        ("POST", "/graph", "admin own"),
        ("POST", "/api/v2/silences", "silencer admin own"),
        ("DELETE", SILENCE, "silencer admin own"),
        ("PUT", SILENCE, "admin own"),
        ("POST", "/api/v2/alerts", "notifier admin own"),
        ("GET", "/api/v2/alerts", "viewer silencer admin own"),
        ("POST", "/api/v2/alerts/groups", "notifier admin own"),
        ("POST", "/api/v2/alertsX", "admin own"),
        ("POST", "/api/v1/admin/tsdb/snapshot", ""),  # closed, whatever the role
        ("GET", "/debug/pprof/", ""),
        ("POST", "/api/v1/write", ""),
    ],
)
def test_what_a_role_may(tmp_path, prefix, method, path, who):
    roles = ("viewer", "silencer", "notifier", "admin", "own")
    allowed = {role for role in roles if passes(tmp_path, role, method, path, prefix=prefix)}
    assert allowed == set(who.split())


@pytest.mark.parametrize(("role", "method", "allowed"), [
    ("writer", "POST", True), ("writer", "GET", False), ("write", "POST", True), ("viewer", "POST", False),
])  # fmt: skip
def test_who_may_push(tmp_path, role, method, allowed):
    route = ", kind: remote_write"
    assert passes(tmp_path, role, method, "/api/v1/write", route=route) is allowed


def test_every_ready_made_role_is_looked_at_here():
    assert set(READY_MADE) == {"viewer", "silencer", "notifier", "admin", "writer"}


@pytest.mark.parametrize(
    ("allow", "method", "path", "allowed"),
    [
        ("{role: own, path: /api/v1}", "DELETE", "/api/v1", True),
        ("{role: own, path: /api/v1}", "DELETE", "/api/v1/x", True),
        ("{role: own, path: /api/v1}", "DELETE", "/api/v1x", False),  # P1
        ("{role: own, path: /api/v1}", "DELETE", "/api", False),
        ("{role: own, path: /}", "DELETE", "/x", True),
        ("{role: own, path: /api/v1, methods: GET}", "DELETE", "/api/v1", False),
        ("{role: own, path: /a}, {role: own, path: /b, methods: PUT}", "PUT", "/b", True),
        ("{role: own, path: /a}, {role: own, path: /b, methods: PUT}", "GET", "/b", False),
        ("{role: viewer, path: /api/v1/series}, own", "GET", QUERY, False),
    ],
)
def test_a_rule_narrows(tmp_path, allow, method, path, allowed):
    role = "viewer" if "viewer" in allow else "own"
    allow = allow.removesuffix(", own")
    assert passes(tmp_path, role, method, path, allow=allow) is allowed


@pytest.mark.parametrize(("method", "path", "allowed"), [
    ("GET", "/api/v1/x", True), ("GET", "/graph", False), ("POST", QUERY, True), ("POST", "/api/v1/x", False),
])  # fmt: skip
def test_a_ready_made_role_is_narrowed_and_never_widened(tmp_path, method, path, allowed):
    assert passes(tmp_path, "viewer", method, path, allow="{role: viewer, path: /api/v1}") is allowed


def test_a_path_inside_a_grant(tmp_path):
    allow = "{role: silencer, methods: [DELETE], path: /api/v2/silence/0b0c}"
    assert passes(tmp_path, "silencer", "DELETE", SILENCE, allow=allow)
    assert not passes(tmp_path, "silencer", "DELETE", "/api/v2/silence/other", allow=allow)
    assert not passes(tmp_path, "silencer", "GET", SILENCE, allow=allow)


@pytest.mark.parametrize(
    ("unblock", "path", "allowed"),
    [
        ("[]", "/api/v1/admin/tsdb/snapshot", False),
        ("/api/v1/admin/tsdb/snapshot", "/api/v1/admin/tsdb/snapshot", True),
        ("/api/v1/admin/tsdb/snapshot", "/api/v1/admin/tsdb/snapshotX", False),
        ("/api/v1/admin/tsdb/snapshot", "/api/v1/admin/tsdb/delete_series", False),
        ("/api/v1/admin/tsdb/snapshot", "/api/v1/admin", False),
        ("/api/v1/admin", "/api/v1/admin/tsdb/delete_series", True),
        ("/api/v1/admin", "/-/quit", False),
        ("[/-/reload, /debug/pprof]", "/-/reload", True),
        ("[/-/reload, /debug/pprof]", "/debug/pprof/heap", True),
        ("[/-/reload, /debug/pprof]", "/debug", False),
    ],
)
def test_what_is_closed_is_opened_by_name(tmp_path, unblock, path, allowed):
    assert passes(tmp_path, "admin", "POST", path, route=f", unblock: {unblock}") is allowed


# users from an htpasswd file

ROUTES = 'routes: [{name: r, path: /, upstream: "http://127.0.0.1:1", auth: basic, allow: admin}]'


def with_htpasswd(directory, lines, *, mode=0o600, **options):
    (directory / "users.htpasswd").write_bytes(lines)
    (directory / "users.htpasswd").chmod(mode)
    text = f"htpasswd_file: users.htpasswd\nroles: {{admin: basic:eve}}\n{ROUTES}"
    return load_text(directory, text, **options)


def test_users_come_from_an_htpasswd_file(tmp_path):
    lines = f"# a remark\n\neve:{HASH}\r\nbob:{HASH}:a remark, as nginx takes it\n"
    loaded = with_htpasswd(tmp_path, lines.encode())
    assert loaded.warnings == []
    assert loaded.snapshot.users == {"eve": (HASH.encode(),), "bob": (HASH.encode(),)}
    assert loaded.snapshot.roles == {"basic:eve": frozenset({"admin"})}
    assert tmp_path / "users.htpasswd" in loaded.files


def test_users_of_both_places(tmp_path):
    (tmp_path / "more").write_text(f"eve:{HASH}")
    (tmp_path / "more").chmod(0o600)
    text = f"basic_auth_users: {{ann: {HASH}}}\nhtpasswd_file: more\nroles: {{admin: [basic:eve, basic:ann]}}\n{ROUTES}"
    assert set(load_text(tmp_path, text).snapshot.users) == {"ann", "eve"}


def test_a_hash_that_htpasswd_makes_lets_in(tmp_path):
    """htpasswd writes $2y$; bcrypt's own are $2b$."""
    made = b"$2y$" + bcrypt.hashpw(b"x", bcrypt.gensalt(4))[4:]
    users = with_htpasswd(tmp_path, b"eve:" + made).snapshot.users
    assert bcrypt.checkpw(b"x", users["eve"][0])


def test_a_file_that_a_command_may_not_read_is_not_needed(tmp_path):
    """`promgate token` runs as somebody else: what it does not open, it does not judge."""
    (tmp_path / "promgate.yml").write_text(f"htpasswd_file: gone\nroles: {{admin: basic:eve}}\n{ROUTES}")
    assert load(tmp_path / "promgate.yml", open_files=False).snapshot.routes


@pytest.mark.parametrize(
    ("mode", "problem", "warning"),
    [(0o600, "", ""), (0o440, "", ""), (0o644, "", "can read"), (0o602, "can change", "")],
)
def test_modes_of_an_htpasswd_file(tmp_path, mode, problem, warning):
    lines = f"eve:{HASH}".encode()
    if problem:
        with pytest.raises(ConfigError, match=rf":1: htpasswd_file: .*{problem}"):
            with_htpasswd(tmp_path, lines, mode=mode)
    else:
        found = [str(each) for each in with_htpasswd(tmp_path, lines, mode=mode).warnings]
        assert [warning in each for each in found] == ([True] if warning else [])


def test_networks_are_compiled(tmp_path):
    text = """
routes: [{name: r, path: /, upstream: "http://127.0.0.1:1", auth: none, allow_from: [10.0.0.0/8, "2001:db8::1"],
          deny_from: 10.1.2.3}]
"""
    gate = Gate(load_text(tmp_path, text).snapshot, Memory(bytes(32)))
    ips = ("10.1.2.4", "10.1.2.3", "11.0.0.1")
    came = {ip: isinstance(decide(gate, head("/", "GET"), ip=ip), Forward) for ip in ips}
    assert came == {"10.1.2.4": True, "10.1.2.3": False, "11.0.0.1": False}


def test_tenants_are_named_as_the_gate_names_identities(tmp_path):
    text = """
tokens: {store: "sqlite:///x.db"}
roles: {viewer: [token:grafana]}
tenants: {token:grafana: a, jwt:sub=carol: b|c}
routes: [{name: r, path: /, upstream: "http://127.0.0.1:1", auth: bearer, allow: viewer, tenant_header: X-Scope-OrgID}]
"""
    loaded = load_text(tmp_path, text)
    assert loaded.snapshot.tenants.written == {"token:grafana": "a", "jwt:carol": "b|c"}
    assert loaded.warnings == []
    unused = load_text(tmp_path, text.replace(", tenant_header: X-Scope-OrgID", "")).warnings
    assert [each.text for each in unused] == ["without effect: no route has a tenant_header"]
