"""The configuration while promgate runs: a changed one is taken whole, and a bad one never.

It is read anew when somebody asks (SIGHUP), and with `reload: {watch: true}` when the file, or one that its options
name, has changed and two looks in a row saw it so: who writes two files, one after the other, is not accused of what
lies between. What was read is compared by the state in which it was read, so no change falls between two looks.
"""

from __future__ import annotations

import asyncio
import logging
import time
from typing import TYPE_CHECKING, Final

from proxy.config.read import ConfigError, load
from proxy.config.stamp import look_at

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from pathlib import Path

    from proxy.config.problem import Problem
    from proxy.config.read import Loaded
    from proxy.config.stamp import Stamp

_log = logging.getLogger("promgate.server")

POLL_S: Final = 1.0
#: One log line tells the first problems; `promgate check` tells all.
_TOLD: Final = 5


class Reload:
    """`failed`: the file as it was last read is bad. `taken_at`: when the one that serves was read, in unix seconds."""

    def __init__(self, loaded: Loaded, *, poll_s: float = POLL_S) -> None:
        self.failed = False
        self.taken_at = time.time()
        self._path = loaded.settings.path
        self._watches = loaded.settings.watch
        self._poll_s = poll_s
        self._judged = loaded.files  # taken, or found bad
        self._seen: Mapping[Path, Stamp] = {}  # at the last look
        self._asked = asyncio.Event()

    def ask(self) -> None:
        """Read the file now, changed or not."""
        self._asked.set()

    async def run(self, take: Callable[[Loaded], None]) -> None:
        """Follow the file until cancelled; `take` is called in the event loop with each configuration that is good."""
        while True:
            try:
                if await self._is_asked() or await asyncio.to_thread(self._has_settled):
                    await self._reload(take)
            except Exception:  # noqa: BLE001 - a defect must not end the watch
                _log.exception("the reload failed; the configuration before it goes on")

    async def _is_asked(self) -> bool:
        """True when somebody asks, False when it is time for a look."""
        try:
            async with asyncio.timeout(self._poll_s if self._watches else None):
                await self._asked.wait()
        except TimeoutError:
            return False
        self._asked.clear()
        return True

    def _has_settled(self) -> bool:
        """One look (in a thread: a mount may hang): whether the files are at rest, and not what was judged."""
        before, now = self._seen, {path: look_at(path) for path in self._judged}
        self._seen = now
        return now == before and now != self._judged

    async def _reload(self, take: Callable[[Loaded], None]) -> None:
        try:
            loaded = await asyncio.to_thread(load, self._path)
        except ConfigError as error:
            self._judged, self.failed = error.files, True
            _log.error("%s was not taken, the one before it serves: %s", self._path, _tell(error.problems))
            return
        self._judged, self._watches = loaded.files, loaded.settings.watch
        take(loaded)
        self.failed, self.taken_at = False, time.time()


def _tell(problems: list[Problem]) -> str:
    told = "; ".join(map(str, problems[:_TOLD]))
    return f"{told}; and {len(problems) - _TOLD} more" if len(problems) > _TOLD else told
