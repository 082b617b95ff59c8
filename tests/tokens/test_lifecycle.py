from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from proxy.stores.memory import MemoryStore
from proxy.tokens import lifecycle
from proxy.tokens.lifecycle import MAX_PREVIOUS, Issued, Refusal
from proxy.tokens.ports import Change
from proxy.tokens.secret import digest
from proxy.tokens.token import ACCEPTED, TokenKind, TokenState, ended_at, state_at
from tests.tokens.play import DAY, HOUR, after, create, randomness, rotate

CURRENT, PREVIOUS, RETIRED, REVOKED = TokenState.CURRENT, TokenState.PREVIOUS, TokenState.RETIRED, TokenState.REVOKED


def states(seen, now):
    return [state_at(token, now) for token in seen]


def revoke(name, seen, *, now, token_id=None):
    return lifecycle.revoke(name, seen, now=now, token_id=token_id)


def test_a_created_token_is_current_at_once():
    issued = create("prom", now=100.0)
    (token,) = after(issued)
    assert token.digest == digest(issued.secret.reveal().encode())
    assert (token.scheme, token.minted_at, token.current_from) == ("sha256", 100.0, 100.0)
    assert state_at(token, 100.0) is CURRENT
    assert issued.secret.reveal() not in repr(issued)


@pytest.mark.parametrize("name", ["a", "A.b_c-9", "x" * 64])
def test_a_name_is_taken(name):
    assert isinstance(create(name), Issued)


@pytest.mark.parametrize("name", ["", "x" * 65, "a b", "a/b", "ü", "a\n", "<script>", "a\x1b[31m", "\u0661"])
def test_a_name_is_refused_and_printed_harmlessly(name):
    refused = create(name)
    assert isinstance(refused, Refusal)
    assert "is not a name" in refused.text
    assert refused.text.isprintable()


@pytest.mark.parametrize("lifetime_s", [0.0, -1.0, 101 * 365 * DAY, float("inf"), float("nan")])
def test_a_lifetime_out_of_all_measure_is_refused(lifetime_s):
    assert "--expires" in create("prom", lifetime_s=lifetime_s).text


def test_an_existing_name_is_not_created_again_not_even_when_expired():
    seen = after(create("prom", lifetime_s=HOUR))
    assert "token rotate prom" in create("prom", seen, now=2 * HOUR).text


def test_a_rotation_makes_the_new_one_current_and_ends_the_old_one_after_the_overlap():
    seen = after(rotate("prom", after(create("prom")), now=100.0, overlap_s=50.0))
    assert states(seen, 100.0) == [PREVIOUS, CURRENT]
    assert states(seen, 149.9) == [PREVIOUS, CURRENT]
    assert states(seen, 150.0) == [RETIRED, CURRENT]


def test_a_second_rotation_does_not_prolong_the_first_deadline():
    seen = after(rotate("prom", after(create("prom")), now=100.0, overlap_s=50.0))
    seen = after(rotate("prom", seen, now=120.0, overlap_s=DAY))
    assert [token.accepted_until for token in seen] == [150.0, 120.0 + DAY, None]


def test_an_overlap_of_nothing_ends_the_old_one_at_once():
    seen = after(rotate("prom", after(create("prom")), now=100.0, overlap_s=0.0))
    assert states(seen, 100.0) == [RETIRED, CURRENT]


def test_the_overlap_does_not_prolong_an_expiry():
    seen = after(rotate("prom", after(create("prom", lifetime_s=HOUR)), now=1800.0, overlap_s=DAY))
    assert states(seen, HOUR - 1) == [PREVIOUS, CURRENT]
    assert states(seen, HOUR) == [RETIRED, CURRENT]


def test_a_successor_lives_as_long_as_its_forerunner_was_meant_to():
    seen = after(rotate("prom", after(create("prom", now=10.0, lifetime_s=90 * DAY)), now=80 * DAY))
    assert seen[-1].expires_at == 170 * DAY
    assert after(rotate("prom", after(create("prom")), now=DAY))[-1].expires_at is None


def test_an_expired_token_may_be_rotated_and_stays_out():
    seen = after(rotate("prom", after(create("prom", lifetime_s=HOUR)), now=2 * HOUR, overlap_s=DAY))
    assert states(seen, 2 * HOUR) == [RETIRED, CURRENT]


def test_a_successor_is_of_the_same_kind():
    assert after(rotate("dash", after(create("dash", kind=TokenKind.READER)), now=1.0))[-1].kind is TokenKind.READER


def test_an_overlap_over_the_maximum_is_refused_with_the_reason():
    refused = rotate("prom", after(create("prom")), now=1.0, overlap_s=DAY + 1, max_overlap_s=DAY)
    assert "max_overlap" in refused.text


@pytest.mark.parametrize("overlap_s", [-1.0, float("nan"), float("inf")])
def test_an_overlap_that_is_no_time_is_refused(overlap_s):
    assert isinstance(rotate("prom", after(create("prom")), now=1.0, overlap_s=overlap_s), Refusal)


def test_there_is_a_cap_on_previous_tokens_and_waiting_lifts_it():
    seen = after(create("prom"))
    for second in range(MAX_PREVIOUS):
        seen = after(rotate("prom", seen, now=second, overlap_s=100.0))
    refused = rotate("prom", seen, now=50.0, overlap_s=100.0)
    assert f"wait 50 s until {seen[0].id} ends" in refused.text
    assert isinstance(rotate("prom", seen, now=100.0, overlap_s=100.0), Issued)
    freed = after(revoke("prom", seen, now=50.0, token_id=seen[0].id))
    assert isinstance(rotate("prom", freed, now=50.0, overlap_s=100.0), Issued)


def test_a_pending_token_that_an_earlier_rotation_left_is_replaced_with_the_current_one():
    (token,) = after(create("prom"))
    seen = after(rotate("prom", (token, replace(token, id="pendingx", current_from=None)), now=1.0, overlap_s=50.0))
    assert [one.accepted_until for one in seen] == [51.0, 51.0, None]


@pytest.mark.parametrize("step", [rotate, revoke])
def test_an_unknown_name_is_refused_and_printed_harmlessly(step):
    refused = step("no\nsuch", (), now=1.0)
    assert "no token named 'no\\nsuch'" in refused.text


def test_revoking_a_name_ends_all_that_is_left_of_it_at_once():
    seen = after(rotate("prom", after(create("prom")), now=10.0, overlap_s=5.0))
    seen = after(revoke("prom", seen, now=20.0))
    assert states(seen, 20.0) == [REVOKED, REVOKED]
    assert states(seen, 0.0) == [REVOKED, REVOKED]


def test_revoking_one_leaves_the_others():
    seen = after(rotate("prom", after(create("prom")), now=10.0))
    seen = after(revoke("prom", seen, now=20.0, token_id=seen[0].id))
    assert states(seen, 20.0) == [REVOKED, CURRENT]


def test_a_name_whose_current_token_is_revoked_gets_a_new_one_by_rotation():
    seen = after(rotate("prom", after(create("prom")), now=10.0))
    seen = after(revoke("prom", seen, now=20.0, token_id=seen[1].id))
    assert states(after(rotate("prom", seen, now=30.0)), 30.0) == [PREVIOUS, REVOKED, CURRENT]


def test_revoking_what_is_revoked_changes_nothing():
    seen = after(revoke("prom", after(create("prom")), now=20.0))
    assert "revoked already" in revoke("prom", seen, now=30.0).text
    assert "revoked already" in revoke("prom", seen, now=30.0, token_id=seen[0].id).text
    assert "token show prom" in revoke("prom", seen, now=30.0, token_id="else").text


def test_a_name_that_is_all_revoked_is_created_anew_and_not_rotated():
    seen = after(revoke("prom", after(create("prom")), now=20.0))
    assert "token create prom" in rotate("prom", seen, now=30.0).text
    again = create("prom", seen, now=30.0, kind=TokenKind.READER, random=randomness(1))
    assert states(after(again), 30.0) == [REVOKED, CURRENT]


@pytest.mark.parametrize(("overlap_s", "warned"), [(0.0, True), (29.9, True), (30.0, False), (DAY, False)])
def test_a_short_overlap_is_taken_with_a_warning(overlap_s, warned):
    assert (lifecycle.advice_on(overlap_s) is not None) is warned


def test_a_summary_tells_of_the_current_token_and_counts_the_others():
    seen = after(rotate("prom", after(create("prom")), now=100.0, overlap_s=50.0))
    seen = after(rotate("prom", seen, now=120.0, overlap_s=10.0))
    line = lifecycle.summarize(seen, 125.0)
    assert (line.id, line.state, line.previous, line.previous_until) == (seen[2].id, CURRENT, 2, 150.0)
    line = lifecycle.summarize(after(revoke("prom", seen, now=126.0, token_id=seen[2].id)), 127.0)
    assert (line.id, line.state, line.previous) == (seen[2].id, REVOKED, 2)


class LifeOfAName(RuleBasedStateMachine):
    """Any commands in any order, while time goes on (and sometimes back): what must hold after each of them."""

    def __init__(self):
        super().__init__()
        self.store = MemoryStore()
        self.now = 1_700_000_000.0
        self.random = randomness()
        self.ends = {}
        self.revoked = set()

    @property
    def seen(self):
        return self.store.named("prom")

    def take(self, step):
        """Commit it; a refusal is fine."""
        if isinstance(step, Issued):
            self.store.commit(step.change)
            newest = self.seen[-1]
            assert newest.digest == digest(step.secret.reveal().encode())
            assert state_at(newest, self.now) is CURRENT
        elif isinstance(step, Change):
            self.store.commit(step)

    @rule(kind=st.sampled_from(TokenKind), lifetime_s=st.none() | st.floats(1.0, 3 * DAY))
    def create(self, kind, lifetime_s):
        self.take(create("prom", self.seen, now=self.now, kind=kind, lifetime_s=lifetime_s, random=self.random))

    @rule(overlap_s=st.floats(0.0, 2 * DAY), max_overlap_s=st.sampled_from([HOUR, DAY]))
    def rotate(self, overlap_s, max_overlap_s):
        how = {"overlap_s": overlap_s, "max_overlap_s": max_overlap_s, "random": self.random}
        self.take(rotate("prom", self.seen, now=self.now, **how))

    @rule()
    def revoke_all(self):
        self.take(revoke("prom", self.seen, now=self.now))
        assert not any(state_at(token, self.now) in ACCEPTED for token in self.seen)

    @rule(data=st.data())
    def revoke_one(self, data):
        if self.seen:
            token = data.draw(st.sampled_from(self.seen))
            self.take(revoke("prom", self.seen, now=self.now, token_id=token.id))
            assert state_at(self.store.find(token.digest), self.now) is REVOKED

    @rule(seconds=st.floats(0.0, 2 * DAY))
    def time_passes(self, seconds):
        self.now += seconds

    @rule(seconds=st.floats(0.0, 2 * HOUR))
    def the_clock_is_set_back(self, seconds):
        self.now -= seconds

    @invariant()
    def at_most_one_is_current_whatever_the_clock_says(self):
        for at in (self.now, self.now - DAY, self.now + DAY):
            assert states(self.seen, at).count(CURRENT) <= 1

    @invariant()
    def no_revoked_token_comes_back(self):
        revoked = {token.id for token in self.seen if state_at(token, self.now) is REVOKED}
        assert revoked >= self.revoked
        self.revoked = revoked

    @invariant()
    def no_deadline_is_moved_later(self):
        for token in self.seen:
            end = ended_at(token)
            before = self.ends.get(token.id)
            if before is not None:
                assert end is not None
                assert end <= before
            self.ends[token.id] = end

    @invariant()
    def the_newest_is_accepted_unless_it_was_revoked_or_expired(self):
        if self.seen:
            newest = self.seen[-1]
            expired = newest.expires_at is not None and self.now >= newest.expires_at
            assert (state_at(newest, self.now) in ACCEPTED) is (newest.revoked_at is None and not expired)

    @invariant()
    def all_that_live_are_of_one_kind(self):
        assert len({token.kind for token in self.seen if token.revoked_at is None}) <= 1


TestLifeOfAName = LifeOfAName.TestCase
TestLifeOfAName.settings = settings(max_examples=150, stateful_step_count=30, deadline=None)
