"""From a decision that needs something first to one that can be acted on."""

from __future__ import annotations

import asyncio
from time import monotonic
from typing import TYPE_CHECKING

from proxy.gate.ask import WAITED
from proxy.gate.decision import Forward, Need

if TYPE_CHECKING:
    from proxy.gate.ask import Answer, Question
    from proxy.gate.credentials import Shown
    from proxy.gate.decision import Decision, Verdict
    from proxy.relay.context import RelayContext
    from proxy.wire.head import RequestHead


async def settle(relay: RelayContext, head: RequestHead, shown: Shown | None, ip: str, decision: Decision) -> Verdict:
    """Find what the gate asks for, or wait as it says, and let it decide anew, with the time as it is then."""
    facts: dict[Question, Answer] = {}
    while True:
        if isinstance(decision, Need):
            facts[decision.question] = await relay.finder.answer(decision.question)
        elif isinstance(decision, Forward) and decision.wait_s:
            await asyncio.sleep(decision.wait_s)
            facts[WAITED] = True
        else:
            return decision
        now = monotonic()
        decision = relay.gate.decide(head, shown, ip, now, relay.clock.at(now), facts)
