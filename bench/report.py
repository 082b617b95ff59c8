"""What a run found, as text (Markdown tables) and as JSON."""

from __future__ import annotations

import dataclasses
import json
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from bench.goals import GOALS
from bench.workloads import Per

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from bench.fleet import FleetResult
    from bench.logins import LoginsResult
    from bench.measure import Result, Spread
    from bench.memory import Idle
    from bench.process import Memory

OURS = "promgate"


@dataclass(slots=True)
class Report:
    """Filled as the run goes on. `memory` is server name -> (at start, after the workloads)."""

    machine: dict[str, str]
    rounds: int
    window_s: float
    #: name, version, TLS agreed on
    servers: list[tuple[str, str, str]] = field(default_factory=list)
    results: list[Result] = field(default_factory=list)
    scale: list[Result] = field(default_factory=list)
    memory: dict[str, tuple[Memory, Memory]] = field(default_factory=dict)
    scale_memory: dict[str, Memory] = field(default_factory=dict)
    idle: list[Idle] = field(default_factory=list)
    fleet: FleetResult | None = None
    logins: LoginsResult | None = None
    first_answer_s: float | None = None

    def figures(self) -> dict[tuple[str, str], float]:
        """The figures that goals are set for: (figure, peer) -> value."""
        found: dict[tuple[str, str], float] = {}
        for result in self.results:
            for peer in result.samples:
                ratio = result.ratio(OURS, peer)
                if ratio is not None:
                    found[result.workload.name, peer] = ratio.median
        for idle in self.idle:
            if idle.server == OURS:
                found["idle", ""] = idle.kib_per_connection
        if OURS in self.memory:
            start, after = self.memory[OURS]
            found |= {("start", ""): start.pss_kib / 1024, ("after", ""): after.pss_kib / 1024}
        if self.fleet is not None:
            found["fleet", ""] = self.fleet.share_percent
        if self.logins is not None:
            found |= self.logins.figures()
        if self.first_answer_s is not None:
            found["first-answer", ""] = self.first_answer_s
        return found


def render(report: Report) -> str:
    parts = ["# promgate beside its peers", _machine(report)]
    if goals := _goals(report.figures()):
        parts += ["## Bars and goals", table(["figure", "against", "seen", "bar now", "goal", "reached"], goals)]
    for result in report.results:
        parts += [f"## {result.workload.title} (`{result.workload.name}`)", render_result(result)]
    if report.memory:
        parts += ["## Memory", _memory(report)]
    for result in report.scale:
        parts += ["## GET 1 KB as promgate grows", render_result(result, growth=True)]
    if report.scale_memory:
        rows = ([name, f"{memory.pss_kib / 1024:.1f}"] for name, memory in report.scale_memory.items())
        parts.append(table(["server", "PSS MiB"], rows))
    if report.logins is not None:
        told = [f"- {line}" for line in report.logins.lines()]
        parts += ["## Logins", render_result(report.logins.basic), "\n".join(told)]
    if report.fleet is not None:
        parts += ["## A fleet of real agents", "\n".join(f"- {line}" for line in report.fleet.lines())]
    return "\n\n".join(parts) + "\n"


def render_result(result: Result, *, growth: bool = False) -> str:
    """Ratios are promgate's cost over each server's; with `growth` they are each server's cost over the first one's."""
    workload = result.workload
    first = next(iter(result.samples))
    rows = []
    for server in result.samples:
        direct = server == "direct"
        ratio = result.ratio(server, first) if growth else result.ratio(OURS, server)
        per_s = result.median(server, lambda sample: sample.requests / sample.window_s)
        bytes_per_s = result.median(server, lambda sample: sample.answer_bytes / sample.window_s)
        rows.append(
            [
                server,
                "" if direct else _spread(result.cost(server), 1),
                "" if ratio is None or direct or server == (first if growth else OURS) else _spread(ratio, 2),
                f"{bytes_per_s / 1e6:,.0f} MB/s" if workload.per is Per.GIGABYTE else f"{per_s:,.0f}/s",
                f"{result.median(server, lambda sample: sample.p50_us) / 1000:.2f}",
                f"{result.median(server, lambda sample: sample.p99_us) / 1000:.2f}",
                "" if direct else f"{result.median(server, lambda sample: sample.cpu_s / sample.window_s):.0%}",
                str(sum(sample.errors for sample in result.samples[server])),
            ]
        )
    cost, ratios = f"CPU {workload.per}", f"against {first}" if growth else f"{OURS} / server"
    return table(["server", cost, ratios, "throughput", "p50 ms", "p99 ms", "core busy", "errors"], rows)


def as_json(report: Report) -> str:
    whole: dict[str, Any] = dataclasses.asdict(report)
    whole["memory"] = {name: {"start": start, "after": after} for name, (start, after) in whole["memory"].items()}
    whole["figures"] = [{"figure": f, "peer": peer, "value": value} for (f, peer), value in report.figures().items()]
    return json.dumps(whole, indent=1, default=str) + "\n"


def _machine(report: Report) -> str:
    lines = [f"- {key}: {value}" for key, value in report.machine.items()]
    rounds = f"{report.rounds} interleaved rounds of {report.window_s:g} s"
    lines.append(f"- {rounds}; median (least to most); ratios are taken round by round")
    peers = "\n\n" + table(["server", "version", "TLS"], report.servers) if report.servers else ""
    return "\n".join(lines) + peers


def _goals(figures: dict[tuple[str, str], float]) -> list[list[str]]:
    rows = []
    for goal in GOALS:
        seen = figures.get((goal.figure, goal.peer))
        if seen is None:
            continue
        sign = ">= " if goal.at_least else "<= "
        bars = [f"{sign}{goal.bar:g}", f"{sign}{goal.goal:g}"]
        rows.append([goal.title, goal.peer, goal.show(seen), *bars, goal.verdict(seen)])
    return rows


def _memory(report: Report) -> str:
    idle = {one.server: one for one in report.idle}
    rows = []
    for name, (start, after) in report.memory.items():
        rows.append(
            [
                name,
                f"{start.pss_kib / 1024:.1f} / {start.rss_kib / 1024:.1f}",
                f"{after.pss_kib / 1024:.1f} / {after.rss_kib / 1024:.1f}",
                f"{idle[name].kib_per_connection:.1f} ({idle[name].connections} connections)" if name in idle else "",
            ]
        )
    per_connection = "per idle connection that carried 1 MB down, 200 KB up, KiB"
    return table(["server", "PSS / RSS at start, MiB", "a minute after the runs, MiB", per_connection], rows)


def _spread(spread: Spread, digits: int) -> str:
    return f"{spread.median:,.{digits}f} ({spread.least:,.{digits}f} to {spread.most:,.{digits}f})"


def table(header: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A Markdown table that is also pleasant to read in a terminal."""
    lines = [list(header), *map(list, rows)]
    widths = [max(len(line[column]) for line in lines) for column in range(len(header))]
    lines.insert(1, ["-" * width for width in widths])
    return "\n".join(
        "| " + " | ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)) + " |" for line in lines
    )
