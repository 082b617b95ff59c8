"""When a name's token is due for rotation, and which one may begin now.

A token is due `rotation_period` after it became current, earlier by a part of the jitter that its id decides: a
thousand names made in one night do not come due in one night, and every process agrees on when. A due rotation
begins when the window next opens, and never in the minute in which one of another name began.
"""

from __future__ import annotations

import zlib
from dataclasses import dataclass
from typing import TYPE_CHECKING

from proxy.tokens.rotation import retry_wait_s
from proxy.tokens.token import TokenState, state_at

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from proxy.tokens.ports import Story
    from proxy.tokens.rotation import Rotation

DAY_S = 86400.0
#: Between the beginnings of two names' rotations: what goes wrong with the first must not meet the second.
APART_S = 60.0
#: For so long after its time a rotation may be late, for others that go first or a target that is tried again.
LATE_S = 3600.0
#: 1970-01-01 was a Thursday.
_EPOCH_WEEKDAY = 3


@dataclass(frozen=True, slots=True)
class Window:
    """When scheduled rotations may begin, in UTC: weekdays (0 is Monday) and seconds of the day.

    One that ends before it starts goes over midnight, and belongs to the day on which it starts.
    """

    days: frozenset[int] = frozenset(range(7))
    start_s: float = 0.0
    end_s: float = DAY_S


@dataclass(frozen=True, slots=True)
class Period:
    """`tokens.rotation_period` and what belongs to it, in seconds."""

    period_s: float
    jitter_s: float = 0.0
    window: Window = Window()


@dataclass(frozen=True, slots=True)
class Due:
    """A name's next rotation may begin at `at`."""

    name: str
    at: float

    def is_overdue(self, now: float) -> bool:
        return now >= self.at + LATE_S


def opens_at(window: Window, at: float) -> float:
    """The first moment from `at` on that is in the window."""
    today = at // DAY_S
    length_s = (window.end_s - window.start_s) % DAY_S or DAY_S
    for day in range(-1, 8):
        start = (today + day) * DAY_S + window.start_s
        if (today + day + _EPOCH_WEEKDAY) % 7 in window.days and at < start + length_s:
            return max(at, start)
    raise ValueError("a window without days never opens")


def due(story: Story, period: Period, now: float) -> Due | None:
    """When the name is to be rotated next; None while it has no current token, or a rotation that has not ended."""
    current = next((token for token in story.tokens if state_at(token, now) is TokenState.CURRENT), None)
    if current is None or current.current_from is None or any(one.is_open for one in story.rotations):
        return None
    early_s = period.jitter_s * zlib.crc32(current.id.encode()) / 2**32
    at = max(current.current_from, _ended_by_hand_at(story.rotations)) + period.period_s - early_s
    return Due(story.name, opens_at(period.window, max(at, _retry_at(story.rotations))))


def choose(dues: Iterable[Due], recent: Sequence[Rotation], now: float) -> Due | None:
    """Which rotation may begin now: the one that has waited longest, if nobody else's began in the last minute."""
    waiting = sorted((one for one in dues if one.at <= now), key=lambda one: one.at)
    return next((one for one in waiting if find_too_near(one.name, recent, now) is None), None)


def find_too_near(name: str, recent: Iterable[Rotation], now: float) -> Rotation | None:
    """Another name's rotation that began less than a minute ago: one of `name` has to wait."""
    return next((one for one in recent if one.name != name and 0 <= now - one.started_at < APART_S), None)


def _ended_by_hand_at(rotations: Sequence[Rotation]) -> float:
    """Who rolled the last rotation back does not want the next one at once."""
    last = rotations[-1] if rotations else None
    if last is None:
        return 0.0
    if last.given_up_at is not None and last.given_up_at != last.failed_at:
        return last.given_up_at
    return last.rolled_back_at or 0.0


def _retry_at(rotations: Sequence[Rotation]) -> float:
    """After a canary died: later each time, so that a proof that cannot succeed costs little."""
    failed = 0
    for one in reversed(rotations):
        if one.failed_at is None or one.given_up_at != one.failed_at:
            break
        failed += 1
    return (rotations[-1].failed_at or 0.0) + retry_wait_s(failed) if failed else 0.0
