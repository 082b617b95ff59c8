"""The public listeners, and the one sweep that keeps every deadline of the data plane."""

from __future__ import annotations

import asyncio
from time import monotonic
from typing import TYPE_CHECKING

from proxy.relay.accepting import bind
from proxy.relay.connection import ClientConnection
from proxy.relay.tls import TlsListener

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from proxy.pki.groups import ServerContext
    from proxy.relay.context import RelayContext
    from proxy.relay.tls_connection import TlsConnection

_BACKLOG = 4096
_MAX_HANDSHAKES = 4096
#: Deadlines are kept to within this: one pass over all connections costs less than a timer for each request.
SWEEP_S = 0.5


class Listeners:
    """All public addresses of the process, on TLS or (context None) on plain TCP."""

    def __init__(self, relay: RelayContext, context: ServerContext | None) -> None:
        self.relay = relay
        self.is_proxied = False
        self._servers: list[asyncio.Server] = []
        timeouts = relay.gate.snapshot.timeouts
        self.tls = (
            TlsListener(
                context,
                lambda: ClientConnection(relay, "https"),
                doors=relay,
                handshake_timeout_s=timeouts.tls_handshake,
                close_timeout_s=timeouts.send,
                max_handshakes=min(_MAX_HANDSHAKES, relay.places.size // 8 + 1),
            )
            if context is not None
            else None
        )

    def use(self, context: ServerContext, trust_changed: bool) -> None:  # noqa: FBT001 - the shape of Certificates.run's `take`
        """Take a new certificate, or new authorities: handshakes that begin from now on see them.

        One that has begun would end as the old authorities judge, so it ends here.
        """
        if self.tls is not None:
            self.tls.context = context
            if trust_changed:
                self.tls.end_handshakes()
        if trust_changed:
            self.relay.distrust_certificates()

    async def open(self, addresses: Sequence[tuple[str, int]], *, proxied: bool = False) -> None:
        """Bind every address; OSError names the one that cannot be had, and nothing stays open.

        `proxied`: trusted proxies speak the PROXY protocol first.
        """
        self.is_proxied = proxied
        loop = asyncio.get_running_loop()
        plain = self._maker()
        make: Callable[[], asyncio.BaseProtocol] = plain
        if proxied:
            from proxy.relay.proxied import ProxiedConnection  # noqa: PLC0415 - not paid for where it is not used

            relay = self.relay
            make = lambda: ProxiedConnection(relay, plain)  # noqa: E731
        for host, port in addresses:
            try:
                for sock in await bind(host, port):
                    self._servers.append(await loop.create_server(make, sock=sock, backlog=_BACKLOG))
            except OSError as error:
                self.close()
                raise OSError(error.errno, f"cannot listen on {host}:{port}: {error.strerror or error}") from error

    def _maker(self) -> Callable[[], ClientConnection | TlsConnection]:
        return self.tls.connection if self.tls is not None else lambda: ClientConnection(self.relay, "http")

    def close(self) -> None:
        """Take no new connection."""
        for server in self._servers:
            server.close()
        self._servers.clear()

    def sweep(self, now: float) -> None:
        """Cut whoever is past a deadline."""
        relay = self.relay
        for connection in [c for c in relay.connections if c.deadline < now]:
            connection.expire(now)
        idle_before = now - relay.gate.snapshot.timeouts.upstream_idle
        for pool in relay.pools.values():
            pool.sweep(idle_before)
        if self.tls is not None:
            timeouts = relay.gate.snapshot.timeouts  # a reload may have changed them
            self.tls.handshake_timeout_s, self.tls.close_timeout_s = timeouts.tls_handshake, timeouts.send
            self.tls.sweep(now)

    async def drain(self, is_hurried: Callable[[], bool] = lambda: False) -> int:
        """Finish what is under way, within the deadline or until hurried; the number of connections that were cut."""
        relay = self.relay
        relay.draining = relay.is_leaving = True
        self.close()
        deadline = monotonic() + relay.gate.snapshot.timeouts.drain
        for connection in list(relay.connections):
            connection.drain()
        while relay.connections and monotonic() < deadline and not is_hurried():
            await asyncio.sleep(0.05)
            self.sweep(monotonic())
        left = list(relay.connections)
        for connection in left:
            connection.cut()
        for pool in relay.pools.values():
            pool.close()
        return len(left)
