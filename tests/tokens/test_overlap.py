"""An overlap that follows its senders: whole lives of a rotation, played by a clock that is set by hand."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from proxy.tokens.ledger import Kind, Known, Sighting
from proxy.tokens.lifecycle import Issued, Refusal
from proxy.tokens.overlap import adapt, finish, next_look, only_prolongs
from proxy.tokens.ports import Change, Entry
from proxy.tokens.rotation import Rotation
from proxy.tokens.token import ACCEPTED, TokenState, state_at
from proxy.tokens.verdict import Judgement, Verdict, handed_over_at, last_elsewhere, of_senders
from tests.tokens.play import DAY, HOUR, after, create, randomness, rotate

START = 1_000_000.0
PREVIOUS = TokenState.PREVIOUS


class Life:
    """One name, its senders, and a server that looks at its overlaps as often as `next_look` says, and each second."""

    def __init__(self, *, overlap_s=DAY, max_overlap_s=7 * DAY, quiet_s=None):
        self.now = START
        self.overlap_s = overlap_s
        self.max_overlap_s = max_overlap_s
        self.quiet_s = quiet_s
        self.random = randomness()
        self.seen = after(create("prom", now=START, random=self.random))
        self.sightings = {}
        self.since = START - 1

    def rotate(self, **how):
        how = {"overlap_s": self.overlap_s, "max_overlap_s": self.max_overlap_s} | how
        issued = rotate("prom", self.seen, now=self.now, random=self.random, **how)
        if isinstance(issued, Issued):
            self.seen = after(issued)
        return issued

    def show(self, sender, index, *, at=None):
        """A sender shows the token minted as number `index`; whether it was let in."""
        token, at = self.seen[index], self.now if at is None else at
        state = state_at(token, self.now)
        kind = Kind.USED if state in ACCEPTED else Kind.HELD if state is TokenState.RETIRED else Kind.REFUSED
        key = token.id, kind, sender
        one = self.sightings.get(key) or Sighting("prom", token.id, sender, sender, "", at, at, 0, kind)
        last = max(one.last_seen, at)
        self.sightings[key] = replace(one, last_seen=last, count=one.count + 1)
        return kind is Kind.USED

    @property
    def known(self):
        return Known(tuple(self.sightings.values()), self.since)

    def look(self):
        """What the server does each time: the change, or None."""
        change = adapt("prom", self.seen, self.known, self.now, quiet_s=self.quiet_s)
        if change is not None:
            assert change.expect == self.seen
            self.seen = after(change)
            assert adapt("prom", self.seen, self.known, self.now, quiet_s=self.quiet_s) is None, "once is enough"
        return change

    def wait(self, seconds, each=None):
        """Let time pass, with a look at least each second; `each` is called before each look."""
        end = self.now + seconds
        while self.now < end:
            wait = next_look(self.seen, self.now)
            self.now = min(end, self.now + min(1.0, max(0.1, wait if wait is not None else 1.0)))
            if each is not None:
                each()
            self.look()

    def state(self, index):
        return state_at(self.seen[index], self.now)


def sending(life, sender, index, gap):
    """Something for `wait`: this sender shows that token each `gap` seconds."""
    next_at = life.now

    def each():
        nonlocal next_at
        while next_at <= life.now:
            life.show(sender, index, at=next_at)
            next_at += gap

    return each


def lived(gap, overlap_s, *, max_overlap_s=10.0**9, moves_after=math.inf, until, quiet_s=None, before_s=None):
    """How long after a rotation the old token was taken, while a sender came each `gap` seconds until it moved."""
    life = Life(overlap_s=overlap_s, max_overlap_s=max(max_overlap_s, overlap_s), quiet_s=quiet_s)
    life.wait(gap * 6 if before_s is None else before_s, sending(life, "a", 0, gap))
    life.rotate()
    rotated_at = life.now
    old, new = sending(life, "a", 0, gap), None

    def each():
        nonlocal new
        if life.now - rotated_at < moves_after:
            old()
        else:
            new = new or sending(life, "a", 1, gap)
            new()

    while life.state(0) is PREVIOUS and life.now < rotated_at + until:
        life.wait(0.5, each)
    return life.seen[0].accepted_until - rotated_at


# Late senders


@pytest.mark.parametrize(
    ("gap", "overlap_s"), [(0.3, 2.0), (1.0, 2.0), (1.0, 60.0), (15.0, 60.0), (15.0, 300.0), (60.0, 600.0)]
)
def test_a_late_sender_keeps_its_token_in_use(gap, overlap_s):
    assert lived(gap, overlap_s, until=overlap_s * 3) >= overlap_s * 3


@pytest.mark.parametrize("overlap_s", [2.0, 60.0, 900.0])
def test_a_token_in_use_ends_at_the_bound_that_was_fixed_when_it_stepped_down(overlap_s):
    bound = 2.5 * overlap_s
    assert lived(1.0, overlap_s, max_overlap_s=bound, until=overlap_s * 5) == pytest.approx(bound)


@pytest.mark.parametrize(("gap", "overlap_s"), [(1.0, 2.5), (1.0, 60.0), (15.0, 60.0), (60.0, 600.0)])
def test_who_moves_at_once_prolongs_nothing(gap, overlap_s):
    assert lived(gap, overlap_s, moves_after=gap, until=overlap_s * 3) == overlap_s


@pytest.mark.parametrize(("gap", "overlap_s"), [(1.0, 6.0), (1.0, 60.0), (15.0, 60.0)])
def test_who_moves_late_keeps_it_until_then_and_hardly_longer(gap, overlap_s):
    ended = lived(gap, overlap_s, moves_after=overlap_s * 2, until=overlap_s * 9)
    assert overlap_s * 2 <= ended <= overlap_s * 2.6 + 1


def test_who_stops_sending_keeps_it_no_longer_than_anybody_would_wait_for_it():
    life = Life(overlap_s=60.0)
    life.wait(10, sending(life, "a", 0, 1.0))
    life.rotate()
    life.wait(100, sending(life, "a", 0, 1.0))
    assert life.state(0) is PREVIOUS
    life.wait(60)
    assert life.state(0) is TokenState.RETIRED


def test_to_prolong_is_told_from_all_that_could_refuse_somebody():
    """The audit lets nothing else pass without a record."""
    life = Life()
    life.rotate()
    (old, fresh), now = life.seen, life.now
    entry = Entry(None, Rotation("r", "prom", fresh.id, now, HOUR))

    def change(put, **more):
        return Change("prom", life.seen, put, **more)

    later = replace(old, accepted_until=old.accepted_until + 1)
    assert only_prolongs(change((later,)))
    for other in (
        change((replace(old, accepted_until=old.accepted_until - 1),)),
        change((replace(old, accepted_until=None),)),
        change((replace(fresh, accepted_until=now + DAY),)),
        change((replace(later, max_until=old.max_until + 1),)),
        change((replace(later, revoked_at=now),)),
        change((replace(later, id="another"),)),
        change((later, replace(fresh, revoked_at=now))),
        change((later,), entry=entry),
    ):
        assert not only_prolongs(other), other


def test_a_nightly_sender_is_not_waited_for():
    assert lived(DAY / 4, HOUR, before_s=DAY, until=2 * HOUR) == HOUR


def test_who_shows_the_old_token_for_the_first_time_after_its_successor_was_there_prolongs_nothing():
    """A leaked token would keep itself alive; and so would whoever tries whether it has ended."""
    life = Life(overlap_s=6.0)
    life.wait(10, sending(life, "agent", 0, 1.0))
    life.rotate()
    tries, moved = sending(life, "thief", 0, 0.1), sending(life, "agent", 1, 1.0)
    life.wait(6.1, lambda: (tries(), moved()))
    assert life.state(0) is TokenState.RETIRED
    assert life.seen[0].accepted_until == START + 16


def test_two_behind_one_address_of_which_one_is_late_keep_it():
    life = Life(overlap_s=60.0)
    life.wait(60, sending(life, "nat", 0, 2.0))
    life.rotate()
    late, moved = sending(life, "nat", 0, 2.0), sending(life, "nat", 1, 3.0)
    life.wait(200, lambda: (late(), moved()))
    assert life.state(0) is PREVIOUS


def test_what_has_ended_is_not_woken():
    life = Life(overlap_s=2.0)
    life.wait(10, sending(life, "a", 0, 1.0))
    life.rotate()
    life.show("a", 0)
    life.now += 2.0  # a server that looked too late
    assert life.look() is None
    assert life.state(0) is TokenState.RETIRED


def test_a_token_of_an_older_store_has_no_bound_and_is_not_prolonged():
    life = Life(overlap_s=2.0)
    life.wait(10, sending(life, "a", 0, 1.0))
    life.rotate()
    life.seen = (replace(life.seen[0], max_until=None), life.seen[1])
    assert next_look(life.seen, life.now) is None
    life.wait(2.1, sending(life, "a", 0, 0.5))
    assert life.state(0) is TokenState.RETIRED


def test_a_second_rotation_prolongs_nothing():
    life = Life(overlap_s=60.0, max_overlap_s=120.0)
    life.wait(10, sending(life, "a", 0, 1.0))
    life.rotate()
    first = life.seen[0]
    life.wait(30)
    life.rotate(max_overlap_s=9 * DAY)
    assert life.seen[0] == first
    life.wait(300, sending(life, "a", 0, 1.0))
    assert life.seen[0].accepted_until == first.max_until


# An early end


def test_it_ends_early_once_all_have_moved_and_it_was_quiet():
    ended = lived(1.0, DAY, moves_after=5.0, until=HOUR, quiet_s=900.0)
    assert 904 <= ended <= 907


def test_without_being_asked_for_nothing_ends_early():
    assert lived(1.0, DAY, moves_after=5.0, until=HOUR) == DAY


def test_one_sender_that_has_not_moved_keeps_it_open_to_its_end():
    life = Life(overlap_s=HOUR, quiet_s=60.0)
    life.show("nightly", 0)
    life.wait(10, sending(life, "a", 0, 1.0))
    life.rotate()
    life.wait(HOUR - 1, sending(life, "a", 1, 15.0))
    assert life.state(0) is PREVIOUS
    life.show("nightly", 1)
    life.wait(302)  # five of its gaps, which are not known
    assert life.state(0) is TokenState.RETIRED


def test_a_stranger_with_the_old_token_keeps_it_from_ending_early():
    """Who it is must be found out first: `token status` names it, `token revoke` ends it."""
    life = Life(overlap_s=HOUR, quiet_s=60.0)
    life.wait(10, sending(life, "a", 0, 1.0))
    life.rotate()
    moved, stranger = sending(life, "a", 1, 15.0), sending(life, "x", 0, 15.0)
    life.wait(HOUR - 1, lambda: (moved(), stranger()))
    assert life.state(0) is PREVIOUS


@pytest.mark.parametrize("spoil", ["begun late", "no room", "nobody seen"])
def test_a_ledger_that_does_not_know_all_ends_nothing_early(spoil):
    life = Life(overlap_s=HOUR, quiet_s=60.0)
    life.wait(10, sending(life, "a", 0, 1.0))
    life.rotate()
    life.wait(1, sending(life, "a", 1, 15.0))
    if spoil == "begun late":
        life.since = life.now
    elif spoil == "no room":
        old = life.seen[0].id
        life.sightings["no room"] = Sighting("prom", old, "", "", "", START, START, 1, Kind.DROPPED)
    else:
        life.sightings.clear()
    life.wait(HOUR - 10, sending(life, "a", 1, 15.0))
    assert life.state(0) is PREVIOUS


def test_after_a_roll_back_the_calendar_alone_counts():
    life = Life(overlap_s=HOUR, quiet_s=10.0)
    life.show("a", 0)
    life.rotate()
    life.show("a", 1)
    old, new = life.seen
    life.now += 60
    life.seen = (
        replace(old, accepted_until=None, max_until=None),
        replace(new, accepted_until=life.now + 100, max_until=life.now + HOUR),
    )
    life.show("a", 0)
    life.wait(95, sending(life, "a", 0, 1.0))
    assert life.state(1) is PREVIOUS
    life.wait(6, sending(life, "a", 1, 1.0))
    assert life.state(1) is TokenState.RETIRED


# By hand


def judged(verdict):
    return Judgement(verdict, "for a reason")


def test_an_overlap_is_finished_by_hand_when_that_is_safe():
    life = Life()
    life.rotate()
    life.rotate()
    change = finish("prom", life.seen, judged(Verdict.SAFE), life.now + 5)
    assert [token.accepted_until for token in change.put] == [life.now + 5] * 2
    assert [state_at(token, life.now + 5) for token in after(change)] == [TokenState.RETIRED] * 2 + [TokenState.CURRENT]


def test_it_is_refused_on_wait_and_done_by_force():
    life = Life()
    life.rotate()
    refused = finish("prom", life.seen, judged(Verdict.WAIT), life.now)
    assert isinstance(refused, Refusal)
    assert refused.text.startswith("WAIT: for a reason. ")
    assert "--force" in refused.text
    assert isinstance(finish("prom", life.seen, judged(Verdict.WAIT), life.now, force=True), Change)


@pytest.mark.parametrize(("seen", "text"), [((), "no token named"), (None, "no previous token")])
def test_there_must_be_something_to_finish(seen, text):
    life = Life()
    refused = finish("prom", life.seen if seen is None else seen, judged(Verdict.SAFE), life.now, force=True)
    assert text in refused.text


# At random


class AnyLife(RuleBasedStateMachine):
    """Rotations, senders that come, move, go back and stay away, and looks at any time, in any order."""

    def __init__(self):
        super().__init__()
        self.life = Life(overlap_s=100.0, max_overlap_s=300.0, quiet_s=60.0)
        self.ended = set()
        self.bounds = {}

    @rule(overlap_s=st.sampled_from([0.0, 2.0, 60.0, 100.0]), max_overlap_s=st.sampled_from([100.0, 300.0]))
    def rotate(self, overlap_s, max_overlap_s):
        before = {token.id: token for token in self.life.seen}
        if isinstance(self.life.rotate(overlap_s=overlap_s, max_overlap_s=max_overlap_s), Issued):
            for token in self.life.seen:
                old = before.get(token.id)
                assert old is None or old.accepted_until is None or token == old, "a rotation moves no deadline"

    @rule(sender=st.sampled_from("abc"), data=st.data(), times=st.integers(1, 3))
    def show(self, sender, data, times):
        index = data.draw(st.integers(max(0, len(self.life.seen) - 3), len(self.life.seen) - 1))
        for _ in range(times):
            self.life.show(sender, index)
            self.life.now += 0.5

    @rule(seconds=st.sampled_from([0.1, 1.0, 9.0, 40.0, 150.0, 1000.0]))
    def time_passes_unseen(self, seconds):
        self.life.now += seconds

    @rule(quiet_s=st.sampled_from([None, 5.0, 60.0]))
    def look(self, quiet_s):
        life = self.life
        life.quiet_s = quiet_s
        before = {token.id: token for token in life.seen}
        senders = of_senders(life.sightings.values())
        if life.look() is None:
            return
        for token in life.seen:
            old = before[token.id]
            if token == old:
                continue
            assert token == replace(old, accepted_until=token.accepted_until), "nothing else is changed"
            assert state_at(old, life.now) is PREVIOUS
            users = [one for one in life.sightings.values() if one.token_id == token.id and one.kind is Kind.USED]
            if token.accepted_until > old.accepted_until:
                handed_at = handed_over_at(old, tuple(before.values()))
                assert any(one.first_seen < handed_at <= one.last_seen for one in users)
            else:
                assert token.accepted_until == life.now
                assert quiet_s is not None
                assert all(one.last_seen <= life.now - quiet_s for one in users)
                assert all(last_elsewhere(one, senders[one.sender]) > one.last_seen for one in users)

    @invariant()
    def no_deadline_is_past_the_bound_that_was_fixed_with_the_first(self):
        for token in self.life.seen:
            if token.accepted_until is not None:
                bound = self.bounds.setdefault(token.id, token.max_until)
                assert token.max_until == bound
                assert token.accepted_until <= bound

    @invariant()
    def what_has_ended_stays_so(self):
        ended = {token.id for token in self.life.seen if state_at(token, self.life.now) is TokenState.RETIRED}
        assert ended >= self.ended
        self.ended = ended

    @invariant()
    def the_newest_is_current_and_has_no_end(self):
        assert state_at(self.life.seen[-1], self.life.now) is TokenState.CURRENT


TestAnyLife = AnyLife.TestCase
TestAnyLife.settings = settings(max_examples=100, stateful_step_count=40, deadline=None)


@given(gap=st.floats(0.2, 100.0), overlap_s=st.floats(2.0, 300.0))
@settings(max_examples=25, deadline=None)
def test_no_sender_that_goes_on_with_its_token_is_cut_off(gap, overlap_s):
    if gap < overlap_s:  # whoever comes less often than the overlap lasts cannot be told from one who left
        assert lived(gap, overlap_s, until=overlap_s * 2, before_s=gap * 3) >= overlap_s * 2
