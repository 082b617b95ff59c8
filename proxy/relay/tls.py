"""What the TLS connections of one listener share: the context, the two BIOs, the bounds and the deadlines.

A deadline is enforced by `sweep`, called every second or so, and not by a timer per connection.
"""

from __future__ import annotations

import ssl
from dataclasses import dataclass
from time import monotonic
from typing import TYPE_CHECKING, Final, Protocol

from proxy.relay.reading import peer_address
from proxy.relay.tls_connection import TlsConnection

if TYPE_CHECKING:
    from collections.abc import Callable

    from proxy.pki.groups import ServerContext
    from proxy.relay.tls_connection import Inner

#: When the bound of handshakes is reached, one older than this has had its chance and makes room.
HANDSHAKE_CHANCE_S: Final = 1.0


#: What is read from a socket at once; as uvloop and asyncio have it.
INBOX_BYTES: Final = 256 * 1024


class Doors(Protocol):
    """Where those are counted who are within a handshake: `RelayContext`."""

    def enter(self, peer: str, /) -> bool: ...
    def leave(self, peer: str, /) -> None: ...


@dataclass(slots=True)
class TlsCounts:
    """Ends of handshakes since the start, for metrics. `refused` were never begun: a bound was reached."""

    completed: int = 0
    failed: int = 0
    expired: int = 0
    refused: int = 0


class TlsListener:
    """Makes the connections of one event loop: `await loop.create_server(listener.connection, host, port)`.

    `context` may be replaced at any time: handshakes that begin later take the new one. `sweep(now)` must be called
    every second or so; it is what enforces the deadlines. Not for use from two threads: they would share the BIOs.
    """

    def __init__(
        self,
        context: ServerContext,
        make_inner: Callable[[], Inner],
        *,
        doors: Doors | None = None,
        handshake_timeout_s: float = 10.0,
        close_timeout_s: float = 60.0,
        max_handshakes: int = 4096,
    ) -> None:
        self.context = context
        self.make_inner = make_inner
        self._doors = doors
        self.handshake_timeout_s = handshake_timeout_s
        self.close_timeout_s = close_timeout_s
        self.max_handshakes = max_handshakes
        self.counts = TlsCounts()
        self.incoming = ssl.MemoryBIO()
        self.outgoing = ssl.MemoryBIO()
        self.feed = self.incoming.write  # bound once for all
        self.drain = self.outgoing.read
        self.inbox = memoryview(bytearray(INBOX_BYTES))
        # Both in the order of their deadlines, since each kind has one timeout: the sweep stops at the first in time.
        self._opening: dict[TlsConnection, None] = {}
        self._ending: dict[TlsConnection, None] = {}

    @property
    def handshaking(self) -> int:
        """How many connections are within their handshake."""
        return len(self._opening)

    def connection(self) -> TlsConnection:
        """The protocol factory for `loop.create_server`."""
        return TlsConnection(self)

    def admit(self, connection: TlsConnection) -> bool:
        """Whether a handshake may begin; a bound that is reached costs the longest waiting one its place."""
        if self._doors is not None:
            connection.peer = peer_address(connection)
            if not self._doors.enter(connection.peer):
                self.counts.refused += 1
                return False
        opening, now = self._opening, monotonic()
        if len(opening) >= self.max_handshakes:
            oldest = next(iter(opening), None)
            if oldest is None or now < oldest.deadline - self.handshake_timeout_s + HANDSHAKE_CHANCE_S:
                self.counts.refused += 1
                return False
            oldest.expire()
        connection.deadline = now + self.handshake_timeout_s
        opening[connection] = None
        return True

    def let_go(self, connection: TlsConnection) -> None:
        """Its handshake is over: it is gone, or the inner protocol, which is counted by itself, is about to be made."""
        peer, connection.peer = connection.peer, ""
        if peer and self._doors is not None:
            self._doors.leave(peer)

    def watch_closing(self, connection: TlsConnection) -> None:
        """Give the connection until its new deadline to take what is still to be sent."""
        self._ending.pop(connection, None)
        connection.deadline = monotonic() + self.close_timeout_s
        self._ending[connection] = None

    def end_handshakes(self) -> None:
        """Cut each handshake that has begun: it goes on as the context says that it began with."""
        for connection in [one for one in self._opening if one.has_begun]:
            self.counts.failed += 1
            self.forget(connection)
            connection.abort()

    def forget(self, connection: TlsConnection) -> None:
        self._opening.pop(connection, None)
        self._ending.pop(connection, None)

    def sweep(self, now: float) -> None:
        """Cut what has passed its deadline; `now` in seconds of `time.monotonic`."""
        for waiting in (self._opening, self._ending):
            for connection in list(waiting):
                if connection.deadline > now:
                    break
                connection.expire()
