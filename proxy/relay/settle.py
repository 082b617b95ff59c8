"""From a decision that needs something first to one that can be acted on."""

from __future__ import annotations

import asyncio
from time import monotonic
from typing import TYPE_CHECKING, TypeVar

from proxy.gate.ask import WAITED
from proxy.gate.decision import Deny, Forward, Inquire, Need, Reason

if TYPE_CHECKING:
    from collections.abc import Callable

    from proxy.gate.ask import Answer, Question
    from proxy.gate.credentials import Shown
    from proxy.gate.decision import Decision, Verdict
    from proxy.relay.context import RelayContext
    from proxy.wire.head import RequestHead

_Said = TypeVar("_Said")


async def settle(relay: RelayContext, head: RequestHead, shown: Shown | None, ip: str, decision: Decision) -> Verdict:
    """Find what the gate asks for, or wait as it says, and let it decide anew, with the time as it is then."""
    facts: dict[Question, Answer] = {}

    def again(at: float, now: float) -> Decision:
        return relay.gate.decide(head, shown, ip, at, now, facts)

    while True:
        verdict: Verdict | Inquire = await find_facts(relay, decision, facts, again)
        if isinstance(verdict, Inquire):
            return Deny(Reason.NO_INQUIRY, verdict.route)  # nobody asks about an inquiry
        if not isinstance(verdict, Forward) or not verdict.wait_s:
            return verdict
        await asyncio.sleep(verdict.wait_s)
        facts.clear()  # what was found before may have been taken back while we waited
        facts[WAITED] = True
        now = monotonic()
        decision = again(now, relay.clock.at(now))


async def find_facts(
    relay: RelayContext,
    said: _Said | Need,
    facts: dict[Question, Answer],
    again: Callable[[float, float], _Said | Need],
) -> _Said:
    """Answer the gate's questions into `facts` until it has none; `again` asks it anew, at monotonic and unix time."""
    while isinstance(said, Need):
        facts[said.question] = await relay.finder.answer(said.question)
        now = monotonic()
        said = again(now, relay.clock.at(now))
    return said
