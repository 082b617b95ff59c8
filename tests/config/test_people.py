"""What comes with a way to log in: promgate's own pages, the cookie's name, and none of it where nobody can."""

from __future__ import annotations

import pytest

from proxy.config.read import load
from proxy.gate.session import SessionRules
from proxy.gate.snapshot import Way

LOGIN = """
oauth2: {issuer: "http://localhost:9000", client_id: promgate}
roles: {viewer: "oidc:any"}
"""
REST = """
version: 1
listen: 127.0.0.1:9443
basic_auth_users: {ann: $2b$10$sudAnJyWmIO4YC8l5y.rSekVPzG7eMlH8TUTSP0YnaQgLkS5Q4XUi}
routes: [{name: all, path: /, upstream: "http://127.0.0.1:9090", auth: none}]
"""


def loaded(tmp_path, text):
    file = tmp_path / "promgate.yml"
    file.write_text(text)
    return load(file).snapshot


def own(snapshot):
    return {route.name: route for route in snapshot.routes if route.name.startswith("promgate:")}


def test_who_cannot_log_in_has_no_page_for_it(tmp_path):
    snapshot = loaded(tmp_path, REST)
    assert (own(snapshot), snapshot.sessions) == ({}, None)


@pytest.mark.parametrize(
    ("origin", "cookie"),
    [("https://noc.example", b"__Host-promgate"), ("http://localhost:9443", b"promgate")],
)
def test_the_pages_and_the_cookie(tmp_path, origin, cookie):
    snapshot = loaded(tmp_path, f"{REST}{LOGIN}external_url: {origin}\ncontrol_prefix: /ops\n")
    assert snapshot.sessions == SessionRules(cookie, f"{origin}/ops/login")
    routes = own(snapshot)
    assert {name: route.path for name, route in routes.items()} == {
        "promgate:login": "/ops/login",
        "promgate:callback": "/ops/callback",
        "promgate:logout": "/ops/logout",
    }
    for route in routes.values():
        assert route.ways == {Way.NONE, Way.OAUTH2}
        assert not route.rate_limit.by_identity
        assert route.rate_limit.max_delay_s == 0, "nobody unknown is delayed"
        assert route.only_hosts == {origin.split("/")[2].partition(":")[0].encode()}


def test_the_console_takes_sessions_where_its_own_pages_lead_to_it(tmp_path):
    text = f"{REST}{LOGIN}external_url: https://noc.example\n"
    assert Way.OAUTH2 in own(loaded(tmp_path, f"{text}console: {{}}\n"))["promgate:console"].ways
    beside = loaded(tmp_path, f"{text}console: {{listen: '127.0.0.1:9110'}}\n").console
    assert not [route for route in beside if Way.OAUTH2 in route.ways]


def test_those_with_a_password_have_sessions_where_they_are_written(tmp_path):
    people = "{name: people, path: /people, upstream: 'http://127.0.0.1:9090', auth: [basic, oauth2], allow: viewer}"
    text = REST.replace("routes: [", f"roles: {{viewer: 'basic:ann'}}\nroutes: [{people}, ")
    snapshot = loaded(tmp_path, f"{text}sessions: {{idle: 5m}}\nexternal_url: https://noc.example\nconsole: {{}}\n")
    assert snapshot.sessions == SessionRules(b"__Host-promgate", "https://noc.example/-/login")
    assert (snapshot.people, snapshot.session_times.idle_s) == ((), 300.0)
    routes = own(snapshot)
    assert {"promgate:login", "promgate:logout"} < routes.keys()
    assert Way.OAUTH2 in routes["promgate:console"].ways
