"""A websocket that is open: what the client sends goes up as it is, what the upstream sends comes down as it is.

It takes the place of a ClientConnection, on its transport and in its exchange, which counts the octets and ends once.
Nothing is read in it: whoever is silent for `timeouts.tunnel`, or takes nothing for `timeouts.send`, has to go.
"""

from __future__ import annotations

import asyncio
from time import monotonic
from typing import TYPE_CHECKING

from proxy.gate.decision import Reason

if TYPE_CHECKING:
    from proxy.relay.connection import ClientConnection
    from proxy.relay.context import RelayContext
    from proxy.relay.exchange import Exchange


class Tunnel(asyncio.Protocol):
    __slots__ = ("_ahead", "_left", "_out", "_reading", "_relay", "deadline", "exchange", "ip", "last_shown", "peer")

    def __init__(self, relay: RelayContext, exchange: Exchange, client: ClientConnection) -> None:
        """`client` gives up its connection, and with it what came ahead of the upstream's consent."""
        self._relay = relay
        self._reading, self._out, self._ahead, self._left = client.leave()
        self.exchange: Exchange | None = exchange
        self.last_shown, self.peer, self.ip = client.last_shown, client.peer, client.ip
        relay.replace(client, self)
        self.deadline = monotonic() + relay.gate.snapshot.timeouts.tunnel

    def open(self) -> None:
        self._reading.give_to(self)
        if self._out.choked:
            self.pause_writing()
        self._reading.go_on()  # before the upstream can ask for a pause
        ahead, self._ahead = self._ahead, b""
        if ahead:
            self.data_received(ahead)
        if self._left:
            self._end(Reason.OK)

    # from the client

    def data_received(self, data: bytes) -> None:
        if self.exchange is not None:
            self._seen()
            self.exchange.relay_frames(data)

    def eof_received(self) -> bool:
        self._end(Reason.OK)
        return True  # closed by now, after what it is owed

    def connection_lost(self, exc: Exception | None) -> None:
        self._relay.forget(self)
        self._relay.tunnels -= 1
        if self.exchange is not None:
            self.exchange.hang_up(Reason.CLIENT_GONE if exc else Reason.OK)

    def pause_writing(self) -> None:
        self._out.choke()
        self.deadline = monotonic() + self._relay.gate.snapshot.timeouts.send
        if self.exchange is not None:
            self.exchange.pause_answer()

    def resume_writing(self) -> None:
        if self.exchange is not None:  # else it is closing, and measured until its last byte
            self._out.choked = False
            self._seen()
            self.exchange.resume_answer()

    # from the exchange

    def send_answer(self, data: bytes | memoryview) -> None:
        self._out.send(data)
        self._seen()

    def exchange_ended(self, _now: float, *, close: bool) -> None:  # noqa: ARG002 - a tunnel always ends with it
        """The upstream has ended."""
        self._close()

    def hold_reading(self) -> None:
        """The upstream takes no more for now; nobody sees whether the client is still there, so not for long."""
        self._reading.hold()
        if not self._out.choked:
            self.deadline = monotonic() + self._relay.gate.snapshot.timeouts.send

    def continue_reading(self) -> None:
        self._reading.go_on()
        self._seen()

    def cut(self) -> None:
        if self.exchange is not None:
            self.exchange.cancel(Reason.CLIENT_GONE)
        self._out.reset()

    # from the sweep

    def expire(self, now: float) -> None:
        timeouts = self._relay.gate.snapshot.timeouts
        if self._out.choked and self._out.took(self._relay.gate.snapshot.bounds.body_min_rate_bytes * timeouts.send):
            self.deadline = now + timeouts.send  # slow, but it reads
        elif self._out.choked or self.exchange is None:
            if self.exchange is not None:
                self.exchange.cancel(Reason.CLIENT_LATE)
            self._out.reset()
        elif not self._reading.on:
            self.exchange.stop(Reason.UPSTREAM_LATE)
        else:
            self._end(Reason.TUNNEL_IDLE)

    def drain(self, *, last_call: bool = True) -> None:  # noqa: ARG002 - there is no next request
        """At once: it would end by itself never, and whoever opened it opens another, elsewhere."""
        self._end(Reason.DRAINING)

    # within

    def _seen(self) -> None:
        if not self._out.choked:
            self.deadline = monotonic() + self._relay.gate.snapshot.timeouts.tunnel

    def _end(self, reason: Reason) -> None:
        if self.exchange is not None:
            self.exchange.hang_up(reason)
            self._close()

    def _close(self) -> None:
        """What is owed goes first, for as long as it is taken."""
        self._out.close()
        timeouts = self._relay.gate.snapshot.timeouts
        self.deadline = monotonic() + (timeouts.send if self._out.choked else timeouts.linger)
