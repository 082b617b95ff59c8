"""What the data plane tells of itself at a scrape; nothing here is touched on a request's way."""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING

from proxy.observe import metrics
from proxy.observe.metrics import Sample

if TYPE_CHECKING:
    from collections.abc import Iterator

    from proxy.relay.context import RelayContext
    from proxy.relay.tls import TlsListener


def relay_samples(relay: RelayContext, tls: TlsListener | None) -> Iterator[Sample]:
    """Connections on both sides; `tls` None: the listeners speak plain HTTP."""
    yield Sample(metrics.CONNECTIONS, len(relay.connections))
    if tls is not None:
        yield Sample(metrics.TLS_HANDSHAKING, tls.handshaking)
        for result, count in asdict(tls.counts).items():
            yield Sample(metrics.TLS_HANDSHAKES, count, (result,))
    for upstream, pool in relay.pools.items():
        name = upstream.authority
        yield Sample(metrics.UPSTREAM_CONNECTIONS, pool.idle, (name, "idle"))
        yield Sample(metrics.UPSTREAM_CONNECTIONS, pool.active, (name, "active"))
        yield Sample(metrics.UPSTREAM_CONNECT_FAILURES, pool.connect_failures, (name,))
        yield Sample(metrics.UPSTREAM_RETRIES, pool.retries, (name,))
