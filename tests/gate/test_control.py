"""promgate's own endpoints are routes like any other: no other route leads to them, and they lead to no other."""

from __future__ import annotations

from dataclasses import replace

import pytest

from proxy.config.routes import on_every_host
from proxy.gate.authorize import READING
from proxy.gate.decision import Deny, Forward, Reason
from proxy.gate.snapshot import CONTROL, RateLimit, Route, Rule, Telling, Way
from tests.gate.play import AT, HASHES, IP, NOW, OPEN, READ, ask, basic, gate
from tests.wire.play import admit

HOSTS = frozenset({b"noc.example.net"})
CONSOLE = Route(
    "promgate:console",
    "/-/console",
    CONTROL,
    ways=frozenset({Way.BASIC, Way.BEARER}),
    rules=(Rule("admin"), Rule("viewer")),
    methods=READING,
    telling=Telling(identity=True, quoted=True),
    only_hosts=HOSTS,
)
API = replace(
    CONSOLE, name="promgate:api", path="/-/api/v1", rules=(Rule("admin"),), methods=READING | {b"POST"}
)
ROOT = replace(READ, name="root", path="/")
ANN, BOB = basic("ann", b"right"), basic("bob", b"right")


def decide(a_gate, path, *, host="noc.example.net", method="GET", shown=ANN, fields=""):
    request = admit(f"{method} {path} HTTP/1.1\r\nHost: {host}\r\n{fields}\r\n".encode())
    decision, questions = ask(a_gate, request, shown)
    if questions:
        decision = a_gate.decide(request, shown, IP, AT, NOW, dict.fromkeys(questions, HASHES[0]))
    return decision


def with_control(*routes):
    return gate(routes=(*routes, CONSOLE, API))


@pytest.mark.parametrize("again", [1, 2])
@pytest.mark.parametrize(
    ("path", "route"),
    [
        ("/-/console", "promgate:console"),
        ("/-/console/style.css", "promgate:console"),
        ("/%2d/console", "promgate:console"),
        ("/-/api/v1", "promgate:api"),
        ("/-/api/v1/tokens?x=/prometheus", "promgate:api"),
        ("/-/consolex", "root"),
        ("/-/console.", "root"),
        ("/-/api/v10", "root"),
        ("/-/api", "root"),
        ("/-/", "root"),
        ("/prometheus/-/console", "read"),
        ("/prometheus/-/api/v1/tokens", "read"),
        ("/open/-/api/v1/tokens", "open"),
    ],
)
def test_each_path_has_one_route(path, route, again):
    """Whichever prefix stands before it, and however often it was asked for."""
    a_gate = with_control(ROOT, READ, OPEN)
    for _ in range(again):
        decision = decide(a_gate, path)
        assert isinstance(decision, Forward)
        assert decision.route.name == route


@pytest.mark.parametrize(
    ("host", "reason"),
    [
        ("noc.example.net", None),
        ("NOC.example.net:9443", None),
        ("127.0.0.1", None),
        ("192.0.2.7:9443", None),
        ("[2001:db8::1]:9443", None),
        ("localhost:9443", None),
        ("evil.example", Reason.WRONG_HOST),
        ("noc.example.net.evil.example", Reason.WRONG_HOST),
        ("127.0.0.1.evil.example", Reason.WRONG_HOST),
        ("localhost.evil.example", Reason.WRONG_HOST),
    ],
)
def test_a_foreign_name_is_not_answered(host, reason):
    """DNS rebinding: a page of evil.example has its own name point here, and asks with what its visitor is known by."""
    a_gate = with_control(ROOT)
    for _ in range(2):
        decision = decide(a_gate, "/-/api/v1/tokens", host=host)
        assert (decision.reason if isinstance(decision, Deny) else None) is reason
        assert isinstance(decide(a_gate, "/graph", host=host), Forward), "whose hosts are the operator's"


def test_it_is_on_every_site_and_is_nobody_s_site():
    claimed = replace(READ, hosts=frozenset({b"p.example"}))
    a_gate = gate(routes=(claimed, *on_every_host((CONSOLE,), (claimed,))))
    assert decide(a_gate, "/-/console", host="p.example").reason is Reason.WRONG_HOST
    assert decide(a_gate, "/elsewhere", host="other.example").reason is Reason.WRONG_HOST, "and not: no route"
    named = replace(CONSOLE, only_hosts=HOSTS | {b"p.example"})
    wider = gate(routes=(claimed, *on_every_host((named,), (claimed,))))
    assert decide(wider, "/-/console", host="p.example").route.name == "promgate:console"


def test_it_answers_where_each_route_has_its_host():
    """By its own names and by addresses: no route claims them, and nothing else is served there."""
    claimed = replace(READ, hosts=frozenset({b"p.example"}))
    a_gate = gate(routes=(claimed, *on_every_host((CONSOLE,), (claimed,))))
    for host in ("noc.example.net", "NOC.example.net:9443", "localhost:9443", "127.0.0.1:9443", "[::1]:9443"):
        decision = decide(a_gate, "/-/console", host=host)
        assert isinstance(decision, Forward), host
        assert decision.route.name == "promgate:console"
    assert decide(a_gate, "/prometheus/x", host="noc.example.net").reason is Reason.NO_ROUTE
    assert decide(a_gate, "/prometheus/x", host="127.0.0.1").reason is Reason.WRONG_HOST
    assert decide(a_gate, "/-/console", host="other.example").reason is Reason.WRONG_HOST


def test_its_names_keep_the_routes_that_serve_every_name():
    claimed = replace(READ, hosts=frozenset({b"p.example"}))
    a_gate = gate(routes=(claimed, OPEN, *on_every_host((CONSOLE,), (claimed, OPEN))))
    assert decide(a_gate, "/-/console").route.name == "promgate:console"
    assert decide(a_gate, "/open/x").route.name == "open"


@pytest.mark.parametrize("path", ["/-/api/v1/tokens", "/-/api/v1/tokens/x/rotate"])
def test_a_viewer_mints_nothing(path):
    for method in ("GET", "POST"):
        assert decide(with_control(), path, method=method, shown=BOB).reason is Reason.NOT_ALLOWED
    assert isinstance(decide(with_control(), "/-/console", shown=BOB), Forward)
    assert decide(with_control(), "/-/console", shown=None).reason is Reason.NO_CREDENTIAL
    assert decide(with_control(), path, shown=None).reason is Reason.NO_CREDENTIAL


def test_only_some_methods_come_through():
    for method in ("PUT", "DELETE", "PATCH", "OPTIONS"):
        assert decide(with_control(), "/-/api/v1/tokens", method=method).reason is Reason.METHOD_NOT_TAKEN
    assert decide(with_control(), "/-/console", method="POST").reason is Reason.METHOD_NOT_TAKEN


def test_it_is_told_who_asks_and_how():
    told = decide(with_control(), "/-/console").told
    assert told.split(b"\r\n")[:-1] == [
        b"X-Promgate-Identity: basic:ann",
        b"X-Promgate-Way: basic",
        b"X-Promgate-Roles: admin",
        b"X-Promgate-Token-Id: ",
    ]


@pytest.mark.parametrize("name", ["Identity", "Roles", "Way", "Token-Id", "Certificate", "identity", "ROLES"])
def test_no_client_says_who_it_is(name):
    request = admit(f"GET /-/console HTTP/1.1\r\nHost: a\r\nX-Promgate-{name}: admin\r\n\r\n".encode())
    assert not any(b"promgate" in line.lower() for line in request.fields.split(b"\r\n"))


def test_a_limit_is_its_own():
    limited = replace(API, rate_limit=RateLimit(1, 60.0, 2))
    a_gate = gate(routes=(ROOT, limited))
    assert [isinstance(decide(a_gate, "/-/api/v1/x"), Forward) for _ in range(3)] == [True, True, False]
    assert isinstance(decide(a_gate, "/graph"), Forward)
