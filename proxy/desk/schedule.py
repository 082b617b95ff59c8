"""Rotations by the calendar: those that are due, and those that somebody began and did not end.

`next_work` says what there is to do, `do` does it; the server's `Keeper` and `promgate token rotate --due` are the two
who ask. Only names with configured targets, or whose sender renews itself, have a schedule: a secret that nobody
receives moves no sender.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from proxy.desk.desk import Report
from proxy.desk.rotating import rotate
from proxy.desk.words import when
from proxy.tokens.lifecycle import Refusal
from proxy.tokens.rotation import Rotation, retry_at
from proxy.tokens.schedule import Due, choose, due

if TYPE_CHECKING:
    from collections.abc import Collection

    from proxy.desk.desk import Desk

#: Enough to see who began in the last minute.
_RECENT = 100


@dataclass(frozen=True, slots=True)
class Work:
    """A rotation to begin, or (with its id) to take up."""

    name: str
    rotation_id: str | None = None


@dataclass(frozen=True, slots=True)
class Outlook:
    """All names at a glance. `stuck` are open rotations that nobody drives, `late` the names that should
    have begun.
    """

    dues: tuple[Due, ...]
    open: tuple[Rotation, ...]
    recent: tuple[Rotation, ...]

    def stuck(self, now: float) -> list[Rotation]:
        return [one for one in self.open if now >= one.lease_until]

    def without(self, names: Collection[str]) -> Outlook:
        """The same with these names left out, but for when they began."""
        dues = tuple(one for one in self.dues if one.name not in names)
        return Outlook(dues, tuple(one for one in self.open if one.name not in names), self.recent)

    def late(self, now: float) -> list[Due]:
        return [one for one in self.dues if one.is_overdue(now)]


def look_ahead(desk: Desk) -> Outlook:
    """Read the store for all that the calendar asks. Raises StoreError."""
    now, period = desk.clock(), desk.rules.rotation
    recent = tuple(desk.store.recent_rotations(_RECENT))
    names = [name for name in desk.store.names() if _moves(desk, name)] if period is not None else ()
    dues = [
        one
        for name in names
        if period is not None and (one := due(desk.store.story(name), period, now)) is not None
    ]
    return Outlook(tuple(dues), tuple(one for one in recent if one.is_open), recent)


def list_due(desk: Desk) -> Report:
    """When each name that has a schedule is rotated next, the earliest first, in `due`. Raises StoreError."""
    now = desk.clock()
    dues = sorted(look_ahead(desk).dues, key=lambda one: (one.at, one.name))
    rows = [{"name": one.name, "at": when(one.at), "overdue": one.is_overdue(now)} for one in dues]
    return Report(facts={"due": rows})


def _moves(desk: Desk, name: str) -> bool:
    """Whether a rotation of `name` would bring its sender a new token."""
    return bool(desk.sinks(name)) or name in desk.rules.renewing


def next_work(desk: Desk, outlook: Outlook) -> Work | None:
    """What to do now, if anything."""
    now = desk.clock()
    for one in outlook.open:
        if desk.sinks(one.name) and (now >= retry_at(one) or (one.failed_at is None and desk.is_gone(one.lease_owner))):
            return Work(one.name, one.id)
    chosen = choose(outlook.dues, outlook.recent, now)
    return None if chosen is None else Work(chosen.name)


def next_time(outlook: Outlook) -> float | None:
    """When to look again, if nobody changes the store before."""
    times = [*(one.at for one in outlook.dues), *(retry_at(one) for one in outlook.open)]
    return min(times, default=None)


def do(desk: Desk, work: Work) -> Report | Refusal:
    """Raises StoreError."""
    return rotate(desk, work.name, rotation_id=work.rotation_id)


def rotate_due(desk: Desk, *, all_at_once: bool = False) -> Report:
    """For cron and CI: take up what was left open, then rotate the name that is due longest, or all that are due.

    Never two names in one minute, unless `all_at_once`: who is left waits for the next run. Raises StoreError.
    """
    notes: list[str] = []
    failures: list[str] = []
    done: list[dict[str, object]] = []
    tried: set[str] = set()

    def take(work: Work) -> None:
        tried.add(work.name)
        result = do(desk, work)
        if isinstance(result, Refusal):
            failures.append(result.text)
            return
        notes.extend(result.notes)
        done.append(result.facts)
        failures.extend([result.failure] if result.failure else [])

    for one in look_ahead(desk).open:
        if desk.sinks(one.name) and (desk.clock() >= one.lease_until or desk.is_gone(one.lease_owner)):
            take(Work(one.name, one.id))
    while True:
        outlook, now = look_ahead(desk), desk.clock()
        recent = () if all_at_once else outlook.recent
        chosen = choose([one for one in outlook.dues if one.name not in tried], recent, now)
        if chosen is None:
            break
        take(Work(chosen.name))
    left = [one.name for one in outlook.dues if one.at <= now and one.name not in tried]
    if left:
        notes.append(f"{len(left)} more due, one in a minute: {', '.join(left[:5])}; --all rotates them at once")
    if not notes and not failures:
        notes.append("nothing is due")
    return Report(tuple(notes), {"rotated": done, "waiting": left}, "; ".join(failures))
