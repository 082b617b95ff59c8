"""The table of docs/behaviour.md of what goes on and what ends when a part is gone, row by row at the gate."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path

import pytest

from proxy.gate.ask import ABSENT, BUSY, LATE, REFUSED, UNREACHABLE, UNREADABLE, Claims
from proxy.gate.decision import Deny, Forward
from proxy.gate.snapshot import Introspection, Way
from tests.gate import test_people as people
from tests.gate.play import (
    AT,
    GRACE_S,
    GRAFANA,
    HASHES,
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
    claims,
    gate,
    jwt,
    read,
    write,
)

PAGE = Path(__file__).parents[2] / "docs" / "behaviour.md"
ASKED = Introspection("https://idp/introspect", "promgate", "secret")
WAYS = frozenset({Way.WRITE_TOKEN, Way.JWT, Way.INTROSPECTION})
ALL = replace(SNAPSHOT, introspection=ASKED, routes=(replace(WRITE, ways=WAYS), READ))
ACTIVE = Claims("introspection:agent", ASKED.terms, NOW - 60, NOW + 9000, writes=True)
GOOD = claims(writes=True, expires_at=NOW + 9000)


def told(a_gate, request, shown, *answers, at=AT):
    """The status of the answer; 200 for what is relayed. `answers` are what the world says if it is asked."""
    decision, questions = ask(a_gate, request, shown, at=at)
    if questions:
        decision, _ = ask(a_gate, request, shown, at=at, answers=answers)
    assert isinstance(decision, Forward | Deny)
    return 200 if isinstance(decision, Forward) else answered(decision)[0]


def a_gate(**changes):
    return gate(snapshot=ALL, **changes)


def remembering(shown, answer, request):
    made = a_gate()
    assert told(made, request, shown, answer) == 200
    return made


def store_unreadable():
    made = a_gate(tokens=(SENDER, GRAFANA), readable=False)
    return (
        told(made, write(), bearer(SENDER_SECRET)),
        told(made, write(), bearer(STRANGE_SECRET), UNREADABLE),
    )


def store_empty():
    return None, told(a_gate(tokens=()), write(), bearer(STRANGE_SECRET))


def store_new(age_s):
    made = a_gate(tokens=(SENDER,), made_at=NOW - age_s)
    return told(made, write(), bearer(SENDER_SECRET)), told(made, write(), bearer(STRANGE_SECRET), REFUSED, ABSENT)


def keys(answer, later, then):
    """Who was verified `later` seconds ago, and who was not; the verifier answers so for both."""
    made = remembering(jwt("known"), GOOD, write())
    known = told(made, write(), jwt("known"), then, at=AT + later)
    return known, told(made, write(), jwt("new"), answer, at=AT + later)


def introspection(later):
    made = remembering(bearer(b"known"), ACTIVE, write())
    return tuple(told(made, write(), bearer(name), UNREACHABLE, at=AT + later) for name in (b"known", b"new"))


def passwords():
    made = remembering(basic("ann", b"right"), HASHES[0], read())
    return told(made, read(), basic("ann", b"right")), told(made, read(), basic("bob", b"right"), BUSY)


def doubted():
    """The verifier gave its keys up and says so: what was verified by them is in doubt."""
    made = remembering(jwt("known"), GOOD, write())
    made._identify.__self__._memory.jwts.doubt()
    return tuple(told(made, write(), jwt(name), UNREACHABLE) for name in ("known", "new"))


def sessions_unreadable():
    made, _ = people.gate(people.EVE)
    stranger = people.ask("/prometheus/x", f"Cookie: __Host-promgate={'x' * 43}")
    return told(made, people.ask("/prometheus/x", people.COOKIE), None), told(made, stranger, None, UNREADABLE)


def people_unreachable(later):
    """Who is logged in, and who would like to be: a session that its provider has not renewed is as good as none."""
    made, memory = people.gate(people.STALE)
    memory.sessions.find(people.DIGEST).seen_at = NOW + later
    decision = people.decide(
        made, people.ask("/prometheus/x", people.COOKIE), now=NOW + later, refresh=UNREACHABLE
    )
    return 200 if isinstance(decision, Forward) else answered(decision)[0], 503


ROWS = {
    "token store: cannot be read": store_unreadable,
    "token store: empty; on a write route": store_empty,
    "token store: made anew, within `retry_grace`; on a write route": lambda: store_new(GRACE_S - 1),
    "token store: made anew, later": lambda: store_new(GRACE_S),
    "an issuer's keys: cannot be fetched, within an hour": lambda: keys(GOOD, 1, GOOD),
    "an issuer's keys: cannot be fetched, for longer": doubted,
    "an issuer's keys: one that is not known yet, within 30 s of a fetch": lambda: keys(LATE, 1, GOOD),
    "introspection: the provider does not answer": lambda: introspection(29),
    "introspection: the provider does not answer, 30 s later": lambda: introspection(30),
    "password checks: too many wait": passwords,
    "people's sessions: cannot be read": sessions_unreadable,
    "a provider of people: does not answer, within an hour of its last word being due": lambda: people_unreachable(1),
    "a provider of people: does not answer, for longer": lambda: people_unreachable(3600),
}


def documented():
    section = PAGE.read_text().partition("## What goes on and what ends")[2].partition("\n## ")[0]
    rows = re.findall(r"^\| ([^|]+) \| ?(\d*) ?\| (\d+) \|$", section, re.MULTILINE)
    return {what: (int(known) if known else None, int(unknown)) for what, known, unknown in rows}


def test_every_row_is_tried():
    assert set(documented()) == set(ROWS)


@pytest.mark.parametrize("what", ROWS)
def test_row(what):
    assert ROWS[what]() == documented()[what]
