"""Real bcrypt, at its lowest cost."""

from __future__ import annotations

import asyncio
import os
import threading
import time
from statistics import median

import bcrypt
import pytest

from proxy.gate.ask import BUSY, CheckPassword
from proxy.gate.authenticate import _DECOY, _decoys
from proxy.login import passwords as module
from proxy.login.passwords import PasswordChecker


def hashed(password, cost=4):
    return bcrypt.hashpw(password, bcrypt.gensalt(cost))


ONE, TWO = hashed(b"one"), hashed(b"two")


def check(*questions):
    async def all_at_once():
        checker = PasswordChecker()
        try:
            return await asyncio.gather(*map(checker.check, questions))
        finally:
            checker.close()

    return asyncio.run(all_at_once())


def test_who_checks_passwords_steps_back_for_the_loop():
    async def nicenesses():
        checker = PasswordChecker()
        try:
            return await asyncio.wrap_future(checker._pool.submit(os.getpriority, os.PRIO_PROCESS, 0))
        finally:
            checker.close()

    ours = os.getpriority(os.PRIO_PROCESS, 0)
    assert asyncio.run(nicenesses()) == min(19, ours + 5)
    assert os.getpriority(os.PRIO_PROCESS, 0) == ours


@pytest.mark.parametrize(
    ("hashes", "password", "right"),
    [
        ((ONE,), b"one", 0),
        ((ONE,), b"two", None),
        ((ONE,), b"", None),
        ((ONE,), b"One", None),
        ((ONE, TWO), b"one", 0),  # several passwords while one is rotated
        ((ONE, TWO), b"two", 1),
        ((ONE, TWO), b"three", None),
        ((ONE.replace(b"$2b$", b"$2y$"),), b"one", 0),  # htpasswd writes $2y$
        ((ONE.replace(b"$2b$", b"$2a$"),), b"one", 0),
        ((hashed("pässword".encode()),), "pässword".encode(), 0),
        ((b"not a hash", ONE), b"one", 1),
        ((b"not a hash",), b"one", None),
        ((), b"one", None),
        ((hashed(b""),), b"", 0),
        ((hashed(b"x" * 72),), b"x" * 72, 0),
    ],
)
def test_passwords(hashes, password, right):
    assert check(CheckPassword(hashes, password)) == [False if right is None else hashes[right]]


@pytest.mark.parametrize("more", [b"x", b"y", b"x" * 1000])
def test_what_bcrypt_would_not_read_is_not_ignored(more):
    """A6: a longer password is equal to its first 72 octets for bcrypt (CVE-2025-22228)."""
    full = hashed(b"x" * 72)
    assert check(CheckPassword((full,), b"x" * 72 + more)) == [False]


class Held:
    """bcrypt.checkpw that waits for leave, and counts."""

    def __init__(self, monkeypatch):
        self.leave = threading.Event()
        self.calls = []
        monkeypatch.setattr(module.bcrypt, "checkpw", self.checkpw)

    def checkpw(self, password, one):
        self.calls.append((password, one))
        assert self.leave.wait(10)
        return password == b"right"


async def begun(checker, *questions):
    tasks = [asyncio.create_task(checker.check(question)) for question in questions]
    await asyncio.sleep(0)
    return tasks


def test_one_flight_for_one_question(monkeypatch):
    held = Held(monkeypatch)

    async def play():
        checker = PasswordChecker()
        tasks = await begun(checker, *[CheckPassword((ONE,), b"right")] * 50, CheckPassword((ONE,), b"wrong"))
        tasks[0].cancel()  # one client leaves; the others get their answer
        held.leave.set()
        return await asyncio.gather(*tasks[1:])

    assert asyncio.run(play()) == [ONE] * 49 + [False]
    assert sorted(held.calls) == [(b"right", ONE), (b"wrong", ONE)]


def test_over_its_bound_it_is_busy_and_then_well_again(monkeypatch):
    held = Held(monkeypatch)
    questions = [CheckPassword((ONE,), b"%d" % number) for number in range(module._MAX_WAITING)]

    async def play():
        checker = PasswordChecker()
        tasks = await begun(checker, *questions)
        assert await checker.check(CheckPassword((ONE,), b"one more")) == BUSY
        joining = asyncio.create_task(checker.check(questions[0]))  # whoever asks the same is no more work
        held.leave.set()
        assert await asyncio.gather(*tasks, joining) == [False] * (len(questions) + 1)
        assert await checker.check(CheckPassword((ONE,), b"right")) == ONE

    asyncio.run(play())
    assert len(held.calls) == len(questions) + 1


def test_who_waits_while_it_is_closed_is_told(monkeypatch):
    held = Held(monkeypatch)

    async def play():
        checker = PasswordChecker()
        tasks = await begun(checker, *(CheckPassword((ONE,), b"%d" % number) for number in range(9)))
        checker.close()
        return await asyncio.gather(*tasks)

    try:
        assert asyncio.run(play()) == [BUSY] * 9
    finally:
        held.leave.set()


def test_who_was_right_before_goes_ahead_of_a_flood(monkeypatch):
    """A9: however many guesses wait, and from wherever they come."""
    held = Held(monkeypatch)
    guesses = [CheckPassword((ONE,), b"%d" % number) for number in range(200)]
    known = [CheckPassword((ONE,), b"right", was_right=True), CheckPassword((ONE, TWO), b"right", was_right=True)]

    async def play():
        checker = PasswordChecker()
        threads = checker._idle
        tasks = await begun(checker, *guesses)
        asked = await begun(checker, *known)
        held.leave.set()
        assert await asyncio.gather(*asked) == [ONE, TWO]
        assert (await asyncio.gather(*tasks)).count(BUSY) == len(guesses) - module._MAX_WAITING
        assert checker._idle == threads
        return threads

    threads = asyncio.run(play())
    assert [password for password, _ in held.calls].index(b"right") <= threads


def test_a_password_that_was_right_is_the_same_question():
    """So a fact that was found for the one answers the other."""
    assert CheckPassword((ONE,), b"x", was_right=True) == CheckPassword((ONE,), b"x")


def test_the_loop_goes_on_meanwhile(monkeypatch):
    held = Held(monkeypatch)

    async def play():
        (task,) = await begun(PasswordChecker(), CheckPassword((ONE,), b"right"))
        for _ in range(100):
            await asyncio.sleep(0)
        assert not task.done()
        held.leave.set()
        assert await task == ONE

    asyncio.run(play())


def test_every_hash_is_tried_also_after_a_match(monkeypatch):
    """The time an answer takes tells nothing of which password it was."""
    held = Held(monkeypatch)
    held.leave.set()
    check(*(CheckPassword((ONE, TWO), password) for password in (b"right", b"wrong", b"x" * 100)))
    assert len(held.calls) == 6


def test_a_question_does_not_print_its_password():
    assert "hunter2" not in repr(CheckPassword((ONE,), b"hunter2"))


# the decoy


def test_the_decoy_is_a_hash_like_another():
    assert len(_DECOY) == 60
    assert _DECOY.startswith(b"$2b$10$")
    salt, digest = _DECOY[:29], _DECOY[29:]
    made = bcrypt.hashpw(b"x", salt)  # ValueError for a salt that is none
    assert made[:29] == salt
    # bcrypt's own base64 leaves the last bits of 23 octets at zero: any other digest would be one nobody could make
    assert b"./ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789".index(digest[-1:]) % 4 == 0


@pytest.mark.parametrize("password", [b"", b"fakepassword", b"x", b"x" * 100, _DECOY])
def test_the_decoy_is_nobodys_password(password):
    assert check(CheckPassword((_DECOY,), password)) == [False]


@pytest.mark.parametrize(
    ("users", "costs"),
    [
        ([], [b"10"]),
        ([()], [b"10"]),
        ([(hashed(b"a", 5),)], [b"05"]),
        ([(b"$2y$12$a",), (b"$2b$12$b",), (b"$2b$10$c",)], [b"12"]),
        ([(b"$2b$12$a", b"$2b$10$b")], [b"12", b"10"]),
    ],
)
def test_the_decoy_costs_what_the_users_cost(users, costs):
    decoys = _decoys(users)
    assert [one[4:6] for one in decoys] == costs
    assert all(one[6:] == _DECOY[6:] for one in decoys)


def test_an_unknown_user_takes_as_long_as_a_known_one():
    """A7, within what a machine shared with other tests can show."""

    def took(one):
        start = time.thread_time()  # what others take of a core is not the hash's
        assert bcrypt.checkpw(b"wrong", one) is False
        return time.thread_time() - start

    known = hashed(b"right", 8)
    (decoy,) = _decoys([(known,)])
    pairs = [(took(known), took(decoy)) for _ in range(9)]
    assert 0.7 < median(one for one, _ in pairs) / median(other for _, other in pairs) < 1.4
