"""Each change of a token's life, by the use cases themselves, is on record before it is made; else it is not made."""

from __future__ import annotations

import fcntl
import os
import pwd
import time
from contextlib import suppress
from dataclasses import replace

import pytest

from proxy.audit.lock import PATIENCE_S
from proxy.audit.operation import Operation, asked_here
from proxy.audit.record import time_text
from proxy.audit.trail import Trail, head_beside
from proxy.audit.verify import verify
from proxy.desk.auditing import list_audit, look_at_audit, record_end
from proxy.desk.desk import Report
from proxy.desk.ending import revoke, roll_back
from proxy.desk.finishing import finish
from proxy.desk.leaked import revoke_leaked
from proxy.desk.overlaps import Overlaps
from proxy.desk.renew_reply import Renewing
from proxy.desk.rotating import create, rotate
from proxy.gate.snapshot import TokenRules
from proxy.observe import metrics
from proxy.stores.memory import MemoryStore
from proxy.tokens import succession
from proxy.tokens.ledger import Sighting
from proxy.tokens.lifecycle import Refusal
from proxy.tokens.ports import BY_SCHEDULE, Asked, Conflict, StoreError
from proxy.tokens.renewal import Caller
from proxy.tokens.token import TokenKind
from tests.desk.play import Canary, Ledger, Stage
from tests.tokens.play import DAY, HOUR

ANN = Asked("basic:ann", "basic", "10.0.0.1", "rotateToken")


class Play(Stage):
    def __init__(self, directory, *targets, **how):
        super().__init__(*targets, **how)
        (directory / "log").mkdir()
        self.trail = Trail(directory / "log" / "audit.jsonl", head_beside(directory / "promgate.db"))

    def desk(self, asked=ANN, **changed):
        audit = Operation(self.trail, asked)
        return super().desk(**{"audit": audit, "store": audit.watch(self.store), **changed})

    def records(self, since=0):
        return [one for one in reversed(self.trail.newest(1000)) if one["seq"] > since]

    def told(self, since=0):
        return [
            (one["outcome"], [fact["what"] for fact in one.get("changes", [])])
            for one in self.records(since)
            if one["outcome"] != "done"
        ]


@pytest.fixture
def play(tmp_path):
    return Play(tmp_path, "file:/a", "file:/b")


def test_a_rotation_is_on_record_step_by_step(play):
    play.canary = Canary()
    create(play.desk(), "prom", kind=TokenKind.WRITE)
    (old,) = play.tokens()
    since = play.records()[-1]["seq"]
    rotate(play.desk(), "prom", rotation_id="r1")
    assert play.told(since) == [
        ("intended", ["minted", "rotation begun"]),
        ("intended", ["proven", "about to be handed out"]),
        ("intended", ["handed out"]),
        ("intended", ["stepped down", "made current", "handed out", "rotation done"]),
    ]
    made = play.records(since)
    assert [one["outcome"] for one in made] == ["intended", "done"] * 4
    assert [one["of"] for one in made[1::2]] == [one["seq"] for one in made[::2]]
    assert len({one["op"] for one in made}) == 1
    assert {(one["identity"], one["way"], one["address"], one["action"], one["name"]) for one in made} == {
        ("basic:ann", "basic", "10.0.0.1", "rotateToken", "prom")
    }
    _, fresh = play.tokens()
    last = made[-2]["changes"]
    assert last[0] == {"what": "stepped down", "token": old.id, "until": "2023-11-14T23:13:20.000000Z"}
    assert last[2] == {"what": "handed out", "token": fresh.id, "rotation": "r1", "target": "file:/b"}
    assert verify(play.trail).problems == []


def test_each_way_of_ending_is_told(play):
    create(play.desk(), "prom", kind=TokenKind.WRITE)
    rotate(play.desk(), "prom")
    since = play.records()[-1]["seq"]
    roll_back(play.desk(), "prom")
    assert play.told(since) == [("intended", ["stepped down", "made current again", "rotation rolled back"])]
    since = play.records()[-1]["seq"]
    assert isinstance(finish(play.desk(), "prom", force=True), Report)
    assert play.told(since) == [("intended", ["deadline moved"])]
    since = play.records()[-1]["seq"]
    current = next(token for token in play.tokens() if token.accepted_until is None)
    revoke_leaked(play.desk(), current.digest)
    assert play.told(since)[0] == ("intended", ["revoked", "minted", "rotation begun"])
    since = play.records()[-1]["seq"]
    revoke(play.desk(), "prom")
    assert play.told(since) == [("intended", ["revoked"] * 2)]


def test_a_canary_and_a_target_that_fail_are_told_with_the_reason(play):
    create(play.desk(), "prom", kind=TokenKind.WRITE)
    play.canary = Canary()
    play.canary.fails = "query"
    since = play.records()[-1]["seq"]
    result = rotate(play.desk(), "prom")
    record_end(play.desk(), "prom", result)
    assert play.told(since)[1:] == [
        ("intended", ["revoked", "rotation halted", "rotation given up"]),
        ("failed", []),
    ]
    assert "canary failed at step query" in play.records()[-1]["text"]
    play.canary = None
    play.targets[0].fails = "before"
    since = play.records()[-1]["seq"]
    rotate(play.desk(), "prom", rotation_id="r2")
    assert play.told(since)[-1] == ("intended", ["rotation halted"])
    assert "the disk is full" in play.records()[-2]["changes"][0]["text"]
    play.targets[0].fails = None
    since = play.records()[-1]["seq"]
    rotate(play.desk(BY_SCHEDULE), "prom", rotation_id="r2")
    assert "rotation taken up" in play.told(since)[0][1]
    assert play.records()[-1]["way"] == "schedule"


def test_a_refusal_is_told(play):
    result = rotate(play.desk(), "nobody")
    assert isinstance(result, Refusal)
    record_end(play.desk(), "nobody", result)
    (one,) = play.records()
    assert (one["outcome"], one["name"]) == ("refused", "nobody")
    assert "nobody" in one["text"]


def test_what_cannot_be_recorded_is_not_changed(play):
    """Nothing is minted, handed out, made current or ended; and once it can be recorded again it goes on."""
    create(play.desk(), "prom", kind=TokenKind.WRITE)
    before, seen = play.tokens(), list(play.targets[0].seen)
    moved = play.trail.file.parent.rename(play.trail.file.parent.with_name("away"))
    for ask in (
        lambda: rotate(play.desk(), "prom"),
        lambda: revoke(play.desk(), "prom"),
        lambda: create(play.desk(), "other", kind=TokenKind.WRITE),
        lambda: revoke_leaked(play.desk(), before[0].digest),
    ):
        with pytest.raises(StoreError, match=r"the audit cannot be written.*what cannot be recorded is not changed"):
            ask()
    assert play.tokens() == before
    assert play.targets[0].seen == seen
    assert play.rotations()[1:] == ()
    moved.rename(play.trail.file.parent)
    assert isinstance(rotate(play.desk(), "prom"), Report)


class LateSender(Play):
    """One name, just before the end of its overlap, with a sender that has not moved."""

    def __init__(self, directory):
        super().__init__(directory, "file:/a")
        create(self.desk(), "prom", kind=TokenKind.WRITE)
        self.now += HOUR
        rotate(self.desk(), "prom")
        self.old = self.tokens()[0]
        self.end = self.old.accepted_until
        address = "10.0.0.7"
        seen = Sighting("prom", self.old.id, address, address, "x", self.now - HOUR, self.end - 61, 9999)
        self.ledger = Ledger(seen)
        self.ledger.as_known = replace(self.ledger.as_known, since=self.now - DAY)
        self.now = self.end - 60.0
        self.overlaps = Overlaps()

    def passes(self):
        self.overlaps(self.desk(BY_SCHEDULE))

    def unwritable(self):
        return self.trail.file.parent.rename(self.trail.file.parent.with_name("away"))


@pytest.fixture
def late(tmp_path):
    return LateSender(tmp_path)


def test_an_overlap_is_prolonged_though_that_cannot_be_recorded_and_is_recorded_late(late, caplog):
    """A sender that is refused loses its samples; nobody is let in who was not."""
    away = late.unwritable()
    late.passes()
    (old, _), until = late.tokens(), late.tokens()[0].accepted_until
    assert until > late.end
    assert f"prom: token {old.id} is accepted until {time_text(until)}, which cannot be recorded now" in caplog.text
    samples = {sample.metric: sample.value for sample in late.trail.samples()}
    assert (samples[metrics.AUDIT_OWED], samples[metrics.AUDIT_WRITABLE]) == (1, 0)
    for ask in (lambda: rotate(late.desk(), "prom"), lambda: revoke(late.desk(), "prom")):
        with pytest.raises(StoreError, match="the audit cannot be written"):
            ask()
    away.rename(late.trail.file.parent)
    since = late.records()[-1]["seq"]
    look_at_audit(late.desk())
    (told,) = late.records(since)
    assert (told["outcome"], told["way"], told["name"]) == ("late", "schedule", "prom")
    assert told["changes"] == [{"what": "deadline moved", "token": old.id, "until": time_text(until)}]
    assert "when the audit could not be written" in told["text"]
    assert verify(late.trail).problems == []
    assert {sample.metric: sample.value for sample in late.trail.samples()}[metrics.AUDIT_OWED] == 0


def test_what_is_owed_to_the_record_stands_before_the_next_change(late):
    away = late.unwritable()
    late.passes()
    away.rename(late.trail.file.parent)
    since = late.records()[-1]["seq"]
    revoke(late.desk(), "prom")
    assert [one["outcome"] for one in late.records(since)] == ["late", "intended", "done"]
    assert verify(late.trail).problems == []


def test_an_overlap_is_not_ended_early_without_a_record(late):
    """It may wait: at its end the calendar ends it."""
    late.rules = replace(late.rules, finish_when_quiet_s=60.0)
    late.ledger.seen = tuple(replace(one, last_seen=late.end - 2000.0) for one in late.ledger.seen)
    fresh = late.tokens()[1]
    seen = replace(late.ledger.seen[0], token_id=fresh.id, first_seen=late.end - 1990.0, last_seen=late.now, count=500)
    late.ledger.seen = (*late.ledger.seen, seen)
    away = late.unwritable()
    late.passes()
    assert late.tokens()[0].accepted_until == late.end
    away.rename(late.trail.file.parent)
    late.now += 20.0
    late.passes()
    assert late.tokens()[0].accepted_until == late.now


def test_an_audit_that_somebody_holds_costs_the_schedule_no_time_once_it_is_known(late):
    """Each name would be five seconds late."""
    with late.trail.head_file.open("rb") as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        with pytest.raises(StoreError, match="another process holds the audit"):
            late.trail.check()
        before = time.monotonic()
        late.passes()
        assert time.monotonic() - before < PATIENCE_S / 2
    assert late.tokens()[0].accepted_until > late.end


def test_an_audit_that_fails_in_the_middle_halts_the_rotation(play):
    create(play.desk(), "prom", kind=TokenKind.WRITE)
    home = play.trail.file.parent
    play.targets[0].on_deliver = lambda _: home.rename(home.with_name("away"))
    result = rotate(play.desk(), "prom", rotation_id="r1")
    assert isinstance(result, Refusal)
    assert "halted: " in result.text
    assert "the audit cannot be written" in result.text
    assert play.states() == ["current", "pending"]
    home.with_name("away").rename(home)
    play.targets[0].on_deliver = lambda _: None
    play.gone = {"process-2"}
    assert isinstance(rotate(play.desk(), "prom", rotation_id="r1"), Report)
    assert verify(play.trail).problems == []


def test_a_change_that_the_store_refuses_is_told_so(tmp_path):
    class Slow(MemoryStore):
        def commit(self, _):
            raise self.error

    play = Play(tmp_path)
    play.store = Slow()
    play.targets = Stage("file:/a").targets
    for error, outcome in ((StoreError("disk full"), "failed"), (Conflict("another was faster"), "conflict")):
        play.store.error = error
        with suppress(StoreError):
            create(play.desk(), "prom", kind=TokenKind.WRITE)
        assert play.records()[-1]["outcome"] == outcome
        assert play.records()[-1]["text"] == str(error)


def test_a_lease_alone_is_no_record(play):
    create(play.desk(), "prom", kind=TokenKind.WRITE)
    play.targets[0].fails = "before"
    rotate(play.desk(), "prom", rotation_id="r1")
    since = play.records()[-1]["seq"]
    desk = play.desk()
    story = play.store.story("prom")
    desk.store.commit(succession.note(story, story.rotations[-1], now=play.now))
    assert play.records(since) == []


def test_a_stranger_who_comes_for_a_token_is_an_alarm(tmp_path):
    rules = TokenRules(overlap_s=HOUR, max_overlap_s=DAY, retry_grace_s=HOUR, renewing=frozenset({"edge"}))
    play = Play(tmp_path, rules=rules)
    play.ledger = Ledger()
    play.targets = Stage("file:/a").targets
    create(play.desk(), "edge", kind=TokenKind.WRITE)
    play.targets = []
    rotate(play.desk(), "edge", rotation_id="r1")
    renewing = Renewing(play.desk)
    (token,) = play.tokens("edge")
    since = play.records()[-1]["seq"]
    assert renewing.answer("edge", token.id, Caller("10.0.0.7", "promgate-renew/1")).status == 200
    assert play.told(since) == [("intended", ["minted", "about to be handed out", "handed out", "rotation taken up"])]
    assert renewing.answer("edge", token.id, Caller("10.6.6.6", "curl/8\x1b[2J\n")).status == 409
    alarm = play.records()[-1]
    assert alarm["outcome"] == "alarm"
    assert "10.6.6.6" in alarm["text"]
    assert (alarm["identity"], alarm["action"]) == ("token:edge", "renew")
    assert alarm["address"].startswith("10.6.6.6")
    assert play.told(since)[-2] == ("intended", ["rotation halted"])


def test_the_last_records_can_be_asked_for(play):
    create(play.desk(), "prom", kind=TokenKind.WRITE)
    report = list_audit(play.desk(), 2)
    assert [one["outcome"] for one in report.facts["records"]] == ["done", "intended"]
    assert isinstance(list_audit(Stage().desk(), 2), Refusal)


def test_the_keeper_looks_whether_it_can_be_written(play):
    assert look_at_audit(play.desk()) == play.now + 30.0
    assert play.trail.trouble == ""
    play.trail.file.unlink()
    play.trail.file.parent.rmdir()
    look_at_audit(play.desk())
    assert "cannot be written" in play.trail.trouble
    assert look_at_audit(Stage().desk()) is None


def test_a_command_is_asked_for_by_a_local_user():
    asked = asked_here("revoke")
    assert asked.identity.startswith("local:")
    assert (asked.way, asked.action) == ("cli", "revoke")
    assert asked.identity == f"local:{pwd.getpwuid(os.geteuid()).pw_name}"
