"""How a figure is made: short windows of load on each server in turn, rounds with the order rotated, medians of ratios.

The window opens once the load runs (connections made, first answers given) and closes before it ends, so that
CPU time and requests of the same steady second are divided by each other. Ratios are taken within a round:
whatever slowed the machine in that moment slowed both.
"""

from __future__ import annotations

import statistics
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

from bench.load import running_load
from bench.workloads import Per

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from bench.servers import Server
    from bench.stage import Stage
    from bench.workloads import Workload

WARM_UP_S = 0.25


@dataclass(frozen=True, slots=True)
class Sample:
    """One window on one server."""

    cpu_s: float
    requests: int
    answer_bytes: int
    window_s: float
    p50_us: int
    p99_us: int
    errors: int

    def cost(self, per: Per) -> float:
        """CPU time per unit, in the unit's own words: microseconds per request, or milliseconds per GB."""
        if per is Per.REQUEST:
            return self.cpu_s * 1e6 / max(1, self.requests)
        return self.cpu_s * 1e3 / max(1e-9, self.answer_bytes / 1e9)


@dataclass(frozen=True, slots=True)
class Spread:
    """A median with the least and the most of what was seen."""

    median: float
    least: float
    most: float

    @staticmethod
    def of(values: Sequence[float]) -> Spread:
        return Spread(statistics.median(values), min(values), max(values))


@dataclass(frozen=True, slots=True)
class Result:
    """All rounds of one workload: server name -> its samples, one per round."""

    workload: Workload
    samples: dict[str, list[Sample]]

    def cost(self, server: str) -> Spread:
        return Spread.of([sample.cost(self.workload.per) for sample in self.samples[server]])

    def ratio(self, server: str, peer: str) -> Spread | None:
        """Cost of `server` over cost of `peer`, round by round; None if one of them did not run."""
        ours, theirs = self.samples.get(server), self.samples.get(peer)
        if not ours or not theirs:
            return None
        per = self.workload.per
        return Spread.of([a.cost(per) / b.cost(per) for a, b in zip(ours, theirs, strict=True)])

    def median(self, server: str, figure: Callable[[Sample], float]) -> float:
        return statistics.median(figure(sample) for sample in self.samples[server])


def measure(stage: Stage, servers: Sequence[Server], workload: Workload, *, rounds: int, window_s: float) -> Result:
    samples: dict[str, list[Sample]] = {server.name: [] for server in servers}
    for number in range(rounds):
        first = number % len(servers)
        for server in [*servers[first:], *servers[:first]]:
            samples[server.name].append(_measure_once(stage, server, workload, window_s))
    return Result(workload, samples)


def _measure_once(stage: Stage, server: Server, workload: Workload, window_s: float) -> Sample:
    upstream = stage.upstream
    before = upstream.counters()
    with running_load(stage, server, workload) as load:
        load.child.await_that(
            lambda: upstream.counters().requests >= before.requests + workload.connections,
            f"the first answers of {server.name} to {workload.name}",
        )
        time.sleep(WARM_UP_S)
        cpu_from, from_s, counted_from = server.child.cpu_s(), time.monotonic(), upstream.counters()
        time.sleep(window_s)
        cpu_to, to_s, counted_to = server.child.cpu_s(), time.monotonic(), upstream.counters()
        seen = load.finish()
    server.child.require_alive()
    return Sample(
        cpu_s=cpu_to - cpu_from,
        requests=counted_to.requests - counted_from.requests,
        answer_bytes=counted_to.answer_bytes - counted_from.answer_bytes,
        window_s=to_s - from_s,
        p50_us=seen.p50_us,
        p99_us=seen.p99_us,
        errors=seen.errors,
    )
