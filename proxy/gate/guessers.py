"""Who is refused for too many guesses just now: read from the debts themselves, for whoever runs this server.

A user name comes from whoever guesses, and may be a password that was typed into the wrong field: only names of the
configuration are told, all others are a number.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from proxy.gate.limit import user_key

if TYPE_CHECKING:
    from proxy.gate.limit import Meter
    from proxy.gate.memory import Memory
    from proxy.gate.snapshot import Snapshot


class Refused(NamedTuple):
    """An address (IPv6 by its /64), or the name of a configured user, and for how many seconds more."""

    who: str
    wait_s: float


class Guessers(NamedTuple):
    """The longest first, and no more than were asked for; the numbers are of all. `strange`: names of no user."""

    addresses: tuple[Refused, ...] = ()
    users: tuple[Refused, ...] = ()
    address_count: int = 0
    user_count: int = 0
    strange: int = 0


def count_guessers(snapshot: Snapshot, memory: Memory, at: float) -> tuple[int, int]:
    """(How many addresses, how many user names) are refused at the monotonic time `at`."""
    guesses, per_user = _meters(snapshot, memory)
    return sum(1 for _ in guesses.refused(at)), sum(1 for _ in per_user.refused(at))


def list_guessers(snapshot: Snapshot, memory: Memory, at: float, most: int) -> Guessers:
    guesses, per_user = _meters(snapshot, memory)
    known = {user_key(user): user for user in snapshot.users}
    addresses = [Refused(key, wait_s) for key, wait_s in guesses.refused(at)]
    keys = list(per_user.refused(at))
    users = [Refused(known[key], wait_s) for key, wait_s in keys if key in known]
    return Guessers(
        _longest(addresses, most), _longest(users, most), len(addresses), len(users), len(keys) - len(users)
    )


def _meters(snapshot: Snapshot, memory: Memory) -> tuple[Meter, Meter]:
    """Those of `Authenticator`."""
    bounds = snapshot.bounds
    return memory.meter("guesses", bounds.guesses), memory.meter("guesses:user", bounds.guesses_per_user)


def _longest(refused: list[Refused], most: int) -> tuple[Refused, ...]:
    return tuple(sorted(refused, key=lambda each: (-each.wait_s, each.who))[:most])
