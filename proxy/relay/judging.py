"""The gate's word on what is not relayed: a request that another proxy asks about, a password in a form.

The same gate, the same finder and the same limits as for a request on its way. Every fact is found before the answer.
"""

from __future__ import annotations

from time import monotonic
from typing import TYPE_CHECKING

from proxy.gate.decision import Inquiry
from proxy.gate.inquiry import rule
from proxy.relay.settle import find_facts, settle

if TYPE_CHECKING:
    from proxy.gate.ask import Answer, Question
    from proxy.gate.credentials import Shown, ShownPassword
    from proxy.gate.decision import Decision, Deny, Identity, Need, Ruling, Verdict
    from proxy.relay.context import RelayContext
    from proxy.wire.head import RequestHead


class Judging:
    """Asks the gate of `relay` as it is at the time. Whoever shows or asks from `ip` is charged for it there."""

    def __init__(self, relay: RelayContext) -> None:
        self._relay = relay

    async def request(self, head: RequestHead, shown: Shown | None, ip: str) -> Verdict:
        """What would become of it. A rate's wait is waited; the place that a Forward names is not taken."""
        relay, now = self._relay, monotonic()
        return await settle(relay, head, shown, ip, relay.gate.decide(head, shown, ip, now, relay.clock.at(now)))

    async def inquiry(self, inquiry: Inquiry, ip: str) -> Ruling:
        """What the proxy that asks for its client at `ip` is told."""
        verdict = await self.request(inquiry.head, inquiry.shown, ip)
        return rule(inquiry, verdict, self._relay.gate.snapshot.tenants)

    async def password(self, shown: ShownPassword, ip: str) -> Identity | Deny:
        """Whose password it is: of a form, which may be anybody's."""
        relay, now = self._relay, monotonic()
        facts: dict[Question, Answer] = {}

        def ask(at: float, now: float) -> Identity | Deny | Need:
            return relay.gate.check_password(shown, ip, at, now, facts)

        return await find_facts(relay, ask(now, relay.clock.at(now)), facts, ask)


async def find_verdict(
    relay: RelayContext, head: RequestHead, shown: Shown | None, ip: str, decision: Decision | Inquiry
) -> Verdict | Ruling:
    """What becomes of the request `head` that is here, whether it is to be relayed or asks about another."""
    if isinstance(decision, Inquiry):
        return await Judging(relay).inquiry(decision, ip)
    return await settle(relay, head, shown, ip, decision)
