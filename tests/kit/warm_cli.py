"""The command line in a process that stays: a thousand commands without a thousand starts of Python.

`WarmCli` is the test's side; run as a module this file is the worker, and there alone is `proxy` imported. Each
command still opens the store anew and tells the server over its socket, as in a process of its own.
"""

from __future__ import annotations

import contextlib
import io
import json
import subprocess
import sys
from typing import NamedTuple, Self

from tests.kit.promgate import ROOT, environment


class Done(NamedTuple):
    """How a command ended."""

    returncode: int
    stdout: str
    stderr: str


class WarmCli:
    """Runs `promgate` commands one after the other in one child process."""

    def __enter__(self) -> Self:
        self._child = subprocess.Popen(
            ["setpriv", "--pdeathsig", "KILL", "--", sys.executable, "-m", "tests.kit.warm_cli"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            cwd=ROOT,
            env=environment(),
        )
        return self

    def __exit__(self, *_: object) -> None:
        self._child.communicate(timeout=10)

    def run(self, *arguments: str) -> Done:
        if self._child.stdin is None or self._child.stdout is None:
            raise RuntimeError("made with pipes")
        self._child.stdin.write(json.dumps(arguments) + "\n")
        self._child.stdin.flush()
        return Done(*json.loads(self._child.stdout.readline()))


def serve() -> None:
    """One JSON list of arguments a line in; [exit code, stdout, stderr] out."""
    from proxy.cli import main  # noqa: PLC0415 - only the worker imports what it runs

    for line in sys.stdin:
        out, err = io.StringIO(), io.StringIO()
        with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
            code = main(json.loads(line))
        print(json.dumps([code, out.getvalue(), err.getvalue()]), flush=True)


if __name__ == "__main__":
    serve()
