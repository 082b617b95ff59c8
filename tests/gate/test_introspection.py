"""Tokens of others at the gate: who is asked, what is remembered of the answer, and what is never told to anybody."""

from __future__ import annotations

from dataclasses import replace

import pytest

from proxy.gate.ask import ABSENT, BUSY, REFUSED, UNREACHABLE, Claims, Introspect, VerifyJwt
from proxy.gate.decision import Deny, Forward, Reason
from proxy.gate.snapshot import Introspection, Way
from tests.gate.play import (
    AT,
    IP,
    NOW,
    READ,
    SENDER,
    SENDER_SECRET,
    SNAPSHOT,
    STRANGE_SECRET,
    WRITE,
    answered,
    ask,
    basic,
    bearer,
    decide,
    gate,
    jwt,
    read,
    write,
)

ASKED = Introspection("https://idp/introspect", "promgate", "tell-nobody", wanted=(("groups", "sre"),))
FOREIGN = replace(WRITE, ways=frozenset({Way.WRITE_TOKEN, Way.INTROSPECTION}))
FOREIGN_READ = replace(READ, ways=frozenset({Way.BASIC, Way.INTROSPECTION}))
ROLES = {"introspection:carol": frozenset({"viewer"}), "introspection: groups=sre": frozenset({"admin"})}
OPAQUE = bearer(b"opaque")


def a_gate(**changes):
    return gate(snapshot=replace(SNAPSHOT, introspection=ASKED, routes=(FOREIGN, FOREIGN_READ), roles=ROLES), **changes)


def claims(**changes):
    return replace(Claims("introspection:carol", ASKED.terms, NOW - 60, NOW + 300, writes=True), **changes)


def test_an_active_token_is_asked_about_once_in_thirty_seconds():
    """O17."""
    one = a_gate()
    decision, questions = ask(one, write(), OPAQUE, answers=[claims()])
    assert questions == [Introspect(b"opaque")]
    assert decision.identity.name == "introspection:carol"
    assert decision.identity.roles == {"viewer", "write"}
    assert decision.identity.way is Way.INTROSPECTION
    assert ask(one, write(), OPAQUE, at=AT + 29)[1] == []
    assert ask(one, read(), OPAQUE, at=AT + 29)[1] == []
    assert ask(one, write(), OPAQUE, at=AT + 30, answers=[REFUSED])[0].reason is Reason.BAD_CREDENTIAL
    assert ask(one, write(), OPAQUE, at=AT + 31)[1] == [Introspect(b"opaque")]


def test_roles_come_from_claims():
    another = claims(name="introspection:x", granted=("introspection: groups=sre",))
    found = decide(a_gate(), read(), OPAQUE, answers=[another])
    assert found.identity.roles == {"admin", "write"}


@pytest.mark.parametrize("route", [FOREIGN, FOREIGN_READ])
@pytest.mark.parametrize(
    ("answer", "reason", "status"),
    [
        (REFUSED, Reason.BAD_CREDENTIAL, 401),
        (BUSY, Reason.BUSY, 503),
        (UNREACHABLE, Reason.PROVIDER_UNREACHABLE, 503),
    ],
)
def test_a_token_that_is_not_good_or_cannot_be_told(route, answer, reason, status):
    denied = decide(a_gate(), write() if route is FOREIGN else read(), OPAQUE, answers=[answer])
    assert denied == Deny(reason, route)
    assert answered(denied)[0] == status


def test_what_has_ended_is_held_and_nobody_is_asked_again():
    one = a_gate()
    decide(one, write(), OPAQUE, answers=[claims(expires_at=NOW + 15)])
    for later, reason in ((15, Reason.JWT_EXPIRED), (314, Reason.JWT_EXPIRED), (315, Reason.TOKEN_ENDED)):
        decision, questions = ask(one, write(), OPAQUE, at=AT + later, now=NOW + later)
        assert (decision.reason, questions) == (reason, [])


def test_a_token_of_ours_is_told_to_nobody():
    one = a_gate()
    assert isinstance(decide(one, write(), bearer(SENDER_SECRET)), Forward)
    decision, questions = ask(one, write(), bearer(STRANGE_SECRET), answers=[ABSENT])
    assert decision.reason is Reason.BAD_CREDENTIAL
    assert Introspect(STRANGE_SECRET) not in questions
    assert ask(one, read(), bearer(STRANGE_SECRET))[1] == []
    for shown in (basic("x", SENDER_SECRET), basic("ann", b"opaque")):
        assert not [one for one in ask(a_gate(), read(), shown)[1] if isinstance(one, Introspect)]


def test_the_form_picks_who_is_asked():
    both = replace(WRITE, ways=frozenset({Way.JWT, Way.INTROSPECTION}))
    assert ask(gate(snapshot=replace(SNAPSHOT, introspection=ASKED, routes=(both,))), write(), jwt())[1] == [
        VerifyJwt(jwt().text)
    ]
    # a JWT where only its provider can tell
    decision, questions = ask(a_gate(), write(), jwt(), answers=[claims()])
    assert questions == [Introspect(jwt().text)]
    assert isinstance(decision, Forward)


def test_what_fails_falls_through_to_nothing_else():
    both = replace(WRITE, ways=frozenset({Way.JWT, Way.INTROSPECTION}))
    one = gate(snapshot=replace(SNAPSHOT, introspection=ASKED, routes=(both,)))
    assert ask(one, write(), jwt(), answers=[REFUSED])[0].reason is Reason.BAD_CREDENTIAL


def test_where_it_is_no_way_in_nobody_is_asked():
    one = gate(snapshot=replace(SNAPSHOT, introspection=ASKED))
    assert ask(one, write(), OPAQUE)[1] == []


def test_an_empty_store_holds_back_the_refusal_and_no_more():
    """A secret that was taken over from elsewhere looks like any other: with a lost store it may be good."""
    one = a_gate(tokens=())
    assert isinstance(decide(one, write(), OPAQUE, answers=[claims()]), Forward)
    assert decide(one, write(), bearer(b"other"), answers=[REFUSED]).reason is Reason.STORE_EMPTY
    assert decide(one, write(), bearer(SENDER_SECRET)).reason is Reason.STORE_EMPTY
    found = decide(a_gate(tokens=(SENDER,)), write(), bearer(b"other"), answers=[REFUSED])
    assert found.reason is Reason.BAD_CREDENTIAL


def test_so_does_a_new_one_that_knows_a_first_token():
    one = a_gate(tokens=(SENDER,), made_at=NOW)
    assert isinstance(decide(one, write(), OPAQUE, answers=[claims()]), Forward)
    assert decide(one, write(), bearer(b"other"), answers=[REFUSED]).reason is Reason.BAD_CREDENTIAL
    assert decide(one, write(), bearer(STRANGE_SECRET), answers=[REFUSED, ABSENT]).reason is Reason.STORE_NEW


def test_guesses_are_limited_before_anybody_is_asked():
    one = a_gate()
    asked = 0
    for number in range(20):
        shown = bearer(b"guess-%d" % number)
        decision, questions = ask(one, write(), shown)
        if questions:
            asked += 1
            decision = one.decide(write(), shown, IP, AT, NOW, {questions[0]: REFUSED})
        assert answered(decision)[0] in {401, 503}
    assert asked <= 4
    assert decision.reason is Reason.TOO_MANY_GUESSES


def test_who_was_active_before_is_no_guesser():
    one = a_gate()
    decide(one, write(), OPAQUE, answers=[claims()])
    for number in range(20):
        ask(one, write(), bearer(b"guess-%d" % number))
    assert ask(one, write(), OPAQUE, at=AT + 30)[1] == [Introspect(b"opaque")]


def test_a_reload_ends_the_trust_in_a_provider():
    one = a_gate()
    decide(one, write(), OPAQUE, answers=[claims()])
    memory = one._identify.__self__._memory
    other = replace(SNAPSHOT, introspection=replace(ASKED, audience="promgate"), routes=(FOREIGN,))
    after = one.__class__(other, memory)
    assert ask(after, write(), OPAQUE)[1] == [Introspect(b"opaque")]
    assert decide(after, write(), OPAQUE, answers=[claims()]).reason is Reason.BAD_CREDENTIAL


def test_no_question_and_no_credential_prints_its_token():
    assert "opaque" not in f"{OPAQUE!r}{Introspect(b'opaque')!r}{ASKED!r}"
    assert "tell-nobody" not in repr(ASKED)
