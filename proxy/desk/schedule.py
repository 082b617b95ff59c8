"""Rotations by the calendar: those that are due, and those that somebody began and did not end.

`next_work` says what there is to do, `do` does it; the server's `Keeper` and `promgate token rotate --due` are the two
who ask. Only names with configured targets, or whose sender renews itself, have a schedule: a secret that nobody
receives moves no sender.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from proxy.desk.by_calendar import Calendar
from proxy.desk.desk import Report
from proxy.desk.rotating import rotate
from proxy.desk.words import when
from proxy.tokens.lifecycle import Refusal
from proxy.tokens.rotation import Phase, Rotation, is_renewal, phase_at, retry_at
from proxy.tokens.schedule import Due, choose, due

if TYPE_CHECKING:
    from collections.abc import Collection

    from proxy.desk.desk import Desk
    from proxy.tokens.ports import Story

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
        return [one for one in self.open if phase_at(one, now) is Phase.HALTED]

    def is_awaited(self, now: float) -> bool:
        """Something may be there to do at any moment: a minute passes, or a process that drives a rotation ends.

        Not so for a sender that renews itself: whatever it does changes the store.
        """
        driven = (one for one in self.open if not is_renewal(one))
        return any(one.at <= now for one in self.dues) or any(one.failed_at is None for one in driven)

    def without(self, names: Collection[str]) -> Outlook:
        """The same with these names left out, but for when they began."""
        dues = tuple(one for one in self.dues if one.name not in names)
        return Outlook(dues, tuple(one for one in self.open if one.name not in names), self.recent)

    def late(self, now: float) -> list[Due]:
        return [one for one in self.dues if one.is_overdue(now)]


def look_ahead(desk: Desk) -> Outlook:
    """Read the store for all that the calendar asks. Raises StoreError."""
    recent = tuple(desk.store.recent_rotations(_RECENT))
    names = desk.store.names() if desk.rules.rotation is not None else ()
    dues = [one for name in names if _moves(desk, name) and (one := due_of(desk, desk.store.story(name))) is not None]
    return Outlook(tuple(dues), tuple(one for one in recent if one.is_open), recent)


def due_of(desk: Desk, story: Story) -> Due | None:
    """When the calendar rotates a name next; None if it does not, or not before a rotation has ended."""
    period = desk.rules.rotation
    return due(story, period, desk.clock()) if period is not None and _moves(desk, story.name) else None


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


def do(desk: Desk, work: Work, *, all_at_once: bool = False) -> Report | Refusal:
    """Raises StoreError."""
    if work.rotation_id is not None:
        return rotate(desk, work.name, rotation_id=work.rotation_id)

    def is_due(story: Story) -> bool:
        found = due_of(desk, story)
        return found is not None and found.at <= desk.clock()

    return rotate(desk, work.name, calendar=Calendar(is_due, keeps_apart=not all_at_once))


def _left_open(desk: Desk, outlook: Outlook) -> list[Rotation]:
    """Rotations that nobody drives any more, and whose tokens have somewhere to go."""
    now = desk.clock()
    open_ones = (one for one in outlook.open if desk.sinks(one.name))
    return [one for one in open_ones if now >= one.lease_until or desk.is_gone(one.lease_owner)]


def plan_due(desk: Desk, *, all_at_once: bool = False) -> Report:
    """What `rotate_due` would begin with now. Changes nothing. Raises StoreError."""
    outlook, now = look_ahead(desk), desk.clock()
    left_open = _left_open(desk, outlook)
    tried = {one.name for one in left_open}
    waiting = sorted((one for one in outlook.dues if one.at <= now and one.name not in tried), key=lambda one: one.at)
    first = choose(waiting, outlook.recent, now)
    now_due = waiting if all_at_once else [first] if first is not None else []
    later = [one.name for one in waiting if one not in now_due]
    notes = [
        *(f"{one.name}: rotation {one.id} would be taken up ({one.failure or 'left open'})" for one in left_open),
        *(f"{one.name}: would be rotated, due since {when(one.at)}" for one in now_due),
        *(f"{name}: is due too, and waits for a later run, one in a minute, or for --all" for name in later),
    ]
    facts = {
        "taken_up": [{"name": one.name, "rotation": one.id} for one in left_open],
        "rotated": [one.name for one in now_due],
        "waiting": later,
    }
    return Report(tuple(notes) or ("nothing is due",), facts)


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
        result = do(desk, work, all_at_once=all_at_once)
        if isinstance(result, Refusal):
            failures.append(result.text)
            return
        notes.extend(result.notes)
        done.append(result.facts)
        failures.extend([result.failure] if result.failure else [])

    for one in _left_open(desk, look_ahead(desk)):
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
