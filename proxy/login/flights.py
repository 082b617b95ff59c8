"""What is asked once however many ask: one flight for a key, whose answer is for everybody who waits for it.

Who leaves does not end it for the others. Whoever still waits when the flights are closed is told so by a value: a
CancelledError is always the waiter's own, so that no request takes the end of a flight for its own end.
"""

from __future__ import annotations

import asyncio
from enum import Enum
from typing import TYPE_CHECKING, Generic, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine, Hashable

Answer = TypeVar("Answer")


class Missed(Enum):
    """Why somebody who asked has no answer."""

    FULL = "too many are under way"
    LATE = "it took too long"
    CLOSED = "it was ended before it landed"


class Flights(Generic[Answer]):
    """At most `most` at a time. An answer serves whoever asks within `keep_s` of it; a failure is not kept."""

    def __init__(self, most: int, keep_s: float = 0.0) -> None:
        self._most, self._keep_s = most, keep_s
        self._flights: dict[Hashable, asyncio.Task[Answer]] = {}
        self._kept: dict[Hashable, Answer] = {}

    def __contains__(self, key: Hashable) -> bool:
        """Whether one is under way."""
        return key in self._flights

    async def join(
        self, key: Hashable, ask: Callable[[], Coroutine[None, None, Answer]], wait_s: float | None = None
    ) -> Answer | Missed:
        """What `ask` answers, or answered; what it raises is raised to all who wait. No secret makes a key."""
        if key in self._kept:
            return self._kept[key]
        if key not in self._flights and not self.begin(key, ask):
            return Missed.FULL
        flight = self._flights[key]
        await asyncio.wait([flight], timeout=wait_s)
        if not flight.done():
            return Missed.LATE
        return Missed.CLOSED if flight.cancelled() else flight.result()

    def begin(self, key: Hashable, ask: Callable[[], Coroutine[None, None, Answer]]) -> bool:
        """One that nobody waits for yet; whether there was room. What it raises is logged if nobody ever does."""
        if len(self._flights) >= self._most:
            return False
        flight = self._flights[key] = asyncio.create_task(self._fly(key, ask))
        flight.add_done_callback(lambda done: self._landed(key, done))
        return True

    def close(self) -> None:
        """End what is under way, and keep nothing."""
        for flight in self._flights.values():
            flight.cancel()
        self._flights.clear()
        self._kept.clear()

    async def aclose(self, grace_s: float = 0.0) -> None:
        """`close` after `grace_s`, or as soon as nothing is under way, and wait until all has ended."""
        flights = list(self._flights.values())
        if flights and grace_s:
            await asyncio.wait(flights, timeout=grace_s)
        self.close()
        if flights:
            await asyncio.wait(flights)

    async def _fly(self, key: Hashable, ask: Callable[[], Coroutine[None, None, Answer]]) -> Answer:
        answer = await ask()
        if self._keep_s:
            self._kept[key] = answer
            asyncio.get_running_loop().call_later(self._keep_s, self._kept.pop, key, None)
        return answer

    def _landed(self, key: Hashable, done: asyncio.Task[Answer]) -> None:
        if self._flights.get(key) is done:
            del self._flights[key]
