"""Whoever holds a tunnel or an event stream open is judged again while it is open, by the gate, as if it came now.

So a token that ends, a certificate that is no longer believed, or a reload that takes a role or a route away ends what
was opened by it. (A revocation and a logout need no look: `revoked` ends what is theirs at once.) What is only a matter
of the moment - rates, places, a provider that is away - was settled when it was let in, and ends nothing.
"""

from __future__ import annotations

import asyncio
import logging
from time import monotonic
from typing import TYPE_CHECKING, Final

from proxy.gate.ask import WAITED
from proxy.gate.decision import Deny, Forward, Need, Reason, Upgrade
from proxy.relay.settle import find_facts

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from proxy.gate.ask import Answer, Question
    from proxy.gate.decision import Decision
    from proxy.relay.context import RelayContext
    from proxy.relay.exchange import Exchange

_log = logging.getLogger("promgate.relay")

EACH_S: Final = 5.0
#: Judgements before others have their turn: one costs some microseconds.
_AT_ONCE: Final = 100
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
    """Look at all that stands open at any listener, until cancelled. A defect ends one look, and is logged."""
    while True:
        await asyncio.sleep(each_s)
        try:
            for relay in relays():
                await judge_standing(relay)
        except Exception:  # noqa: BLE001 - what is open would stay open unjudged
            _log.exception("a look at what stands open failed")


async def judge_standing(relay: RelayContext) -> None:
    """Have the gate judge each open tunnel and event stream anew, and end those that it would not let in."""
    standing = [one.exchange for one in list(relay.connections) if one.exchange and one.exchange.is_endless]
    for number, exchange in enumerate(standing):
        if number % _AT_ONCE == _AT_ONCE - 1:
            await asyncio.sleep(0)
        if exchange.client.exchange is not exchange:
            continue  # over
        reason = _over(exchange, await _decide(relay, exchange))
        if reason is not None and exchange.client.exchange is exchange:
            exchange.stop(reason)


async def _decide(relay: RelayContext, exchange: Exchange) -> Decision:
    client, head = exchange.client, exchange.head
    facts: dict[Question, Answer] = {WAITED: True}  # its rate was charged when it was let in

    def ask(at: float, now: float) -> Decision:
        return relay.gate.decide(head, client.last_shown.read(head), client.ip, at, now, facts)

    now = monotonic()
    decision = ask(now, relay.clock.at(now))
    return await find_facts(relay, decision, facts, ask) if isinstance(decision, Need) else decision


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
