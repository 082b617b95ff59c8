"""The life of a name played at random: commands, crashes at any step, targets that fail, time that passes.

Three senders read their token from a target each, whenever they send, and the ledger sees them. What must hold after
every step:
- the token that a sender's target holds is accepted, by a server that was started just now on that store;
- unless an operator ended it: it was revoked, it leaked, its overlap was finished by force, or the rotation that had
  made it current was rolled back and the deadline that was told has passed;
- at most one token is current, one rotation open; what is revoked stays so; no overlap is prolonged past its bound;
- once all is well again, what is open can be taken up, and the next rotation reaches every target;
- only so many tokens are accepted.
"""

from __future__ import annotations

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from proxy.desk.desk import Report
from proxy.desk.ending import revoke, roll_back
from proxy.desk.finishing import finish
from proxy.desk.keeper import Keeper
from proxy.desk.leaked import revoke_leaked
from proxy.desk.rotating import create, rotate
from proxy.gate.snapshot import TokenRules
from proxy.tokens.book import TokenBook
from proxy.tokens.ledger import Sighting
from proxy.tokens.lifecycle import MAX_PREVIOUS, Refusal
from proxy.tokens.schedule import Period
from proxy.tokens.token import ACCEPTED, TokenKind, state_at
from proxy.tokens.tries import MAX_TRIES
from tests.desk.play import Canary, Ledger, Stage
from tests.tokens.play import DAY, HOUR

RULES = TokenRules(overlap_s=HOUR, max_overlap_s=DAY, rotation=Period(10 * DAY))
TARGETS = ("file:a", "file:b", "file:c")


class Crash(BaseException):
    """The process ends here."""


class LifeOfAName(RuleBasedStateMachine):
    def __init__(self):
        super().__init__()
        self.stage = Stage(*TARGETS, rules=RULES)
        self.stage.canary = Canary()
        self.stage.ledger = Ledger()
        self.revoked = set()
        self.bounds = {}
        #: Digests whose holder may be refused: revoked, or rolled back.
        self.excused = set()
        self.crash_in = None
        self.commit = self.stage.store.commit
        self.stage.store.commit = self.crashing_commit
        self.keeper = Keeper(self.stage.desk, object)

    def crashing_commit(self, change):
        """The process dies at its n-th commit, before it or after it."""
        if self.crash_in is not None:
            self.crash_in -= 1
            if self.crash_in == 0:
                raise Crash
        generation = self.commit(change)
        if self.crash_in is not None:
            self.crash_in -= 1
            if self.crash_in == 0:
                raise Crash
        return generation

    def run(self, command, *args, **how):
        desk = self.stage.desk()
        self.all_send()
        try:
            return command(desk, *args, **how)
        except Crash:
            self.stage.gone.add(desk.owner)
        finally:
            self.crash_in = None
            self.all_send()

    def all_send(self):
        """Each sender with what its target holds, and the ledger sees it."""
        ledger, now = self.stage.ledger, self.stage.now
        for target in self.stage.targets:
            token = self.stage.store.find(target.holds) if target.holds else None
            if token is None or self.state(token) not in ACCEPTED:
                continue
            known = [one for one in ledger.seen if (one.token_id, one.sender) == (token.id, target.target)]
            first = known[0].first_seen if known else now
            sighting = Sighting(
                "prom", token.id, target.target, target.target, "Prometheus/2.53", first, now, len(known) + 2
            )
            ledger.seen = (*(one for one in ledger.seen if one not in known), sighting)

    def excuse(self, *reasons):
        """An operator ended these: from now on they may be refused to who holds them."""
        self.excused |= {token.digest for token in reasons}

    @initialize()
    def begin(self):
        create(self.stage.desk(), "prom", kind=TokenKind.WRITE)

    @rule(at=st.integers(1, 12))
    def the_next_command_crashes(self, at):
        self.crash_in = at

    @rule(number=st.integers(0, len(TARGETS) - 1), how=st.sampled_from([None, None, "before", "after"]))
    def a_target_fails_or_recovers(self, number, how):
        self.stage.targets[number].fails = how

    @rule(step=st.sampled_from([None, None, "push"]))
    def the_canary_fails_or_recovers(self, step):
        self.stage.canary.fails = step

    @rule(fails=st.sampled_from([False, False, True]))
    def the_server_hangs_or_recovers(self, fails):
        self.stage.server_fails = fails

    @rule(overlap_s=st.floats(0.0, DAY), rotation_id=st.sampled_from(["x", "y", None]))
    def rotate(self, overlap_s, rotation_id):
        before = self.stage.rotations()
        if self.stage.store.rotation(rotation_id or "") is not None:
            overlap_s = None  # it has one already
        result = self.run(rotate, "prom", overlap_s=overlap_s, rotation_id=rotation_id)
        for ended in self.stage.rotations():
            if isinstance(result, Report) and ended not in before and ended.current_at is not None:
                (current,) = [token for token in self.stage.tokens() if self.state(token) == "current"]
                assert ended.token_id == current.id
                assert [target.holds for target in self.stage.targets] == [current.digest] * len(TARGETS)

    @precondition(lambda self: not any(one.is_open for one in self.stage.rotations()))
    @rule(number=st.integers(1, len(TARGETS) - 1), how=st.sampled_from(["before", "after"]))
    def one_halts_half_way(self, number, how):
        self.stage.targets[number].fails = how
        self.run(rotate, "prom")
        self.stage.targets[number].fails = None

    @rule()
    def take_up_all_that_is_open(self):
        for one in [one for one in self.stage.rotations() if one.is_open]:
            self.run(rotate, "prom", rotation_id=one.id)

    @rule()
    def the_server_looks_after_it(self):
        try:
            self.keeper.rounds.turn()
        except Crash:
            self.stage.gone.add(f"process-{self.stage._processes}")
        finally:
            self.crash_in = None

    @rule()
    def roll_back(self):
        """Of a rotation that is done, who has the newer token is told until when it is good: it may run out then."""
        current = [token for token in self.stage.tokens() if self.state(token) == "current"]
        self.run(roll_back, "prom")
        self.excuse(*(token for token in current if self.stage.store.find(token.digest).accepted_until is not None))

    @rule(is_forced=st.sampled_from([False, False, True]))
    def the_overlap_is_finished(self, is_forced):
        previous = [token for token in self.stage.tokens() if self.state(token) == "previous"]
        self.run(finish, "prom", force=is_forced)
        if is_forced:
            self.excuse(*previous)

    @rule(data=st.data())
    def one_leaks(self, data):
        token = data.draw(st.sampled_from(self.stage.tokens()))
        was = self.state(token)
        self.excuse(token)
        self.run(revoke_leaked, token.digest)
        after = self.stage.store.find(token.digest)
        if was in {"current", "pending"} and after.revoked_at is not None and after.revoked_at == self.stage.now:
            assert after.held_until == self.stage.now + RULES.retry_grace_s

    @rule(data=st.data())
    def one_is_revoked(self, data):
        token = data.draw(st.sampled_from(self.stage.tokens()))
        self.excuse(token)
        self.run(revoke, "prom", token_id=token.id)

    @precondition(lambda self: len(self.stage.tokens()) > 3)
    @rule()
    def all_are_revoked_and_the_name_begins_anew(self):
        self.excuse(*self.stage.tokens())
        self.crash_in = None
        self.run(revoke, "prom")
        self.excuse(*self.stage.tokens())
        self.run(create, "prom", kind=TokenKind.WRITE)

    @rule(seconds=st.floats(0.0, 2 * HOUR) | st.floats(0.0, 3 * DAY))
    def time_passes(self, seconds):
        self.all_send()
        self.stage.now += seconds
        self.all_send()

    def state(self, token):
        return state_at(token, self.stage.now).value

    @invariant()
    def what_a_target_holds_opens_the_door_of_a_server_that_starts_now(self):
        book = TokenBook()
        book.apply(self.stage.store.changes_since(0))
        for target in self.stage.targets:
            token = book.find(target.holds) if target.holds else None
            if token is not None and token.digest not in self.excused:
                assert state_at(token, self.stage.now) in ACCEPTED

    @invariant()
    def no_token_that_a_target_holds_has_a_deadline_while_no_newer_one_is_everywhere(self):
        for one in self.stage.rotations():
            if one.is_open:
                current = [token for token in self.stage.tokens() if self.state(token) == "current"]
                assert len(current) <= 1
                assert all(token.accepted_until is None for token in current)

    @invariant()
    def at_most_one_is_current_and_one_rotation_open(self):
        assert [self.state(token) for token in self.stage.tokens()].count("current") <= 1
        assert sum(one.is_open for one in self.stage.rotations()) <= 1

    @invariant()
    def each_id_made_one_token_current_at_most(self):
        made = [one.token_id for one in self.stage.rotations() if one.current_at is not None]
        assert len(set(made)) == len(made)
        assert set(made) <= {token.id for token in self.stage.tokens() if token.current_from is not None}

    @invariant()
    def no_revoked_token_comes_back(self):
        revoked = {token.id for token in self.stage.tokens() if token.revoked_at is not None}
        assert revoked >= self.revoked
        self.revoked = revoked

    @invariant()
    def no_overlap_is_prolonged(self):
        for token in self.stage.tokens():
            end, bound = self.bounds.get(token.id, (None, None))
            if end is not None and token.accepted_until is not None:
                assert token.accepted_until <= end
                assert token.max_until == bound
            self.bounds[token.id] = (token.accepted_until, token.max_until)

    @invariant()
    def so_many_are_accepted_and_no_more(self):
        accepted = [token for token in self.stage.tokens() if self.state(token) in ACCEPTED]
        assert sum(token.current_from is not None for token in accepted) <= MAX_PREVIOUS + 1
        assert sum(token.current_from is None for token in accepted) <= MAX_TRIES + 1

    @invariant()
    def the_name_is_never_stuck(self):
        """A copy of the store, all well again: what is open ends, and so does another one; all targets hold the last.

        Nobody has to revoke anything for that. A copy whose canary dies keeps all doors as they are.
        """
        if self.crash_in is not None or not any(token.revoked_at is None for token in self.stage.tokens()):
            return
        open_now = [one for one in self.stage.rotations() if one.is_open]
        for rotation_id in [*(one.id for one in open_now), None]:
            copy = self.copy(open_now)
            if rotation_id is None and open_now:
                roll_back(copy.desk(), "prom")
            result = rotate(copy.desk(), "prom", rotation_id=rotation_id)
            if isinstance(result, Refusal):
                assert rotation_id is None
                assert (open_now and "has not ended" in result.text) or "more than 16 previous" in result.text
                continue
            (current,) = [token for token in copy.tokens() if copy.state_of(token.digest) == "current"]
            assert [target.holds for target in copy.targets] == [current.digest] * len(TARGETS)
        if open_now:
            copy = self.copy(open_now)
            copy.canary = Canary()
            copy.canary.fails = "push"
            for target, holds in zip(copy.targets, (target.holds for target in self.stage.targets), strict=True):
                target.holds = holds
            rotate(copy.desk(), "prom", rotation_id=open_now[0].id)
            for target in copy.targets:
                if target.holds and target.holds not in self.excused:
                    assert copy.state_of(target.holds) in ACCEPTED

    def copy(self, open_now):
        copy = Stage(*TARGETS, rules=RULES)
        copy.now, copy.random = self.stage.now, self.stage.random
        rows, rotations = self.stage.store._rows, self.stage.store._rotations
        copy.store._rows, copy.store._rotations = dict(rows), dict(rotations)
        copy.store._receipts, copy.store._marks = list(self.stage.store._receipts), list(self.stage.store._marks)
        copy.gone = self.stage.gone | {one.lease_owner.partition("#")[0] for one in open_now}
        return copy


TestLifeOfAName = LifeOfAName.TestCase
TestLifeOfAName.settings = settings(max_examples=100, stateful_step_count=25, deadline=None)
