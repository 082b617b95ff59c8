"""Outcomes are told in order, to everybody, in batches that neither wait for ever nor come one by one."""

from dataclasses import replace

from proxy.observe.observers import Observers
from tests.observe.test_access_log import PLAIN


def test_outcomes_wait_for_a_flush_but_not_for_ever():
    batches = []
    observers = Observers(batches.append)
    observers.add(PLAIN)
    assert batches == [], "off the request's way"
    observers.flush()
    observers.flush()
    assert batches == [[PLAIN]], "and never an empty batch"
    for _ in range(1000):
        observers.add(PLAIN)
    assert sum(map(len, batches)) > 500, "a burst between two flushes is bounded"
    observers.flush()
    assert sum(map(len, batches)) == 1001


def test_everybody_is_told_the_same_in_order():
    first, second = [], []
    observers = Observers(first.extend, second.extend)
    outcomes = [replace(PLAIN, at=float(at)) for at in range(300)]
    for outcome in outcomes:
        observers.add(outcome)
    observers.flush()
    assert first == second == outcomes
