"""Virtual hosts: a name has the routes that claim it, and every other name those that claim none."""

from __future__ import annotations

from dataclasses import replace

import pytest

from proxy.gate.decide import Gate
from proxy.gate.decision import Deny, Forward, Local, Reason
from proxy.gate.memory import Memory
from proxy.gate.reply import status_of
from proxy.gate.routing import host_name
from proxy.gate.snapshot import Route, Rule, Snapshot, Upstream, Way
from tests.wire.play import admit

OPEN = Route("any", "/", Upstream("127.0.0.1", 9090), ways=frozenset({Way.NONE}), rules=(Rule("anyone"),))
EVERYWHERE = (OPEN, replace(OPEN, name="any-api", path="/api"))
CLAIMED = (
    replace(OPEN, name="a", path="/", hosts=frozenset({b"a.example"})),
    replace(OPEN, name="ab-api", path="/api", hosts=frozenset({b"a.example", b"b.example", b"[::1]"})),
)


def gate(*routes: Route) -> Gate:
    return Gate(Snapshot(routes), Memory(bytes(32)))


def decide(a_gate: Gate, host: bytes | None, path: bytes = b"/api/x"):
    version, line = (b"1.1", b"Host: " + host + b"\r\n") if host is not None else (b"1.0", b"")
    return a_gate.decide(admit(b"GET " + path + b" HTTP/" + version + b"\r\n" + line + b"\r\n"), None, "ip", 0.0, 0.0)


@pytest.mark.parametrize("again", [False, True])
@pytest.mark.parametrize(
    ("host", "path", "name"),
    [
        (b"a.example", b"/api/x", "ab-api"),
        (b"a.example", b"/x", "a"),
        (b"A.Example:9443", b"/x", "a"),
        (b"a.example.", b"/x", "a"),
        (b"a.example.:9443", b"/x", "a"),
        (b"b.example", b"/api/x", "ab-api"),
        (b"b.example", b"/x", None),  # claimed: what serves every other name does not serve it
        (b"[::1]:9443", b"/api", "ab-api"),
        (b"[::1]", b"/api", "ab-api"),
        (b"c.example", b"/api/x", "any-api"),
        (b"c.example", b"/x", "any"),
        (b"xa.example", b"/x", "any"),
        (b"a.example.evil", b"/x", "any"),
        (None, b"/x", "any"),
    ],
)
def test_the_longest_prefix_within_the_host(host, path, name, again):
    """`again`: from memory, which one host's request must not fill for another's."""
    a_gate = gate(*EVERYWHERE, *CLAIMED)
    if again:
        for other in (b"a.example", b"b.example", b"c.example", host):
            decide(a_gate, other, path)
    decision = decide(a_gate, host, path)
    if name is None:
        assert decision == Deny(Reason.NO_ROUTE)
    else:
        assert isinstance(decision, Forward)
        assert decision.route.name == name


@pytest.mark.parametrize("host", [b"c.example", b"127.0.0.1:9443", b"a.example.evil", None])
def test_a_host_that_nobody_serves(host):
    decision = decide(gate(*CLAIMED), host)
    assert decision == Deny(Reason.WRONG_HOST)
    assert status_of(Reason.WRONG_HOST, None) == 421


def test_health_is_asked_by_address():
    assert decide(gate(*CLAIMED), b"10.0.0.7:9443", b"/-/healthy") == Local(Reason.HEALTH)


@pytest.mark.parametrize(
    ("authority", "name"),
    [(b"H:1", b"h"), (b"h", b"h"), (b"h.", b"h"), (b"h:", b"h"), (b"[::A]:1", b"[::a]"), (b"[::a]", b"[::a]")],
)
def test_host_name(authority, name):
    assert host_name(authority) == name
