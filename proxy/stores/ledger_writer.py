"""Brings the tally of senders to its file, off the event loop: a first sight at once, the later ones by the minute.

A ledger that cannot be written costs no request: what was seen stays in memory, and it is tried again. `trouble` says
what is wrong, and whoever asks the ledger is told so.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, TypeVar

from proxy.stores.ledger import LedgerFile
from proxy.tokens.ledger import KEEP_S
from proxy.tokens.ports import StoreError

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from proxy.tokens.ledger import Mark, Sighting, Tally

T = TypeVar("T")
_log = logging.getLogger("promgate.ledger")

#: How often the tally is looked at for later sights.
_LOOK_S = 10.0
#: When a ledger that failed is tried again.
_AGAIN_S = 5.0
_FORGET_EACH_S = 3600.0
#: A disk that hangs longer than this has failed, for whoever waits.
_WRITE_TIMEOUT_S = 3.0


class LedgerWriter:
    """`start`, then `run` in the background; `wake` when somebody is new, `flush` to have all of it written; `stop`."""

    def __init__(self, path: Path, tally: Tally, *, clock: Callable[[], float] = time.time) -> None:
        self._path = path
        self._tally = tally
        self._clock = clock
        self._file: LedgerFile | None = None
        self._since: float | None = None
        self._woken = asyncio.Event()
        self._alone = asyncio.Lock()
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="ledger")
        self._forgotten_at = clock()
        self.trouble: StoreError | None = None
        self.wake = self._woken.set

    async def start(self) -> None:
        """Go on from what was written before; a ledger that cannot be opened is logged and tried again."""
        await self._write(all_of_it=False)

    async def run(self) -> None:
        while True:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(_LOOK_S):
                    await self._woken.wait()
            self._woken.clear()
            await asyncio.shield(self._write(all_of_it=False))  # what was taken is written, or put back
            if self.trouble is not None:
                await asyncio.sleep(_AGAIN_S)

    async def flush(self) -> None:
        """Write all that was seen until now. Raises StoreError."""
        try:
            async with asyncio.timeout(_WRITE_TIMEOUT_S):
                await asyncio.shield(self._write(all_of_it=True))
        except TimeoutError:
            raise StoreError(f"{self._path}: the disk did not answer within {_WRITE_TIMEOUT_S:.0f} s") from None
        if self.trouble is not None:
            raise self.trouble

    async def stop(self) -> None:
        """A last flush, and the file is closed. A disk that hangs is not waited for."""
        with contextlib.suppress(StoreError):
            await self.flush()
        if self._file is not None and self.trouble is None:
            self._thread.submit(self._file.close)
        self._thread.shutdown(wait=self.trouble is None)

    async def _write(self, *, all_of_it: bool) -> None:
        async with self._alone:
            now = self._clock()
            trouble: StoreError | None = None
            taken: list[tuple[Mark, Sighting]] = []
            try:
                if self._file is None:
                    await self._open(now)
                taken = self._tally.take(now, all_of_it=all_of_it)
                before = now - KEEP_S if now >= self._forgotten_at + _FORGET_EACH_S else None
                if taken or before is not None:
                    await self._in_thread(self._record, [sighting for _, sighting in taken], before)
                if before is not None:
                    self._tally.forget(before)
                    self._forgotten_at = now
            except StoreError as error:
                trouble = error
            except Exception as defect:  # noqa: BLE001 - a ledger that ends in silence would be taken for the truth
                trouble = StoreError(f"{self._path}: {defect!r}")
            if trouble is not None:
                self._tally.put_back(taken)
                await self._let_go()
            self._note(trouble)

    async def _open(self, now: float) -> None:
        """Take in what is there; of a ledger that was begun anew, nothing that we know is written."""
        file = await self._in_thread(LedgerFile, self._path, now)
        if self._since is None:
            self._tally.load(await self._in_thread(file.load))
        elif file.since != self._since:
            for mark in self._tally:
                mark.fresh = mark.count
        self._file, self._since = file, file.since

    def _record(self, sightings: list[Sighting], before: float | None) -> None:
        assert self._file is not None
        if sightings:
            self._file.record(sightings)
        if before is not None:
            self._file.forget(before)

    async def _let_go(self) -> None:
        """Open it anew the next time: it may be another file then."""
        file, self._file = self._file, None
        if file is not None:
            with contextlib.suppress(StoreError):
                await self._in_thread(file.close)

    async def _in_thread(self, work: Callable[..., T], *arguments: object) -> T:
        return await asyncio.get_running_loop().run_in_executor(self._thread, work, *arguments)

    def _note(self, trouble: StoreError | None) -> None:
        """One line when it is lost, one when it is back."""
        if trouble is not None and self.trouble is None:
            _log.error("%s; who sends with which token is kept in memory, and status says WAIT", trouble)
        elif trouble is None and self.trouble is not None:
            _log.info("%s: can be written again", self._path)
        self.trouble = trouble
