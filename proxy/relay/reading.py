"""Where a peer is, and whether its bytes are taken in: pausing twice, or after the end, is an error on some."""

from __future__ import annotations

from typing import Any


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


def peer_address(transport: Any) -> str:
    """The IP address at the other end; `local` for one that has none."""
    peer = transport.get_extra_info("peername")
    return str(peer[0]) if peer else "local"
