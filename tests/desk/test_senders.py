"""What the desk makes of the ledger: a verdict, an overlap finished by hand, and one that follows its senders."""

from __future__ import annotations

from dataclasses import replace
from typing import ClassVar

import pytest

from proxy.desk.finishing import finish
from proxy.desk.overlaps import Overlaps
from proxy.desk.rotating import create, rotate
from proxy.desk.rounds import Rounds
from proxy.desk.status import status
from proxy.tokens.ledger import Kind, Sighting
from proxy.tokens.lifecycle import Refusal
from proxy.tokens.ports import Conflict, StoreError
from proxy.tokens.token import TokenKind
from tests.desk.play import RULES, Ledger, Stage
from tests.tokens.play import HOUR


class Office(Stage):
    """One name that was rotated once, and senders that show its tokens as told."""

    def __init__(self, rules=RULES):
        super().__init__("file:agent", rules=rules)
        self.ledger = Ledger()
        self.ledger.as_known = replace(self.ledger.as_known, since=self.now - HOUR)
        self.overlaps = Overlaps()
        create(self.desk(), "prom", kind=TokenKind.WRITE)
        for _ in range(40):
            self.show("a", 0)
            self.show("b", 0)
            self.now += 15
        rotate(self.desk(), "prom")

    def show(self, sender, index, after_s=0.0, *, kind=Kind.USED):
        token, at = self.tokens()[index], self.now + after_s
        seen = {(one.token_id, one.kind, one.address): one for one in self.ledger.seen}
        key = token.id, kind, f"10.0.0.{sender}"
        one = seen.get(key) or Sighting("prom", token.id, key[2], key[2], "vmagent/1.126", at, at, 0, kind)
        seen[key] = replace(one, last_seen=at, count=one.count + 1)
        self.ledger.seen = tuple(seen.values())

    def pass_time(self, seconds, *shows):
        """Each of `shows` (sender, index) sends each second, and the keeper does its chore."""
        for _ in range(int(seconds)):
            self.now += 1
            for sender, index in shows:
                self.show(sender, index)
            self.overlaps(self.desk())


@pytest.fixture
def office():
    return Office()


def test_status_names_who_is_still_on_the_previous_token(office):
    old, _ = office.tokens()
    office.pass_time(100, ("a", 1))
    office.show("b", 0, -12.0)
    report = status(office.desk(), "prom")
    assert "WAIT: 1 of 2 senders still on the previous token: 10.0.0.b vmagent/1.126, 12 s ago" in report.notes
    assert any(line.startswith(f"prom: 10.0.0.b vmagent/1.126 shows token {old.id}") for line in report.notes)
    facts = report.facts
    assert (facts["verdict"], facts["senders"], facts["moved"]) == ("WAIT", 2, 1)
    (straggler,) = facts["stragglers"]
    assert straggler == {
        "address": "10.0.0.b",
        "agent": "vmagent/1.126",
        "token": old.id,
        "why": "still",
        "first_seen": "2023-11-14T22:13:20Z",
        "last_seen": "2023-11-14T22:24:48Z",
        "seconds_ago": 12.0,
        "requests": 41,
    }


def test_status_says_safe_once_all_have_moved(office):
    office.pass_time(400, ("a", 1), ("b", 1))
    report = status(office.desk(), "prom")
    assert report.facts["verdict"] == "SAFE"
    assert report.notes[-1].startswith("SAFE: all 2 senders that were seen in the last 77 min have moved")


def test_status_without_a_server_says_that_it_may_be_old(office):
    office.ledger.as_known = replace(office.ledger.as_known, is_fresh=False)
    report = status(office.desk(), "prom")
    assert "no server is running on this store: what the ledger tells may be old" in report.notes[-1]
    assert report.facts["notes"] == [report.notes[-1]]


@pytest.mark.parametrize("harm", ["fails", "trouble", "none"])
def test_a_ledger_that_cannot_tell_says_wait_and_lets_nothing_end(office, harm):
    office.pass_time(400, ("a", 1), ("b", 1))
    if harm == "fails":
        office.ledger.fails = True
    elif harm == "trouble":
        office.ledger.as_known = replace(office.ledger.as_known, trouble="the disk is full")
    else:
        office.ledger = None
    report = status(office.desk(), "prom")
    assert report.facts["verdict"] == "WAIT"
    assert isinstance(finish(office.desk(), "prom"), Refusal)
    assert office.states() == ["previous", "current"]


def test_many_stragglers_are_counted_and_not_all_shown(office):
    for number in range(30):
        office.show(str(number), 0)
    report = status(office.desk(), "prom")
    assert sum("shows token" in line for line in report.notes) == 20
    assert "prom: and 12 more" in report.notes
    assert len(report.facts["stragglers"]) == 32


def test_an_overlap_is_finished_when_that_is_safe_and_the_server_uses_it(office):
    old, _ = office.tokens()
    office.pass_time(400, ("a", 1), ("b", 1))
    report = finish(office.desk(), "prom")
    assert office.states() == ["retired", "current"]
    assert report.facts["ended"] == [old.id]
    assert report.facts["verdict"] == "SAFE"
    assert office.applied == office.store.changes_since(0).generation


def test_it_is_refused_with_the_reason_and_done_by_force(office):
    refused = finish(office.desk(), "prom")
    assert refused.text.startswith("WAIT: 2 of 2 senders not seen since the rotation: 10.0.0.")
    assert office.states() == ["previous", "current"]
    report = finish(office.desk(), "prom", force=True)
    assert office.states() == ["retired", "current"]
    assert report.facts["verdict"] == "WAIT"
    assert "nothing to do" in finish(office.desk(), "prom", force=True).text
    assert "no token named" in finish(office.desk(), "nobody").text


def test_it_is_judged_anew_when_another_process_was_faster(office):
    """And it must not end what that process has just begun."""
    office.pass_time(400, ("a", 1), ("b", 1))
    commit = office.store.commit

    def late(change):
        office.store.commit = commit
        rotate(office.desk(), "prom")
        raise Conflict("another process was faster")

    office.store.commit = late
    refused = finish(office.desk(), "prom")
    assert refused.text.startswith("WAIT: 2 of 2 senders ")
    assert office.states() == ["previous", "previous", "current"]


# The keeper's chore


def test_a_late_sender_keeps_its_token_and_one_that_moves_lets_it_end(office, caplog):
    old = office.tokens()[0]
    with caplog.at_level("WARNING"):
        office.pass_time(2 * HOUR, ("a", 0), ("b", 1))
    assert office.states() == ["previous", "current"]
    assert office.tokens()[0].accepted_until > old.accepted_until
    assert len(caplog.messages) == 1, "said once, however often it is prolonged"
    assert "token status prom` names it" in caplog.messages[0]
    assert office.applied == office.store.changes_since(0).generation
    office.pass_time(660, ("a", 1), ("b", 1))
    assert office.states() == ["retired", "current"]


def test_an_overlap_ends_early_where_that_is_asked_for(caplog):
    office = Office(replace(RULES, finish_when_quiet_s=900.0))
    with caplog.at_level("INFO", "promgate.rotation"):
        office.pass_time(880, ("a", 1), ("b", 1))
        assert office.states() == ["previous", "current"]
        office.pass_time(40, ("a", 1), ("b", 1))
    assert office.states() == ["retired", "current"]
    assert any("all its senders have moved" in message for message in caplog.messages)


@pytest.mark.parametrize("harm", ["fails", "trouble", "none"])
def test_a_ledger_that_cannot_tell_leaves_it_to_the_calendar(harm):
    office = Office(replace(RULES, finish_when_quiet_s=60.0))
    if harm == "fails":
        office.ledger.fails = True
    elif harm == "trouble":
        office.ledger.as_known = replace(office.ledger.as_known, trouble="the disk is full")
    else:
        office.desk = lambda: replace(Stage.desk(office), sightings=None)
    office.pass_time(HOUR - 1, ("a", 0), ("b", 1))
    assert office.states() == ["previous", "current"]
    office.pass_time(1, ("a", 0))
    assert office.states() == ["retired", "current"]


def test_a_name_without_an_overlap_is_not_looked_at(office):
    finish(office.desk(), "prom", force=True)
    office.ledger.fails = True
    assert office.overlaps(office.desk()) is None


def test_it_is_called_again_when_it_asks_for_it(office):
    rounds = Rounds("overlaps", office.desk, lambda: office.store.changes_since(0).generation, office.overlaps)
    rounds.turn()
    end = office.tokens()[0].accepted_until
    while office.now < end + 600:
        office.now = max(office.now + 0.1, rounds.next_at)
        office.show("a", 0)
        rounds.turn()
    assert office.states() == ["previous", "current"]


class Uneasy(Ledger):
    """It breaks down when it is asked for some names."""

    troubles: ClassVar = {}

    def known(self, name):
        if name in self.troubles:
            raise self.troubles[name]
        return super().known(name)


def test_the_trouble_of_one_name_keeps_no_other_overlap_from_being_prolonged(office, caplog):
    for name in ("aaa", "zzz"):
        create(office.desk(), name, kind=TokenKind.WRITE)
        rotate(office.desk(), name)
    office.ledger = Uneasy(*office.ledger.seen)
    office.ledger.troubles = {"aaa": KeyError("a defect"), "zzz": ZeroDivisionError("another")}
    office.now = office.tokens()[0].accepted_until - 60.0
    office.pass_time(120, ("a", 0))
    assert office.states() == ["previous", "current"]
    said = [line.getMessage() for line in caplog.records if line.exc_info]
    assert len(said) == 2, "each once"
    assert all("cannot follow its senders" in text for text in said)


def test_an_overlap_whose_store_failed_is_prolonged_as_soon_as_it_can_be(office, caplog):
    commit = office.store.commit

    def fail(_):
        raise StoreError("the disk is full")

    end = office.tokens()[0].accepted_until
    office.now = end - 60.0
    office.store.commit = fail
    office.pass_time(30, ("a", 0))
    office.store.commit = commit
    office.pass_time(16, ("a", 0))
    assert office.tokens()[0].accepted_until > end
    assert len([line for line in caplog.messages if "the disk is full" in line]) == 1
