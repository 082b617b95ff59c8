"""How long a wrong password takes for a user who exists and for one who does not: `python -m tests.login.timing`.

A figure to look at, and no test: a busy machine moves it. What makes it 1 is held by tests/gate (the same number of
hashes of the same cost) and by tests/login/test_passwords.py (every hash is tried).
"""

from __future__ import annotations

import asyncio
import statistics
import sys
from time import perf_counter
from typing import NamedTuple

import bcrypt

from proxy.gate.decision import Need
from proxy.login.passwords import PasswordChecker
from tests.gate.play import AT, NOW, basic, gate, read


class Ratio(NamedTuple):
    """Median seconds of a wrong login, and how many hashes were tried for it."""

    known_s: float
    unknown_s: float
    known_hashes: int
    unknown_hashes: int

    def __str__(self) -> str:
        ms = f"{self.known_s * 1e3:.2f} ms known, {self.unknown_s * 1e3:.2f} ms unknown"
        return f"p50 {ms}: ratio {self.known_s / self.unknown_s:.3f} (goal 0.95..1.05)"


def measure(rounds: int, cost: int = 10) -> Ratio:
    """Wrong logins in turn, decided by a gate and checked by the real checker."""
    hashes = {name: (bcrypt.hashpw(name.encode(), bcrypt.gensalt(cost)),) for name in ("ann", "bob")}
    return asyncio.run(_measure(rounds, hashes))


async def _measure(rounds: int, users: dict[str, tuple[bytes, ...]]) -> Ratio:
    took: dict[str, list[float]] = {"ann": [], "mallory": []}
    tried: dict[str, int] = {}
    checker = PasswordChecker()
    try:
        for number in range(rounds):
            for user, times in took.items():
                begun = perf_counter()
                shown = basic(user, b"wrong%d" % number)
                need = gate(users=users).decide(read(), shown, "192.0.2.1", AT, NOW)
                assert isinstance(need, Need)
                assert await checker.check(need.question) is False
                times.append(perf_counter() - begun)
                tried[user] = len(need.question.hashes)
    finally:
        checker.close()
    known, unknown = (statistics.median(times) for times in took.values())
    return Ratio(known, unknown, tried["ann"], tried["mallory"])


if __name__ == "__main__":
    sys.stdout.write(f"{measure(60)}\n")
