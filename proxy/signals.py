"""What the process is told from outside: SIGTERM and SIGINT (stop), SIGHUP (read the configuration); and what it tells.

The first asks to stop, the second one not to wait, and the third is the kernel's: whoever is impatient gets an end.
"""

from __future__ import annotations

import asyncio
import os
import signal
import socket
from contextlib import suppress
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Callable

_STOPS: Final = (signal.SIGTERM, signal.SIGINT)


class Signals:
    """Heard from `listen` on: before the first part of the process is made, so that none of them kills it half-way."""

    def __init__(self, on_hangup: Callable[[], None]) -> None:
        self._on_hangup = on_hangup
        self._stop = asyncio.Event()
        self._hurry = asyncio.Event()

    def listen(self) -> None:
        loop = asyncio.get_running_loop()
        for number in _STOPS:
            loop.add_signal_handler(number, self._asked)
        loop.add_signal_handler(signal.SIGHUP, self._on_hangup)

    @property
    def hurry(self) -> bool:
        """Whether it was said twice."""
        return self._hurry.is_set()

    async def wait_stop(self) -> None:
        await self._stop.wait()

    async def wait_hurry(self, timeout_s: float) -> None:
        """So long, or until there is no more time."""
        with suppress(TimeoutError):
            async with asyncio.timeout(timeout_s):
                await self._hurry.wait()

    def _asked(self) -> None:
        if not self._stop.is_set():
            self._stop.set()
            return
        self._hurry.set()
        for number in _STOPS:
            asyncio.get_running_loop().remove_signal_handler(number)


def hush_hangup() -> None:
    """Until `listen`: the configuration that SIGHUP asks for is not read yet, so there is nothing to do."""
    signal.signal(signal.SIGHUP, signal.SIG_IGN)


def notify(state: str) -> None:
    """Tell a service manager that waits for it (sd_notify(3), `Type=notify`): READY=1, STOPPING=1."""
    place = os.environ.get("NOTIFY_SOCKET", "")
    if not place.startswith(("/", "@")):
        return
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager, suppress(OSError):
        manager.sendto(state.encode(), "\0" + place[1:] if place.startswith("@") else place)
