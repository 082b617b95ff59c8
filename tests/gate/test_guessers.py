"""Who is refused for too many guesses: told as long as they are, and no name that only a guesser knows."""

from __future__ import annotations

from dataclasses import replace

from proxy.gate.ask import ABSENT
from proxy.gate.decide import Gate
from proxy.gate.decision import Forward, Reason
from proxy.gate.guessers import Guessers, count_guessers, list_guessers
from proxy.gate.snapshot import Bounds, RateLimit
from tests.gate.play import AT, HASHES, IP, SNAPSHOT, STRANGE_SECRET, basic, bearer, decide, guess, memory, read

#: Four at once, then one a second, by address and by user.
BOUNDS = Bounds(
    guesses=RateLimit(rate=1, interval_s=1.0, burst=4, by_identity=False),
    guesses_per_user=RateLimit(rate=1, interval_s=1.0, burst=4),
)
GUARDED = replace(SNAPSHOT, bounds=BOUNDS)


def known():
    made = memory()
    return Gate(GUARDED, made), made


def listed(made, at=AT, most=50):
    return list_guessers(GUARDED, made, at, most)


def test_nobody_is_there_at_first():
    _, made = known()
    assert listed(made) == Guessers()
    assert count_guessers(GUARDED, made, AT) == (0, 0)


def test_an_address_is_there_while_it_is_refused_and_no_longer():
    a_gate, made = known()
    shown = bearer(STRANGE_SECRET)
    reasons = [guess(a_gate, read(), shown, ABSENT)[0].reason for _ in range(6)]
    assert reasons[-1] is Reason.TOO_MANY_GUESSES
    (one,) = listed(made).addresses
    assert one.who == IP
    assert count_guessers(GUARDED, made, AT) == (1, 0)
    before, after = AT + one.wait_s - 0.01, AT + one.wait_s + 0.01
    assert listed(made, before).addresses
    assert guess(a_gate, read(), shown, ABSENT, at=before)[1] == [], "no question is asked for it"
    assert not listed(made, after).addresses
    assert len(guess(a_gate, read(), shown, ABSENT, at=after)[1]) == 1


def test_an_ipv6_address_is_told_by_its_network():
    a_gate, made = known()
    for number in range(9):
        guess(a_gate, read(), bearer(STRANGE_SECRET), ABSENT, ip=f"2001:db8:0:7::{number}")
    assert [each.who for each in listed(made).addresses] == ["2001:db8:0:7"]


def test_names_of_users_are_told_and_others_counted():
    """What stands where a name belongs may be a password."""
    a_gate, made = known()
    for name in ("ann", "hunter2", "nobody"):
        for number in range(9):
            guess(a_gate, read(), basic(name, b"x%d" % number), False, ip=f"192.0.2.{number}")
    seen = listed(made)
    assert [each.who for each in seen.users] == ["ann"]
    assert (seen.user_count, seen.strange) == (1, 2)
    assert "hunter2" not in repr(seen)
    assert count_guessers(GUARDED, made, AT)[1] == 3


def test_no_more_are_told_than_are_asked_for_and_the_longest_first():
    a_gate, made = known()
    for number in range(1, 8):
        for _ in range(number):
            guess(a_gate, read(), bearer(STRANGE_SECRET), ABSENT, ip=f"198.51.100.{number}")
    assert len(listed(made, most=2).addresses) == 2
    assert listed(made, most=2).address_count > 2
    waits = [each.wait_s for each in listed(made).addresses]
    assert waits == sorted(waits, reverse=True)


def test_who_is_known_is_let_in_while_the_list_names_them():
    """The list says who must not guess; it keeps out nobody who need not."""
    a_gate, made = known()
    ann = basic("ann", b"right")
    assert isinstance(decide(a_gate, read(), ann, answers=[HASHES[0]]), Forward)
    for number in range(9):
        guess(a_gate, read(), basic("ann", b"x%d" % number), False)
        guess(a_gate, read(), basic("ann", b"y%d" % number), False, ip=f"192.0.2.{number}")
    seen = listed(made)
    assert IP in {each.who for each in seen.addresses}
    assert [each.who for each in seen.users] == ["ann"]
    assert isinstance(decide(a_gate, read(), ann), Forward)
