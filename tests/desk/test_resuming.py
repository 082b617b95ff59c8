"""A rotation that halted half way and is taken up: whatever fails then, what a target holds opens the door."""

from __future__ import annotations

import pytest

from proxy.desk.desk import Report
from proxy.desk.ending import roll_back
from proxy.desk.leaked import revoke_leaked
from proxy.desk.rotating import create, rotate
from proxy.desk.status import status
from proxy.tokens.ledger import Sighting
from proxy.tokens.lifecycle import MAX_PREVIOUS, Refusal
from proxy.tokens.token import ACCEPTED, TokenKind, TokenState
from tests.desk.play import Canary, Ledger, Stage
from tests.tokens.play import DAY, HOUR


@pytest.fixture
def stage():
    made = Stage("file:a", "file:b")
    made.canary = Canary()
    assert isinstance(create(made.desk(), "prom", kind=TokenKind.WRITE), Report)
    return made


def halt_half_way(stage, rotation_id="x"):
    """file:a has the successor, file:b the token before."""
    stage.targets[1].fails = "before"
    refusal = rotate(stage.desk(), "prom", rotation_id=rotation_id)
    assert isinstance(refusal, Refusal)
    stage.targets[1].fails = None


def states_in_files(stage):
    return [stage.state_of(target.holds).value for target in stage.targets]


def test_a_canary_that_dies_when_it_is_taken_up_leaves_what_a_target_holds_accepted_until_it_is_replaced(stage):
    halt_half_way(stage)
    half_delivered = stage.tokens()[-1]
    stage.canary.fails = "query"
    refusal = rotate(stage.desk(), "prom", rotation_id="x")
    assert "the canary failed at step query" in refusal.text
    assert f"file:a holds token {half_delivered.id}" in refusal.text
    assert "revoke" not in refusal.text.replace("is revoked", "")
    assert stage.states() == ["current", "pending", "revoked"]
    stage.now += 100 * DAY
    assert states_in_files(stage) == ["pending", "current"]
    assert any(f"file:a holds token {half_delivered.id}" in line for line in status(stage.desk(), "prom").notes)
    stage.canary.fails = None
    assert isinstance(rotate(stage.desk(), "prom"), Report)
    assert states_in_files(stage) == ["current", "current"]
    assert stage.states() == ["previous", "previous", "revoked", "current"]
    assert stage.tokens()[1].accepted_until == stage.now + HOUR


def test_one_that_is_given_up_leaves_what_a_target_holds_accepted_until_it_is_replaced(stage):
    halt_half_way(stage)
    report = roll_back(stage.desk(), "prom")
    assert report.facts["holders"] == ["file:a"]
    assert report.notes[0] == "prom: rotation x is given up, and the token before it stays current"
    assert f"file:a holds token {stage.tokens()[-1].id}" in " ".join(report.notes)
    stage.now += 100 * DAY
    assert states_in_files(stage) == ["pending", "current"]
    assert isinstance(rotate(stage.desk(), "prom"), Report)
    assert states_in_files(stage) == ["current", "current"]
    stage.now += HOUR
    assert stage.states() == ["retired", "retired", "current"]


def test_what_a_dead_canary_has_given_up_is_not_rolled_back_to_the_token_before(stage):
    rotate(stage.desk(), "prom")
    halt_half_way(stage)
    stage.canary.fails = "query"
    rotate(stage.desk(), "prom", rotation_id="x")
    before = stage.states()
    refusal = roll_back(stage.desk(), "prom")
    assert "rotation x of prom is given up already" in refusal.text
    assert (stage.states(), states_in_files(stage)) == (before, ["pending", "current"])


def test_a_name_that_a_leak_left_without_a_current_token_is_taken_up_without_a_canary(stage):
    stage.targets[1].fails = "before"
    leaked = stage.tokens()[0].digest
    assert "delivery failed: file:b: " in revoke_leaked(stage.desk(), leaked).failure
    stage.targets[1].fails = None
    stage.canary.fails = "push"
    (rotation,) = [one for one in stage.rotations() if one.is_open]
    assert isinstance(rotate(stage.desk(), "prom", rotation_id=rotation.id), Report)
    assert states_in_files(stage) == ["current", "current"]


def test_an_older_token_that_leaked_is_replaced_without_a_canary_too(stage):
    """Its holders cannot go back to it, whatever else is current."""
    rotate(stage.desk(), "prom")
    roll_back(stage.desk(), "prom")
    stage.targets[1].fails = "before"
    revoke_leaked(stage.desk(), stage.targets[1].holds)
    stage.targets[1].fails = None
    stage.canary.fails = "push"
    (rotation,) = [one for one in stage.rotations() if one.is_open]
    assert isinstance(rotate(stage.desk(), "prom", rotation_id=rotation.id), Report)
    assert states_in_files(stage) == ["current", "current"]


def test_a_first_token_that_is_taken_up_is_not_proven_either():
    stage = Stage("file:a", "file:b")
    stage.canary = Canary()
    stage.canary.fails = "push"
    stage.targets[1].fails = "before"
    create(stage.desk(), "prom", kind=TokenKind.WRITE)
    stage.targets[1].fails = None
    assert isinstance(rotate(stage.desk(), "prom", rotation_id=stage.rotations()[0].id), Report)
    assert states_in_files(stage) == ["current", "current"]


@pytest.mark.parametrize("how", ["before", "after"])
def test_tries_that_go_on_failing_block_nobody_and_keep_what_a_target_holds(stage, how):
    stage.targets[1].fails = how
    for _ in range(3 * MAX_PREVIOUS):
        assert "delivery failed: file:b: " in rotate(stage.desk(), "prom", rotation_id="x").text
        stage.now += 60
        assert {stage.state_of(target.holds) for target in stage.targets} <= ACCEPTED
        assert len([state for state in stage.states() if state in {"pending", "previous"}]) <= MAX_PREVIOUS
    assert stage.states()[0] == "current"
    stage.targets[1].fails = None
    assert isinstance(rotate(stage.desk(), "prom", rotation_id="x"), Report)
    assert states_in_files(stage) == ["current", "current"]
    assert isinstance(rotate(stage.desk(), "prom"), Report), "nor does what they left behind"


def test_what_a_target_took_long_ago_outlives_all_later_tries(stage):
    halt_half_way(stage)
    stage.targets[0].fails = "before"
    for _ in range(2 * MAX_PREVIOUS):
        rotate(stage.desk(), "prom", rotation_id="x")
        stage.now += HOUR
    assert states_in_files(stage) == ["pending", "current"]
    roll_back(stage.desk(), "prom")
    for _ in range(2 * MAX_PREVIOUS):
        assert "delivery failed: file:a: " in rotate(stage.desk(), "prom").text
        assert isinstance(roll_back(stage.desk(), "prom"), Report)
    assert states_in_files(stage) == ["pending", "current"]


def test_what_a_sender_uses_outlives_all_later_tries_though_its_target_never_said_so(stage):
    stage.targets[0].fails = "after"
    rotate(stage.desk(), "prom", rotation_id="x")
    stage.targets[0].fails = "before"
    used = stage.store.find(stage.targets[0].holds)
    stage.ledger = Ledger(
        Sighting("prom", used.id, "a", "10.0.0.7", "Prometheus/2.53", stage.now, stage.now + DAY, 100)
    )
    for _ in range(2 * MAX_PREVIOUS):
        rotate(stage.desk(), "prom", rotation_id="x")
    assert stage.state_of(used.digest) is TokenState.PENDING
    stage.ledger.fails = True
    assert isinstance(rotate(stage.desk(), "prom", rotation_id="x"), Refusal)


def test_a_life_that_is_shorter_than_a_delivery_halts_the_rotation(stage):
    stage = Stage("file:a", "file:b")
    assert "at least 1m" in create(stage.desk(), "prom", kind=TokenKind.WRITE, lifetime_s=59.0).text
    for target in stage.targets:
        target.on_deliver = lambda _: setattr(stage, "now", stage.now + 40)
    refusal = create(stage.desk(), "prom", kind=TokenKind.WRITE, lifetime_s=60.0)
    assert len(stage.tokens()) == 1
    assert f"token {stage.tokens()[0].id} expired at" in refusal.text
    assert "before every target had it" in refusal.text
    for target in stage.targets:
        target.on_deliver = lambda _: None
    assert isinstance(rotate(stage.desk(), "prom", rotation_id=stage.rotations()[0].id), Report)
