"""From where, exempt paths, what the upstream is told, and guesses at one user: each as a table."""

from __future__ import annotations

import ipaddress
from dataclasses import replace

import pytest

from proxy.gate.addresses import Addresses
from proxy.gate.authenticate import ANYONE
from proxy.gate.decide import Gate
from proxy.gate.decision import Deny, Forward, Reason
from proxy.gate.edits import upstream_head
from proxy.gate.exempt import Exemption
from proxy.gate.limit import user_key
from proxy.gate.memory import Memory
from proxy.gate.snapshot import Bounds, RateLimit, Telling, Way
from proxy.gate.tenants import Tenants
from tests.gate.play import (
    AT,
    GRAFANA_SECRET,
    HASHES,
    READ,
    SENDER_SECRET,
    SNAPSHOT,
    STRANGE_SECRET,
    WRITE,
    answered,
    ask,
    basic,
    bearer,
    claims,
    decide,
    gate,
    guess,
    head,
    jwt,
    read,
    write,
)
from tests.wire.play import admit


def networks(*written):
    return tuple(map(ipaddress.ip_network, written))


PRIVATE = Addresses(networks("10.0.0.0/8", "2001:db8::/32"), networks("10.66.0.0/16"))
NOT_THERE = Addresses(denied=networks("10.66.0.0/16", "2001:db8:bad::/48"))


@pytest.mark.parametrize(
    ("addresses", "ip", "admitted"),
    [
        (PRIVATE, "10.0.0.1", True),
        (PRIVATE, "10.66.0.1", False),  # deny goes first
        (PRIVATE, "11.0.0.1", False),
        (PRIVATE, "::ffff:10.0.0.1", True),  # a listener on both families sees IPv4 so
        (PRIVATE, "::ffff:10.66.0.1", False),
        (PRIVATE, "::10.0.0.1", False),
        (PRIVATE, "2001:db8::1", True),
        (PRIVATE, "2001:DB8:0::1", True),
        (PRIVATE, "2001:db9::1", False),
        (PRIVATE, "fe80::1%eth0", False),
        (PRIVATE, "local", False),  # a unix socket
        (PRIVATE, "", False),
        (PRIVATE, "10.0.0.01", False),  # octal to some: nobody's address
        (NOT_THERE, "10.66.0.1", False),
        (NOT_THERE, "10.67.0.1", True),
        (NOT_THERE, "2001:db8:bad::1", False),
        (NOT_THERE, "local", True),
    ],
)
def test_from_where(addresses, ip, admitted):
    assert addresses.admit(ip) is admitted


def test_an_address_is_judged_before_the_credential():
    route = replace(WRITE, addresses=PRIVATE)
    a_gate = gate(routes=(route,))
    for shown in (None, bearer(SENDER_SECRET), bearer(STRANGE_SECRET), basic("ann", b"x"), jwt()):
        decision, questions = ask(a_gate, write(), shown, ip="192.0.2.1")
        assert (decision, questions) == (Deny(Reason.ADDRESS_NOT_ALLOWED, route), [])
        assert answered(decision)[0] == 403
    assert isinstance(decide(a_gate, write(), bearer(SENDER_SECRET)), Forward)
    # a path that was open to one address is judged for the next
    assert decide(a_gate, write(), bearer(SENDER_SECRET), ip="192.0.2.1").reason is Reason.ADDRESS_NOT_ALLOWED


# exempt paths

EXEMPT = replace(READ, exempt=(Exemption(b"/prometheus/-/ready"), Exemption(b"/prometheus/-/healthy/")))


@pytest.mark.parametrize(
    ("path", "method", "open_to_all"),
    [
        ("/prometheus/-/ready", "GET", True),
        ("/prometheus/-/ready?x", "HEAD", True),
        ("/prometheus/%2d/ready", "GET", True),  # one canonical spelling
        ("/prometheus/-/ready", "POST", False),
        ("/prometheus/-/ready/", "GET", False),
        ("/prometheus/-/ready/x", "GET", False),
        ("/prometheus/-/readyx", "GET", False),
        ("/prometheus/-/Ready", "GET", False),
        ("/prometheus/-/healthy", "GET", False),
        ("/prometheus/-/healthy/", "GET", True),
        ("/prometheus", "GET", False),
    ],
)
def test_exempt_paths_are_exact(path, method, open_to_all):
    a_gate = gate(routes=(EXEMPT,))
    for shown in (None, bearer(b"wrong"), bearer(STRANGE_SECRET), basic("ann", b"x")):
        decision, questions = ask(a_gate, head(path, method), shown)
        if open_to_all:
            assert (decision, questions) == (Forward(EXEMPT, ANYONE), [])
        else:
            assert not isinstance(decision, Forward)


def test_an_exempt_path_keeps_the_other_bounds():
    limit = RateLimit(rate=1, interval_s=1.0, burst=2, max_delay_s=9.0)
    a_gate = gate(routes=(replace(EXEMPT, rate_limit=limit, addresses=PRIVATE, max_body_bytes=10),))
    ready = head("/prometheus/-/ready", "GET")
    assert decide(a_gate, ready, ip="192.0.2.1").reason is Reason.ADDRESS_NOT_ALLOWED
    assert decide(a_gate, head("/prometheus/-/ready", "GET", length=11)).reason is Reason.BODY_TOO_LARGE
    told = [decide(a_gate, ready) for _ in range(3)]
    assert [type(each) for each in told] == [Forward, Forward, Deny]  # never delayed: nobody knows them
    assert told[2].reason is Reason.OVER_RATE
    assert isinstance(decide(a_gate, ready, ip="10.0.0.2"), Forward)  # each address has its own
    assert decide(a_gate, read(), bearer(GRAFANA_SECRET)).wait_s == 0.0  # and none of it is anybody's identity


# what the upstream is told

TENANTS = {"token:grafana": "a", "basic:ann": "b|c"}


@pytest.mark.parametrize(
    ("telling", "subject", "lines"),
    [
        (None, "carol", b""),
        (Telling(identity=True), "carol", b"X-Promgate-Identity: jwt:carol\r\nX-Promgate-Roles: admin,viewer\r\n"),
        (Telling(tenant_header="X-Scope-OrgID"), "carol", b"X-Scope-OrgID: c\r\n"),
        (Telling(tenant_header="X-Scope-OrgID", tenant="all"), "carol", b"X-Scope-OrgID: all\r\n"),
        (Telling(tenant_header="THANOS-TENANT"), "dave", Reason.NO_TENANT),
        (Telling(tenant_header="THANOS-TENANT", tenant="all"), "dave", b"THANOS-TENANT: all\r\n"),
        (Telling(identity=True), "car ol", Reason.IDENTITY_UNFIT),
        (Telling(identity=True), "car,ol", Reason.IDENTITY_UNFIT),
        (Telling(identity=True), "car\r\nX-Scope-OrgID: x", Reason.IDENTITY_UNFIT),
        (Telling(identity=True), "car\nol", Reason.IDENTITY_UNFIT),
        (Telling(identity=True), "carol\n", Reason.IDENTITY_UNFIT),
        (Telling(identity=True), "caröl", Reason.IDENTITY_UNFIT),
        (Telling(identity=True), "car\0ol", Reason.IDENTITY_UNFIT),
        (Telling(identity=True), "car\x7fol", Reason.IDENTITY_UNFIT),
        (Telling(identity=True), "~c!*@x.y", b"X-Promgate-Identity: jwt:~c!*@x.y\r\nX-Promgate-Roles: admin\r\n"),
    ],
)
def test_what_the_upstream_is_told(telling, subject, lines):
    roles = {f"jwt:{subject}": frozenset({"admin"}), "jwt:carol": frozenset({"viewer", "admin"})}
    route = replace(READ, telling=telling)
    a_gate = gate(routes=(route,), roles=roles, tenants=Tenants({**TENANTS, "jwt:carol": "c"}))
    decision = decide(a_gate, read(), jwt(), answers=[claims(name=f"jwt:{subject}")])
    if isinstance(lines, Reason):
        assert decision.reason is lines
        assert answered(decision)[0] == 403
    else:
        assert decision.told == lines
        sent = b"".join(upstream_head(read(), b"", decision.told, b"X-Forwarded-For: a\r\n\r\n"))
        assert sent.endswith(lines + b"X-Forwarded-For: a\r\n\r\n")


RELOADER = Exemption(b"/prometheus/-/reload", frozenset({b"POST"}), Addresses(networks("127.0.0.1", "::1")))
RELOAD = replace(READ, unblocked=(b"/-/reload",), exempt=(RELOADER,))


@pytest.mark.parametrize(
    ("method", "ip", "told", "is_open"),
    [
        ("POST", "127.0.0.1", "", True),
        ("POST", "::1", "", True),
        ("POST", "::ffff:127.0.0.1", "", True),
        ("POST", "127.0.0.2", "", False),
        ("POST", "10.0.0.1", "", False),
        ("POST", "local", "", False),  # a unix socket has no address
        ("GET", "127.0.0.1", "", False),
        # what a proxy on this machine passes on comes from this machine's address, too
        ("POST", "127.0.0.1", "X-Forwarded-For: 192.0.2.1\r\n", False),
        ("POST", "127.0.0.1", "x-forwarded-for:127.0.0.1\r\n", False),
        ("POST", "127.0.0.1", "Forwarded: for=192.0.2.1\r\n", False),
    ],
)
def test_a_path_that_is_exempt_from_some_networks(method, ip, told, is_open):
    asked = admit(f"{method} /prometheus/-/reload HTTP/1.1\r\nHost: a\r\n{told}\r\n".encode())
    decision = decide(gate(routes=(RELOAD,)), asked, ip=ip)
    assert decision == (Forward(RELOAD, ANYONE) if is_open else Deny(Reason.NO_CREDENTIAL, RELOAD))


def test_an_exempt_path_tells_of_nobody():
    a_gate = gate(routes=(replace(EXEMPT, telling=Telling(identity=True, tenant_header="X-Scope-OrgID")),))
    assert decide(a_gate, head("/prometheus/-/ready", "GET")).told == b""


def test_a_delayed_request_tells_it_too():
    limit = RateLimit(rate=1, interval_s=1.0, burst=1, max_delay_s=9.0)
    a_gate = gate(routes=(replace(READ, telling=Telling(identity=True), rate_limit=limit),))
    first, second = (decide(a_gate, read(), bearer(GRAFANA_SECRET)) for _ in range(2))
    assert second.wait_s
    assert first.told == second.told != b""


# guesses at one user, from many addresses: the limit here is four at once, and one a second

MANY = Reason.TOO_MANY_GUESSES
PER_USER = Bounds(
    guesses=RateLimit(rate=1_000, interval_s=1.0, burst=1_000, by_identity=False),
    guesses_per_user=RateLimit(rate=1, interval_s=1.0, burst=4),
)


def guess_at(a_gate, user, number, at=AT):
    """The n-th wrong password for this user, from an n-th address."""
    shown = basic(user, b"wrong%d" % number)
    decision, questions = guess(a_gate, read(), shown, False, ip=f"192.0.2.{number}", at=at)
    return decision.reason, len(questions)


@pytest.mark.parametrize("user", ["ann", "mallory", "m" * 3000], ids=["known", "unknown", "long"])
def test_guesses_at_one_user_from_everywhere(user):
    """The same for who exists and who does not: a 429 tells nothing of that."""
    a_gate = gate(bounds=PER_USER)
    reasons = [guess_at(a_gate, user, number) for number in range(5)]
    assert reasons == [(Reason.BAD_CREDENTIAL, 1)] * 2 + [(MANY, 0)] * 3
    assert guess_at(a_gate, "bob", 9) == (Reason.BAD_CREDENTIAL, 1)
    assert guess_at(a_gate, user, 9, at=AT + 60) == (Reason.BAD_CREDENTIAL, 1)


def test_who_is_known_is_never_locked_out():
    a_gate, ann = gate(bounds=PER_USER), basic("ann", b"right")
    decide(a_gate, read(), ann, answers=[HASHES[0]])
    for later in (0.0, 30.0, 90_000.0):
        for number in range(9):
            guess_at(a_gate, "ann", number, at=AT + later)
        fresh = [] if later < 60 else [HASHES[0]]
        assert isinstance(decide(a_gate, read(), ann, at=AT + later, answers=fresh), Forward)
        assert decide(a_gate, read(), bearer(GRAFANA_SECRET), at=AT + later).__class__ is Forward
        assert guess_at(a_gate, "ann", 8, at=AT + later)[0] is MANY


def test_who_is_stopped_by_address_charges_no_user():
    bounds = replace(PER_USER, guesses=RateLimit(rate=1, interval_s=1.0, burst=1, by_identity=False))
    a_gate = gate(bounds=bounds)
    for _ in range(50):
        ask(a_gate, read(), basic("ann", b"x"))
    assert isinstance(decide(a_gate, read(), basic("ann", b"right"), ip="192.0.2.1", answers=[HASHES[0]]), Forward)


def test_what_is_remembered_of_guesses_is_bounded():
    memory = Memory(bytes(32))
    Gate(replace(SNAPSHOT, bounds=PER_USER), memory)
    meter = memory.meter("guesses:user", PER_USER.guesses_per_user)
    for number in range(100_010):
        meter.charge(user_key(f"u{number}"), AT)
    assert 40_000 <= len(meter) <= 80_000
    assert len(user_key("u" * 4096)) == len(user_key("")) == 24


# a token as the password of basic auth


@pytest.mark.parametrize("user", ["", "agent", "ann", "token"])
def test_a_token_is_a_password_where_only_tokens_are_taken(user):
    route = replace(WRITE, ways=frozenset({Way.WRITE_TOKEN}))
    a_gate = gate(routes=(route,))
    decision, questions = ask(a_gate, write(), basic(user, SENDER_SECRET))
    assert (decision.identity.name, questions) == ("token:sender", [])
    assert decide(a_gate, write(), basic(user, b"no token")).reason is Reason.WAY_NOT_OPEN
    assert decide(a_gate, write(), basic(user, GRAFANA_SECRET)).reason is Reason.NOT_ALLOWED
