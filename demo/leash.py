"""Runs a command, and ends it with all that it started when standard input ends: `leash.py [--spare=NAME] COMMAND...`

Whoever starts this keeps the other end of the pipe, and the kernel closes that however the starter ends. A
parent-death signal (prctl(2)) would not do for installers: it stops at the child, and sudo clears it.
"""

from __future__ import annotations

import contextlib
import os
import select
import signal
import subprocess
import sys
from pathlib import Path


def main(words: list[str]) -> int:
    """The command's exit code. With `--spare=NAME` only programs of that name are interrupted, and all may finish."""
    spared = words.pop(0).removeprefix("--spare=") if words[0].startswith("--spare=") else None
    # Ctrl-C reaches us by the terminal too, but the pipe decides. A handler, since the command would inherit SIG_IGN.
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, lambda *_: None)
    child = subprocess.Popen(words, stdin=subprocess.DEVNULL, start_new_session=True)
    while child.poll() is None:
        if not select.select([0], [], [], 0.05)[0]:
            continue
        if spared is None:
            os.killpg(child.pid, signal.SIGKILL)
        else:
            _interrupt(spared, session=child.pid)
        return child.wait()
    return child.returncode


def _interrupt(name: str, session: int) -> None:
    for stat in Path("/proc").glob("[0-9]*/stat"):
        # proc(5): pid (comm) state ppid pgrp session ...
        with contextlib.suppress(OSError, ProcessLookupError):
            pid, _, rest = stat.read_text().partition(" (")
            comm, _, fields = rest.rpartition(") ")
            if comm == name and int(fields.split()[3]) == session:
                os.kill(int(pid), signal.SIGINT)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
