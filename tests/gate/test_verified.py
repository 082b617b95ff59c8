from __future__ import annotations

import pytest

from proxy.gate.credentials import ShownPassword
from proxy.gate.verified import VerifiedPasswords, VerifiedTokens
from tests.gate.play import AT, NOW, claims

ANN = ShownPassword("ann", b"right")
HASHES = (b"$2b$10$one", b"$2b$10$two")
MANY = 10_000


def passwords():
    return VerifiedPasswords(bytes(32))


def test_a_password_is_known_for_a_minute():
    known = passwords()
    assert known.find(ANN, HASHES, AT) is None
    known.remember(ANN, HASHES, HASHES[1], AT)
    assert known.find(ANN, HASHES, AT + 59) == HASHES[1]
    assert known.find(ANN, HASHES, AT + 60) is None
    assert known.knew(ANN, HASHES)


@pytest.mark.parametrize(
    ("shown", "hashes"),
    [
        (ShownPassword("ann", b"wrong"), HASHES),
        (ShownPassword("bob", b"right"), HASHES),
        (ANN, HASHES[:1]),  # a reload that changed the hashes needs no flush
        (ANN, (b"$2b$10$new",)),
        # A8: the parts are told apart, wherever one ends and the next begins (CVE-2022-46146)
        (ShownPassword("an", b"nright"), HASHES),
        (ShownPassword("annr", b"ight"), HASHES),
        (ShownPassword("ann", b"right" + HASHES[0]), HASHES[1:]),
        (ANN, (HASHES[0] + HASHES[1],)),
    ],
)
def test_another_password_is_another(shown, hashes):
    known = passwords()
    known.remember(ANN, HASHES, HASHES[1], AT)
    assert known.find(shown, hashes, AT) is None
    assert not known.knew(shown, hashes)


def test_the_memory_of_another_process_is_of_no_use():
    one, other = VerifiedPasswords(bytes(32)), VerifiedPasswords(b"\1" * 32)
    assert one._mark(ANN, HASHES) != other._mark(ANN, HASHES)
    one.remember(ANN, HASHES, HASHES[0], AT)
    assert not any(b"right" in mark or b"ann" in mark for mark in one._known)


def test_passwords_are_bounded_and_the_oldest_goes():
    known = passwords()
    first, second = ShownPassword("u", b"0"), ShownPassword("u", b"1")
    for number in range(MANY):
        known.remember(ShownPassword("u", b"%d" % number), HASHES, HASHES[0], AT)
    known.remember(first, HASHES, HASHES[0], AT + 1)  # again, and so it is the youngest
    known.remember(ANN, HASHES, HASHES[0], AT + 1)
    assert len(known._known) == MANY
    assert known.knew(first, HASHES)
    assert not known.knew(second, HASHES)


def test_jwts_are_bounded_and_the_oldest_goes():
    known = VerifiedTokens(300.0)
    for number in range(MANY):
        known.remember(b"%d" % number, claims(), AT)
    known.remember(b"0", claims(expires_at=NOW + 9), AT + 1)
    known.remember(b"new", claims(), AT + 1)
    assert len(known._known) == MANY
    assert known.find(b"0", AT + 1) == claims(expires_at=NOW + 9)
    assert known.find(b"1", AT + 1) is None
    assert not known.knew(b"1")


def test_a_jwt_is_believed_for_five_minutes():
    known = VerifiedTokens(300.0)
    known.remember(b"a", claims(), AT)
    assert known.find(b"a", AT + 299) == claims()
    assert known.find(b"a", AT + 300) is None
    assert known.knew(b"a")
    known.forget(b"a")
    assert not known.knew(b"a")


def test_what_is_in_doubt_is_verified_anew_and_is_no_guess():
    known = VerifiedTokens(300.0)
    known.remember(b"a", claims(), AT)
    known.doubt()
    assert known.find(b"a", AT) is None
    assert known.knew(b"a")


def test_what_has_ended_needs_no_new_look():
    known = VerifiedTokens(30.0)
    known.remember(b"a", claims(expires_at=NOW + 60), AT)
    assert known.find_ended(b"a", NOW + 59) is None
    assert known.find_ended(b"a", NOW + 60) == claims(expires_at=NOW + 60)
    assert known.find_ended(b"b", NOW) is None
