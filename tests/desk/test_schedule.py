"""What the calendar does by itself, and `rotate --due`; the time is ours."""

from __future__ import annotations

import logging
from dataclasses import replace

import pytest

from proxy.desk.ending import roll_back
from proxy.desk.keeper import Keeper
from proxy.desk.rotating import Outlets, create, rotate
from proxy.desk.schedule import do, look_ahead, next_work, plan_due, rotate_due
from proxy.desk.status import status
from proxy.gate.snapshot import TokenRules
from proxy.tokens.lifecycle import MAX_PREVIOUS
from proxy.tokens.rotation import LEASE_S
from proxy.tokens.schedule import Period
from proxy.tokens.token import TokenKind
from tests.desk.play import Stage, Target
from tests.tokens.play import DAY, HOUR

RULES = TokenRules(overlap_s=HOUR, max_overlap_s=DAY, rotation=Period(30 * DAY))


class Office(Stage):
    """Three names, of which two have a target; a keeper that works when told."""

    def __init__(self):
        super().__init__(rules=RULES)
        self.places = {name: (Target(f"file:{name}"),) for name in ("a", "b", "c")}
        for name in self.places:
            create(self.desk(), name, kind=TokenKind.WRITE)
        del self.places["c"]
        self.keeper = Keeper(self.desk, lambda: self.store.changes_since(0).generation)

    def desk(self, **changed):
        return super().desk(**({"sinks": lambda name: self.places.get(name, ())} | changed))

    def counts(self):
        return {name: len(self.store.named(name)) for name in ("a", "b", "c")}

    def pass_time(self, seconds):
        self.now += seconds
        self.keeper.rounds.turn()


@pytest.fixture
def office():
    return Office()


def test_names_with_targets_are_rotated_when_they_are_due_a_minute_apart(office):
    office.pass_time(30 * DAY - 1)
    assert office.counts() == {"a": 1, "b": 1, "c": 1}
    office.pass_time(1)
    assert office.counts() == {"a": 2, "b": 1, "c": 1}
    office.pass_time(59)
    assert office.counts() == {"a": 2, "b": 1, "c": 1}
    office.pass_time(1)
    assert office.counts() == {"a": 2, "b": 2, "c": 1}
    assert office.keeper.ended == {"done": 2}
    office.pass_time(HOUR)
    assert office.counts() == {"a": 2, "b": 2, "c": 1}


def test_it_looks_at_the_store_when_that_changed_or_something_is_due_and_not_else(office, monkeypatch):
    office.keeper.rounds.turn()
    looks = []
    monkeypatch.setattr(office.store, "recent_rotations", lambda _: looks.append(office.now) or [])
    for _ in range(20):
        office.pass_time(1)
    assert looks == []
    rotate(office.desk(), "a")
    office.pass_time(1)
    assert len(looks) == 1


def test_a_target_that_fails_is_tried_again_later_and_said_once(office, caplog):
    (place,) = office.places["a"]
    place.fails = "before"
    with caplog.at_level(logging.ERROR, "promgate.rotation"):
        office.pass_time(30 * DAY)
        assert len(place.seen) == 2
        for _ in range(59):
            office.pass_time(1)
        assert len(place.seen) == 2
        office.pass_time(2)
        assert len(place.seen) == 3
        for _ in range(60):
            office.pass_time(60)
    assert len(place.seen) < 12
    assert len([line for line in caplog.messages if "delivery failed: file:a: " in line]) == 1
    assert office.keeper.outlook.stuck(office.now)
    place.fails = None
    office.pass_time(HOUR)
    assert office.store.named("a")[-1].digest == place.holds
    assert not office.keeper.outlook.stuck(office.now)
    assert sum(token.accepted_until is None and token.revoked_at is None for token in office.store.named("a")) == 1


def test_a_defect_that_one_name_meets_does_not_end_the_calendar_of_the_others(office, caplog):
    """It is taken up again, later each time; each time it mints anew, so that must not be each second."""
    (place,) = office.places["a"]

    def break_down(_):
        raise KeyError("nobody thought of this")

    place.on_deliver = break_down
    office.pass_time(30 * DAY)
    for _ in range(4 * 60):
        office.pass_time(1)
    assert office.counts() == {"a": 4, "b": 2, "c": 1}, "after 60 s, and 120 s later"
    assert office.keeper.ended == {"failed": 3, "done": 1}
    assert len([line for line in caplog.records if line.exc_info and line.getMessage().startswith("a: ")]) == 3
    place.on_deliver = lambda _: None
    office.pass_time(240)
    assert office.store.named("a")[-1].digest == place.holds


def killed(_):
    raise KeyboardInterrupt


def test_a_rotation_that_nobody_drives_any_more_is_taken_up(office):
    (place,) = office.places["b"]
    place.on_deliver = killed
    with pytest.raises(KeyboardInterrupt):
        rotate(office.desk(owner="command"), "b")
    place.on_deliver = lambda _: None
    office.pass_time(1)
    assert office.store.named("b")[-1].current_from is None
    office.pass_time(LEASE_S)
    assert office.store.named("b")[-1].current_from == office.now


def test_one_that_is_known_to_be_gone_is_followed_at_once(office):
    office.places["b"][0].on_deliver = killed
    with pytest.raises(KeyboardInterrupt):
        rotate(office.desk(owner="command"), "b")
    office.places["b"][0].on_deliver = lambda _: None
    office.gone = {"command"}
    office.pass_time(1)
    assert office.store.named("b")[-1].current_from == office.now


def test_one_without_targets_waits_for_whoever_began_it(office):
    office.places["a"][0].fails = "before"
    rotate(office.desk(), "a")
    del office.places["a"]
    for _ in range(5):
        office.pass_time(HOUR)
    assert len(office.store.named("a")) == 2
    assert len(office.keeper.outlook.stuck(office.now)) == 1


def test_what_cannot_begin_is_not_asked_for_each_second(office, caplog):
    """Sixteen previous tokens: the rules refuse another, and the journal knows nothing of it."""
    for _ in range(MAX_PREVIOUS + 1):
        rotate(office.desk(), "a", overlap_s=DAY)
    office.rules = replace(RULES, rotation=Period(60.0))
    refused = []
    office.pass_time(61)
    for _ in range(120):
        office.pass_time(1)
        refused.append(office.keeper.ended["failed"])
    assert refused[-1] <= 3
    assert len([line for line in caplog.messages if "more than 16 previous tokens" in line]) <= 3


def test_who_rolls_back_is_not_rotated_again_at_once(office):
    office.pass_time(30 * DAY)
    roll_back(office.desk(), "a")
    for _ in range(5):
        office.pass_time(DAY)
    assert office.counts()["a"] == 2


def test_due_rotates_the_one_that_waits_longest_and_names_the_rest(office):
    assert rotate_due(office.desk()).notes == ("nothing is due",)
    office.now += 31 * DAY
    report = rotate_due(office.desk())
    assert office.counts() == {"a": 2, "b": 1, "c": 1}
    assert report.facts["waiting"] == ["b"]
    assert "1 more due" in report.notes[-1]
    assert "waiting" not in rotate_due(office.desk()).notes
    office.now += 60
    assert rotate_due(office.desk()).facts["waiting"] == []
    assert office.counts() == {"a": 2, "b": 2, "c": 1}


def test_due_takes_all_when_told_and_tries_each_once(office):
    office.now += 31 * DAY
    office.places["a"][0].fails = "before"
    report = rotate_due(office.desk(), all_at_once=True)
    assert "delivery failed: file:a: " in report.failure
    assert office.counts() == {"a": 2, "b": 2, "c": 1}
    office.places["a"][0].fails = None
    assert rotate_due(office.desk()).failure == "", "what failed is taken up by the next run"
    assert office.store.named("a")[-1].current_from == office.now


def test_a_dry_run_says_what_would_be_done_and_does_nothing(office):
    assert plan_due(office.desk()).notes == ("nothing is due",)
    office.now += 31 * DAY
    office.places["a"][0].fails = "before"
    rotate(office.desk(), "a", rotation_id="x")
    create(office.desk(), "d", kind=TokenKind.WRITE, outlets=Outlets(instead=(Target("stdout"),)))
    office.places["d"] = (Target("file:d"),)
    office.now += 31 * DAY
    before = office.store.changes_since(0), office.store.recent_rotations(9)
    report = plan_due(office.desk())
    assert report.facts == {"taken_up": [{"name": "a", "rotation": "x"}], "rotated": ["b"], "waiting": ["d"]}
    assert "a: rotation x would be taken up (delivery failed: file:a: " in report.notes[0]
    assert report.notes[1] == "b: would be rotated, due since 2023-12-14T22:13:20Z"
    assert plan_due(office.desk(), all_at_once=True).facts["rotated"] == ["b", "d"]
    assert (office.store.changes_since(0), office.store.recent_rotations(9)) == before
    office.places["a"][0].fails = None
    assert [row["name"] for row in rotate_due(office.desk()).facts["rotated"]] == ["a", "b"]


def test_status_tells_when_a_name_is_due(office):
    told = status(office.desk(), "a")
    assert told.facts["due"] == "2023-12-14T22:13:20Z"
    assert "a: the next rotation is due at 2023-12-14T22:13:20Z" in told.notes
    assert status(office.desk(), "c").facts["due"] is None, "nothing receives its token"
    office.now += 31 * DAY
    assert "a: the next rotation is due since 2023-12-14T22:13:20Z" in status(office.desk(), "a").notes


@pytest.mark.parametrize("who", ["a", "b"])
def test_what_another_process_began_between_the_look_and_the_act_is_not_begun_as_well(office, who):
    """The same name must not be rotated twice, nor two within a minute."""
    office.now += 31 * DAY
    desk = office.desk()
    work = next_work(desk, look_ahead(desk))
    assert work.name == "a"
    rotate(office.desk(), who)
    before = office.counts()
    refusal = do(desk, work)
    assert ("not due any more" if who == "a" else "began less than a minute ago") in refusal.text
    assert office.counts() == before
    assert not any(one.is_open for one in office.store.recent_rotations(9))


def test_with_all_nobody_waits_for_the_minute(office):
    office.now += 31 * DAY
    assert rotate_due(office.desk(), all_at_once=True).facts["waiting"] == []
    assert office.counts() == {"a": 2, "b": 2, "c": 1}


def test_overdue_is_seen(office):
    office.now += 30 * DAY + HOUR
    assert [one.name for one in look_ahead(office.desk()).late(office.now)] == ["a", "b"]


def test_overdue_is_logged_once(office, caplog):
    caplog.set_level("WARNING")
    for _ in range(3):  # the first name has its turn at once, the second a minute later
        office.pass_time(10 * DAY + HOUR)
    for _ in range(3):
        office.pass_time(10)
    assert [record.message.partition(":")[0] for record in caplog.records] == ["a", "b"]
    assert "was due at" in caplog.text
