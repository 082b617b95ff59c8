"""How many requests may be under way at once."""

from __future__ import annotations

from dataclasses import replace

import pytest

from proxy.gate.decision import Deny, Forward, Reason
from proxy.gate.exempt import Exemption
from proxy.gate.reply import status_of
from proxy.gate.snapshot import Concurrency, RateLimit
from tests.gate.play import (
    GRAFANA_SECRET,
    OPEN,
    OTHER_IP,
    READ,
    SENDER_SECRET,
    WRITE,
    bearer,
    decide,
    gate,
    read,
    write,
)
from tests.gate.play import head as asked


def bounded(route, limit=2, *, by_identity=True, **changes):
    return gate(routes=(replace(route, concurrency=Concurrency(limit, by_identity=by_identity), **changes),))


def under_way(a_gate, request, shown, **where):
    """A request that went on its way, as the relay does it."""
    decision = decide(a_gate, request, shown, **where)
    assert isinstance(decision, Forward)
    decision.place.take()
    return decision.place


@pytest.mark.parametrize(
    ("route", "request_", "secret", "status"),
    [(WRITE, write(), SENDER_SECRET, 503), (READ, read(), GRAFANA_SECRET, 429)],
)
def test_one_over_the_limit_is_refused_until_a_place_is_free(route, request_, secret, status):
    a_gate, shown = bounded(route), bearer(secret)
    places = [under_way(a_gate, request_, shown) for _ in range(2)]
    denied = decide(a_gate, request_, shown)
    assert (type(denied), denied.reason) == (Deny, Reason.TOO_MANY_AT_ONCE)
    assert status_of(denied.reason, denied.route) == status
    places[0].give_back()
    assert isinstance(decide(a_gate, request_, shown), Forward)


def test_an_identity_has_its_places_wherever_it_comes_from():
    a_gate, shown = bounded(READ, 1), bearer(GRAFANA_SECRET)
    under_way(a_gate, read(), shown)
    assert decide(a_gate, read(), shown, ip=OTHER_IP).reason is Reason.TOO_MANY_AT_ONCE


def test_an_address_has_its_places_whoever_comes_from_it():
    a_gate = bounded(OPEN, 1, by_identity=False)
    place = under_way(a_gate, asked("/open/x", "GET"), None)
    assert decide(a_gate, asked("/open/y", "GET"), None).reason is Reason.TOO_MANY_AT_ONCE
    assert isinstance(decide(a_gate, asked("/open/x", "GET"), None, ip=OTHER_IP), Forward)
    place.give_back()


def test_an_exempt_path_counts_by_address():
    a_gate = bounded(READ, 1, exempt=(Exemption(b"/prometheus/-/ready"),))
    under_way(a_gate, asked("/prometheus/-/ready", "GET"), None)
    assert decide(a_gate, asked("/prometheus/-/ready", "GET"), None).reason is Reason.TOO_MANY_AT_ONCE


def test_who_is_refused_owes_nothing_for_the_rate():
    limit = RateLimit(rate=1, interval_s=3600.0, burst=2)
    a_gate, shown = bounded(READ, 1, rate_limit=limit), bearer(GRAFANA_SECRET)
    place = under_way(a_gate, read(), shown)
    for _ in range(5):
        assert decide(a_gate, read(), shown).reason is Reason.TOO_MANY_AT_ONCE
    place.give_back()
    assert isinstance(decide(a_gate, read(), shown), Forward)


def test_where_nothing_is_limited_nothing_is_counted():
    assert decide(gate(), read(), bearer(GRAFANA_SECRET)).place is None
