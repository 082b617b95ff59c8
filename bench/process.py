"""Child processes: pinned to one core, ended by their id, and gone with us however we end (setpriv --pdeathsig)."""

from __future__ import annotations

import contextlib
import os
import random
import signal
import socket
import subprocess
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence
    from types import FrameType

SERVER_CORE = 0
LOAD_CORE = 1


class BenchError(Exception):
    """The bench cannot go on; the text says what to do."""


@dataclass(frozen=True, slots=True)
class Memory:
    """Of a whole process tree, in KiB."""

    pss_kib: int
    rss_kib: int


class Child:
    """One process that we started, and the tree below it."""

    def __init__(self, name: str, popen: subprocess.Popen[bytes], log: Path) -> None:
        self.name = name
        self.popen = popen
        self.log = log

    def pids(self) -> list[int]:
        found = [self.popen.pid]
        for pid in found:  # grows while we walk it
            for children in Path(f"/proc/{pid}/task").glob("*/children"):
                found += map(int, children.read_text().split())
        return found

    def cpu_s(self) -> float:
        """User + system of the tree so far.

        The clock of a process (clock_getcpuclockid(3)) is the sum that /proc/PID/task/*/schedstat shows, up to
        this very moment instead of the last tick, and with the threads that have ended.
        """
        return sum(time.clock_gettime((~pid << 3) | 2) for pid in self.pids())

    def memory(self) -> Memory:
        sums = {"Pss:": 0, "Rss:": 0}
        for pid in self.pids():
            for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines():
                key, _, rest = line.partition(" ")
                if key in sums:
                    sums[key] += int(rest.split()[0])
        return Memory(sums["Pss:"], sums["Rss:"])

    def require_alive(self) -> None:
        if self.popen.poll() is not None:
            tail = self.log.read_text(errors="replace")[-2000:]
            raise BenchError(f"{self.name} ended with {self.popen.returncode}; the end of its log:\n{tail}")

    def await_port(self, port: int, timeout_s: float = 20.0) -> None:
        def answers() -> bool:
            with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), 1.0):
                return True
            return False

        self.await_that(answers, f"{self.name} to listen on port {port}", timeout_s)

    def await_that(self, condition: Callable[[], bool], what: str, timeout_s: float = 20.0) -> None:
        end = time.monotonic() + timeout_s
        while not condition():
            self.require_alive()
            if time.monotonic() > end:
                raise BenchError(f"waited {timeout_s:.0f} s for {what}; see {self.log}")
            time.sleep(0.01)

    def stop(self) -> None:
        pids = self.pids() if self.popen.poll() is None else []
        self.popen.terminate()
        try:
            self.popen.wait(5.0)
        except subprocess.TimeoutExpired:
            for pid in pids:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
            self.popen.wait()


@contextlib.contextmanager
def running(
    name: str,
    command: Sequence[str | Path],
    log: Path,
    *,
    core: int,
    cwd: Path | None = None,
    env: Mapping[str, str] | None = None,
) -> Iterator[Child]:
    """Run `command` on `core`, its output in `log`; ended when the block ends."""
    pinned = ["setpriv", "--pdeathsig", "TERM", "taskset", "-c", str(core), *map(str, command)]
    with log.open("wb") as out:
        popen = subprocess.Popen(
            pinned,
            stdin=subprocess.DEVNULL,
            stdout=out,
            stderr=subprocess.STDOUT,
            cwd=cwd,
            env={**os.environ, **(env or {})},
            start_new_session=True,  # Ctrl-C is ours; we end them in order
        )
    child = Child(name, popen, log)
    try:
        yield child
    finally:
        child.stop()


def free_port() -> int:
    """Below the range of source ports, so that no connection of the load takes it before the server does."""
    lowest_source = int(Path("/proc/sys/net/ipv4/ip_local_port_range").read_text().split()[0])
    while True:
        port = random.randrange(lowest_source // 2, lowest_source)
        with socket.socket() as probe, contextlib.suppress(OSError):
            probe.bind(("127.0.0.1", port))
            return port


def prepare_this_process() -> None:
    """Keep off the core of the servers, and turn SIGTERM into an orderly end."""
    if (os.cpu_count() or 1) < 2:
        raise BenchError("the bench needs two cores: one for the server, one for the load")
    os.sched_setaffinity(0, {LOAD_CORE})

    def leave(signum: int, _frame: FrameType | None) -> None:
        raise SystemExit(128 + signum)

    signal.signal(signal.SIGTERM, leave)
