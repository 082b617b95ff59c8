"""What a token has opened ends with its revocation, if it need never end by itself; its other requests may finish.

Looked for when a revocation is taken in, among all connections, and never on a request's way.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from proxy.gate.decision import Reason

if TYPE_CHECKING:
    from proxy.relay.context import RelayContext
    from proxy.relay.exchange import Exchange


def end_revoked(relay: RelayContext, token_ids: frozenset[str]) -> None:
    """Close the tunnels and event streams of these tokens now, and other answers when they take longer than a drain."""
    for connection in list(relay.connections):
        exchange = connection.exchange
        if exchange is None or exchange.token_id not in token_ids:
            continue
        if exchange.is_endless:
            exchange.stop(Reason.TOKEN_REVOKED)
        else:
            _look_again(relay, exchange)


def _look_again(relay: RelayContext, exchange: Exchange) -> None:
    asyncio.get_running_loop().call_later(relay.gate.snapshot.timeouts.drain, _end_late, relay, exchange)


def _end_late(relay: RelayContext, exchange: Exchange) -> None:
    """An answer may be slow to begin; one that has begun and does not end is a stream by another name."""
    if exchange.client.exchange is not exchange:
        return  # over
    if exchange.status:
        exchange.stop(Reason.TOKEN_REVOKED)
    else:
        _look_again(relay, exchange)
