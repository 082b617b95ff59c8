"""A program as a child of the test: ready when it says so, ended by its own id, never outliving its parent."""

from __future__ import annotations

import contextlib
import os
import random
import signal
import socket
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING, Self

from tests.kit.wait import wait_for

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

#: How long a program may take to answer, on a machine that is busy with other tests.
START_TIMEOUT_S = 60.0
STOP_TIMEOUT_S = 20.0

#: Starts a program that the kernel kills when the thread that started it dies. The shell looks for its parent once
#: the wish is with the kernel: a parent that died before that would have left the program behind.
_LAUNCH = ["setpriv", "--pdeathsig", "KILL", "--", "sh", "-c", '[ "$PPID" = "$1" ] && shift && exec "$@"', "sh"]


def free_port() -> int:
    """A loopback port that nothing listens on.

    Below the range from which the kernel takes the source ports of connections: a port of that range may be gone
    when a program that was killed comes back to it.
    """
    lowest_source = int(Path("/proc/sys/net/ipv4/ip_local_port_range").read_text().split()[0])
    while True:
        port = random.randrange(min(20_000, lowest_source // 2), lowest_source)
        with socket.socket() as tried, contextlib.suppress(OSError):
            tried.bind(("127.0.0.1", port))
            return port


def accepts(port: int) -> bool:
    """Whether something listens on the loopback port."""
    with socket.socket() as tried:
        tried.settimeout(1.0)
        return tried.connect_ex(("127.0.0.1", port)) == 0


class Process:
    """One program, in a session of its own, that can be started again after it ended.

    It dies with the thread that started it (prctl(2), PR_SET_PDEATHSIG): start it from the main thread. Its output
    is appended to `log_file`, whose end is shown when it does not become ready.
    """

    def __init__(
        self,
        command: Sequence[str],
        log_file: Path,
        ready: Callable[[], bool],
        *,
        env: Mapping[str, str] | None = None,
    ) -> None:
        self.command = list(command)
        self.log_file = log_file
        self._ready = ready
        self._env = dict(env) if env is not None else None
        self._child: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    @property
    def running(self) -> bool:
        return self._child is not None and self._child.poll() is None

    @property
    def pid(self) -> int:
        if self._child is None:
            raise RuntimeError(f"{self.command[0]} was not started")
        return self._child.pid

    @property
    def log(self) -> str:
        """All it has said so far, over all its lives."""
        return self.log_file.read_text(errors="replace") if self.log_file.exists() else ""

    def start(self) -> None:
        """Start it and wait until it is ready; RuntimeError with the end of its log when it is not."""
        if self.running:
            raise RuntimeError(f"{self.command[0]} runs already")
        with self.log_file.open("ab") as output:
            self._child = subprocess.Popen(
                [*_LAUNCH, str(os.getpid()), *self.command],
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
                env=self._env,
            )
        try:
            wait_for(lambda: self._ready() or not self.running, self.command[0], timeout_s=START_TIMEOUT_S)
            if not self.running:
                raise ChildProcessError(f"ended with {self._child.returncode}")
        except (TimeoutError, OSError) as failure:
            self.kill()
            raise RuntimeError(f"{' '.join(self.command)}: {failure}\n{self.log[-4000:]}") from failure

    def ask_to_end(self) -> None:
        """Send SIGTERM and do not wait: several programs end sooner when all are asked before one is waited for."""
        self._signal(signal.SIGTERM)

    def stop(self, timeout_s: float | None = None) -> int:
        """Ask it to end, make it end when it does not; its exit code (negative: the signal)."""
        self.ask_to_end()
        try:
            return self._wait(STOP_TIMEOUT_S if timeout_s is None else timeout_s)
        except subprocess.TimeoutExpired:
            return self.kill()

    def kill(self) -> int:
        """kill -9 of exactly this process group, and its exit code."""
        self._signal(signal.SIGKILL)
        return self._wait(STOP_TIMEOUT_S)

    def _signal(self, number: signal.Signals) -> None:
        # Not reaped yet, so the id is still its own: nobody else can be hit.
        if self.running:
            os.killpg(self.pid, number)

    def _wait(self, timeout_s: float) -> int:
        return self._child.wait(timeout_s) if self._child is not None else 0
