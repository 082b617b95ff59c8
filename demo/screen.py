"""Everything that the preparation says on the terminal, and how: plain lines, paths as short as they can be."""

from __future__ import annotations

import contextlib
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

TITLE = "promgate demo: Prometheus, Alertmanager, an agent and promgate, all on 127.0.0.1"


def say(text: object = "") -> None:
    print(text, flush=True)


def complain(text: object) -> None:
    print(f"demo: {text}", file=sys.stderr, flush=True)


@contextlib.contextmanager
def step(what: str, log: Path) -> Iterator[None]:
    """A line that says what is being done, and ends with the time that it took."""
    print(f"  {what} (log: {short(log)}) ... ", end="", flush=True)
    started = time.monotonic()
    try:
        yield
    except BaseException:
        say("stopped")
        raise
    say(f"{time.monotonic() - started:.1f} s")


def short(path: Path) -> str:
    """Relative to the working directory where it lies below it."""
    path = path.absolute()
    return str(path.relative_to(Path.cwd())) if path.is_relative_to(Path.cwd()) else str(path)
