"""Ctrl-C, a closed terminal and SIGTERM, each as one exception, once: what cleans up is not interrupted again."""

from __future__ import annotations

import os
import signal
import threading
import time
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from types import FrameType

#: What a shell says of a program that Ctrl-C ended.
EXIT_CODE = 128 + signal.SIGINT
_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


class Interrupted(BaseException):
    """The user wants an end. No failure, so no `except Exception` takes it for one."""


def listen() -> None:
    """Raise Interrupted in the main thread at the first signal; also when SIGINT was ignored, as in `make demo &`."""
    for number in _SIGNALS:
        signal.signal(number, _raise_once)
    maker = os.getppid()
    if _name(maker) in {"make", "gmake"}:
        threading.Thread(target=_follow, args=(maker,), daemon=True).start()


def _raise_once(number: int, _frame: FrameType | None) -> None:
    for each in _SIGNALS:
        signal.signal(each, signal.SIG_IGN)
    raise Interrupted(signal.Signals(number).name)


def _follow(maker: int) -> None:
    """End with `make`. It takes SIGINT for sent to us too, gives up its handler and waits for us for ever.

    (GNU make, commands.c, fatal_error_signal: only SIGTERM is passed on to the children.)
    """
    caught = _catches_sigint(maker)
    while os.getppid() == maker and not (caught and not _catches_sigint(maker)):
        time.sleep(0.25)
    os.kill(os.getpid(), signal.SIGINT)


def _catches_sigint(pid: int) -> bool:
    try:
        status = Path(f"/proc/{pid}/status").read_text()
    except OSError:
        return False
    mask = next((line.split()[1] for line in status.splitlines() if line.startswith("SigCgt:")), "0")
    return bool(int(mask, 16) >> (signal.SIGINT - 1) & 1)


def _name(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/comm").read_text().strip()
    except OSError:
        return ""
