"""`promgate` commands in processes whose disk fails, or that are killed, at a chosen call (`rig.c`).

`Rig` is the test's side. Run as a module this file is a worker that has the preloaded library in it, and forks for each
command: a hundred faults take a second, not a hundred starts of Python.
"""

from __future__ import annotations

import ctypes
import errno
import json
import os
import subprocess
import sys
from importlib import import_module
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).parents[2]
KILL, TORN = -1, -2
#: What a test is run with, by name.
FAULTS = {"kill": KILL, "torn": TORN, "ENOSPC": errno.ENOSPC, "EIO": errno.EIO, "EROFS": errno.EROFS}
#: Added to the exit code of a command that no fault struck.
CALM = 64


class Ended(NamedTuple):
    """How a command ended: `code` is negative for a signal; `struck` tells whether there was such a call at all."""

    struck: bool
    code: int
    stdout: str
    stderr: str


def build(directory: Path) -> Path:
    """Compile the library."""
    library = directory / "rig.so"
    source = Path(__file__).with_name("rig.c")
    subprocess.run(["cc", "-shared", "-fPIC", "-O1", "-o", library, source, "-ldl"], check=True)
    return library


class Rig:
    """A worker in which the calls below `directory` fail as told, while `work` (`module:function`) does its own."""

    def __init__(self, library: Path, directory: Path, work: str = "proxy.cli:main") -> None:
        self._directory = directory
        self._worker = subprocess.Popen(
            [sys.executable, "-m", "tests.kit.rig", str(directory), work],
            cwd=ROOT,
            env={**os.environ, "LD_PRELOAD": str(library)},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    def run(self, arguments: list[str], at: int = 0, what: int = 0) -> Ended:
        if self._worker.stdin is None or self._worker.stdout is None:
            raise RuntimeError("made with pipes")
        self._worker.stdin.write(json.dumps([arguments, at, what]) + "\n")
        self._worker.stdin.flush()
        return Ended(*json.loads(self._worker.stdout.readline()))

    def close(self) -> None:
        self._worker.communicate(timeout=10)


def serve(directory: str, work: str) -> None:
    from proxy.cli import token  # noqa: PLC0415 - only to have it imported before the forks

    assert token
    module, _, function = work.partition(":")
    main = getattr(import_module(module), function)
    library = ctypes.CDLL(None)
    results = os.dup(1)
    for line in sys.stdin:
        arguments, at, what = json.loads(line)
        out, err = os.memfd_create("out"), os.memfd_create("err")
        child = os.fork()
        if child == 0:
            os.dup2(out, 1)
            os.dup2(err, 2)
            library.rig(directory.encode(), at, what)
            code = main(arguments)
            sys.stdout.flush()
            sys.stderr.flush()
            os._exit(code + CALM * (not library.rig_struck()))
        _, status = os.waitpid(child, 0)
        texts = [os.pread(fd, 1 << 16, 0).decode() for fd in (out, err)]
        os.close(out)
        os.close(err)
        code = os.waitstatus_to_exitcode(status)
        calm = code >= CALM
        os.write(results, json.dumps([not calm, code - CALM * calm, *texts]).encode() + b"\n")


if __name__ == "__main__":
    serve(*sys.argv[1:])
