"""What a token or a session has opened ends with it, if it need never end by itself; its other requests may finish.

Looked for when a revocation or a logout is taken in, among all connections, and never on a request's way.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from proxy.gate.decision import Reason

if TYPE_CHECKING:
    from collections.abc import Callable

    from proxy.relay.context import RelayContext
    from proxy.relay.exchange import Exchange


def end_revoked(relay: RelayContext, token_ids: frozenset[str]) -> None:
    """Close the tunnels and event streams of these tokens now, and other answers when they take longer than a drain."""
    _end(relay, lambda exchange: exchange.token_id in token_ids, Reason.TOKEN_REVOKED)


def end_sessions(relay: RelayContext, digests: frozenset[str]) -> None:
    """The same of people's sessions, by their digests in hex."""
    _end(relay, lambda exchange: exchange.session in digests, Reason.SESSION_ENDED)


def _end(relay: RelayContext, is_over: Callable[[Exchange], bool], reason: Reason) -> None:
    for connection in list(relay.connections):
        exchange = connection.exchange
        if exchange is None or not is_over(exchange):
            continue
        if exchange.is_endless:
            exchange.stop(reason)
        else:
            _look_again(relay, exchange, reason)


def _look_again(relay: RelayContext, exchange: Exchange, reason: Reason) -> None:
    asyncio.get_running_loop().call_later(relay.gate.snapshot.timeouts.drain, _end_late, relay, exchange, reason)


def _end_late(relay: RelayContext, exchange: Exchange, reason: Reason) -> None:
    """An answer may be slow to begin; one that has begun and does not end is a stream by another name."""
    if exchange.client.exchange is not exchange:
        return  # over
    if exchange.status:
        exchange.stop(reason)
    else:
        _look_again(relay, exchange, reason)
