"""Who may leave HTTP: a handshake, on a route that says so, from no other site's page."""

from __future__ import annotations

from dataclasses import replace

import pytest

from proxy.gate.decide import Gate
from proxy.gate.decision import Deny, Forward, Reason, Upgrade
from proxy.gate.memory import Memory
from proxy.gate.reply import build_denial
from proxy.gate.snapshot import RateLimit, Snapshot
from proxy.wire.websocket import UPGRADE_LINES
from tests.gate.play import AT, IP, NOW, OPEN
from tests.wire.play import admit, request
from tests.wire.test_websocket import ASKING, KEY

LIVE = replace(OPEN, websocket=True)


def decided(*more, route=LIVE, host=b"Host: a.example", external_url="", times=1):
    lines = [b"%b: %b" % (name.encode(), value) for name, value in ASKING.items()]
    head = admit(request(*lines, *more, line=b"GET /open/ws HTTP/1.1", host=host))
    gate = Gate(Snapshot((route,), external_url=external_url), Memory(bytes(32)))
    return [gate.decide(head, None, IP, AT, NOW) for _ in range(times)][-1]


def test_a_handshake_goes_on_as_one():
    decision = decided()
    assert isinstance(decision, Upgrade)
    assert (decision.key, decision.told, decision.identity.name) == (KEY, UPGRADE_LINES, "anyone")


def test_off_by_default():
    assert decided(route=OPEN).__class__ is Forward


def test_what_is_no_handshake_goes_on_without_its_upgrade():
    decision = decided(b"Content-Length: 5")
    assert (decision.__class__, decision.told) == (Forward, b"")


@pytest.mark.parametrize(
    ("origin", "host", "external_url", "passes"),
    [
        ("https://a.example", "a.example", "", True),
        ("https://A.example", "a.EXAMPLE", "", True),
        ("https://a.example", "a.example:443", "", True),
        ("http://a.example:80", "a.example", "", True),
        ("https://a.example:9443", "a.example:9443", "", True),
        ("https://a.example:9443", "a.example", "", False),
        ("https://a.example", "a.example:9443", "", False),
        ("https://b.example", "a.example", "", False),
        ("https://a.example.evil", "a.example", "", False),
        ("https://evil.a.example", "a.example", "", False),
        ("null", "a.example", "", False),
        ("file://", "a.example", "", False),
        ("chrome-extension://a.example", "a.example", "", False),
        ("", "a.example", "", False),
        ("https://noc.example", "10.0.0.5:9443", "https://noc.example", True),
        ("https://noc.example", "10.0.0.5:9443", "https://noc.example:443", True),
        ("http://noc.example", "10.0.0.5:9443", "https://noc.example", False),
        ("https://b.example", "10.0.0.5:9443", "https://noc.example", False),
    ],
)
def test_no_page_of_another_site_opens_one(origin, host, external_url, passes):
    decision = decided(f"Origin: {origin}".encode(), host=f"Host: {host}".encode(), external_url=external_url)
    assert isinstance(decision, Upgrade) is passes
    if not passes:
        assert (decision.__class__, decision.reason) == (Deny, Reason.FOREIGN_ORIGIN)
        assert build_denial(decision, jitter=0, close=False, head_only=False)[0] == 403


def test_the_rate_of_the_route_holds_for_it():
    limited = replace(LIVE, rate_limit=RateLimit(rate=1, interval_s=60.0, burst=2, by_identity=False))
    assert isinstance(decided(route=limited, times=2), Upgrade)
    assert decided(route=limited, times=3).reason is Reason.OVER_RATE
