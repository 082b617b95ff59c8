"""Where the time of promgate goes under one workload: `python -m bench.hotspots post64` (needs py-spy)."""

from __future__ import annotations

import argparse
import sys
from collections import Counter

from bench.load import running_load
from bench.process import BenchError, prepare_this_process
from bench.promgate import Promgate, prepare, running_promgate
from bench.report import table
from bench.servers import find_program
from bench.stage import open_stage, run
from bench.workloads import WORKLOADS

TOP = 30


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m bench.hotspots", description=__doc__)
    parser.add_argument("workload", choices=WORKLOADS)
    parser.add_argument("--seconds", type=int, default=10)
    parser.add_argument("--lines", action="store_true", help="by line instead of by function")
    chosen = parser.parse_args()
    try:
        prepare_this_process()
        print(render(sample(chosen.workload, chosen.seconds, by_line=chosen.lines)))
    except BenchError as error:
        print(f"bench: {error}", file=sys.stderr)
        return 1
    return 0


def sample(workload: str, seconds: int, *, by_line: bool) -> Counter[tuple[str, ...]]:
    """Stacks of the event loop's thread, outermost frame first, and how often each was seen."""
    spy = find_program("py-spy")
    if spy is None:
        raise BenchError("py-spy is not installed: pip install py-spy")
    with (
        open_stage() as stage,
        running_promgate(prepare(Promgate(), stage)) as server,
        running_load(stage, server, WORKLOADS[workload]) as load,
    ):
        raw, pid = stage.dir / "stacks.txt", str(server.child.popen.pid)
        # Stopping the process for each look would stop it at system calls: on a GET two writes then seem to take 67 %
        # of the time instead of 37 % (`perf record` agrees with the latter).
        how = ["--nonblocking", "--format", "raw", "--rate", "500", "--duration", str(seconds)]
        how += [] if by_line else ["--function"]
        run(spy, "record", "--pid", pid, "--output", raw, *how)
        load.finish()
        stacks: Counter[tuple[str, ...]] = Counter()
        for line in raw.read_text().splitlines():
            frames, _, count = line.rpartition(" ")
            if "Thread._bootstrap" not in frames:  # worker threads wait; py-spy cannot always tell
                stacks[tuple(frames.split(";"))] += int(count)
        return stacks


def render(stacks: Counter[tuple[str, ...]]) -> str:
    """Shares of the time: of each place itself (with the C code it calls), and with all that it calls."""
    whole = max(1, stacks.total())
    own: Counter[str] = Counter()
    below: Counter[str] = Counter()
    for stack, count in stacks.items():
        own[stack[-1]] += count
        for frame in set(stack):
            below[frame] += count
    rows = [[f"{count / whole:.1%}", f"{below[place] / whole:.1%}", place] for place, count in own.most_common(TOP)]
    return table(["own", "with callees", "place"], rows)


if __name__ == "__main__":
    sys.exit(main())
