"""wrk: started on the core of the load, ended when the window that we watch is over, its one line of result read."""

from __future__ import annotations

import contextlib
import json
import signal
from dataclasses import dataclass
from typing import TYPE_CHECKING

from bench.process import LOAD_CORE, BenchError, running
from bench.stage import HERE

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from bench.process import Child
    from bench.servers import Server
    from bench.stage import Stage
    from bench.workloads import Workload


@dataclass(frozen=True, slots=True)
class Seen:
    """What wrk saw in a run. `errors`: statuses over 399, broken connections and time-outs together."""

    p50_us: int
    p99_us: int
    errors: int


class Load:
    """A running wrk."""

    def __init__(self, child: Child) -> None:
        self.child = child

    def finish(self) -> Seen:
        """End the run now (wrk reports on SIGINT as at its natural end)."""
        self.child.popen.send_signal(signal.SIGINT)
        self.child.popen.wait(30.0)
        output = self.child.log.read_text()
        for line in output.splitlines():
            if line.startswith("RESULT "):
                result = json.loads(line.removeprefix("RESULT "))
                return Seen(result["p50_us"], result["p99_us"], result["refused"] + result["broken"] + result["late"])
        raise BenchError(f"wrk gave no result:\n{output}")


@contextlib.contextmanager
def running_load(stage: Stage, server: Server, workload: Workload) -> Iterator[Load]:
    env = {
        "LUA_PATH": f"{HERE / 'wrk'}/?.lua;;",
        "BENCH_READ_TOKEN": server.tokens.read,
        "BENCH_WRITE_TOKEN": server.tokens.write,
        "BENCH_ROUTES": str(server.routes),
        "BENCH_BODY": str(stage.body(workload.body)) if workload.body else "",
        **workload.settings,
    }
    command: list[str | Path] = [
        "wrk",
        "--threads",
        "1",
        "--connections",
        str(workload.connections),
        "--duration",
        "600s",
        "--timeout",
        "20s",
        "--script",
        HERE / "wrk" / workload.script,
        server.url,
    ]
    with running("wrk", command, stage.dir / f"wrk-{workload.name}.log", core=LOAD_CORE, env=env) as child:
        yield Load(child)
