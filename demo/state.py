"""The demo's directory: one run at a time, made anew by each, readable by its owner alone."""

from __future__ import annotations

import fcntl
import os
import shutil
from typing import TYPE_CHECKING, NamedTuple

from demo.steps import Refused

if TYPE_CHECKING:
    from pathlib import Path

DEFAULT = ".demo"
_LOCK = "lock"


class State(NamedTuple):
    """`lock` is an open file; the kernel unlocks it with the end of the process, however that comes."""

    directory: Path
    lock: int


def take(directory: Path) -> State:
    """Empty the directory, whatever an earlier run left. Refused if another demo works in it, or it is no demo's."""
    directory = directory.resolve()
    if directory.exists() and any(directory.iterdir()) and not (directory / _LOCK).exists():
        raise Refused(f"{directory} is not a demo's: name an empty directory")
    directory.mkdir(mode=0o700, parents=True, exist_ok=True)
    directory.chmod(0o700)
    lock = os.open(directory / _LOCK, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        owner = os.read(lock, 20).decode().strip()
        raise Refused(f"a demo runs here already (process {owner}): end it with Ctrl-C in its terminal") from None
    os.truncate(lock, 0)
    os.write(lock, f"{os.getpid()}\n".encode())
    for left in directory.iterdir():
        if left.is_dir() and not left.is_symlink():
            shutil.rmtree(left)
        elif left.name != _LOCK:
            left.unlink()
    return State(directory, lock)
