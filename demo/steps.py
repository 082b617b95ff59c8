"""One step of the preparation: a line on the terminal, the output in a file, and an end when the demo ends."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

_LEASH = Path(__file__).with_name("leash.py")
_SHOWN_LINES = 12


class Refused(Exception):
    """The demo cannot go on; the text tells the user what to do."""


def run(command: Sequence[str | Path], log: Path, *, root: Sequence[str] = (), spare: str | None = None) -> None:
    """Run to the end, output to `log`; Refused with its last lines on failure. When we are interrupted, it ends too.

    `root` is put before the command (sudo). `spare`: see `leash`.
    """
    words = [*root, sys.executable, _LEASH, *([f"--spare={spare}"] if spare else []), *command]
    with log.open("ab") as output:
        child = subprocess.Popen(words, stdin=subprocess.PIPE, stdout=output, stderr=subprocess.STDOUT)
        try:
            code = child.wait()
        except BaseException:
            if spare:
                print("stopping when dpkg is done with its step ... ", end="", flush=True)
            raise
        finally:
            if child.stdin is not None:
                child.stdin.close()
            child.wait()
    if code:
        last = "\n".join(log.read_text(errors="replace").splitlines()[-_SHOWN_LINES:])
        raise Refused(f"`{' '.join(map(str, command))}` ended with {code}. The end of {log}:\n{last}")
