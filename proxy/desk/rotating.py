"""Create and rotate: a token is minted, proven, delivered and made current, or all stays as it was."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from proxy.desk import renewing
from proxy.desk.by_calendar import not_due
from proxy.desk.configured import left_in_file, refuse_configured
from proxy.desk.driving import Drive
from proxy.desk.holding import kept
from proxy.tokens import lifecycle, succession
from proxy.tokens.lifecycle import Issued, Refusal, Why
from proxy.tokens.ports import Conflict
from proxy.tokens.rotation import is_renewal

if TYPE_CHECKING:
    from proxy.desk.by_calendar import Calendar
    from proxy.desk.desk import Desk, Report
    from proxy.tokens.ports import Sink
    from proxy.tokens.token import TokenKind


@dataclass(frozen=True, slots=True)
class Outlets:
    """Where a mouth hands out a token: `extra`, after the configured targets, and `instead`, where there are none."""

    extra: tuple[Sink, ...] = ()
    instead: tuple[Sink, ...] = ()


NO_OUTLETS = Outlets()


def create(
    desk: Desk, name: str, *, kind: TokenKind, lifetime_s: float | None = None, outlets: Outlets = NO_OUTLETS
) -> Report | Refusal:
    """The first token of a name, handed out. Raises StoreError.

    It is not proven: it takes nothing over, and may have to be made before there is a server to prove it on.
    """
    drive = drive_of(desk, name, new_id(desk), outlets)
    if isinstance(drive, Refusal):
        return drive
    issued = succession.begin_first(
        desk.store.story(name),
        rotation_id=drive.id,
        owner=drive.owner,
        now=desk.clock(),
        random=desk.random,
        kind=kind,
        lifetime_s=lifetime_s,
        overlap_s=desk.rules.overlap_s,
    )
    return issued if isinstance(issued, Refusal) else _start(desk, drive, issued)


def rotate(
    desk: Desk,
    name: str,
    *,
    rotation_id: str | None = None,
    overlap_s: float | None = None,
    outlets: Outlets = NO_OUTLETS,
    calendar: Calendar | None = None,
) -> Report | Refusal:
    """Replace the current token of a name. With the id of a rotation that has not ended: take it up.

    The same id again, after whatever happened, ends with one successor of that id. `calendar`: nobody asked for it but
    the calendar, which must still say so of the store that is written to. Raises StoreError.
    """
    if refused := refuse_configured(desk, name):
        return refused
    known = None if rotation_id is None else desk.store.rotation(rotation_id)
    if known is not None and known.name != name:
        return Refusal(f"rotation {known.id} is one of {known.name}, not of {name[:80]!r}: choose another --id")
    if known is not None and overlap_s not in {None, known.overlap_s}:
        return Refusal(
            f"rotation {known.id} of {name} began with an overlap of {known.overlap_s:.0f} s, which stays: leave "
            "--overlap out, or choose another --id for another rotation",
            Why.INVALID,
        )
    overlap_s = desk.rules.overlap_s if overlap_s is None else overlap_s
    rotation_id = rotation_id or new_id(desk)
    if name in desk.rules.renewing and (known is None or is_renewal(known)):
        return renewing.begin(desk, name, rotation_id=rotation_id, overlap_s=overlap_s, calendar=calendar)
    drive = drive_of(desk, name, rotation_id, outlets)
    if isinstance(drive, Refusal):
        return drive
    if known is not None:
        return drive.run()
    story = desk.store.story(name)
    if calendar is not None and not calendar.is_due(story):
        return not_due(name)
    issued = succession.begin(
        story,
        rotation_id=drive.id,
        owner=drive.owner,
        now=desk.clock(),
        random=desk.random,
        overlap_s=overlap_s,
        max_overlap_s=desk.rules.max_overlap_s,
        kept=kept(desk, story),
    )
    if isinstance(issued, Refusal):
        return issued
    advice = lifecycle.advice_on(overlap_s)
    if advice is not None:
        drive.note(f"warning: {advice}")
    change = issued.change if calendar is None else calendar.mark(issued.change)
    return _start(desk, drive, replace(issued, change=change))


def _start(desk: Desk, drive: Drive, issued: Issued) -> Report | Refusal:
    if left := left_in_file(desk, issued.change.name):
        drive.note(f"warning: {left}")
    try:
        drive.take(issued)
    except Conflict as error:  # of two at once the other one won
        return succession.cannot_begin(desk.store.story(issued.change.name), drive.id) or Refusal(str(error))
    return drive.run()


def drive_of(desk: Desk, name: str, rotation_id: str, outlets: Outlets) -> Drive | Refusal:
    """What drives the rotation; refused if nobody would receive the token. A terminal is served last."""
    configured = desk.sinks(name)
    sinks = (*configured, *outlets.extra) if configured else (*outlets.extra, *outlets.instead)
    if not sinks:
        return Refusal(
            f"nobody would receive the token of {name[:80]!r}, and it is shown nowhere else: nothing was done; name a "
            "target in tokens.deliver, or let standard output be read",
            Why.INVALID,
        )
    owner = f"{desk.owner}#{desk.random(4).hex()}"
    return Drive(desk, owner, name, rotation_id, sinks, desk.prover(name))


def new_id(desk: Desk) -> str:
    return desk.random(6).hex()
