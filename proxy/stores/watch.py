"""Keeps the server's TokenBook in step with its store, and never blocks the event loop.

One thread reads; one read is in flight, and at most one waits behind it: whoever asks while a read runs shares the
next one, which begins after all of them asked and so sees all that was committed before they did.
A store that cannot be read changes nothing in the book but `readable`: known tokens go on, and of
an unknown one nobody can say that it does not exist. So it is, for as long as we live, with one that went back to an
older copy of itself; but what is revoked in that copy ends here, too.
"""

from __future__ import annotations

import asyncio
import logging
from concurrent.futures import ThreadPoolExecutor
from time import monotonic
from typing import TYPE_CHECKING

from proxy.background import begin
from proxy.tokens.ports import StoreError

if TYPE_CHECKING:
    from collections.abc import Callable

    from proxy.tokens.book import TokenBook
    from proxy.tokens.ports import Changes, TokenStore
    from proxy.tokens.token import Token

_log = logging.getLogger("promgate.store")

#: A revocation whose nudge got lost is in use within this time.
POLL_S = 0.2
#: A store that looks unchanged is read this often all the same.
READ_EACH_S = 1.0
#: While the store cannot be read, the poll slows down to this: a failing disk is not helped by 5 reads a second.
MAX_POLL_S = 5.0
#: Who shows an unknown token does not wait longer than this for a look at the store.
LOOK_TIMEOUT_S = 1.0
#: A read that takes longer has failed (a disk that hangs): the book is stale, and must say so.
READ_TIMEOUT_S = 4.0


class WentBack(StoreError):
    """The store does not hold any more what was read from it."""


class StoreWatch:
    """`start`, then `sync` and `find` at will, then `stop`. The caller opens the store before and closes it after."""

    def __init__(
        self,
        store: TokenStore,
        book: TokenBook,
        *,
        poll_s: float = POLL_S,
        look: Callable[[], object] | None = None,
    ) -> None:
        """`look`: a sign that differs once the store may have changed, cheap enough for the event loop."""
        self._store = store
        self._look = look
        self.book = book
        self._poll_s = poll_s
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="store")
        self._running: asyncio.Task[StoreError | None] | None = None
        self._next: asyncio.Task[StoreError | None] | None = None
        self._poll: asyncio.Task[None] | None = None
        #: Told the ids of tokens that were just revoked, once the book knows.
        self.on_revoked: Callable[[frozenset[str]], None] = lambda _: None

    async def start(self) -> None:
        """Load all tokens, then follow the store. Raises StoreError if it cannot be read."""
        failure = await self._refresh()
        if failure is not None:
            self._thread.shutdown(wait=False)
            raise failure
        self._poll = begin(self._follow())

    async def stop(self) -> None:
        """Stop following, after the reads that someone waits for. The book stays as it is."""
        if self._poll is not None:
            self._poll.cancel()
        if reads := [task for task in (self._poll, self._running, self._next) if task is not None]:
            await asyncio.wait(reads)
        self._thread.shutdown(wait=False, cancel_futures=True)

    async def sync(self, at_least: int = 0) -> int:
        """Read the store now; the generation in use afterwards.

        All that was committed before the call is in it. Raises StoreError, also when `at_least` is not reached: then
        that generation was committed to another file.
        """
        failure = await self._refresh()
        if failure is not None:
            raise failure
        if self.book.generation < at_least:
            raise StoreError(f"the store in use is at generation {self.book.generation}: is tokens.store the same?")
        return self.book.generation

    async def find(self, digest: bytes) -> Token | None:
        """The token with this digest, after a look at the store if the book does not know it. Raises StoreError.

        However many unknown tokens are shown at once, they cost two reads of the store, and none while it is failing
        (the poll finds out when it is well again).
        """
        found = self.book.find(digest)
        if found is None:
            if not self.book.readable:
                raise StoreError("the token store cannot be read at this time")
            try:
                async with asyncio.timeout(LOOK_TIMEOUT_S):
                    await self.sync()
            except TimeoutError:
                raise StoreError(f"the token store did not answer within {LOOK_TIMEOUT_S:.0f} s") from None
            found = self.book.find(digest)
        return found

    async def _follow(self) -> None:
        wait_s = self._poll_s
        seen, read_at = None, 0.0
        while True:
            await asyncio.sleep(wait_s)
            sign = self._look() if self._look is not None else None
            if sign is not None and sign == seen and monotonic() < read_at + READ_EACH_S:
                continue
            seen, read_at = sign, monotonic()
            failure = await self._refresh()
            if failure is None or isinstance(failure, WentBack):
                wait_s = self._poll_s
            else:
                wait_s, seen = min(wait_s * 2, MAX_POLL_S), None

    async def _refresh(self) -> StoreError | None:
        """One read that begins after this call."""
        if self._next is None:
            self._next = asyncio.create_task(self._read_after(self._running))
        # A client that leaves must not end the read of the others.
        return await asyncio.shield(self._next)

    async def _read_after(self, earlier: asyncio.Task[StoreError | None] | None) -> StoreError | None:
        if earlier is not None:
            await asyncio.wait([earlier])
        self._running, self._next = self._next, None
        failure: StoreError | None
        try:
            self._take(await self._read())
        except StoreError as error:
            failure = error
        except Exception as defect:  # noqa: BLE001 - a poll that dies in silence would leave revoked tokens in use
            failure = StoreError(f"the token store cannot be read: {defect!r}")
        else:
            failure = None
        self._note(failure)
        return failure

    async def _read(self) -> Changes:
        loop = asyncio.get_running_loop()
        try:
            async with asyncio.timeout(READ_TIMEOUT_S):
                known = self.book.generation, self.book.mark
                return await loop.run_in_executor(self._thread, self._store.changes_since, *known)
        except TimeoutError:
            raise StoreError(f"the token store did not answer within {READ_TIMEOUT_S:.0f} s: check its disk") from None

    def _take(self, changes: Changes) -> None:
        revoked = self.book.apply(changes)
        if revoked:
            self.on_revoked(revoked)
        if changes.went_back:
            raise WentBack(
                f"the token store went back from generation {self.book.generation} to {changes.generation}, an older "
                "copy was put in its place: what is revoked, here or there, stays so; restart promgate to take it in"
            )

    def _note(self, failure: StoreError | None) -> None:
        """One line when the store is lost, one when it is back."""
        if self._poll is None:  # not started: whoever starts us is told by the exception
            pass
        elif failure is None and not self.book.readable:
            _log.info("the token store can be read again, generation %d", self.book.generation)
        elif failure is not None and self.book.readable:
            _log.error("%s; known tokens go on, unknown ones get 503 until it can be read", failure)
        self.book.readable = failure is None
