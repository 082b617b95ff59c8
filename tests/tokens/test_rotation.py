"""The next step of a rotation, as a table; and its phases."""

from __future__ import annotations

from dataclasses import replace

import pytest

from proxy.tokens.rotation import (
    LEASE_S,
    Confirm,
    Deliver,
    Expired,
    Finished,
    Halt,
    Leased,
    MakeCurrent,
    Mint,
    Offer,
    Phase,
    Plan,
    Prove,
    Rotation,
    next_step,
    phase_at,
    retry_at,
)
from tests.tokens.play import after, create

NOW = 1000.0
(SUCCESSOR,) = after(create("prom", now=NOW))
MINE = Rotation("r", "prom", SUCCESSOR.id, NOW, 3600.0, lease_owner="me", lease_until=NOW + LEASE_S)
PLAN = Plan(MINE, SUCCESSOR, "me", has_secret=True, confirmed=True, must_prove=True, targets=("a", "b"))


def plan(rotation=(), **changed):
    return replace(PLAN, rotation=replace(MINE, **dict(rotation)), **changed)


OFFERED = {"proved_at": NOW, "offered_at": NOW}


@pytest.mark.parametrize(
    ("asked", "step"),
    [
        (plan(has_secret=False), Mint()),
        (plan(successor=None), Mint()),
        (plan(successor=replace(SUCCESSOR, revoked_at=NOW)), Mint()),
        (plan(successor=replace(SUCCESSOR, expires_at=NOW)), Expired()),
        (plan(successor=replace(SUCCESSOR, expires_at=NOW), has_secret=False), Mint()),
        (plan(confirmed=False), Confirm()),
        (plan(), Prove()),
        (plan(must_prove=False), Offer()),
        (plan({"proved_at": NOW}), Offer()),
        (plan(OFFERED), Deliver("a", is_last=False)),
        (plan(OFFERED, received=frozenset({"a"})), Deliver("b", is_last=True)),
        (plan(OFFERED, received=frozenset({"b"})), Deliver("a", is_last=True)),
        (plan(OFFERED, received=frozenset({"a", "b", "gone"})), MakeCurrent()),
        (plan(OFFERED, targets=()), MakeCurrent()),
        (plan({"current_at": NOW}), Finished()),
        (plan({"given_up_at": NOW}), Halt()),
        (plan({"lease_owner": "you"}), Leased("you", NOW + LEASE_S)),
        (plan({"lease_owner": "you"}, is_owner_gone=True), Mint()),
        (plan({"lease_owner": "you", "lease_until": NOW}), Mint()),
        (plan({"lease_owner": "you", "current_at": NOW}), Finished()),
    ],
)
def test_the_next_step(asked, step):
    assert next_step(asked, NOW) == step


@pytest.mark.parametrize(
    ("facts", "phase"),
    [
        ({}, Phase.RUNNING),
        ({"lease_until": NOW}, Phase.HALTED),
        ({"current_at": NOW}, Phase.DONE),
        ({"current_at": NOW, "rolled_back_at": NOW}, Phase.ROLLED_BACK),
        ({"given_up_at": NOW}, Phase.GIVEN_UP),
    ],
)
def test_phases(facts, phase):
    assert phase_at(replace(MINE, **facts), NOW) is phase


def test_a_dead_driver_is_followed_after_its_lease_and_a_failure_after_a_while_that_grows():
    assert retry_at(MINE) == NOW + LEASE_S
    failed = replace(MINE, failed_at=NOW, lease_until=NOW)
    assert retry_at(failed) == NOW + 60
    assert retry_at(replace(failed, tries=3)) == NOW + 240
    assert retry_at(replace(failed, tries=1000)) == NOW + 3600
