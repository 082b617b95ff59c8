"""The answers that are made here: refusals, health, rulings for other proxies."""

from __future__ import annotations

import random
from typing import TYPE_CHECKING

from proxy.gate.decision import Deny, Reason, Ruling
from proxy.gate.edits import with_line
from proxy.gate.reply import build_denial, build_grant, build_local

if TYPE_CHECKING:
    from proxy.gate.decision import Local
    from proxy.relay.context import RelayContext
    from proxy.wire.head import RequestHead


def build_own(
    relay: RelayContext, head: RequestHead, decision: Deny | Local | Ruling, *, close: bool
) -> tuple[int, int, bytes]:
    """(status, the request's id, the whole answer).

    Who is refused is told the id by which the access log has it (`promgate explain --request-id`). It opens nothing, so
    that it may be foreseen. Upstreams are not told: Prometheus and Alertmanager write no such thing down.
    """
    request_id = random.getrandbits(64)
    if isinstance(decision, Ruling):
        if decision.deny is None:
            status, answer = build_grant(decision.told, close=close, head_only=head.head_only)
            return status, request_id, answer
        decision = decision.deny
    if isinstance(decision, Deny):
        jitter = random.random()  # noqa: S311 - it spreads the senders, and hides nothing
        status, answer = build_denial(decision, jitter=jitter, close=close, head_only=head.head_only)
        return status, request_id, with_line(answer, b"X-Request-Id: %016x\r\n" % request_id)
    reason = Reason.DRAINING if relay.is_leaving and head.path == b"/-/ready" else decision.reason
    status, answer = build_local(reason, close=close, head_only=head.head_only, location=decision.location)
    return status, request_id, answer
