"""From where somebody may come: whom it is asked of, what a role is outside of its networks, what senders are told."""

from __future__ import annotations

from dataclasses import replace
from ipaddress import ip_network

import pytest

from proxy.gate.addresses import Addresses
from proxy.gate.credentials import ShownCertificate
from proxy.gate.decision import Deny, Forward, Reason
from proxy.gate.snapshot import Telling, Way
from proxy.gate.sources import Sources
from tests.gate import test_people as people
from tests.gate.play import (
    GRAFANA_SECRET,
    HASHES,
    NOW,
    READ,
    SENDER_SECRET,
    SNAPSHOT,
    answered,
    basic,
    bearer,
    claims,
    decide,
    gate,
    guess,
    jwt,
    read,
    write,
)

INSIDE, OUTSIDE = "10.0.0.1", "192.0.2.1"


def sources(**networks):
    """`token_sender="10.0.0.0/8"`."""
    return Sources({
        key.replace("_", ":", 1): Addresses(tuple(map(ip_network, each.split()))) for key, each in networks.items()
    })  # fmt: skip


@pytest.mark.parametrize(
    ("ip", "networks", "is_taken"),
    [
        (INSIDE, "10.0.0.0/8", True),
        (OUTSIDE, "10.0.0.0/8", False),
        (OUTSIDE, "10.0.0.0/8 192.0.2.1/32", True),
        ("::ffff:10.0.0.1", "10.0.0.0/8", True),
        ("2001:db8::1", "10.0.0.0/8", False),
        ("2001:db8::1", "2001:db8::/32", True),
        ("", "0.0.0.0/0 ::/0", False),  # a unix socket
    ],
)
def test_a_token_is_taken_from_its_networks(ip, networks, is_taken):
    decision = decide(gate(sources=sources(token_sender=networks)), write(), bearer(SENDER_SECRET), ip=ip)
    assert isinstance(decision, Forward) is is_taken
    assert is_taken or decision.reason is Reason.SOURCE_NOT_ALLOWED


def test_others_are_not_confined_by_it():
    confined = gate(sources=sources(token_sender="10.0.0.0/8"))
    assert isinstance(decide(confined, read(), bearer(GRAFANA_SECRET), ip=OUTSIDE), Forward)


def test_a_sender_keeps_its_data_and_is_told_no_network():
    """A good token from a network that is new, or missing in the configuration: "not now" (3-senders)."""
    confined = gate(sources=sources(token_sender="10.0.0.0/8", token_grafana="10.0.0.0/8"))
    status, fields, body = answered(decide(confined, write(), bearer(SENDER_SECRET), ip=OUTSIDE))
    assert (status, 5 <= int(fields["Retry-After"]) <= 30) == (503, True)
    other_status, other_fields, other_body = answered(decide(confined, read(), bearer(GRAFANA_SECRET), ip=OUTSIDE))
    assert (other_status, "Retry-After" in other_fields) == (403, False)
    assert body == other_body == "promgate: this identity is not taken from where it comes; ask who runs promgate\n"


def test_nobody_unknown_learns_of_it():
    confined = gate(sources=sources(token_sender="10.0.0.0/8", basic_ann="10.0.0.0/8"))
    assert decide(confined, write(), bearer(b"pgw_wrong"), ip=OUTSIDE).reason is Reason.BAD_CREDENTIAL
    assert guess(confined, read(), basic("ann", b"wrong"), False, ip=OUTSIDE)[0].reason is Reason.BAD_CREDENTIAL
    assert guess(confined, read(), basic("ann", b"right"), HASHES[0], ip=OUTSIDE)[0].reason is Reason.SOURCE_NOT_ALLOWED


@pytest.mark.parametrize(
    ("key", "shown", "answers"),
    [
        ("jwt_carol", jwt(), [claims()]),
        ("jwt_ groups=sre", jwt(), [claims(granted=("jwt: groups=sre",))]),
        ("cert_CN=g", ShownCertificate(("cert:CN=g", "cert:SAN=g.example"), NOW + 60), []),
        ("cert_SAN=g.example", ShownCertificate(("cert:CN=g", "cert:SAN=g.example"), NOW + 60), []),
        ("basic_ann", basic("ann", b"x"), [HASHES[0]]),
    ],
)
def test_whoever_has_a_name_may_be_confined(key, shown, answers):
    roles = {**SNAPSHOT.roles, "cert:CN=g": frozenset({"viewer"})}
    route = replace(READ, ways=READ.ways | {Way.CLIENT_CERT})
    confined = gate(routes=(route,), roles=roles, sources=sources(**{key: "10.0.0.0/8"}))
    assert isinstance(decide(confined, read(), shown, ip=INSIDE, answers=answers), Forward)
    confined = gate(routes=(route,), roles=roles, sources=sources(**{key: "10.0.0.0/8"}))
    assert decide(confined, read(), shown, ip=OUTSIDE, answers=answers).reason is Reason.SOURCE_NOT_ALLOWED


def test_of_several_entries_each_must_fit():
    both = sources(token_sender="10.0.0.0/8 192.0.2.0/24", role_write="10.0.0.0/8")
    assert isinstance(decide(gate(sources=both), write(), bearer(SENDER_SECRET), ip=INSIDE), Forward)
    assert decide(gate(sources=both), write(), bearer(SENDER_SECRET), ip=OUTSIDE).reason is Reason.SOURCE_NOT_ALLOWED


def test_outside_of_its_networks_a_role_is_not_had_and_others_are():
    route = replace(READ, telling=Telling(identity=True))
    roles = {"basic:ann": frozenset({"viewer", "admin"})}
    confined = gate(
        routes=(route,), roles=roles, users={"ann": HASHES}, sources=sources(role_admin="10.0.0.0/8")
    )
    ann = basic("ann", b"x")
    inside = decide(confined, read("DELETE"), ann, ip=INSIDE, answers=[HASHES[0]])
    assert isinstance(inside, Forward)
    assert inside.told.endswith(b"X-Promgate-Roles: admin,viewer\r\n")
    outside = decide(confined, read(), ann, ip=OUTSIDE)
    assert isinstance(outside, Forward)
    assert outside.told.endswith(b"X-Promgate-Roles: viewer\r\n")  # nor does the upstream, or the console, see it
    denied = decide(confined, read("DELETE"), ann, ip=OUTSIDE)
    assert (denied.reason, denied.identity.roles) == (Reason.SOURCE_NOT_ALLOWED, {"viewer", "admin"})


def test_whoever_is_out_of_place_may_still_log_out():
    """What anybody may do who shows nothing is not refused to somebody who does."""
    confined, _ = people.gate(people.EVE, sources=sources(**{"oidc_user:eve@x.example": "10.0.0.0/8"}))
    page = people.ask("/-/login", people.COOKIE)
    assert isinstance(people.decide(confined, page, ip=OUTSIDE), Forward)
    assert people.decide(confined, page, ip=OUTSIDE).identity.name == "oidc:user:eve@x.example"
    other = people.ask("/prometheus/graph", people.COOKIE)
    assert people.decide(confined, other, ip=OUTSIDE).reason is Reason.SOURCE_NOT_ALLOWED
    assert isinstance(people.decide(confined, other, ip=INSIDE), Forward)


def test_what_they_may_do_nowhere_is_no_matter_of_where():
    confined = gate(sources=sources(role_viewer="10.0.0.0/8"))
    denied = decide(confined, read("DELETE"), bearer(GRAFANA_SECRET), ip=OUTSIDE)
    assert (type(denied), denied.reason) == (Deny, Reason.NOT_ALLOWED)


