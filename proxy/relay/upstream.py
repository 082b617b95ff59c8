"""One connection to an upstream: its bytes in, a lawful answer out to the exchange that uses it.

Every way in which an answer can be unlawful or cut short ends in `exchange.upstream_broke`; an answer whose
end is beyond doubt ends in `exchange.answered`, and only then may the connection be used again.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

from proxy.gate.decision import Reason
from proxy.relay.reading import Reading
from proxy.wire.framing import ChunkedBody, LengthBody
from proxy.wire.response import MAX_HEAD_BYTES, admit_response
from proxy.wire.unlawful import Unlawful

if TYPE_CHECKING:
    from proxy.relay.exchange import Exchange
    from proxy.relay.pool import Pool
    from proxy.wire.framing import Body
    from proxy.wire.response import ResponseMemo

#: What may wait in a transport before the other side is asked to pause.
WRITE_LIMIT = 256 * 1024

#: RFC 9112 6.3: these never have one, whatever their fields say.
_BODILESS = frozenset({204, 304})

_IDLE, _HEAD, _BODY, _UNTIL_CLOSE = range(4)


class UpstreamConnection(asyncio.Protocol):
    __slots__ = (
        "_blocked",
        "_body",
        "_buffer",
        "_exchange",
        "_heard",
        "_memo",
        "_state",
        "_streams",
        "_transport",
        "pool",
        "reading",
        "trust",
        "used",
        "write",
    )

    def __init__(self, pool: Pool, memo: ResponseMemo, trust: int = 0) -> None:
        """`trust`: how often its pool had lost its trust when this was begun."""
        self.pool = pool
        self.trust = trust
        self._memo = memo
        self._exchange: Exchange | None = None
        self._heard = False
        self._state = _IDLE
        self._buffer = b""
        self._body: Body | None = None
        self._blocked = False
        self._streams = False
        self.used = False

    def connection_made(self, transport: Any) -> None:
        self._transport = transport
        self.write = transport.write
        self.reading = Reading(transport)
        self.pool.opened(self)
        transport.set_write_buffer_limits(high=WRITE_LIMIT)

    def begin(self, exchange: Exchange, first: list[bytes | memoryview]) -> None:
        """Send a request's first bytes in one system call; the answer goes to `exchange`."""
        self._exchange = exchange
        self._state = _HEAD
        self._heard = False
        if len(first) == 1:
            self.write(first[0])
        else:
            self._transport.writelines(first)

    def release(self, now: float) -> None:
        """The exchange is over and whole on both sides: back to the pool."""
        self._exchange = None
        self._state = _IDLE
        self.used = True
        if not self.reading.on:  # its last bytes filled a slow reader's buffer; the next client is another
            self.reading.go_on()
        self.pool.give(self, now)

    def abort(self) -> None:
        """Cut the connection; the exchange hears no more of it."""
        self._exchange = None
        self._transport.abort()
        self.pool.forget(self)

    def close(self, timeout_s: float) -> None:
        """End the connection after what was written, if the upstream takes it in time; the exchange hears no more."""
        self._exchange = None
        self.pool.forget(self)
        if self._transport.get_write_buffer_size():
            asyncio.get_running_loop().call_later(timeout_s, self._transport.abort)
        self._transport.close()

    @property
    def streams(self) -> bool:
        """Whether its answer has begun and may go on for ever: an event stream, or a protocol of its own."""
        return self._streams and self._state in {_BODY, _UNTIL_CLOSE}

    # asyncio.Protocol

    def data_received(self, data: bytes) -> None:
        exchange = self._exchange
        if exchange is None:  # nobody asked: bytes after an answer, or an answer to nobody
            self.abort()
            return
        self._heard = True
        try:
            if self._state == _HEAD:
                self._head(exchange, data)
            elif self._state == _BODY:
                self._body_data(exchange, data)
            else:
                exchange.relay_body(data)
        except Unlawful:
            self.abort()
            exchange.upstream_broke(Reason.UPSTREAM_BROKE, silent=False)

    def eof_received(self) -> None:
        exchange = self._exchange
        if exchange is None:
            self.abort()  # at once: no request may be given to it any more
        elif self._state == _UNTIL_CLOSE:
            self.abort()
            exchange.answered(reusable=False)

    def connection_lost(self, _exc: Exception | None) -> None:
        self.pool.closed(self)
        exchange, self._exchange = self._exchange, None
        if exchange is not None:
            exchange.upstream_broke(Reason.UPSTREAM_BROKE, silent=not self._heard)

    def pause_writing(self) -> None:
        self._blocked = True
        if self._exchange is not None:
            self._exchange.client.hold_reading()

    def resume_writing(self) -> None:
        self._blocked = False
        if self._exchange is not None:
            self._exchange.client.continue_reading()

    # the answer

    def _head(self, exchange: Exchange, data: bytes) -> None:
        searched = len(self._buffer)
        if searched:
            data = self._buffer + data
        while True:
            end = data.find(b"\r\n\r\n", searched - 3 if searched > 3 else 0)
            if end < 0:
                if len(data) > MAX_HEAD_BYTES:
                    raise Unlawful("response head too large")
                self._buffer = data
                return
            self._buffer = b""
            head = admit_response(data, end, self._memo)
            at = end + 4
            if head.status >= 200:
                break
            if head.status == 101:
                self._state = _UNTIL_CLOSE
                self._streams = True
                exchange.switch(data[:end], head, data[at:])
                return
            data, searched = data[at:], 0
        if head.chunked and exchange.head.minor == 0:
            raise Unlawful("chunks for a client that cannot read them")  # RFC 9112 6.1; it was asked as HTTP/1.0
        if head.close:
            exchange.upstream_closes = True
        here = len(data) - at
        bodiless = head.status in _BODILESS or exchange.head.head_only
        if not here if bodiless else here == head.length:  # the usual small answer: it is here, whole
            exchange.relay_head(head, data, at)
            self._finish(exchange, excess=False)
        elif bodiless:
            exchange.relay_head(head, b"", 0)
            self._finish(exchange, excess=True)
        elif head.chunked or head.length >= 0:
            body = self._body = ChunkedBody() if head.chunked else LengthBody(head.length)
            piece, ended = body.feed(data, at)
            self._state = _BODY
            self._streams = head.streams
            exchange.relay_head(head, piece, 0)
            if ended >= 0:
                self._finish(exchange, excess=ended < len(data))
        else:
            self._state = _UNTIL_CLOSE
            self._streams = head.streams
            exchange.relay_head(head, data, at, endless=True)

    def _body_data(self, exchange: Exchange, data: bytes) -> None:
        assert self._body is not None
        piece, ended = self._body.feed(data)
        if piece:
            exchange.relay_body(piece)
        if ended >= 0:
            self._finish(exchange, excess=ended < len(data))

    def _finish(self, exchange: Exchange, *, excess: bool) -> None:
        if self._exchange is not exchange:
            return  # the client went away while its bytes were written
        self._body = None
        exchange.answered(reusable=not excess and not self._blocked)
