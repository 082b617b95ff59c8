"""How often is too often: GCRA, one float per key - the time at which its debt is paid.

(Generic Cell Rate Algorithm, ITU-T I.371; equal to a leaky bucket, with no refill to schedule.)
"""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

    from proxy.gate.snapshot import RateLimit


def address_key(ip: str) -> str:
    """What an address is counted by: itself, or the /64 of IPv6, which is the least that one customer is given."""
    if ":" not in ip or ip.startswith("::ffff:"):
        return ip
    head, gap, tail = ip.partition("%")[0].partition("::")
    groups = head.split(":") if head else []
    if gap:
        last = tail.split(":") if tail else []
        groups += ["0"] * (8 - len(groups) - len(last)) + last
    return ":".join(groups[:4])


def user_key(user: str) -> str:
    """What a user name is counted by: it comes from whoever guesses, and may be long."""
    return hashlib.blake2b(user.encode(), digest_size=12).hexdigest()


class Meter:
    """The debts of one limit. Bounded, and outlives a reload.

    Keys are kept in two halves. When the younger one is full the older one is forgotten, and whoever comes again moves
    to the younger. (Of a dict alone the first key is found only past the holes of all that were removed before it: with
    a full table each new address would cost a hundred times as much as a known one.)
    """

    __slots__ = ("_due", "_half", "_max_delay_s", "_older", "_span_s", "_step_s")

    def __init__(self, limit: RateLimit, *, max_keys: int = 80_000) -> None:
        self._step_s = limit.interval_s / limit.rate
        self._span_s = limit.burst * self._step_s
        self._max_delay_s = limit.max_delay_s
        self._half = max_keys // 2
        self._due: dict[str, float] = {}
        self._older: dict[str, float] = {}

    def spend(self, key: str, at: float) -> float:
        """Seconds to wait before going on; 0.0: go now. Above `max_delay_s`: refused, and nothing is charged."""
        known = self._due.get(key)
        due = self._older.get(key, at) if known is None else known
        due = (due if due > at else at) + self._step_s
        wait = due - at - self._span_s
        if wait <= 1e-9:
            wait = 0.0
        elif wait > self._max_delay_s:
            return wait
        if known is None:
            self._make_room()
        self._due[key] = due
        return wait

    def charge(self, key: str, at: float) -> None:
        """Add to the debt whatever it is: the price of a wrong guess. Bounded by one more span."""
        due = max(self._debt(key, at), at) + self._step_s
        if key not in self._due:
            self._make_room()
        self._due[key] = min(due, at + 2 * self._span_s)

    def owes(self, key: str, at: float) -> float:
        """Seconds until one more would be let in; 0.0: now."""
        return max(0.0, self._debt(key, at) + self._step_s - at - self._span_s)

    def refused(self, at: float) -> Iterator[tuple[str, float]]:
        """Who may not go on at `at`, and for how many seconds more. It looks at all: nothing for a request's way."""
        most = at + self._span_s - self._step_s
        for key, due in self._due.items():
            if due > most:
                yield key, due - most
        for key, due in self._older.items():
            if due > most and key not in self._due:
                yield key, due - most

    def _debt(self, key: str, at: float) -> float:
        known = self._due.get(key)
        return self._older.get(key, at) if known is None else known

    def _make_room(self) -> None:
        if len(self._due) >= self._half:
            self._older, self._due = self._due, {}

    def __len__(self) -> int:
        return len(self._due) + len(self._older)
