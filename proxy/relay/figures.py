"""What the data plane, and what it asks, tell of themselves at a scrape; nothing here is touched on a request's way."""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING

from proxy.gate.guessers import count_guessers
from proxy.observe import metrics
from proxy.observe.metrics import Sample

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from proxy.gate.memory import Memory
    from proxy.gate.snapshot import Snapshot, Upstream
    from proxy.login.introspection import Introspector
    from proxy.login.jwt import JwtVerifier
    from proxy.pki.certificates import Certificates
    from proxy.pki.expiry import CertificateEnds
    from proxy.relay.context import RelayContext
    from proxy.relay.pool import Pool
    from proxy.relay.tls import TlsListener


def provider_samples(jwts: JwtVerifier, introspector: Introspector) -> Iterator[Sample]:
    """What was asked of providers, where there are any."""
    for keys in jwts.fetched:
        for result, count in keys.counts.items():
            yield Sample(metrics.KEY_FETCHES, count, (keys.issuer, result))
        if keys.age_s is not None:
            yield Sample(metrics.KEY_AGE, keys.age_s, (keys.issuer,))
    if introspector.is_used:
        for result, count in introspector.counts.items():
            yield Sample(metrics.INTROSPECTIONS, count, (result,))


def certificate_samples(served: Certificates | None, ends: CertificateEnds) -> Iterator[Sample]:
    """Of all certificates; `served` None: the listeners speak plain HTTP."""
    kept = {} if served is None else served.ends
    for option, file, end in ends:
        yield Sample(metrics.CERTIFICATE_END, kept.get(file, end), (option,))
    if served is not None:
        yield Sample(metrics.CERTIFICATE_LOADS, served.loaded)
        yield Sample(metrics.CERTIFICATE_FAILED, served.failed)


def guesser_samples(snapshot: Snapshot, memory: Memory, at: float) -> Iterator[Sample]:
    """How many are refused for their guesses at the monotonic time `at`."""
    addresses, users = count_guessers(snapshot, memory, at)
    yield Sample(metrics.GUESSERS, addresses, ("address",))
    yield Sample(metrics.GUESSERS, users, ("user",))


def relay_samples(
    relay: RelayContext, tls: TlsListener | None, reached: Mapping[Upstream, bool]
) -> Iterator[Sample]:
    """Connections on both sides; `tls` None: the listeners speak plain HTTP. `reached` as `Reach` found it."""
    yield Sample(metrics.CONNECTIONS, len(relay.connections))
    yield Sample(metrics.TUNNELS, relay.tunnels)
    if tls is not None:
        yield Sample(metrics.TLS_HANDSHAKING, tls.handshaking)
        for result, count in asdict(tls.counts).items():
            yield Sample(metrics.TLS_HANDSHAKES, count, (result,))
    by_name: dict[str, list[Pool]] = {}  # one server may be reached in several ways
    for upstream, pool in relay.pools.items():
        by_name.setdefault(upstream.authority, []).append(pool)
    for name, pools in by_name.items():
        yield Sample(metrics.UPSTREAM_CONNECTIONS, sum(pool.idle for pool in pools), (name, "idle"))
        yield Sample(metrics.UPSTREAM_CONNECTIONS, sum(pool.active for pool in pools), (name, "active"))
        yield Sample(metrics.UPSTREAM_CONNECT_FAILURES, sum(pool.connect_failures for pool in pools), (name,))
        yield Sample(metrics.UPSTREAM_RETRIES, sum(pool.retries for pool in pools), (name,))
        if any(pool.upstream in reached for pool in pools):
            well = all(reached.get(pool.upstream, True) for pool in pools)
            yield Sample(metrics.UPSTREAM_REACHABLE, well, (name,))
