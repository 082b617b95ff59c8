"""The chart: CPU time of each server as a multiple of promgate's, and below it every other goal. Plain SVG."""

from __future__ import annotations

from html import escape
from typing import TYPE_CHECKING

from bench.goals import GOALS

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from bench.measure import Result

OURS_COLOUR = "#e6522c"
COLOURS = {
    "promgate": OURS_COLOUR,
    "nginx": "#009639",
    "nginx-128k": "#7fcb9a",
    "haproxy": "#1f6fb2",
    "caddy": "#8a63d2",
}
OTHER_COLOUR = "#888888"
WIDTH, LABEL_WIDTH, BAR_HEIGHT, GROUP_GAP, HEADING = 860, 320, 16, 14, 64


def draw(results: Sequence[Result], figures: Mapping[tuple[str, str], float], ours: str = "promgate") -> str:
    """SVG text. `figures` as `Report.figures`."""
    parts, y = _draw_costs(results, ours) if results else ([], 0)
    shown = {result.workload.name for result in results}
    goals, y = _draw_goals({key: value for key, value in figures.items() if key[0] not in shown}, y)
    return "\n".join(
        [
            f'<svg xmlns="http://www.w3.org/2000/svg" width="{WIDTH}" height="{y + 10}" font-family="sans-serif">',
            f'<rect width="{WIDTH}" height="{y + 10}" fill="white"/>',
            *parts,
            *goals,
            "</svg>\n",
        ]
    )


def _draw_costs(results: Sequence[Result], ours: str) -> tuple[list[str], int]:
    """Bars are medians of the ratio per round; promgate is 1; shorter is better. With it, where it ends."""
    rows: list[tuple[str, str, float] | None] = []
    for result in results:
        for server in result.samples:
            ratio = result.ratio(server, ours)
            if ratio is not None and server != "direct":
                rows.append((result.workload.title, server, ratio.median))
        rows.append(None)
    scale = (WIDTH - LABEL_WIDTH - 150) / max((row[2] for row in rows if row), default=1.0)
    y, last_title = HEADING, ""
    parts = [
        _text(20, 26, "CPU time for the same work, promgate = 1 (shorter is better)", size=16),
        _text(20, 46, "one core each, TLS 1.3, token check, access log; median of interleaved rounds"),
    ]
    for row in rows:
        if row is None:
            y += GROUP_GAP
            continue
        title, server, multiple = row
        if title != last_title:
            parts.append(_text(LABEL_WIDTH - 10, y + 12, title, anchor="end"))
            last_title = title
        parts.append(_bar(y, multiple * scale, COLOURS.get(server, OTHER_COLOUR)))
        parts.append(_text(LABEL_WIDTH + multiple * scale + 6, y + 11, f"{server} {multiple:.2f}"))
        y += BAR_HEIGHT
    return [_line(LABEL_WIDTH + scale, HEADING - 6, y), *parts], y


def _draw_goals(figures: Mapping[tuple[str, str], float], top: int) -> tuple[list[str], int]:
    """What part of its bar each figure uses up; the bar is 1, and longer than that is missed."""
    rows = [(goal, figures[goal.figure, goal.peer]) for goal in GOALS if (goal.figure, goal.peer) in figures]
    if not rows:
        return [], top
    shares = [goal.share(seen, goal.bar) for goal, seen in rows]
    scale = (WIDTH - LABEL_WIDTH - 150) / max(1.0, *shares)
    y = first = top + HEADING
    parts = [_text(20, top + 26, "Other figures, their bar = 1 (shorter is better)", size=16)]
    for (goal, seen), share in zip(rows, shares, strict=True):
        title = f"{goal.title}, against {goal.peer}" if goal.peer else goal.title
        parts.append(_text(LABEL_WIDTH - 10, y + 12, title, anchor="end", size=11))
        parts.append(_bar(y, share * scale, OURS_COLOUR))
        parts.append(_text(LABEL_WIDTH + share * scale + 6, y + 11, goal.show(seen)))
        y += BAR_HEIGHT + 4
    return [_line(LABEL_WIDTH + scale, first - 6, y), *parts], y


def _line(x: float, top: float, bottom: float) -> str:
    return f'<line x1="{x:.1f}" y1="{top}" x2="{x:.1f}" y2="{bottom}" stroke="#bbbbbb" stroke-dasharray="3 3"/>'


def _bar(y: float, width: float, colour: str) -> str:
    return f'<rect x="{LABEL_WIDTH}" y="{y}" width="{width:.1f}" height="{BAR_HEIGHT - 3}" fill="{colour}"/>'


def _text(x: float, y: float, text: str, *, anchor: str = "start", size: int = 12) -> str:
    return f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}" font-size="{size}">{escape(text)}</text>'
