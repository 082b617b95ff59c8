"""Client certificates: by which names their holder goes, and what the gate makes of them."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest

from proxy.gate.certificate import read_certificate
from proxy.gate.credentials import LastShown, ShownCertificate
from proxy.gate.decide import Gate
from proxy.gate.decision import Deny, Forward, Reason
from proxy.gate.reply import status_of
from proxy.gate.snapshot import ClientTrust, Way
from tests.gate.play import NOW, READ, SNAPSHOT, WRITE, bearer, decide, gate, head, memory, read, write
from tests.wire.play import admit

ANY = ClientTrust("ca.crt", is_required=False)
GRAFANA = ShownCertificate(("cert:CN=grafana", "cert:SAN=grafana.example.net"), NOW + 60)
ROLES = {**SNAPSHOT.roles, "cert:CN=grafana": frozenset({"viewer"}), "cert:SAN=agent": frozenset({"write"})}


def certified(*, ways=(Way.CLIENT_CERT, Way.BEARER)):
    routes = tuple(replace(route, ways=route.ways | frozenset(ways)) for route in (READ, WRITE))
    return gate(roles=ROLES, routes=routes)


def told(common=("grafana",), sans=(("DNS", "grafana.example.net"),)):
    """As ssl.SSLObject.getpeercert has it."""
    return {"subject": tuple((("commonName", name),) for name in common), "subjectAltName": tuple(sans)}


@pytest.mark.parametrize(
    ("common", "sans", "names"),
    [
        (["grafana"], [], ("cert:CN=grafana",)),
        (["grafana"], [("DNS", "g.example.net")], ("cert:CN=grafana", "cert:SAN=g.example.net")),
        ([], [("URI", "spiffe://x/g"), ("IP Address", "10.0.0.1")], ("cert:SAN=spiffe://x/g", "cert:SAN=10.0.0.1")),
        (["a", "b"], [("email", "a@example.net")], ("cert:SAN=a@example.net",)),
        (["a\nb"], [("DirName", (("x", "y"),))], ()),
        (["a" * 257], [], ()),
    ],
)
def test_names(common, sans, names):
    shown = read_certificate(told(common, sans), NOW, ANY)
    assert (shown.names, shown.not_after, shown.allowed) == (names, NOW, bool(names))


@pytest.mark.parametrize(
    ("allowed", "is_allowed"),
    [({"grafana.example.net"}, True), ({"grafana"}, False), ({"example.net"}, False), ({"GRAFANA.example.net"}, False)],
)
def test_the_list_of_names_is_exact_and_knows_no_common_name(allowed, is_allowed):
    """T4."""
    trust = ANY._replace(allowed_sans=frozenset(allowed))
    assert read_certificate(told(), NOW, trust).allowed is is_allowed


def test_its_holder_is_who_the_certificate_says():
    decision = decide(certified(), read(), GRAFANA)
    assert isinstance(decision, Forward)
    assert (decision.identity.name, decision.identity.way) == ("cert:CN=grafana", Way.CLIENT_CERT)
    assert decision.identity.roles == {"viewer"}


def test_each_of_its_names_may_have_roles():
    shown = ShownCertificate(("cert:CN=agent-1", "cert:SAN=agent"), math.inf)
    assert isinstance(decide(certified(), write(), shown), Forward)
    assert decide(certified(), read(), shown).reason is Reason.NOT_ALLOWED


def test_a_name_that_nobody_gave_a_role_may_nothing():
    decision = decide(certified(), read(), ShownCertificate(("cert:CN=other",), math.inf))
    assert (decision.reason, decision.identity.name) == (Reason.NOT_ALLOWED, "cert:CN=other")


def test_where_the_way_is_not_open_nothing_was_shown():
    assert decide(gate(roles=ROLES), read(), GRAFANA).reason is Reason.NO_CREDENTIAL


@pytest.mark.parametrize(("request_", "status"), [(read(), 401), (write(), 503)])
def test_a_connection_may_outlive_its_certificate(request_, status):
    decision = decide(certified(), request_, GRAFANA, now=NOW + 60)
    assert (type(decision), decision.reason) == (Deny, Reason.CERTIFICATE_ENDED)
    assert status_of(decision.reason, decision.route) == status


def test_its_end_is_judged_by_the_machine_s_time():
    known = memory()
    known.drift_s = 3600.0
    by_ours = Gate(certified().snapshot, known)
    assert decide(by_ours, read(), GRAFANA, now=NOW + 59.0 - 3600.0) == decide(certified(), read(), GRAFANA)
    assert decide(by_ours, read(), GRAFANA, now=NOW + 60.0 - 3600.0).reason is Reason.CERTIFICATE_ENDED


def test_what_failed_does_not_fall_through_to_the_certificate():
    last = LastShown(GRAFANA)
    plain = head("/prometheus/api/v1/query", "GET")
    assert last.read(plain) is GRAFANA
    wrong = admit(b"GET /prometheus/x HTTP/1.1\r\nHost: a\r\nAuthorization: Bearer wrong\r\n\r\n")
    assert last.read(wrong) == bearer(b"wrong")
    assert decide(certified(), wrong, last.read(wrong)).reason is Reason.BAD_CREDENTIAL


def test_what_is_no_longer_believed_has_ended():
    """Whoever has it in hand sees that: a request that waits shows what it showed when it came."""
    certificate = replace(GRAFANA)
    shown = LastShown(certificate).read(read())
    certificate.distrust()
    assert decide(certified(), read(), shown).reason is Reason.CERTIFICATE_ENDED
