"""When tokens are rotated by themselves: `tokens.rotation_period` and what belongs to it."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from proxy.config.shape import Kind, ListOf, Section, choice, option
from proxy.config.units import format_duration
from proxy.tokens.schedule import DAY_S, Period, Window

if TYPE_CHECKING:
    from proxy.config.problem import Report
    from proxy.config.schema import Config

_DAYS = ("mon", "tue", "wed", "thu", "fri", "sat", "sun")
#: A name that is rotated faster collects previous tokens until its rotations are refused.
_LEAST_OVERLAPS = 2


def _hours(text: str) -> tuple[float, float]:
    match = re.fullmatch(r"([01][0-9]|2[0-3]):([0-5][0-9])-([01][0-9]|2[0-4]):([0-5][0-9])", text, re.ASCII)
    if match is None or match[3] + match[4] > "2400":
        raise ValueError(f"{text[:80]!a} is no time of the day; write 09:00-16:00, in UTC")
    start_s, end_s = (int(match[at]) * 3600.0 + int(match[at + 1]) * 60.0 for at in (1, 3))
    if start_s == end_s % DAY_S and (start_s, end_s) != (0.0, DAY_S):
        raise ValueError(f"{text} begins and ends at the same minute; leave hours out for the whole day")
    return start_s, end_s


_HOURS = Kind("hours", _hours, (0.0, DAY_S))


class WindowOf(Section):
    """When a scheduled rotation may begin. All times are UTC."""

    days: tuple[str, ...] = option(ListOf(choice(*_DAYS), or_one=True), list(_DAYS), "Days on which it may begin.")
    hours: tuple[float, float] = option(
        _HOURS, "00:00-24:00", "From the first minute to before the second; `22:00-04:00` goes over midnight."
    )


def build_period(config: Config, report: Report) -> Period | None:
    """The schedule, or None where tokens are rotated by hand alone."""
    tokens = config.tokens
    period_s, window = tokens.rotation_period, tokens.rotation_window
    if period_s is None:
        for name in ("rotation_jitter", "rotation_window"):
            if f"tokens.{name}" in report.lines:
                report.problem(f"tokens.{name}", "there is no rotation_period that it could belong to")
        return None
    if not report.is_sound("tokens.rotation_period", "tokens.rotation_jitter", "tokens.rotation_window"):
        return None
    if not tokens.deliver and not tokens.senders and report.is_sound("tokens.deliver", "tokens.senders"):
        report.problem("tokens.rotation_period", "no name has targets in deliver: nobody would receive the new tokens")
    if tokens.rotation_jitter >= period_s:
        at = "tokens.rotation_jitter" if "tokens.rotation_jitter" in report.lines else "tokens.rotation_period"
        report.problem(
            at,
            f"rotation_jitter ({format_duration(tokens.rotation_jitter)}) is not shorter than rotation_period "
            f"({format_duration(period_s)})",
        )
        return None
    if period_s < _LEAST_OVERLAPS * tokens.overlap_period and report.is_sound("tokens.overlap_period"):
        report.warning(
            "tokens.rotation_period",
            f"{format_duration(period_s)} is short beside overlap_period ({format_duration(tokens.overlap_period)}): "
            "several previous tokens are accepted at any time",
        )
    if window is None:
        return Period(period_s, tokens.rotation_jitter)
    if not window.days:
        report.problem("tokens.rotation_window.days", "at least one day is needed; or leave it out for all days")
        return None
    days = frozenset(map(_DAYS.index, window.days))
    return Period(period_s, tokens.rotation_jitter, Window(days, *window.hours))
