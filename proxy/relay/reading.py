"""Where a peer is, and whether its bytes are taken in: pausing twice, or after the end, is an error on some."""

from __future__ import annotations

import ssl
from typing import TYPE_CHECKING, Any

from proxy.gate.certificate import read_certificate

if TYPE_CHECKING:
    import asyncio

    from proxy.gate.credentials import ShownCertificate
    from proxy.gate.snapshot import ClientTrust


class Reading:
    __slots__ = ("_transport", "on")

    def __init__(self, transport: Any) -> None:  # a socket's, or a TlsConnection
        self._transport = transport
        self.on = True

    def hold(self) -> None:
        if self.on:
            self.on = False
            if not self._transport.is_closing():
                self._transport.pause_reading()

    def go_on(self) -> None:
        if not self.on:
            self.on = True
            if not self._transport.is_closing():
                self._transport.resume_reading()

    def give_to(self, protocol: asyncio.Protocol) -> None:
        """From now on `protocol` gets the transport's calls."""
        self._transport.set_protocol(protocol)


def peer_address(transport: Any) -> str:
    """The IP address at the other end; `local` for one that has none."""
    peer = transport.get_extra_info("peername")
    return str(peer[0]) if peer else "local"


def peer_certificate(transport: Any, trust: ClientTrust | None) -> ShownCertificate | None:
    """What the client showed in its handshake; `trust` None: it was not asked."""
    tls = None if trust is None else transport.get_extra_info("ssl_object")
    told = None if tls is None else tls.getpeercert()
    if not told or trust is None:
        return None
    return read_certificate(told, ssl.cert_time_to_seconds(told["notAfter"]), trust)
