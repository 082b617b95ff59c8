"""bcrypt off the event loop: bounded threads, a bounded queue, and one flight for the same question.

A hash takes some 60 ms of a core. Threads are fewer than cores, and step back where they share one with the loop, so
that a flood of logins leaves a core for everybody whose credential is known. A password that was right before goes
ahead of all others, and has places of its own: a flood of guesses keeps nobody out who has been here, and delays them
by the one hash that each thread is at.
"""

from __future__ import annotations

import asyncio
import os
from collections import deque
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

import bcrypt

from proxy.gate.ask import BUSY
from proxy.login.flights import Flights, Missed

if TYPE_CHECKING:
    from proxy.gate.ask import Answer, CheckPassword

_MAX_WAITING = 32
#: So many more that were right before: each is asked about once a minute at the most.
_KEPT = 256
#: A third of the loop's weight (sched(7)): a login waits a little longer, and nobody waits for a login.
_NICER = 5
#: bcrypt reads no further; a longer password would be equal to its first 72 octets (CVE-2025-22228).
_MAX_PASSWORD_BYTES = 72


class PasswordChecker:
    def __init__(self) -> None:
        threads = max(1, (os.cpu_count() or 2) - 1)
        self._pool = ThreadPoolExecutor(threads, thread_name_prefix="bcrypt", initializer=_step_back)
        self._idle = threads
        self._right_before: Flights[Answer] = Flights(_KEPT)
        self._others: Flights[Answer] = Flights(_MAX_WAITING)
        #: Who waits for a thread, in the order of precedence; the pool itself knows none.
        self._turns: tuple[deque[asyncio.Future[None]], ...] = (deque(), deque())

    async def check(self, question: CheckPassword) -> Answer:
        """The hash that belongs to it, or False, or BUSY when too many are waiting already."""
        flights = self._right_before if question.was_right else self._others
        answer = await flights.join(question, lambda: self._check(question))
        return BUSY if isinstance(answer, Missed) else answer

    def close(self) -> None:
        self._right_before.close()
        self._others.close()
        self._pool.shutdown(wait=False, cancel_futures=True)

    async def _check(self, question: CheckPassword) -> Answer:
        loop = asyncio.get_running_loop()
        if self._idle:
            self._idle -= 1
        else:
            turn: asyncio.Future[None] = loop.create_future()
            self._turns[0 if question.was_right else 1].append(turn)
            await turn
        try:
            return await loop.run_in_executor(self._pool, _find, question.hashes, question.password)
        finally:
            self._next()

    def _next(self) -> None:
        """A thread is idle: it is the turn of whoever waits first, or of nobody."""
        for queue in self._turns:
            while queue:
                if not (turn := queue.popleft()).done():  # else it was closed
                    turn.set_result(None)
                    return
        self._idle += 1


def _step_back() -> None:
    """Of this thread alone: on Linux each has its own niceness (nice(2), notes)."""
    os.nice(_NICER)


def _find(hashes: tuple[bytes, ...], password: bytes) -> bytes | bool:
    """The last that belongs to it, or False.

    Every hash is tried, also after a match and for a password too long: the time tells nothing.
    """
    found: bytes | bool = False
    for one in hashes:
        try:
            found = one if bcrypt.checkpw(password[:_MAX_PASSWORD_BYTES], one) else found
        except ValueError:
            continue  # a hash that bcrypt does not know; the config check has told the operator
    return found if len(password) <= _MAX_PASSWORD_BYTES else False
