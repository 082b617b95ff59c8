"""The store of sessions behind one thread: asked off the loop, one after another, opened anew after it failed."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Final, TypeVar

from proxy.tokens.ports import StoreError

if TYPE_CHECKING:
    from collections.abc import Callable

    from proxy.gate.session import SessionStore

T = TypeVar("T")
_log = logging.getLogger("promgate.sessions")

#: A disk that takes longer has failed, for whoever waits.
_TIMEOUT_S: Final = 3.0


class StoreThread:
    """`open_store` opens it, and may be asked again after a StoreError. `trouble` is why it cannot be used just now."""

    def __init__(self, open_store: Callable[[], SessionStore]) -> None:
        self._open_store = open_store
        self._store: SessionStore | None = None
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="sessions")
        self.trouble: StoreError | None = None

    async def ask(self, work: Callable[[SessionStore], T]) -> T:
        """What `work` finds in it, or does. Raises StoreError."""

        def run() -> T:
            if self._store is None:
                self._store = self._open_store()
            return work(self._store)

        try:
            async with asyncio.timeout(_TIMEOUT_S):
                done = await asyncio.get_running_loop().run_in_executor(self._thread, run)
        except TimeoutError:
            error = StoreError(f"the store of sessions did not answer within {_TIMEOUT_S:.0f} s")
            self._note(error)
            raise error from None
        except StoreError as error:
            self._note(error)
            self._thread.submit(self._let_go)
            raise
        self._note(None)
        return done

    def close(self) -> None:
        """A disk that hangs is not waited for."""
        if self._store is not None and self.trouble is None:
            self._thread.submit(self._store.close)
        self._thread.shutdown(wait=self.trouble is None)

    def _let_go(self) -> None:
        """Open it anew the next time: it may be another file then."""
        store, self._store = self._store, None
        if store is not None:
            with contextlib.suppress(StoreError):
                store.close()

    def _note(self, trouble: StoreError | None) -> None:
        """One line when it is lost, one when it is back."""
        if trouble is not None and self.trouble is None:
            _log.error("%s; sessions that are known go on, nobody can log in", trouble)
        elif trouble is None and self.trouble is not None:
            _log.info("the store of sessions works again")
        self.trouble = trouble
