"""`python -m bench`: all of it, or parts: `python -m bench --only get1k,post64 --servers promgate,nginx --rounds 3`."""

from __future__ import annotations

import argparse
import secrets
import shutil
import sys
import time
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from bench.chart import draw
from bench.fleet import Fleet, measure_fleet
from bench.logins import measure_logins, measure_starts
from bench.machine import describe_machine
from bench.measure import measure
from bench.memory import measure_idle
from bench.process import BenchError, prepare_this_process
from bench.promgate import Promgate, prepare, running_promgate
from bench.proof import prove
from bench.report import OURS, Report, as_json, render
from bench.servers import PEERS, Server, Tokens, missing_program, running_peer
from bench.stage import HERE, Stage, open_stage
from bench.workloads import WORKLOADS

if TYPE_CHECKING:
    from collections.abc import Sequence

    from bench.workloads import Workload

RESULTS = HERE / "results"
DOCS = HERE.parent / "docs"
#: In docs/performance.md: what follows is made by `make bench PUBLISH=1`.
PUBLISHED_FROM = "<!-- bench -->\n"
BASELINE = "baseline"
#: Between the last load and the look at what memory a server keeps.
REST_S = 65.0
OTHER_PARTS = ("memory", "logins", "start", "scale", "fleet")

#: What promgate is given more of, one at a time; the first is what the others are compared with.
SCALE = (
    Promgate("2-tokens"),
    Promgate("1000-tokens", other_tokens=998),
    Promgate("100000-tokens", other_tokens=99_998),
    Promgate("10-routes", routes=10),
    Promgate("1000-routes", routes=1000),
)


@dataclass(frozen=True, slots=True)
class Plan:
    """What was asked for."""

    workloads: Sequence[Workload]
    parts: Sequence[str]
    servers: Sequence[str]
    baseline: Path | None
    rounds: int
    window_s: float
    idle_connections: int
    fleet: Fleet
    publish: bool


def read_plan(arguments: Sequence[str] | None = None) -> Plan:
    parser = argparse.ArgumentParser(prog="python -m bench", description="promgate measured beside its peers")
    parser.add_argument("--quick", action="store_true", help="two minutes: fewer workloads, three short rounds")
    parser.add_argument("--only", help=f"of {','.join((*WORKLOADS, *OTHER_PARTS))}")
    parser.add_argument("--servers", help=f"of {','.join((OURS, *PEERS))}")
    parser.add_argument("--baseline", type=Path, help="another checkout of promgate, measured beside this one")
    parser.add_argument("--rounds", "--reps", dest="rounds", type=int, help="default 7")
    parser.add_argument("--window", type=float, help="seconds of each run, default 1")
    parser.add_argument("--publish", action="store_true", help="put what was found into docs/performance.md")
    chosen = parser.parse_args(arguments)
    quick: bool = chosen.quick
    usual = [*(row.name for row in WORKLOADS.values() if row.quick or not quick), "memory", "logins", "start", "fleet"]
    only = _choose(parser, chosen.only, (*WORKLOADS, *OTHER_PARTS), usual if quick else [*usual, "scale"])
    servers = _choose(parser, chosen.servers, (OURS, *PEERS), [OURS, *PEERS])
    return Plan(
        workloads=[WORKLOADS[name] for name in only if name in WORKLOADS],
        parts=[name for name in only if name in OTHER_PARTS],
        servers=servers,
        baseline=chosen.baseline.resolve() if chosen.baseline else None,
        rounds=chosen.rounds or (3 if quick else 7),
        window_s=chosen.window or (0.5 if quick else 1.0),
        idle_connections=200 if quick else 500,
        fleet=Fleet(seconds=10.0) if quick else Fleet(),
        publish=chosen.publish,
    )


def _choose(parser: argparse.ArgumentParser, written: str | None, known: Sequence[str], usual: list[str]) -> list[str]:
    names = written.split(",") if written else usual
    if unknown := [name for name in names if name not in known]:
        parser.error(f"unknown: {', '.join(unknown)}; known are {', '.join(known)}")
    return names


def run_plan(plan: Plan, stage: Stage, report: Report) -> None:
    if plan.workloads or "memory" in plan.parts:
        with ExitStack() as stack:
            servers = _start(plan, stage, stack)
            _prove_and_measure(plan, stage, servers, report)
    if "logins" in plan.parts:
        report.logins = measure_logins(stage, rounds=plan.rounds, window_s=plan.window_s)
        _say("\n".join(report.logins.lines()))
    if "start" in plan.parts:
        report.first_answer_s = measure_starts(stage)
        _say(f"start to the first answer: {report.first_answer_s:.2f} s")
    if "scale" in plan.parts:
        with ExitStack() as stack:
            variants = [stack.enter_context(running_promgate(prepare(what, stage))) for what in SCALE]
            for server in variants:
                prove(stage, server)
            result = measure(stage, variants, WORKLOADS["get1k"], rounds=plan.rounds, window_s=plan.window_s)
            report.scale.append(result)
            report.scale_memory = {server.name: server.child.memory() for server in variants}
    if "fleet" in plan.parts:
        report.fleet = measure_fleet(stage, Promgate("promgate-fleet"), plan.fleet)


def _start(plan: Plan, stage: Stage, stack: ExitStack) -> list[Server]:
    """All servers at once: an idle one costs nothing."""
    servers = []
    tokens = Tokens(secrets.token_hex(30), secrets.token_hex(30))
    ours = [Promgate()] if OURS in plan.servers else []
    if plan.baseline:
        ours.append(Promgate(BASELINE, plan.baseline))
    for what in ours:
        prepared = prepare(what, stage)
        tokens = prepared.tokens
        servers.append(stack.enter_context(running_promgate(prepared)))
    for name in plan.servers:
        if name == OURS:
            continue
        if missing := missing_program(name):
            _say(f"{name} is left out: {missing} is not installed")
            continue
        servers.append(stack.enter_context(running_peer(name, stage, tokens)))
    return servers


def _prove_and_measure(plan: Plan, stage: Stage, servers: Sequence[Server], report: Report) -> None:
    proxies = [server for server in servers if not server.is_direct]
    at_start = {server.name: server.child.memory() for server in proxies}
    for server in servers:
        report.servers.append((server.name, server.version, prove(stage, server)))
    if "memory" in plan.parts:
        # Before the load: heap that was freed and kept would hide what a connection takes.
        for server in proxies:
            report.idle.append(measure_idle(stage, server, plan.idle_connections))
    for workload in plan.workloads:
        began = time.monotonic()
        asked = servers if workload.direct else proxies
        result = measure(stage, asked, workload, rounds=plan.rounds, window_s=plan.window_s)
        report.results.append(result)
        seen = ", ".join(f"{name} {result.cost(name).median:.1f}" for name in result.samples if name != "direct")
        _say(f"{workload.title}: {seen} {workload.per} ({time.monotonic() - began:.0f} s)")
    if "memory" in plan.parts:
        time.sleep(REST_S)  # for all alike: some give back what they do not need after a while
        report.memory = {server.name: (at_start[server.name], server.child.memory()) for server in proxies}


def publish(text: str, chart: Path) -> None:
    """Docs with these figures: the page's own introduction stays, all below it is new."""
    page = DOCS / "performance.md"
    introduction, mark, _ = page.read_text().partition(PUBLISHED_FROM)
    if not mark:
        raise BenchError(f"{page} has no line {PUBLISHED_FROM.strip()!r} any more: what is to be replaced?")
    page.write_text(introduction + mark + "\n" + text.partition("\n\n")[2])
    shutil.copyfile(chart, DOCS / "performance.svg")


def _say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


def main() -> int:
    plan = read_plan()
    try:
        prepare_this_process()
        report = Report(describe_machine(), plan.rounds, plan.window_s)
        with open_stage() as stage:
            run_plan(plan, stage, report)
    except BenchError as error:
        _say(f"bench: {error}")
        return 1
    except KeyboardInterrupt:
        _say("bench: stopped")
        return 130
    text = render(report)
    RESULTS.mkdir(exist_ok=True)
    (RESULTS / "latest.json").write_text(as_json(report))
    (RESULTS / "latest.md").write_text(text)
    (RESULTS / "latest.svg").write_text(draw(report.results, report.figures()))
    if plan.publish:
        publish(text, RESULTS / "latest.svg")
    print(text)
    return 0


if __name__ == "__main__":
    sys.exit(main())
