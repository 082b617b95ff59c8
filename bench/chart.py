"""The chart: CPU time of each server as a multiple of promgate's, one group of bars per workload. Plain SVG."""

from __future__ import annotations

from html import escape
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

    from bench.measure import Result

COLOURS = {
    "promgate": "#e6522c",
    "nginx": "#009639",
    "nginx-128k": "#7fcb9a",
    "haproxy": "#1f6fb2",
    "caddy": "#8a63d2",
}
OTHER_COLOUR = "#888888"
WIDTH, LABEL_WIDTH, BAR_HEIGHT, GROUP_GAP, TOP = 860, 290, 16, 14, 64


def draw(results: Sequence[Result], ours: str = "promgate") -> str:
    """SVG text. Bars are medians of the ratio per round; promgate is 1; shorter is better."""
    rows: list[tuple[str, str, float] | None] = []
    for result in results:
        for server in result.samples:
            ratio = result.ratio(server, ours)
            if ratio is not None and server != "direct":
                rows.append((result.workload.title, server, ratio.median))
        rows.append(None)
    longest = max((row[2] for row in rows if row), default=1.0)
    scale = (WIDTH - LABEL_WIDTH - 150) / longest
    y, parts, last_title = TOP, [], ""
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
    one = LABEL_WIDTH + scale
    return "\n".join(
        [
            f'<svg xmlns="http://www.w3.org/2000/svg" width="{WIDTH}" height="{y + 10}" font-family="sans-serif">',
            f'<rect width="{WIDTH}" height="{y + 10}" fill="white"/>',
            _text(20, 26, "CPU time for the same work, promgate = 1 (shorter is better)", size=16),
            _text(20, 46, "one core each, TLS 1.3, token check, access log; median of interleaved rounds"),
            f'<line x1="{one:.1f}" y1="{TOP - 6}" x2="{one:.1f}" y2="{y}" stroke="#bbbbbb" stroke-dasharray="3 3"/>',
            *parts,
            "</svg>\n",
        ]
    )


def _bar(y: float, width: float, colour: str) -> str:
    return f'<rect x="{LABEL_WIDTH}" y="{y}" width="{width:.1f}" height="{BAR_HEIGHT - 3}" fill="{colour}"/>'


def _text(x: float, y: float, text: str, *, anchor: str = "start", size: int = 12) -> str:
    return f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}" font-size="{size}">{escape(text)}</text>'
