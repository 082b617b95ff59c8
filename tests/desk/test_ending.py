"""Roll back, revoke, and what becomes of a token that leaked."""

from __future__ import annotations

import json

import pytest

from proxy.desk.desk import Report
from proxy.desk.ending import revoke, roll_back
from proxy.desk.finishing import finish
from proxy.desk.leaked import revoke_leaked, revoke_shown
from proxy.desk.rotating import Outlets, create, rotate
from proxy.desk.status import status
from proxy.tokens import tries
from proxy.tokens.ledger import Sighting
from proxy.tokens.lifecycle import Refusal, Why
from proxy.tokens.rotation import LEASE_S, Phase, phase_at
from proxy.tokens.token import TokenKind
from tests.desk.play import Canary, Ledger, Stage, Target
from tests.tokens.play import HOUR, randomness


@pytest.fixture
def stage():
    made = Stage("file:a", "file:b")
    create(made.desk(), "prom", kind=TokenKind.WRITE)
    return made


def test_a_roll_back_makes_the_old_token_current_and_lets_who_moved_go_on(stage):
    rotate(stage.desk(), "prom")
    stage.now += 100
    report = roll_back(stage.desk(), "prom")
    assert stage.states() == ["current", "previous"]
    old, new = stage.tokens()
    assert (old.accepted_until, new.accepted_until) == (None, stage.now + HOUR)
    assert "file:a, file:b still hold the new token" in report.notes[-1]
    assert phase_at(stage.rotations()[-1], stage.now) is Phase.ROLLED_BACK
    refused = finish(stage.desk(sightings=Ledger()), "prom")
    assert "WAIT: file:a, file:b took the previous token last" in refused.text
    stage.now += HOUR
    assert stage.states() == ["current", "retired"]


def test_a_second_roll_back_goes_back_no_further_than_the_overlaps_that_are_open(stage):
    rotate(stage.desk(), "prom")
    rotate(stage.desk(), "prom")
    assert isinstance(roll_back(stage.desk(), "prom"), Report)
    assert stage.states() == ["previous", "current", "previous"]
    assert isinstance(roll_back(stage.desk(), "prom"), Report)
    assert stage.states() == ["current", "previous", "previous"]
    assert "no token to go back to" in roll_back(stage.desk(), "prom").text


def test_after_the_overlap_there_is_no_way_back(stage):
    rotate(stage.desk(), "prom")
    stage.now += HOUR
    assert "its overlap is over" in roll_back(stage.desk(), "prom").text
    assert stage.states() == ["retired", "current"]


def test_a_roll_back_gives_up_a_rotation_that_has_not_ended(stage):
    stage.targets[1].fails = "before"
    rotate(stage.desk(), "prom", rotation_id="x")
    assert isinstance(roll_back(stage.desk(), "prom"), Report)
    assert stage.states() == ["current", "pending"], "file:a has the new one, and nobody else has a token for it"
    assert phase_at(stage.rotations()[-1], stage.now) is Phase.GIVEN_UP
    stage.targets[1].fails = None
    assert "without a new token" in rotate(stage.desk(), "prom", rotation_id="x").text
    assert isinstance(rotate(stage.desk(), "prom"), Report)


def test_a_rotation_that_is_given_up_while_it_is_driven_ends(stage):
    stage.targets[0].on_deliver = lambda _: roll_back(stage.desk(), "prom")
    refusal = rotate(stage.desk(), "prom")
    assert isinstance(refusal, Refusal)
    assert stage.states() == ["current", "pending"]
    assert stage.targets[1].seen == [stage.tokens()[0].id]


def test_the_first_token_cannot_be_rolled_back():
    stage = Stage("file:a")
    stage.targets[0].fails = "before"
    create(stage.desk(), "prom", kind=TokenKind.WRITE)
    assert "nothing to go back to" in roll_back(stage.desk(), "prom").text
    assert roll_back(stage.desk(), "nobody").why is Why.UNKNOWN


def test_a_revoked_token_does_not_come_back_by_a_roll_back(stage):
    rotate(stage.desk(), "prom")
    revoke(stage.desk(), "prom", token_id=stage.tokens()[0].id)
    assert isinstance(roll_back(stage.desk(), "prom"), Refusal)
    assert stage.states() == ["revoked", "current"]


def test_a_revocation_of_all_ends_the_rotation_that_is_open(stage):
    stage.targets[1].fails = "before"
    rotate(stage.desk(), "prom", rotation_id="x")
    report = revoke(stage.desk(), "prom")
    assert "rotation x is given up" in " ".join(report.notes)
    assert stage.states() == ["revoked", "revoked"]
    assert isinstance(create(stage.desk(), "prom", kind=TokenKind.WRITE), Refusal), "file:b still fails"
    stage.targets[1].fails = None


def test_a_revocation_wins_over_a_rotation_that_is_driven(stage):
    stage.targets[1].on_deliver = lambda _: revoke(stage.desk(), "prom")
    assert isinstance(rotate(stage.desk(), "prom"), Refusal)
    assert stage.states() == ["revoked", "revoked"]


def seen_with(token, sender, **changed):
    facts = {"address": "10.0.3.7", "agent": "vmagent/1.126", "first_seen": 1e9, "last_seen": 1.6e9, "count": 7}
    return Sighting("prom", token.id, sender, **(facts | changed))


def clear_secret(stage):
    terminal = Target("stdout")
    secrets = []
    terminal.on_deliver = lambda parcel: secrets.append(parcel.secret.reveal().encode())
    rotate(stage.desk(), "prom", outlets=Outlets(extra=(terminal,)))
    return secrets[0]


def test_a_leaked_token_is_found_ended_replaced_and_its_users_are_named(stage):
    shown = clear_secret(stage)
    leaked = stage.tokens()[-1]
    stage.ledger = Ledger(seen_with(leaked, "agent"), seen_with(leaked, "thief", address="203.0.113.9", agent=""))
    report = revoke_shown(stage.desk(), shown + b"\n")
    assert report.failure == ""
    assert stage.states() == ["previous", "revoked", "current"]
    new = stage.tokens()[-1]
    assert [target.holds for target in stage.targets] == [new.digest] * 2
    assert stage.tokens()[1].held_until == stage.now + stage.rules.retry_grace_s
    assert [row["sender"] for row in report.facts["used_by"]] == ["agent", "thief"]
    assert any("203.0.113.9 (no User-Agent)" in note for note in report.notes)
    assert shown.decode() not in json.dumps([report.notes, report.facts])


def test_it_is_dead_before_its_successor_is_anywhere(stage):
    leaked = stage.tokens()[0].digest
    states = []
    stage.targets[0].on_deliver = lambda _: states.append((stage.states(), stage.applied))
    revoke_leaked(stage.desk(), leaked)
    assert states == [(["revoked", "pending"], stage.store.changes_since(0).generation - 1)]
    assert stage.states() == ["revoked", "current"]


def test_a_leaked_token_stays_dead_when_the_delivery_of_its_successor_fails(stage):
    stage.targets[0].fails = "before"
    report = revoke_leaked(stage.desk(), stage.tokens()[0].digest)
    assert isinstance(report, Report)
    assert "delivery failed: file:a: " in report.failure
    assert stage.states() == ["revoked", "pending"]
    stage.targets[0].fails = None
    (rotation,) = [one for one in stage.rotations() if one.is_open]
    assert isinstance(rotate(stage.desk(), "prom", rotation_id=rotation.id), Report)


def test_an_old_token_that_leaked_while_it_was_accepted_is_replaced_as_well(stage):
    old = stage.tokens()[0].digest
    rotate(stage.desk(), "prom")
    assert revoke_leaked(stage.desk(), old).failure == ""
    assert stage.states() == ["revoked", "previous", "current"]
    assert [target.holds for target in stage.targets] == [stage.tokens()[-1].digest] * 2


def test_a_token_that_was_rolled_back_and_leaked_is_replaced_where_it_lies(stage):
    rotate(stage.desk(), "prom")
    rolled_back = stage.tokens()[-1].digest
    roll_back(stage.desk(), "prom")
    assert [target.holds for target in stage.targets] == [rolled_back] * 2
    assert revoke_leaked(stage.desk(), rolled_back).failure == ""
    assert stage.states() == ["previous", "revoked", "current"]
    assert [target.holds for target in stage.targets] == [stage.tokens()[-1].digest] * 2


def test_a_retired_token_that_leaked_ends_for_good_and_nothing_is_minted(stage):
    old = stage.tokens()[0].digest
    rotate(stage.desk(), "prom")
    stage.now += stage.rules.overlap_s + 1
    report = revoke_leaked(stage.desk(), old)
    assert stage.states() == ["revoked", "current"]
    assert "stays current; the leaked one was not accepted any more" in report.notes[-1]


def test_who_is_held_with_a_token_that_leaks_stays_held_to_the_end_of_that_hold(stage):
    old = stage.tokens()[0].digest
    rotate(stage.desk(), "prom")
    ended_at = stage.now + stage.rules.overlap_s
    stage.now = ended_at + 1
    revoke_leaked(stage.desk(), old)
    assert stage.tokens()[0].held_until == ended_at + stage.rules.retry_grace_s


def test_no_sender_is_held_with_a_token_that_leaks_when_its_hold_is_over(stage):
    old = stage.tokens()[0].digest
    rotate(stage.desk(), "prom")
    stage.now += stage.rules.overlap_s + stage.rules.retry_grace_s
    revoke_leaked(stage.desk(), old)
    assert stage.tokens()[0].held_until is None


def test_a_leaked_token_that_was_over_and_still_lies_at_its_targets_is_told_of(stage):
    rotate(stage.desk(), "prom")
    rolled_back = stage.tokens()[-1].digest
    roll_back(stage.desk(), "prom")
    stage.now += stage.rules.overlap_s
    told = status(stage.desk(), "prom")
    assert told.facts["outdated"] == dict.fromkeys(("file:a", "file:b"), stage.tokens()[-1].id)
    over = f"token {stage.tokens()[-1].id}, which is over"
    said = f"file:b holds {over}: `promgate token rotate prom` delivers another one"
    assert said in told.notes
    assert said == revoke_leaked(stage.desk(), rolled_back).notes[-1]
    rotate(stage.desk(), "prom")
    assert status(stage.desk(), "prom").facts["outdated"] == {}


def test_a_leak_of_a_token_that_is_over_leaves_a_way_back_to_the_rotation_under_way(stage):
    old = stage.tokens()[0].digest
    rotate(stage.desk(), "prom")
    stage.now += stage.rules.overlap_s
    stage.targets[0].fails = "before"
    rotate(stage.desk(), "prom", rotation_id="x")
    revoke_leaked(stage.desk(), old)
    assert tries.can_go_back(stage.store.story("prom"), stage.rotations()[-1], stage.now)


def test_a_leak_in_the_middle_of_a_rotation_takes_the_rotation_up(stage):
    stage.targets[1].fails = "before"
    rotate(stage.desk(), "prom", rotation_id="x")
    stage.targets[1].fails = None
    half_delivered = stage.tokens()[-1].digest
    report = revoke_leaked(stage.desk(), half_delivered)
    assert report.failure == ""
    assert stage.states() == ["previous", "revoked", "current"]
    assert len(stage.rotations()) == 2


def test_a_successor_that_leaks_while_it_is_delivered_never_takes_over(stage):
    def leak(parcel):
        stage.targets[1].on_deliver = lambda _: None
        revoke_leaked(stage.desk(), stage.tokens()[-1].digest)

    stage.targets[1].on_deliver = leak
    report = rotate(stage.desk(), "prom", rotation_id="x")
    assert isinstance(report, Report)
    assert stage.states() == ["previous", "revoked", "current"]
    assert [target.holds for target in stage.targets] == [stage.tokens()[-1].digest] * 2


def test_a_leak_needs_no_canary(stage):
    stage.canary = Canary()
    stage.canary.fails = "push"
    assert revoke_leaked(stage.desk(), stage.tokens()[0].digest).failure == ""
    assert stage.states() == ["revoked", "current"]


@pytest.mark.parametrize(("shown", "hint"), [(b"hunter2", "is it whole?"), (b"", "is it whole?")])
def test_a_string_that_is_no_token_is_refused_and_not_repeated(stage, shown, hint):
    refusal = revoke_shown(stage.desk(), shown)
    assert refusal.why is Why.UNKNOWN
    assert hint in refusal.text
    assert "hunter2" not in refusal.text


def test_a_token_of_another_store_is_named_by_its_public_id(stage):
    elsewhere = Stage("file:a")
    elsewhere.random = randomness(99)
    create(elsewhere.desk(), "prom", kind=TokenKind.WRITE)
    shown = clear_secret(elsewhere)
    assert f"of id {elsewhere.tokens()[-1].id}" in revoke_shown(stage.desk(), shown).text


def test_a_leak_that_is_told_twice_is_ended_once(stage):
    leaked = stage.tokens()[0].digest
    revoke_leaked(stage.desk(), leaked)
    assert "revoked already" in revoke_leaked(stage.desk(), leaked).text
    assert stage.states() == ["revoked", "current"]


def test_a_ledger_that_cannot_be_read_or_is_none_is_said(stage):
    stage.ledger = Ledger()
    stage.ledger.fails = True
    assert "cannot be told: ledger.db" in " ".join(revoke_leaked(stage.desk(), stage.tokens()[0].digest).notes)
    stage.ledger = None
    assert "no ledger" in " ".join(revoke_leaked(stage.desk(), stage.tokens()[-1].digest).notes)
    stage.ledger = Ledger()
    assert "never seen" in " ".join(revoke_leaked(stage.desk(), stage.tokens()[-1].digest).notes)


def test_a_lease_that_runs_out_keeps_nobody_from_revoking(stage):
    stage.targets[0].on_deliver = lambda _: setattr(stage, "now", stage.now + LEASE_S)
    assert isinstance(rotate(stage.desk(), "prom"), Report), "nobody took it over meanwhile"
    assert isinstance(revoke(stage.desk(), "prom"), Report)
    assert set(stage.states()) == {"revoked"}
