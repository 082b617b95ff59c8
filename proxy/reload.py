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
from proxy.stamp import look_at
from proxy.tokens.ports import StoreError

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Mapping
    from pathlib import Path

    from proxy.config.problem import Problem
    from proxy.config.read import Loaded
    from proxy.stamp import Stamp
    from proxy.tokens.ports import Asked, Audit

_log = logging.getLogger("promgate.server")

POLL_S: Final = 1.0
#: One log line tells the first problems; `promgate check` tells all.
_TOLD: Final = 5


class Reload:
    """`failed`: the file as it was last read is bad. `taken_at`: when the one that serves was read, in unix seconds.

    `loaded` is the one that serves.
    """

    def __init__(
        self, loaded: Loaded, audit: Callable[[Asked], Audit] | None = None, *, poll_s: float = POLL_S
    ) -> None:
        """`audit`: who asks for a reload is put on record there."""
        self.failed = False
        self.taken_at = time.time()
        self.loaded = loaded
        self._path = loaded.settings.path
        self._listen = loaded.listen  # on the command line, which no reload changes
        self._watches = loaded.settings.watch
        self._poll_s = poll_s
        self._judged = loaded.files  # taken, or found bad
        self._seen: Mapping[Path, Stamp] = {}  # at the last look
        self._asked = asyncio.Event()
        self._waiting: list[asyncio.Future[list[str]]] = []
        self._audit = audit
        self._on_record: set[asyncio.Task[list[str]]] = set()

    async def now(self) -> list[str]:
        """Read the file now; what keeps it from being taken, nothing when it serves."""
        told: asyncio.Future[list[str]] = asyncio.get_running_loop().create_future()
        self._waiting.append(told)
        self.ask()
        return await told

    async def now_for(self, asked: Asked) -> list[str]:
        """The same, put on record; what cannot be recorded is not done.

        It goes on to its end, and onto the record, when nobody waits for it any more.
        """
        if self._audit is None:
            return await self.now()
        asking = asyncio.create_task(self._recorded(self._audit(asked)))
        self._on_record.add(asking)
        asking.add_done_callback(self._on_record.discard)
        return await asyncio.shield(asking)

    async def _recorded(self, audit: Audit) -> list[str]:
        try:
            await asyncio.to_thread(audit.record, "intended", "", f"read {self._path} anew")
        except StoreError as error:
            return [str(error)]
        problems = await self.now()
        await asyncio.to_thread(audit.tell, "failed" if problems else "done", "", "; ".join(problems))
        return problems

    def ask(self) -> None:
        """Read the file now, changed or not."""
        self._asked.set()

    async def run(
        self, take: Callable[[Loaded], None], prepare: Callable[[Loaded], Awaitable[None]] | None = None
    ) -> None:
        """Follow the file until cancelled; `take` is called in the event loop with each configuration that is good.

        `prepare` starts before that what it needs. If it fails, the configuration is not taken.
        """
        while True:
            try:
                if await self._is_asked() or await asyncio.to_thread(self._has_settled):
                    waiting, self._waiting = self._waiting, []
                    problems = await self._try(take, prepare)
                    for told in waiting:
                        if not told.done():  # whoever asked may have gone
                            told.set_result(problems)
            except Exception:  # noqa: BLE001 - a defect must not end the watch
                _log.exception("looking at the configuration failed; it is tried again")

    async def _try(
        self, take: Callable[[Loaded], None], prepare: Callable[[Loaded], Awaitable[None]] | None
    ) -> list[str]:
        try:
            return await self._reload(take, prepare)
        except Exception as defect:  # noqa: BLE001 - a defect must not end the watch
            self.failed = True
            _log.exception("the reload failed; the configuration before it goes on")
            return [f"the reload failed: {defect!r}"]

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

    async def _reload(
        self, take: Callable[[Loaded], None], prepare: Callable[[Loaded], Awaitable[None]] | None
    ) -> list[str]:
        try:
            loaded = await asyncio.to_thread(load, self._path, listen=self._listen, running=self.loaded)
        except ConfigError as error:
            self._judged, self.failed = error.files, True
            _log.error("%s was not taken, the one before it serves: %s", self._path, _tell(error.problems))
            return list(map(str, error.problems))
        self._judged, self._watches = loaded.files, loaded.settings.watch
        if prepare is not None:
            await prepare(loaded)
        take(loaded)
        self.loaded = loaded
        self.failed, self.taken_at = False, time.time()
        return []


def _tell(problems: list[Problem]) -> str:
    told = "; ".join(map(str, problems[:_TOLD]))
    return f"{told}; and {len(problems) - _TOLD} more" if len(problems) > _TOLD else told
