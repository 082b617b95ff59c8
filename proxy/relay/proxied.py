"""Connections that a load balancer brings with the PROXY protocol: its header first, then all as without one.

A peer in `trusted_proxies` must send a header, and anybody else must not: it is what it is, a kubelet that looks
after us, say. After the header nothing of this file is in a byte's way.
"""

from __future__ import annotations

import asyncio
from time import monotonic
from typing import TYPE_CHECKING, Any

from proxy.gate.decision import Reason
from proxy.relay.reading import peer_address
from proxy.relay.report import report_bytes
from proxy.wire.proxy_header import admit_proxy_header
from proxy.wire.unlawful import Unlawful

if TYPE_CHECKING:
    from collections.abc import Callable

    from proxy.relay.connection import ClientConnection
    from proxy.relay.context import RelayContext
    from proxy.relay.tls_connection import TlsConnection


class ProxiedConnection(asyncio.Protocol):
    """Reads the header, and then gives its place to the protocol that `make` makes."""

    def __init__(self, relay: RelayContext, make: Callable[[], ClientConnection | TlsConnection]) -> None:
        self._relay = relay
        self._make = make
        self._buffer = b""
        self._deadline: asyncio.TimerHandle | None = None
        self._is_waiting = False

    def connection_made(self, transport: Any) -> None:
        self._transport = transport
        self._peer = peer_address(transport)
        gate = self._relay.gate
        if gate.proxies is None or not gate.proxies.trust(self._peer):
            self._hand_over(transport, b"")
            return
        self._is_waiting = True
        if not self._relay.enter(self._peer):
            transport.abort()
            return
        loop, header_s = asyncio.get_running_loop(), gate.snapshot.timeouts.header
        self._deadline = loop.call_later(header_s, self._refuse, Reason.CLIENT_LATE)

    def data_received(self, data: bytes) -> None:
        self._buffer += data
        try:
            header = admit_proxy_header(self._buffer)
        except Unlawful:
            self._refuse(Reason.UNLAWFUL)
            return
        if header is None:
            return
        rest, self._buffer = self._buffer[header.end :], b""
        transport = _Announced(self._transport, header.ip) if header.ip else self._transport
        self._hand_over(transport, rest)

    def connection_lost(self, _exc: Exception | None) -> None:
        self._leave()

    def _hand_over(self, transport: Any, rest: bytes) -> None:
        self._leave()
        inner = self._make()
        self._transport.set_protocol(inner)
        inner.connection_made(transport)
        if rest:
            inner.data_received(rest)

    def _refuse(self, reason: Reason) -> None:
        self._stop_waiting()
        report_bytes(self._relay, self._peer, reason, 0, monotonic())
        self._transport.abort()

    def _leave(self) -> None:
        self._stop_waiting()
        if self._is_waiting:
            self._is_waiting = False
            self._relay.leave(self._peer)

    def _stop_waiting(self) -> None:
        if self._deadline is not None:
            self._deadline.cancel()
            self._deadline = None


class _Announced:
    """The socket's transport, at the address that was announced."""

    def __init__(self, transport: Any, ip: str) -> None:
        self._transport = transport
        self._ip = ip

    def get_extra_info(self, name: str, default: Any = None) -> Any:
        return (self._ip, 0) if name == "peername" else self._transport.get_extra_info(name, default)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._transport, name)
