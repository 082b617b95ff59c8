"""TLS on the plain transport: one `ssl.SSLObject` per connection, one pair of memory BIOs for all of them.

A memory BIO never shrinks, so a pair per connection keeps hundreds of KB after one big answer (docs/tls.md has the
figures). Here the pair is a workbench: an operation fills it, takes everything out, and only then lets other code run.
The one rule of this file follows: **nothing outside it is called while the pair holds a byte.** Were it broken, a peer
would get records made with another connection's keys: a broken connection, not a leak.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import ssl
from typing import TYPE_CHECKING, Any, Final, Protocol

from proxy.gate.decision import Reason
from proxy.gate.reply import build_answer, text_of
from proxy.relay.outflow import unsent_bytes

if TYPE_CHECKING:
    from collections.abc import Callable

    from proxy.relay.tls import TlsListener

log = logging.getLogger("promgate.relay")

WantRead = ssl.SSLWantReadError

#: A TLS record carries at most this much (RFC 8446 section 5.1): one `read` returns one record.
RECORD: Final = 16384
#: What is encrypted before it is handed on: bounds the pair; smaller costs system calls (64 KB: 5 %, 16 KB: 21 %).
SLICE: Final = 262144
#: OpenSSL answers some things by itself: a refused renegotiation (but a KeyUpdate only with the next write).
#: A peer that lets this much of it wait, unread, wants our memory.
MAX_CONTROL_BACKLOG: Final = 1 << 20
#: A closing connection whose peer takes less than this is cut at its deadline (as nginx's and our `body_min_rate`).
MIN_DRAIN_BPS: Final = 500
#: To the wrong scheme in a URL. Go's servers say 400, for which a sender drops its data; for this one it is kept.
SPOKE_PLAIN_HTTP: Final = build_answer(503, text_of(Reason.PLAIN_WRITE), ["Retry-After: 30"], close=True)


class Inner(Protocol):
    """What sits on a TLS connection; the methods are those of asyncio.Protocol, and mean the same.

    `connection_made` comes after the handshake, and only then `connection_lost`. `eof_received` stands for the peer's
    close_notify as well as for its FIN: it sends no more; a false result closes the connection.
    """

    def connection_made(self, transport: Any, /) -> None: ...
    def data_received(self, data: bytes, /) -> None: ...
    def eof_received(self) -> bool | None: ...
    def connection_lost(self, exc: Exception | None, /) -> None: ...
    def pause_writing(self) -> None: ...
    def resume_writing(self) -> None: ...


class TlsConnection(asyncio.BufferedProtocol):
    """A protocol to the socket's transport, a transport to the inner protocol.

    The socket is read into the inbox that all connections share as they share the BIOs: what it holds is taken at once.
    """

    __slots__ = (
        "_close_backlog",
        "_closing",
        "_decrypt",
        "_deliver",
        "_drain",
        "_encrypt",
        "_ended",
        "_feed",
        "_incoming",
        "_inner",
        "_kept",
        "_listener",
        "_object",
        "_outgoing",
        "_paused",
        "_send",
        "_told",
        "_transport",
        "deadline",
        "peer",
    )

    _transport: asyncio.Transport
    _object: Any  # the SSLObject until the handshake is done, and then what it wraps: 0.2 KB less at rest
    _inner: Inner | None
    _encrypt: Callable[..., Any]
    _decrypt: Callable[..., Any]
    _deliver: Callable[[bytes], None]
    _send: Callable[[bytes], None]

    def __init__(self, listener: TlsListener) -> None:
        self._listener = listener
        self._incoming = listener.incoming
        self._outgoing = listener.outgoing
        self._feed = listener.feed
        self._drain = listener.drain
        self._object = None
        self._inner = None
        self._closing = False
        self._paused = False
        self._ended = False  # the peer sends no more
        self._told = False  # and the inner protocol knows
        self._kept = b""
        self._close_backlog = 0
        self.deadline = 0.0
        self.peer = ""  # whom the listener counts, until the handshake is done

    # As a protocol, called by the socket's transport

    def connection_made(self, transport: Any) -> None:  # uvloop's is no subclass of asyncio.Transport
        self._transport = transport
        self._send = transport.write
        if not self._listener.admit(self):
            self.abort()

    def get_buffer(self, _sizehint: int) -> memoryview:
        return self._listener.inbox

    def data_received(self, data: bytes) -> None:
        """Take what somebody else has read from the socket before us."""
        inbox = self._listener.inbox
        for at in range(0, len(data), len(inbox)):
            piece = data[at : at + len(inbox)]
            inbox[: len(piece)] = piece
            self.buffer_updated(len(piece))

    def buffer_updated(self, nbytes: int) -> None:
        """Decrypt all of one socket read and deliver it at once: one request, one call, and nothing left behind."""
        data = self._listener.inbox[:nbytes]
        if self._inner is None:
            self._open(data)
            return
        incoming = self._incoming
        self._feed(data)
        try:
            plain = self._decrypt(RECORD)
            if incoming.pending:
                plain = self._decrypt_rest(plain)
            elif not plain:
                self._ended = True
        except WantRead:
            if self._outgoing.pending:
                self._send_control()
            return
        except ssl.SSLError as exc:
            self._fail(exc)
            return
        if self._outgoing.pending:
            self._send_control()
        if self._paused or self._ended:
            self._keep(plain)
        else:
            self._deliver(plain)

    def eof_received(self) -> bool:
        """A FIN. Without close_notify it may be a cut: the inner protocol's own framing tells (RFC 9112 9.8)."""
        if self._inner is None:
            self._fail(None)
        elif not self._ended:
            self._ended = True
            self._keep(b"")
        return True  # `close` is ours to call

    def connection_lost(self, exc: Exception | None) -> None:
        self._listener.forget(self)
        self._listener.let_go(self)
        closing, self._closing = self._closing, True
        inner, self._inner = self._inner, None
        if inner is None and not closing:
            self._listener.counts.failed += 1
        # What refers back to this object goes, so that it is freed now and not by the collector.
        self._object = None
        self._decrypt = self._encrypt = self._deliver = self._send = _closed
        self._kept = b""
        if inner is not None:
            inner.connection_lost(exc)

    def pause_writing(self) -> None:
        if self._inner is not None:
            self._inner.pause_writing()

    def resume_writing(self) -> None:
        if self._inner is not None:
            self._inner.resume_writing()

    # As a transport, called by the inner protocol

    def write(self, data: bytes | bytearray | memoryview) -> None:
        """Encrypt and send; nothing is kept of `data`. After `close` or `abort` it does nothing."""
        if self._closing or not data:
            return
        try:
            if len(data) <= SLICE:
                self._encrypt(data)
                self._send(self._drain())
                return
            view = memoryview(data)
            for at in range(0, len(view), SLICE):
                self._encrypt(view[at : at + SLICE])
                self._send(self._drain())
        except ssl.SSLError as exc:
            self._fail(exc)

    def set_protocol(self, inner: Inner) -> None:
        if self._inner is not None:
            self._inner = inner
            self._deliver = inner.data_received

    def pause_reading(self) -> None:
        if not self._paused and not self._closing:
            self._paused = True
            self._transport.pause_reading()

    def resume_reading(self) -> None:
        if not self._paused or self._closing:
            return
        self._paused = False
        if self._kept or self._ended:
            # Not from within the caller, who may be in the middle of its own `data_received`.
            asyncio.get_running_loop().call_soon(self._deliver_kept)
        else:
            self._transport.resume_reading()

    def close(self) -> None:
        """Send what was written and close_notify, then close; cut if the peer does not take it in time."""
        if self._closing:
            return
        self._closing = True
        if self._inner is not None and self._object is not None:
            # WantRead: the peer's own close_notify, which nobody needs to wait for (RFC 8446 6.1).
            with contextlib.suppress(ssl.SSLError):
                self._object.shutdown()
            if alert := self._drain():
                self._send(alert)
        self._close_transport()

    def abort(self) -> None:
        """Cut: without close_notify, so that the peer can tell that what it got is not whole."""
        self._closing = True
        self._transport.abort()

    def is_closing(self) -> bool:
        return self._closing or self._transport.is_closing()

    def get_write_buffer_size(self) -> int:
        return self._transport.get_write_buffer_size()

    def set_write_buffer_limits(self, high: int | None = None, low: int | None = None) -> None:
        if not self._closing:
            self._transport.set_write_buffer_limits(high, low)

    def get_extra_info(self, name: str, default: Any = None) -> Any:
        """`ssl_object` is ours (`version()`, `cipher()`, `getpeercert()`); all else is the socket transport's."""
        if name == "ssl_object":
            return self._object or default
        return self._transport.get_extra_info(name, default)

    @property
    def has_begun(self) -> bool:
        """Whether a byte of the peer has bound it to a context."""
        return self._object is not None

    # Deadlines

    def expire(self) -> None:
        """The deadline has passed: cut, unless this is a closing peer that still takes what it is owed."""
        if self._closing:
            left = unsent_bytes(self._transport)
            if self._close_backlog - left >= MIN_DRAIN_BPS * self._listener.close_timeout_s:
                self._close_backlog = left
                self._listener.watch_closing(self)
                return
        elif self._inner is None:
            self._listener.counts.expired += 1
            log.debug("tls handshake with %s: not done in time", _name(self._transport))
        self._listener.forget(self)
        self.abort()

    # Within

    def _open(self, data: memoryview) -> None:
        """Take the handshake one flight further, and make the inner protocol when it is done."""
        if self._closing:
            return
        listener = self._listener
        if (tls := self._object) is None:  # not before the first byte: who only connects costs no SSL object
            context = listener.context.choose(data)
            tls = self._object = context.wrap_bio(self._incoming, self._outgoing, server_side=True)
        self._feed(data)
        try:
            tls.do_handshake()
        except WantRead:
            if self._outgoing.pending:
                self._send(self._drain())
            return
        except ssl.SSLError as exc:
            self._fail(exc)
            return
        # SSLObject's methods are Python around these of the same names and arguments: 10 % of a small request.
        raw: Any = getattr(tls, "_sslobj", tls)
        self._object, self._encrypt, self._decrypt = raw, raw.write, raw.read
        try:
            plain = self._decrypt_rest(b"") if self._incoming.pending else b""
        except ssl.SSLError as exc:
            self._fail(exc)
            return
        if self._outgoing.pending:
            self._send(self._drain())
        listener.forget(self)
        listener.let_go(self)
        listener.counts.completed += 1
        self._inner = inner = listener.make_inner()
        self._deliver = inner.data_received
        inner.connection_made(self)
        if plain or self._ended:
            self._keep(plain)

    def _decrypt_rest(self, first: bytes) -> bytes:
        """All records that the incoming BIO holds, joined behind `first`; it is empty afterwards."""
        incoming, decrypt, parts = self._incoming, self._decrypt, [first]
        try:
            while incoming.pending:
                if not (plain := decrypt(RECORD)):
                    # close_notify. What follows it is no longer data (RFC 8446 6.1), and would be read for ever here.
                    self._ended = True
                    incoming.read()
                    break
                parts.append(plain)
        except WantRead:
            pass
        return b"".join(parts)

    def _keep(self, plain: bytes) -> None:
        """Deliver by way of `_kept`: for what may have to wait for `resume_reading`."""
        self._kept += plain
        self._deliver_kept()

    def _deliver_kept(self) -> None:
        if self._paused or self._closing or self._inner is None:
            return
        if self._kept:
            plain, self._kept = self._kept, b""
            self._deliver(plain)
            if self._paused or self._closing or self._inner is None:
                return
        if not self._ended:
            self._transport.resume_reading()
        elif not self._told:
            self._told = True
            self._transport.pause_reading()  # nothing that follows the end is read
            if not self._inner.eof_received():
                self.close()

    def _send_control(self) -> None:
        """Send what OpenSSL has to say by itself."""
        self._send(self._drain())
        if self._transport.get_write_buffer_size() > MAX_CONTROL_BACKLOG:
            self.abort()

    def _fail(self, exc: ssl.SSLError | None) -> None:
        """End after a fault of TLS: empty the pair, send the alert, and close. A fault is never a traceback."""
        self._incoming.read()
        alert = self._drain()
        reason = "closed by peer" if exc is None else exc.reason or str(exc)
        if self._inner is None:
            self._listener.counts.failed += 1
            log.debug("tls handshake with %s: %s", _name(self._transport), reason)
            if reason == "HTTP_REQUEST":
                alert = SPOKE_PLAIN_HTTP
        else:
            log.debug("tls connection with %s: %s", _name(self._transport), reason)
        if not self._closing:
            self._closing = True
            if alert:
                self._send(alert)
            self._close_transport()

    def _close_transport(self) -> None:
        transport, listener = self._transport, self._listener
        listener.forget(self)
        if transport.get_write_buffer_size():
            self._close_backlog = unsent_bytes(transport)
            listener.watch_closing(self)
        transport.close()


def _closed(*_: Any) -> Any:
    """In the place of a connection's functions once it is lost."""
    raise ssl.SSLError("the connection is lost")


def _name(transport: asyncio.BaseTransport) -> str:
    peer = transport.get_extra_info("peername")
    return str(peer[0]) if peer else "a peer that left"
