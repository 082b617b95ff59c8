"""The show: start, rotate, count, and stay until Ctrl-C. Runs in the virtual environment; `demo.__main__` starts it."""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import time
from pathlib import Path

from demo import interrupt, report, screen
from demo.parts import COUNTER, Parts, choose_port
from demo.rotation import Count, count, count_at_the_end, follow, rotate
from tests.kit.counter import wait_stored
from tests.kit.promgate import token_id

#: With the end of the programs, less than 5 s.
_FINAL_COUNT_S = 2.0


class Failed(Exception):
    """The show cannot go on; the text says why."""


def main() -> int:
    args = _parser().parse_args()
    os.set_inheritable(args.lock, False)
    interrupt.listen()
    parts: Parts | None = None
    try:
        parts = Parts(args.state, args.port or choose_port())
        return _play(parts, args)
    except interrupt.Interrupted:
        screen.say("\nInterrupted.")
        return interrupt.EXIT_CODE
    except (Failed, RuntimeError, OSError, subprocess.SubprocessError) as failure:
        screen.complain(failure)
        return 1
    finally:
        if parts is not None:
            parts.stop()
        screen.say(f"All stopped. Logs and data stay in {screen.short(args.state)} until the next run or `make clean`.")


def _play(parts: Parts, args: argparse.Namespace) -> int:
    for name in parts.start():
        screen.say(report.started(name, parts.programs[name]))
    screen.say(report.made(parts))
    screen.say(report.WAITING)
    wait_stored(parts.receiver, 2, COUNTER)
    screen.say(report.invitation(parts))
    screen.say(report.heading(args.rotations, args.every))
    for number in range(1, args.rotations + 1):
        next_at = parts.target.served + args.every
        move = rotate(parts)
        screen.say(report.line(str(number), move, count(parts)))
        parts.target.wait_served(next_at)
    total, given_up = count(parts), parts.agent.given_up
    screen.say(report.summary(total, args.rotations, given_up))
    if args.seconds is None or args.seconds > 0:
        screen.say(report.going_on(args.seconds))
        total = _stay(parts, args.seconds)
    return 1 if total.lost or given_up else 0


def _stay(parts: Parts, seconds: float | None) -> Count:
    """Report each rotation that the user makes, until the time is over or Ctrl-C; the last count."""
    ends_at = None if seconds is None else time.monotonic() + seconds
    shown = parts.token_file.read_text()
    try:
        while ends_at is None or time.monotonic() < ends_at:
            time.sleep(0.2)
            dead = parts.dead()
            if dead:
                raise Failed(f"{dead} ended by itself. Its log: {screen.short(parts.programs[dead].log_file)}")
            now = parts.token_file.read_text()
            if now != shown:
                screen.say(_by_hand(parts, shown))
                shown = now
    except interrupt.Interrupted:
        screen.say()
    total = count_at_the_end(parts, _FINAL_COUNT_S)
    screen.say(report.total(total))
    return total


def _by_hand(parts: Parts, before: str) -> str:
    """What to say of a token file that the user has changed."""
    try:
        move = follow(parts, token_id(before), parts.token_file.stat().st_mtime)
    except (IndexError, TimeoutError):
        return report.not_taken(parts)
    return report.by_hand(move, count(parts))


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="demo.play")
    parser.add_argument("--state", type=Path, required=True)
    parser.add_argument("--lock", type=int, required=True)
    parser.add_argument("--port", type=int)
    parser.add_argument("--rotations", type=int, required=True)
    parser.add_argument("--every", type=int, required=True)
    parser.add_argument("--seconds", type=float)
    return parser


if __name__ == "__main__":
    sys.exit(main())
