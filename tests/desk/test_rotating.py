"""Rotations through the desk: in what order things happen, and what is left when one of them fails."""

from __future__ import annotations

import pytest

from proxy.desk.desk import Report
from proxy.desk.ending import roll_back
from proxy.desk.rotating import Outlets, create, rotate
from proxy.desk.status import status
from proxy.tokens.lifecycle import Refusal, Why
from proxy.tokens.ports import StoreError
from proxy.tokens.rotation import LEASE_S
from proxy.tokens.token import ACCEPTED, TokenKind
from tests.desk.play import Canary, Stage, Target
from tests.tokens.play import HOUR


@pytest.fixture
def stage():
    made = Stage("file:a", "file:b")
    assert isinstance(create(made.desk(), "prom", kind=TokenKind.WRITE), Report)
    return made


def hold_the_current(stage):
    (current,) = [token for token in stage.tokens() if token.current_from and token.accepted_until is None]
    return all(target.holds == current.digest for target in stage.targets)


def test_a_rotation_brings_the_successor_to_every_target_and_then_makes_it_current(stage):
    report = rotate(stage.desk(), "prom")
    assert isinstance(report, Report)
    assert stage.states() == ["previous", "current"]
    assert hold_the_current(stage)
    new = stage.tokens()[-1]
    assert report.facts["token"] == new.id
    assert set(report.facts["receipts"]) == {"file:a", "file:b"}
    assert report.facts["previous"] == {stage.tokens()[0].id: "2023-11-14T23:13:20Z"}
    assert f"prom: token {new.id} is delivered to file:a" in report.notes
    assert stage.rotations()[-1].predecessor == stage.tokens()[0].id


def test_the_server_accepts_the_successor_before_a_target_has_it_and_the_old_one_has_no_deadline_yet(stage):
    seen = []

    def look(parcel):
        old, new = stage.tokens()
        seen.append((stage.applied, old.accepted_until, parcel.token_id == new.id, stage.states()))

    for target in stage.targets:
        target.on_deliver = look
    rotate(stage.desk(), "prom")
    generation = stage.store.changes_since(0).generation - 1
    assert seen == [(generation, None, True, ["current", "pending"])] * 2


def test_a_canary_goes_before_all_targets(stage):
    stage.canary = Canary()
    before = [target.holds for target in stage.targets]
    stage.canary.on_prove = lambda: before.append([target.holds for target in stage.targets])
    report = rotate(stage.desk(), "prom")
    assert before[2] == before[:2]
    assert stage.canary.proved == [stage.tokens()[-1].digest]
    assert any("canary" in note for note in report.notes)


def test_a_canary_that_fails_ends_the_rotation_before_anybody_saw_the_token(stage):
    stage.canary = Canary()
    stage.canary.fails = "push"
    seen = [list(target.seen) for target in stage.targets]
    refusal = rotate(stage.desk(), "prom", rotation_id="x")
    assert refusal.why is Why.FAILED
    assert "the canary failed at step push: it was told so" in refusal.text
    assert stage.states() == ["current", "revoked"]
    assert [target.seen for target in stage.targets] == seen
    stage.canary.fails = None
    again = rotate(stage.desk(), "prom", rotation_id="x").text
    assert "without a new token (the canary failed at step push: it was told so), and its id begins no other" in again
    assert "without --id or with another one" in again
    assert isinstance(rotate(stage.desk(), "prom"), Report)


@pytest.mark.parametrize("when", ["before", "after"])
def test_a_delivery_that_fails_halts_the_rotation_and_the_same_id_takes_it_up(stage, when):
    stage.targets[1].fails = when
    refusal = rotate(stage.desk(), "prom", rotation_id="tuesday")
    assert refusal.why is Why.FAILED
    assert "delivery failed: file:b: " in refusal.text
    assert "token rotate prom --id tuesday" in refusal.text
    old, new = stage.tokens()
    assert stage.states() == ["current", "pending"]
    assert all(stage.state_of(target.holds) in ACCEPTED for target in stage.targets)
    row = status(stage.desk(), "prom").facts["rotation"]
    assert (row["phase"], list(row["receipts"]), row["missing"]) == ("halted", ["file:a"], ["file:b"])
    stage.targets[1].fails = None
    stage.now += 60
    report = rotate(stage.desk(), "prom", rotation_id="tuesday")
    assert isinstance(report, Report)
    assert stage.states() == ["previous", "previous", "current"]
    assert [token.accepted_until for token in stage.tokens()[:2]] == [stage.now + HOUR] * 2
    assert hold_the_current(stage)
    assert stage.tokens()[:2] != (old, new)


def test_the_same_id_again_changes_nothing(stage):
    rotate(stage.desk(), "prom", rotation_id="tuesday")
    before = stage.store.changes_since(0)
    again = rotate(stage.desk(), "prom", rotation_id="tuesday")
    assert isinstance(again, Report)
    assert "is done" in again.notes[0]
    assert stage.store.changes_since(0) == before
    roll_back(stage.desk(), "prom")
    assert "was rolled back at" in rotate(stage.desk(), "prom", rotation_id="tuesday").text


def test_another_rotation_is_refused_until_the_last_receipt_and_allowed_in_the_overlap(stage):
    stage.targets[1].fails = "before"
    rotate(stage.desk(), "prom", rotation_id="first")
    refusal = rotate(stage.desk(), "prom", rotation_id="second")
    assert isinstance(refusal, Refusal)
    assert "rotation first of prom has not ended" in refusal.text
    assert "token rollback prom" in refusal.text
    stage.targets[1].fails = None
    rotate(stage.desk(), "prom", rotation_id="first")
    assert isinstance(rotate(stage.desk(), "prom", rotation_id="second"), Report)


def test_who_is_driven_by_a_living_process_is_left_alone(stage):
    others = []
    stage.targets[0].on_deliver = lambda _: (
        others or others.append([rotate(stage.desk(), "prom", rotation_id=one) for one in ("mine", "yours")])
    )
    assert isinstance(rotate(stage.desk(), "prom", rotation_id="mine"), Report)
    taken_up, begun = others[0]
    assert "is being driven by process-2" in taken_up.text
    assert "has not ended" in begun.text
    assert stage.states() == ["previous", "current"]


class Killed(BaseException):
    """The process ends here."""


def killed(*_):
    raise Killed


@pytest.mark.parametrize("known", [True, False])
def test_a_process_that_died_is_followed_at_once_where_its_end_is_known_and_after_its_lease_elsewhere(stage, known):
    stage.targets[0].on_deliver = killed
    with pytest.raises(Killed):
        rotate(stage.desk(), "prom", rotation_id="x")
    stage.targets[0].on_deliver = lambda _: None
    if known:
        stage.gone = {"process-2"}
    else:
        assert "is being driven" in rotate(stage.desk(), "prom", rotation_id="x").text
        stage.now += LEASE_S
    assert isinstance(rotate(stage.desk(), "prom", rotation_id="x"), Report)
    assert hold_the_current(stage)


def test_a_process_that_lost_its_lease_while_it_stood_still_writes_nothing_any_more(stage):
    results = []

    def stand_still(parcel):
        stage.targets[0].on_deliver = lambda _: None
        stage.now += LEASE_S
        results.append(rotate(stage.desk(), "prom", rotation_id="x"))

    stage.targets[0].on_deliver = stand_still
    refusal = rotate(stage.desk(), "prom", rotation_id="x")
    assert isinstance(results[0], Report)
    assert isinstance(refusal, Refusal | Report)
    assert stage.states().count("current") == 1
    assert stage.rotations()[-1].tries == 2


def test_a_server_that_does_not_accept_the_token_keeps_it_from_everybody(stage):
    stage.server_fails = True
    seen = [list(target.seen) for target in stage.targets]
    refusal = rotate(stage.desk(), "prom", rotation_id="x")
    assert "does not use the new token yet" in refusal.text
    assert [target.seen for target in stage.targets] == seen
    stage.server_fails = False
    assert isinstance(rotate(stage.desk(), "prom", rotation_id="x"), Report)
    # Nobody had the token of the first try: it does not linger.
    assert stage.states() == ["previous", "revoked", "current"]


def test_an_id_of_another_name_is_refused(stage):
    create(stage.desk(), "other", kind=TokenKind.WRITE)
    rotate(stage.desk(), "other", rotation_id="x")
    assert "is one of other" in rotate(stage.desk(), "prom", rotation_id="x").text
    assert rotate(stage.desk(), "prom", rotation_id="a b").why is Why.INVALID


def test_with_no_receiver_nothing_is_minted():
    stage = Stage()
    assert "nobody would receive" in create(stage.desk(), "prom", kind=TokenKind.WRITE).text
    assert stage.tokens() == ()


def test_a_terminal_stands_in_for_targets_and_comes_after_them(stage):
    terminal = Target("stdout")
    rotate(stage.desk(), "prom", outlets=Outlets(instead=(terminal,)))
    assert terminal.seen == []
    order = []
    for target in (*stage.targets, terminal):
        target.on_deliver = lambda _, target=target: order.append(target.target)
    rotate(stage.desk(), "prom", outlets=Outlets(extra=(terminal,)))
    assert order == ["file:a", "file:b", "stdout"]


def test_a_target_that_is_no_longer_configured_needs_no_receipt(stage):
    stage.targets[1].fails = "before"
    rotate(stage.desk(), "prom", rotation_id="x")
    del stage.targets[1]
    assert isinstance(rotate(stage.desk(), "prom", rotation_id="x"), Report)


def test_a_store_that_fails_in_the_middle_is_told_with_the_way_on(stage):
    class Full(type(stage.store)):
        def commit(self, change):
            if change.entry is not None and change.entry.receipts:
                raise StoreError("promgate.db: the disk is full")
            return super().commit(change)

    stage.store.__class__ = Full
    refusal = rotate(stage.desk(), "prom", rotation_id="x")
    assert "the disk is full" in refusal.text
    assert "token rotate prom --id x" in refusal.text
    stage.store.__class__ = Full.__base__
    stage.now += LEASE_S
    assert isinstance(rotate(stage.desk(), "prom", rotation_id="x"), Report)
    assert hold_the_current(stage)


def test_what_the_first_try_of_a_first_token_handed_out_has_an_overlap():
    stage = Stage("file:a", "file:b")
    stage.targets[1].fails = "before"
    create(stage.desk(), "prom", kind=TokenKind.WRITE)
    assert stage.states() == ["pending"]
    stage.targets[1].fails = None
    assert isinstance(rotate(stage.desk(), "prom", rotation_id=stage.rotations()[0].id), Report)
    assert stage.states() == ["previous", "current"]
    assert stage.tokens()[0].accepted_until == stage.now + HOUR
