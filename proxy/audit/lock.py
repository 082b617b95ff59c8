"""The lock of a trail: its head file. Whoever writes or reads the end takes it for milliseconds."""

from __future__ import annotations

import time
from fcntl import LOCK_NB, flock
from typing import TYPE_CHECKING, Final

from proxy.tokens.ports import StoreError

if TYPE_CHECKING:
    from pathlib import Path

#: A record takes milliseconds; who holds the lock for longer has been stopped.
PATIENCE_S: Final = 5.0
_LOOK_AGAIN_S: Final = 0.005


def take_lock(fd: int, how: int, file: Path, patience_s: float) -> None:
    """`how`: LOCK_EX or LOCK_SH, on the head `file` that is open as `fd`. StoreError: somebody does not let go."""
    give_up_at = time.monotonic() + patience_s
    while True:
        try:
            flock(fd, how | LOCK_NB)
        except BlockingIOError:
            if time.monotonic() >= give_up_at:
                text = f"another process holds the audit and does not let go: is one stopped (`fuser {file}`)?"
                raise StoreError(f"{file}: {text}") from None
            time.sleep(_LOOK_AGAIN_S)
        else:
            return
