from __future__ import annotations

from collections import defaultdict
from time import process_time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.gate.limit import Meter, address_key
from proxy.gate.snapshot import RateLimit

RATES = st.builds(
    RateLimit,
    rate=st.sampled_from([0.5, 1.0, 3.0, 10.0]),
    interval_s=st.sampled_from([1.0, 60.0]),
    burst=st.integers(1, 5),
    max_delay_s=st.sampled_from([0.0, 2.0, 100.0]),
)
#: (seconds since the one before, who)
ARRIVALS = st.lists(st.tuples(st.floats(0, 30), st.sampled_from("ab")), max_size=60)
FEW = 1e-6


@given(RATES, ARRIVALS)
def test_in_no_time_more_than_burst_and_rate_go_on(limit, arrivals):
    meter = Meter(limit)
    at = 1000.0
    went = defaultdict(list)
    for gap, key in arrivals:
        at += gap
        wait = meter.spend(key, at)
        if wait <= limit.max_delay_s:
            went[key].append(at + wait)
    for times in went.values():
        for first, start in enumerate(times):
            for last in range(first, len(times)):
                span = times[last] - start
                assert last - first + 1 <= limit.burst + span * limit.rate / limit.interval_s + FEW


@given(RATES, ARRIVALS)
def test_who_is_told_to_come_later_may_come_then(limit, arrivals):
    meter = Meter(limit)
    at = 1000.0
    for gap, key in arrivals:
        at += gap
        wait = meter.spend(key, at)
        if wait > limit.max_delay_s:
            assert meter.spend(key, at + wait - limit.max_delay_s + FEW) <= limit.max_delay_s
            at += wait


@given(RATES, ARRIVALS)
def test_one_does_not_pay_for_another(limit, arrivals):
    together, alone = Meter(limit), Meter(limit)
    at = 1000.0
    for gap, key in arrivals:
        at += gap
        wait = together.spend(key, at)
        if key == "a":
            assert alone.spend(key, at) == wait


@given(RATES, ARRIVALS)
def test_owes_foretells_spend(limit, arrivals):
    meter = Meter(limit)
    at = 1000.0
    for gap, key in arrivals:
        at += gap
        owed = meter.owes(key, at)
        wait = meter.spend(key, at)
        assert wait == pytest.approx(owed, abs=FEW)


def test_a_refusal_is_not_charged():
    meter = Meter(RateLimit(rate=1, interval_s=1.0, burst=1))
    assert meter.spend("a", 0.0) == 0.0
    assert [meter.spend("a", 0.5) for _ in range(50)] == [0.5] * 50
    assert meter.spend("a", 1.0) == 0.0


def test_a_debt_has_its_bound():
    """However many guesses were wrong: whoever stops is forgiven after two bursts' time."""
    meter = Meter(RateLimit(rate=1, interval_s=1.0, burst=5))
    for _ in range(1000):
        meter.charge("a", 0.0)
    assert meter.owes("a", 0.0) == 6.0
    assert meter.spend("a", 6.0) == 0.0


def test_the_older_half_is_forgotten_first_and_who_comes_again_is_young():
    meter = Meter(RateLimit(rate=1, interval_s=1.0, burst=1), max_keys=4)
    assert [meter.spend(key, 0.0) for key in "abab"] == [0.0, 0.0, 1.0, 1.0]
    meter.spend("c", 0.0)
    meter.charge("a", 0.0)
    assert [meter.owes(key, 0.0) for key in "abc"] == [2.0, 1.0, 1.0]
    meter.spend("d", 0.0)
    assert [meter.owes(key, 0.0) for key in "abcd"] == [2.0, 0.0, 1.0, 1.0]


def test_a_full_table_makes_nobody_dear():
    """One look at the first key of a dict passes every hole before it: that was 100 us for each new address."""
    meter = Meter(RateLimit(rate=10, interval_s=1.0, burst=20), max_keys=20_000)
    times = []
    for turn in range(6):
        since = process_time()
        for number in range(10_000):
            meter.charge(f"{turn}.{number}", 0.0)
        times.append(process_time() - since)
    assert min(times[3:]) < 30 * max(times[:2])  # holes made it 150 times


@given(st.lists(st.tuples(st.integers(0, 30), st.booleans()), max_size=200))
def test_keys_are_bounded(arrivals):
    meter = Meter(RateLimit(rate=1, interval_s=1.0, burst=1), max_keys=10)
    for number, (key, is_guess) in enumerate(arrivals):
        (meter.charge if is_guess else meter.spend)(str(key), float(number))
        assert len(meter) <= 10


@pytest.mark.parametrize(
    ("ip", "key"),
    [
        ("10.0.0.1", "10.0.0.1"),
        ("::ffff:10.0.0.1", "::ffff:10.0.0.1"),
        ("2001:db8:1:2:3:4:5:6", "2001:db8:1:2"),
        ("2001:db8::6", "2001:db8:0:0"),
        ("2001:db8:1:2::", "2001:db8:1:2"),
        ("::1", "0:0:0:0"),
        ("::", "0:0:0:0"),
        ("fe80::1%eth0", "fe80:0:0:0"),
        ("local", "local"),
    ],
)
def test_what_an_address_is_counted_by(ip, key):
    assert address_key(ip) == key
