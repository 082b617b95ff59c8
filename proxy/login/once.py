"""What may count once, and what is asked once however many ask: the memory of a login's protocol, bounded.

Both are of this process. Between replicas a code is taken once by its provider.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Generic, TypeVar

from proxy.tokens.secret import digest

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine

_MAX_SEEN = 10_000

Answer = TypeVar("Answer")


class Once:
    """Says of each text whether it is new, for `ttl_s` at least, unless more than ten thousand came since."""

    def __init__(self, ttl_s: float) -> None:
        self._ttl_s = ttl_s
        self._seen: dict[bytes, float] = {}

    def is_first(self, text: str, now: float) -> bool:
        """Whether it was not shown before; from now on it was."""
        key = digest(text.encode())
        if self._seen.get(key, now) > now:
            return False
        self._seen.pop(key, None)
        while self._seen:  # in the order in which they came
            oldest = next(iter(self._seen))
            if self._seen[oldest] > now and len(self._seen) < _MAX_SEEN:
                break
            del self._seen[oldest]
        self._seen[key] = now + self._ttl_s
        return True


class Flights(Generic[Answer]):
    """One flight for a key, whose answer serves whoever asks within `keep_s` of it. A failure is not kept."""

    def __init__(self, keep_s: float) -> None:
        self._keep_s = keep_s
        self._flights: dict[bytes, asyncio.Task[Answer]] = {}

    async def join(self, key: str, ask: Callable[[], Coroutine[None, None, Answer]]) -> Answer:
        """What `ask` answers, or answered."""
        mark = digest(key.encode())
        flight = self._flights.get(mark)
        if flight is None:
            flight = self._flights[mark] = asyncio.create_task(ask())
            flight.add_done_callback(lambda done: self._landed(mark, done))
        return await asyncio.shield(flight)  # one who leaves does not end it for the others

    async def aclose(self) -> None:
        flights = list(self._flights.values())
        self._flights.clear()
        for flight in flights:
            flight.cancel()
        await asyncio.gather(*flights, return_exceptions=True)

    def _landed(self, mark: bytes, done: asyncio.Task[Answer]) -> None:
        is_answer = not done.cancelled() and done.exception() is None
        if is_answer and self._keep_s and self._flights.get(mark) is done:
            done.get_loop().call_later(self._keep_s, self._forget, mark, done)
        else:
            self._forget(mark, done)

    def _forget(self, mark: bytes, done: asyncio.Task[Answer]) -> None:
        if self._flights.get(mark) is done:
            del self._flights[mark]
