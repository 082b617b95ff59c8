"""Renew, in every order in which a sender, a stranger and an operator may come."""

from __future__ import annotations

from dataclasses import replace

import pytest

from proxy.desk.desk import Report
from proxy.desk.ending import revoke, roll_back
from proxy.desk.keeper import Keeper
from proxy.desk.leaked import revoke_leaked
from proxy.desk.renewing import Renewed, Stranger, renew
from proxy.desk.rotating import Outlets, rotate
from proxy.desk.schedule import do, look_ahead, next_work, rotate_due
from proxy.desk.status import status
from proxy.gate.snapshot import TokenRules
from proxy.tokens.ledger import Kind, Sighting
from proxy.tokens.lifecycle import Refusal
from proxy.tokens.ports import StoreError
from proxy.tokens.renewal import Caller
from proxy.tokens.schedule import Period
from proxy.tokens.secret import digest
from proxy.tokens.token import TokenState, state_at
from tests.desk.play import Canary, Ledger, Stage, Target
from tests.tokens.play import DAY, HOUR, committed

HOST = Caller("10.0.0.7", "promgate-renew/1.0")
THIEF = Caller("10.6.6.6", "promgate-renew/1.0")
RULES = TokenRules(overlap_s=HOUR, max_overlap_s=DAY, retry_grace_s=HOUR, renewing=frozenset({"edge"}))


class Play:
    def __init__(self):
        self.stage = Stage(rules=RULES)
        committed(self.stage.store, "edge", now=self.stage.now - DAY)
        (self.old,) = self.stage.store.named("edge")
        self.stage.ledger = Ledger()
        self.see("10.0.0.7")

    def see(self, address, *, token_id=None, agent="Prometheus/2.53", ago=1.0, sender=None, kind=Kind.USED):
        at = self.stage.now - ago
        one = Sighting(
            "edge", token_id or self.old.id, sender or f"{address} Prometheus", address, agent, at, at, 1, kind
        )
        self.stage.ledger.seen += (one,)

    def begin(self, rotation_id="r1"):
        return rotate(self.stage.desk(), "edge", rotation_id=rotation_id)

    def renew(self, token_id=None, caller=HOST):
        return renew(self.stage.desk(), "edge", token_id or self.old.id, caller)

    def states(self):
        return {token.id: state_at(token, self.stage.now) for token in self.stage.store.named("edge")}

    @property
    def rotation(self):
        return self.stage.store.rotation("r1")


@pytest.fixture
def play():
    return Play()


def test_a_rotation_waits_for_its_sender_and_mints_nothing(play):
    report = play.begin()
    assert report.notes == ("rotation r1 of edge waits for its sender, who runs `promgate token renew`",)
    assert play.states() == {play.old.id: TokenState.CURRENT}
    assert play.begin().notes == report.notes


def test_the_whole_way(play):
    play.begin()
    picked = play.renew()
    assert isinstance(picked, Renewed)
    assert play.states() == {play.old.id: TokenState.CURRENT, picked.token_id: TokenState.PENDING}
    assert play.stage.store.find(digest(picked.secret.reveal().encode())).id == picked.token_id
    assert play.stage.applied > 0, "the server knows it before its sender does"
    done = play.renew(picked.token_id)
    assert isinstance(done, Report)
    assert play.states() == {play.old.id: TokenState.PREVIOUS, picked.token_id: TokenState.CURRENT}
    assert [one.target for one in play.stage.store.receipts("r1")] == [
        "pick-up:10.0.0.7 promgate-renew", "renew:10.0.0.7 promgate-renew",
    ]  # fmt: skip
    # Once more, with the successor: nothing to do.
    assert isinstance(play.renew(picked.token_id), Report)
    assert play.begin().notes == ("rotation r1 of edge is done: nothing was left to do",)
    # And the old one is not traded again.
    assert "its successor was handed out" in play.renew().text


def test_nothing_to_do_while_no_rotation_is_open(play):
    assert isinstance(play.renew(), Report)
    assert play.states() == {play.old.id: TokenState.CURRENT}


def test_a_name_that_does_not_renew_itself(play):
    committed(play.stage.store, "other", now=0.0)
    (token,) = play.stage.store.named("other")
    assert "senders: {other: one}" in renew(play.stage.desk(), "other", token.id, HOST).text


def test_the_same_sender_again_replaces_the_unused_one_which_is_held(play):
    play.begin()
    first, second = play.renew(), play.renew()
    assert first.token_id != second.token_id
    assert play.states()[first.token_id] is TokenState.REVOKED
    (dead,) = [token for token in play.stage.store.named("edge") if token.id == first.token_id]
    assert dead.held_until == play.stage.now + RULES.retry_grace_s
    assert isinstance(play.renew(second.token_id), Report)
    assert play.states()[second.token_id] is TokenState.CURRENT
    # Which token it was that came through does not matter; the dead one opens nothing here either.
    assert isinstance(play.renew(first.token_id), Refusal)


def test_one_that_is_in_use_is_not_replaced(play):
    play.begin()
    picked = play.renew()
    play.see("10.0.0.7", token_id=picked.token_id)
    again = play.renew()
    assert isinstance(again, Refusal)
    assert "show that one" in again.text
    assert play.states()[picked.token_id] is TokenState.PENDING


@pytest.mark.parametrize("first", [True, False], ids=["before the sender", "after the sender"])
def test_a_stranger_stops_the_rotation(play, first):
    play.begin()
    picked = None if first else play.renew()
    alarm = play.renew(caller=THIEF)
    assert isinstance(alarm, Stranger)
    assert "10.6.6.6 promgate-renew came for the successor" in alarm.text
    before = play.states()
    assert before[play.old.id] is TokenState.CURRENT
    for caller in (HOST, THIEF):
        refused = play.renew(caller=caller)
        assert isinstance(refused, Refusal)
        assert "promgate token rollback edge" in refused.text
    assert play.states() == before
    assert "was stopped" in play.begin().text
    if picked:
        # Its sender may have it in place already: it goes on working until somebody decides.
        assert before[picked.token_id] is TokenState.PENDING
        assert isinstance(play.renew(picked.token_id), Refusal)
    assert isinstance(roll_back(play.stage.desk(), "edge"), Report)
    assert isinstance(play.begin("r2"), Report)


def test_a_stranger_with_the_successor_is_one_too(play):
    play.begin()
    picked = play.renew()
    assert isinstance(play.renew(picked.token_id, THIEF), Stranger)
    assert play.states()[play.old.id] is TokenState.CURRENT


def test_two_who_send_are_one_too_many(play):
    """The thief has sent, so that the ledger knows it."""
    play.see("10.6.6.6")
    play.begin()
    assert isinstance(play.renew(caller=THIEF), Stranger)


def test_who_moved_yesterday_is_no_second_sender(play):
    play.stage.ledger.seen = ()
    play.see("10.0.0.5", ago=3 * HOUR)
    play.see("10.0.0.7", ago=1.0)
    play.begin()
    assert isinstance(play.renew(), Renewed)


def test_a_sender_that_never_sent_is_taken_at_its_word(play):
    play.stage.ledger.seen = ()
    play.begin()
    assert isinstance(play.renew(caller=THIEF), Renewed)
    assert isinstance(play.renew(caller=HOST), Stranger)


@pytest.mark.parametrize(
    ("caller", "is_let"),
    [
        (Caller("10.0.0.9", "promgate-renew/1", "cert:CN=edge"), True),
        (Caller("10.0.0.7", "promgate-renew/1", "cert:CN=other"), False),
        # Without one, its address is all that is known of it.
        (Caller("10.0.0.7", "promgate-renew/1"), True),
        (Caller("10.0.0.9", "promgate-renew/1"), False),
    ],
)
def test_a_certificate_counts_more_than_an_address(play, caller, is_let):
    play.stage.ledger.seen = ()
    play.see("10.0.0.7", sender="cert:CN=edge")
    play.begin()
    assert isinstance(play.renew(caller=caller), Renewed if is_let else Stranger)


@pytest.mark.parametrize(
    ("again", "is_let"),
    [
        (Caller("10.0.0.9", "promgate-renew/2", "cert:CN=edge one"), True),
        (Caller("10.0.0.9", "promgate-renew/1", "cert:CN=edge"), False),
        (Caller("10.0.0.7", "promgate-renew/1", "cert:CN=edge%20one"), False),
        (Caller("10.0.0.7", "promgate-renew/1"), False),
    ],
)
def test_who_picked_up_by_a_certificate_is_known_by_it(play, again, is_let):
    """A pod comes back with another address, between the pick-up and the receipt."""
    play.stage.ledger.seen = ()
    play.begin()
    picked = play.renew(caller=Caller("10.0.0.7", "promgate-renew/1", "cert:CN=edge one"))
    result = play.renew(picked.token_id, caller=again)
    assert isinstance(result, Report if is_let else Stranger)
    if is_let:
        assert play.states()[picked.token_id] is TokenState.CURRENT


def test_our_own_programs_are_no_senders(play):
    play.see("127.0.0.1", agent="promgate-canary")
    play.see("10.6.6.6", agent="promgate-renew/1.0")
    play.begin()
    assert isinstance(play.renew(), Renewed)


def test_what_was_refused_says_nothing_of_the_sender(play):
    play.see("10.6.6.6", kind=Kind.REFUSED)
    play.begin()
    assert isinstance(play.renew(), Renewed)


def test_without_a_ledger_nobody_is_given_anything(play):
    play.begin()
    play.stage.ledger.fails = True
    with pytest.raises(StoreError):
        play.renew()
    play.stage.ledger = None
    assert "nobody keeps a ledger" in play.renew().text
    assert play.states() == {play.old.id: TokenState.CURRENT}


def test_a_canary_that_dies_ends_it_and_the_old_token_goes_on(play):
    play.stage.canary = Canary()
    play.begin()
    play.stage.canary.fails = "push"
    assert "the canary failed at step push" in play.renew().text
    assert sorted(play.states().values()) == sorted([TokenState.CURRENT, TokenState.REVOKED])
    assert play.states()[play.old.id] is TokenState.CURRENT
    assert not play.rotation.is_open


def test_a_server_that_does_not_take_it_gives_nothing_out(play):
    play.begin()
    play.stage.server_fails = True
    with pytest.raises(StoreError):
        play.renew()
    play.stage.server_fails = False
    picked = play.renew()
    assert isinstance(play.renew(picked.token_id), Report)
    assert play.states()[picked.token_id] is TokenState.CURRENT


def test_giving_it_up_lets_a_sender_that_has_the_successor_go_on(play):
    play.begin()
    picked = play.renew()
    assert isinstance(roll_back(play.stage.desk(), "edge"), Report)
    assert play.states() == {play.old.id: TokenState.CURRENT, picked.token_id: TokenState.PENDING}
    assert "without a new token (rolled back)" in play.begin().text
    play.begin("r2")
    later = play.renew(picked.token_id)
    assert isinstance(play.renew(later.token_id), Report)
    assert play.states()[play.old.id] is play.states()[picked.token_id] is TokenState.PREVIOUS


def test_a_revocation_ends_it(play):
    play.begin()
    play.renew()
    assert isinstance(revoke(play.stage.desk(), "edge"), Report)
    assert set(play.states().values()) == {TokenState.REVOKED}
    assert isinstance(play.renew(), Refusal)


def test_the_calendar_opens_it_and_leaves_it_to_its_sender(play):
    play.stage.targets.clear()
    play.stage.rules = replace(RULES, rotation=Period(HOUR))
    desk = play.stage.desk()
    work = next_work(desk, look_ahead(desk))
    assert isinstance(do(desk, work), Report)
    (rotation,) = play.stage.rotations("edge")
    assert rotation.is_open
    play.stage.now += 10 * DAY
    assert next_work(desk, look_ahead(desk)) is None
    assert "nothing is due" in rotate_due(desk).notes
    play.see("10.0.0.7")
    picked = play.renew()
    assert isinstance(play.renew(picked.token_id), Report)
    assert play.states()[picked.token_id] is TokenState.CURRENT


def test_a_sender_that_is_waited_for_is_not_looked_for_each_second(play, monkeypatch):
    play.stage.rules = replace(RULES, rotation=Period(30 * DAY))
    play.begin()
    keeper = Keeper(play.stage.desk, lambda: play.stage.store.changes_since(0).generation)
    keeper.rounds.turn()
    looks = []
    monkeypatch.setattr(play.stage.store, "recent_rotations", lambda _: looks.append(play.stage.now) or [])
    for _ in range(20):
        play.stage.now += 1
        keeper.rounds.turn()
    assert looks == []


def test_one_that_was_stopped_is_shown_as_halted_with_the_one_way_out(play):
    play.begin()
    assert status(play.stage.desk(), "edge").facts["rotation"]["phase"] == "running"
    play.renew(caller=THIEF)
    told = status(play.stage.desk(), "edge")
    assert told.facts["rotation"]["phase"] == "halted"
    assert "edge: `promgate token rollback edge` gives it up" in told.notes
    assert look_ahead(play.stage.desk()).stuck(play.stage.now)


def test_an_overlap_is_given_once(play):
    play.begin()
    assert "--overlap" in rotate(play.stage.desk(), "edge", rotation_id="r1", overlap_s=1.0).text
    assert isinstance(rotate(play.stage.desk(), "edge", rotation_id="r1", overlap_s=HOUR), Report)


def test_a_second_rotation_is_refused_while_one_waits(play):
    play.begin()
    assert "has not ended" in play.begin("r2").text


@pytest.mark.parametrize("is_picked_up", [False, True])
def test_a_leak_while_the_sender_is_waited_for_goes_on_by_hand(play, is_picked_up):
    """Who showed the leaked token may have picked up the successor: it ends as well."""
    play.begin()
    picked = play.renew() if is_picked_up else None
    terminal = Target("stdout")
    report = revoke_leaked(play.stage.desk(), play.old.digest, Outlets(instead=(terminal,)))
    assert report.failure == ""
    states = play.states()
    assert states.pop(play.old.id) is TokenState.REVOKED
    if picked is not None:
        assert states.pop(picked.token_id) is TokenState.REVOKED
        assert picked.token_id in " ".join(report.notes)
        (held,) = [token for token in play.stage.tokens("edge") if token.id == picked.token_id]
        assert held.held_until == play.stage.now + RULES.retry_grace_s
    assert list(states.values()) == [TokenState.CURRENT]
    assert play.stage.state_of(terminal.holds) is TokenState.CURRENT
    assert not play.rotation.is_open
    assert isinstance(play.begin("r2"), Report)


def test_a_leaked_successor_ends_and_the_token_before_does_not(play):
    play.begin()
    picked = play.renew()
    terminal = Target("stdout")
    report = revoke_leaked(
        play.stage.desk(), digest(picked.secret.reveal().encode()), Outlets(instead=(terminal,))
    )
    assert report.failure == ""
    states = play.states()
    assert (states[play.old.id], states[picked.token_id]) == (TokenState.PREVIOUS, TokenState.REVOKED)
    assert play.stage.state_of(terminal.holds) is TokenState.CURRENT
