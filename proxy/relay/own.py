"""The answers that are made here: refusals, health, rulings for other proxies."""

from __future__ import annotations

import random
from typing import TYPE_CHECKING

from proxy.gate.decision import Deny, Reason, Ruling
from proxy.gate.reply import build_denial, build_grant, build_local

if TYPE_CHECKING:
    from proxy.gate.decision import Local
    from proxy.relay.context import RelayContext
    from proxy.wire.head import RequestHead


def build_own(
    relay: RelayContext, head: RequestHead, decision: Deny | Local | Ruling, *, close: bool
) -> tuple[int, bytes]:
    """(status, the whole answer)."""
    if isinstance(decision, Ruling):
        if decision.deny is None:
            return build_grant(decision.told, close=close, head_only=head.head_only)
        decision = decision.deny
    if isinstance(decision, Deny):
        jitter = random.random()  # noqa: S311 - it spreads the senders, and hides nothing
        return build_denial(decision, jitter=jitter, close=close, head_only=head.head_only)
    reason = Reason.DRAINING if relay.draining and head.path == b"/-/ready" else decision.reason
    return build_local(reason, close=close, head_only=head.head_only, location=decision.location)
