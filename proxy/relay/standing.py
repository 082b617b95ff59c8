"""Whoever holds a tunnel or an event stream open is judged again while it is open, by the gate, as if it came now.

So a token that ends, a certificate that is no longer believed, or a reload that takes a role or a route away ends what
was opened by it. (A revocation and a logout need no look: `revoked` ends what is theirs at once.) What is only a matter
of the moment - rates, places, a provider that is away - was settled when it was let in, and ends nothing.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from time import monotonic
from typing import TYPE_CHECKING, Final

from proxy.gate.ask import STANDING, WAITED
from proxy.gate.decision import Deny, Forward, Need, Reason, Upgrade
from proxy.relay.settle import find_facts

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterable, Iterator

    from proxy.gate.ask import Answer, Question
    from proxy.gate.decision import Decision
    from proxy.relay.context import RelayContext
    from proxy.relay.exchange import Exchange

_log = logging.getLogger("promgate.relay")

EACH_S: Final = 5.0
#: Judgements before others have their turn: one costs some microseconds.
_AT_ONCE: Final = 100
#: Questions at once, of all listeners together: a provider is not stormed by those who stand open.
_TOGETHER: Final = 32
#: Denials that say nothing of whether this one may stay.
_OF_THE_MOMENT: Final = frozenset(
    {
        Reason.BUSY,
        Reason.OVER_RATE,
        Reason.TOO_MANY_AT_ONCE,
        Reason.TOO_MANY_GUESSES,
        Reason.KEY_LATE,
        Reason.PROVIDER_UNREACHABLE,
        Reason.STORE_EMPTY,
        Reason.STORE_NEW,
        Reason.STORE_UNREADABLE,
        Reason.SESSIONS_UNREADABLE,
    }
)


async def keep_judging(relays: Callable[[], Iterable[RelayContext]], each_s: float = EACH_S) -> None:
    """Look at all that stands open at any listener, until cancelled.

    Who cannot be judged without a question keeps nobody waiting: it is asked beside the looks, some of them together.
    """
    asking = Asking()
    try:
        while True:
            await asyncio.sleep(each_s)
            with _logged():
                for relay in relays():
                    await look(relay, asking)
    finally:
        await asking.cancel()


class Asking:
    """The exchanges that a question is asked about: once each at a time, and no more than so many together."""

    def __init__(self) -> None:
        self._room = asyncio.Semaphore(_TOGETHER)
        self._tasks: dict[Exchange, asyncio.Task[None]] = {}

    def __contains__(self, exchange: Exchange) -> bool:
        return exchange in self._tasks

    def begin(self, exchange: Exchange, judge: Callable[[], Awaitable[None]]) -> None:
        task = self._tasks[exchange] = asyncio.create_task(self._within_room(judge))
        task.add_done_callback(lambda _: self._tasks.pop(exchange))

    async def wait(self) -> None:
        """Until each of them is judged, or its judging cancelled."""
        await asyncio.gather(*self._tasks.values(), return_exceptions=True)

    async def cancel(self) -> None:
        for task in self._tasks.values():
            task.cancel()
        await self.wait()

    async def _within_room(self, judge: Callable[[], Awaitable[None]]) -> None:
        async with self._room:
            await judge()


async def look(relay: RelayContext, asking: Asking) -> None:
    """Have the gate judge each open tunnel and event stream of a listener anew, and end what it would not let in.

    Those that need an answer first are in `asking` when this returns.
    """
    standing = [one.exchange for one in list(relay.connections) if one.exchange and one.exchange.is_endless]
    for number, exchange in enumerate(standing):
        if number % _AT_ONCE == _AT_ONCE - 1:
            await asyncio.sleep(0)
        if exchange not in asking:
            _judge(relay, exchange, asking)


def _judge(relay: RelayContext, exchange: Exchange, asking: Asking) -> None:
    client, head = exchange.client, exchange.head
    facts: dict[Question, Answer] = {STANDING: True, WAITED: True}  # its rate was charged when it was let in

    def ask(at: float, now: float) -> Decision:
        return relay.gate.decide(head, client.last_shown.read(head), client.ip, at, now, facts)

    async def settle() -> None:
        with _logged():
            _end(exchange, await find_facts(relay, decision, facts, ask))

    with _logged():
        now = monotonic()
        decision = ask(now, relay.clock.at(now))
        if isinstance(decision, Need):
            asking.begin(exchange, settle)
        else:
            _end(exchange, decision)


@contextlib.contextmanager
def _logged() -> Iterator[None]:
    """A defect that one of them meets leaves no other unjudged, and ends no later look."""
    try:
        yield
    except Exception:  # noqa: BLE001 - what is open would stay open unjudged
        _log.exception("a look at what stands open failed")


def _end(exchange: Exchange, decision: Decision) -> None:
    reason = _over(exchange, decision)
    if reason is not None and exchange.client.exchange is exchange:  # else it is over already
        exchange.stop(reason)


def _over(exchange: Exchange, decision: Decision) -> Reason | None:
    """Why it may not stay, or None."""
    if isinstance(decision, Deny):
        return None if decision.reason in _OF_THE_MOMENT else decision.reason
    if isinstance(decision, Forward):
        if decision.route.name != exchange.route.name:
            return Reason.NO_ROUTE  # its own is gone, and another begins elsewhere
        if exchange.is_upgrade and not isinstance(decision, Upgrade):
            return Reason.NOT_ALLOWED  # the route takes no websockets any more
    return None
