"""The way in: what is missing is installed, then this process becomes `demo.play` in the virtual environment.

Standard library only: this half runs on the Python of the machine, before anything is installed.
"""

from __future__ import annotations

import argparse
import os
import sys
from pathlib import Path

from demo import environment, interrupt, packages, screen
from demo.state import DEFAULT, take
from demo.steps import Refused

ROOT = Path(__file__).resolve().parents[1]


def main() -> int:
    args = _parser().parse_args()
    interrupt.listen()
    os.chdir(ROOT)
    try:
        state = take(args.state)
        screen.say(screen.TITLE)
        packages.prepare(state)
        environment.prepare(args.venv, state)
    except Refused as refused:
        screen.complain(refused)
        return 1
    except interrupt.Interrupted:
        screen.say("\ndemo: interrupted; nothing of it runs any more")
        return interrupt.EXIT_CODE
    # The same process goes on: what started us still holds the right one, and state stays locked.
    os.set_inheritable(state.lock, True)
    words = [f"--state={state.directory}", f"--lock={state.lock}"]
    words += [f"--rotations={args.rotations}", f"--every={args.every}"]
    words += [f"--{name}={value}" for name in ("port", "seconds") if (value := getattr(args, name)) is not None]
    python = args.venv / "bin" / "python"
    return os.execv(python, [python, "-m", "demo.play", *words])


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="demo", description="Watch a rotation under a real Prometheus agent.")
    parser.add_argument("--venv", type=Path, default=ROOT / ".venv", help="virtual environment; made when missing")
    parser.add_argument("--state", type=Path, default=ROOT / DEFAULT, help="directory of secrets, logs and data")
    parser.add_argument("--port", type=int, help="promgate's (default: 9443, or a free one where that is taken)")
    parser.add_argument("--rotations", type=int, default=3)
    parser.add_argument("--every", type=int, default=5, help="seconds between two rotations")
    ending = parser.add_mutually_exclusive_group()
    ending.add_argument("--seconds", type=float, help="end so long after the summary (default: with Ctrl-C)")
    ending.add_argument("--once", dest="seconds", action="store_const", const=0.0, help="end after the summary")
    return parser


if __name__ == "__main__":
    sys.exit(main())
