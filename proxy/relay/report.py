"""What is told of a request once it has ended: the one place where the relay makes Outcomes."""

from __future__ import annotations

from time import monotonic
from typing import TYPE_CHECKING

from proxy.gate.decision import Deny, Reason, Ruling
from proxy.observe.outcome import Outcome
from proxy.relay.certified import certificate_of

if TYPE_CHECKING:
    from proxy.gate.decision import Forward, Local
    from proxy.relay.connection import ClientConnection
    from proxy.relay.context import RelayContext
    from proxy.relay.exchange import Exchange
    from proxy.wire.head import RequestHead


def report_exchange(
    relay: RelayContext, exchange: Exchange, forward: Forward, reason: Reason, started: float, now: float
) -> None:
    """An outcome for a request that was let in. `started` and `now` are monotonic."""
    head, identity = exchange.head, forward.identity
    relay.report(
        Outcome(
            relay.clock.at(started),
            now - started,
            exchange.client.ip,
            head.method,
            head.path,
            exchange.status,
            reason,
            forward.route.name,
            identity.name,
            identity.token_id,
            head.agent,
            exchange.bytes_in,
            exchange.bytes_out,
            certificate_of(exchange.client),
            exchange.request_id,
        )
    )


def report_answer(
    relay: RelayContext,
    client: ClientConnection,
    head: RequestHead,
    decision: Deny | Local | Ruling,
    status: int,
    started: float,
    request_id: int = 0,
) -> None:
    """An outcome for a request that was answered here, or for the one that another proxy asked about."""
    route = identity = None
    certificate = certificate_of(client)
    if isinstance(decision, (Deny, Ruling)):
        route, identity = decision.route, decision.identity
    if isinstance(decision, Ruling):
        head, certificate = decision.head, ""  # which is the proxy's
    relay.report(
        Outcome(
            relay.clock.at(started),
            monotonic() - started,
            client.ip,
            head.method,
            head.path,
            status,
            decision.reason,
            route.name if route else "",
            identity.name if identity else "",
            identity.token_id if identity else "",
            head.agent,
            0,
            0,
            certificate,
            request_id,
        )
    )


def report_bytes(relay: RelayContext, ip: str, reason: Reason, status: int, now: float) -> None:
    """An outcome for what never became a request."""
    relay.report(Outcome(relay.clock.at(now), 0.0, ip, b"", b"", status, reason, "", "", "", b"", 0, 0))
