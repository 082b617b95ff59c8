"""How often is too often: GCRA, one float per key - the time at which its debt is paid.

(Generic Cell Rate Algorithm, ITU-T I.371; equal to a leaky bucket, with no refill to schedule.)
"""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
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
    """The debts of one limit. Bounded: the key that came first is forgotten first. Outlives a reload."""

    __slots__ = ("_due", "_max_delay_s", "_max_keys", "_span_s", "_step_s")

    def __init__(self, limit: RateLimit, *, max_keys: int = 100_000) -> None:
        self._step_s = limit.interval_s / limit.rate
        self._span_s = limit.burst * self._step_s
        self._max_delay_s = limit.max_delay_s
        self._max_keys = max_keys
        self._due: dict[str, float] = {}  # insertion order is age

    def spend(self, key: str, at: float, cost: float = 1.0) -> float:
        """Seconds to wait before going on; 0.0: go now. Above `max_delay_s`: refused, and nothing is charged."""
        due = self._due.get(key, at)
        due = (due if due > at else at) + cost * self._step_s
        wait = due - at - self._span_s
        if wait <= 1e-9:
            wait = 0.0
        elif wait > self._max_delay_s:
            return wait
        if key in self._due:
            self._due[key] = due
        else:
            self._charge(key, due)
        return wait

    def charge(self, key: str, at: float, cost: float = 1.0) -> None:
        """Add to the debt whatever it is: the price of a wrong guess. Bounded by one more span."""
        due = max(self._due.get(key, at), at) + cost * self._step_s
        self._charge(key, min(due, at + 2 * self._span_s))

    def owes(self, key: str, at: float) -> float:
        """Seconds until one more would be let in; 0.0: now."""
        return max(0.0, self._due.get(key, at) + self._step_s - at - self._span_s)

    def _charge(self, key: str, due: float) -> None:
        debts = self._due
        if key in debts:
            debts[key] = due
            return
        if len(debts) >= self._max_keys:
            del debts[next(iter(debts))]
        debts[key] = due

    def __len__(self) -> int:
        return len(self._due)
