"""One request and its answer: between the client it came from and the upstream connection that serves it.

The client's connection feeds the request's body in, the upstream's feeds the answer back; each side is paused
while the other cannot take more. It ends exactly once, in `_end`, with one Outcome.
"""

from __future__ import annotations

from time import monotonic
from typing import TYPE_CHECKING, cast

from proxy.gate.decision import Deny, Reason, Upgrade
from proxy.gate.edits import upstream_head
from proxy.gate.prefix import restore_location, strip_line
from proxy.gate.snapshot import RouteKind
from proxy.relay.certified import certificate_line
from proxy.relay.report import report_exchange
from proxy.wire.cookies import login_line
from proxy.wire.framing import ChunkedBody, LengthBody
from proxy.wire.unlawful import Unlawful
from proxy.wire.websocket import UPGRADE_LINES, check_switch

if TYPE_CHECKING:
    import asyncio

    from proxy.gate.decision import Forward
    from proxy.gate.snapshot import Route
    from proxy.relay.connection import ClientConnection
    from proxy.relay.context import RelayContext
    from proxy.relay.upstream import UpstreamConnection
    from proxy.wire.framing import Body
    from proxy.wire.head import RequestHead
    from proxy.wire.response import ResponseHead

#: A remote-write body up to this size is kept until it is answered, to be sent again when a reused connection
#: turns out to have been dead: an exact duplicate is harmless there (the receiver answers 204 to it).
_REPLAY_BYTES = 256 * 1024
#: RFC 9110 9.2.2, of those without a body: sending them twice does what sending them once does.
_REPEATABLE = frozenset({b"GET", b"HEAD", b"OPTIONS"})
# A look-up in an Enum costs as much as a call.
_REMOTE_WRITE = RouteKind.REMOTE_WRITE
_OK = Reason.OK
#: A body up to this size is joined to its head; a larger one is written beside it, by one system call all the same.
_JOINED_BYTES = 16 * 1024
_REDIRECTS = frozenset({301, 302, 303, 307, 308})
#: What an upstream says of who logs in to it: RFC 9110 15.5.2, 15.5.8.
_ASKS_LOGIN = frozenset({401, 407})


class Exchange:
    __slots__ = (
        "_backend",
        "_body",
        "_connecting",
        "_forward",
        "_gone",
        "_kept",
        "_pending",
        "_relay",
        "_started",
        "_upstream",
        "bytes_in",
        "bytes_out",
        "client",
        "closes",
        "head",
        "request_done",
        "request_id",
        "status",
        "upstream_closes",
    )

    _body: Body  # of a request that does not come whole
    _pending: list[bytes | memoryview]  # while it connects

    def __init__(
        self, client: ClientConnection, relay: RelayContext, head: RequestHead, forward: Forward, now: float
    ) -> None:
        self.client = client
        self.head = head
        self.bytes_in = 0
        self.bytes_out = 0
        self.request_done = False
        self.status = 0
        self.request_id = 0  # of a refusal
        self.closes = head.close
        self.upstream_closes = False
        self._relay = relay
        self._backend = relay.backends[forward.route.name]
        self._forward = forward
        self._started = now
        if forward.place is not None:
            forward.place.take()
        self._upstream: UpstreamConnection | None = None
        self._connecting: asyncio.Task[None] | None = None
        self._gone = False
        #: All that was sent on so far, while it may be needed once more.
        self._kept: list[bytes | memoryview] | None = None

    @property
    def token_id(self) -> str:
        return self._forward.identity.token_id

    @property
    def session(self) -> str:
        return self._forward.identity.session

    @property
    def is_endless(self) -> bool:
        """Whether it is, or asks to become, what need never end by itself."""
        return self.is_upgrade or (self._upstream is not None and self._upstream.streams)

    @property
    def is_upgrade(self) -> bool:
        return isinstance(self._forward, Upgrade)

    @property
    def route(self) -> Route:
        return self._forward.route

    # the request, from the client's connection

    def open(self, data: bytes, at: int) -> int:
        """Send the request on, with what data[at:] holds of its body; where it ends in `data`, -1 while it goes on.

        A request that was refused for its body ends with `data`: what follows is nobody's.
        """
        head = self.head
        piece: bytes | memoryview = b""
        if 0 < head.length <= len(data) - at:  # the usual small write: its body is here, whole
            piece = memoryview(data)[at : at + head.length]
            at += head.length
        elif head.has_body:
            self._body = ChunkedBody() if head.chunked else LengthBody(head.length)
            taken = self._take(data, at)
            if taken is None:
                return len(data)
            piece, at = taken
        self.request_done = at >= 0
        first = self._first_bytes(piece)
        upstream = self._backend.take()
        if upstream is None:
            if at < 0:
                self.client.hold_reading()
            self._connect(first)
        else:
            self._upstream = upstream
            upstream.begin(self, first)
        return at

    def relay_request(self, data: bytes) -> int:
        """Pass on more of the body; the result is as `open`'s."""
        taken = self._take(data, 0)
        if taken is None:
            return len(data)
        piece, end = taken
        self.request_done = end >= 0
        self.bytes_in += len(piece)
        self._keep(piece)
        if self._upstream is not None:
            self._upstream.write(piece)
        elif self._connecting is not None:
            self._pending.append(piece)
        return end

    def relay_frames(self, data: bytes) -> None:
        """Pass on what the client sends through its tunnel."""
        if self._upstream is not None:
            self.bytes_in += len(data)
            self._upstream.write(data)

    def hang_up(self, reason: Reason) -> None:
        """The client has left its tunnel, or must: the upstream still gets what it was sent."""
        upstream, self._upstream = self._upstream, None
        if upstream is not None:
            upstream.close(self._relay.gate.snapshot.timeouts.send)
        self._end(reason)

    def cancel(self, reason: Reason) -> None:
        """The client is gone, or broke its own request: the upstream must not take a part for the whole."""
        self._drop_upstream()
        self._end(reason)

    # the answer, from the upstream's connection

    def switch(self, raw: bytes, head: ResponseHead, early: bytes) -> None:
        """The upstream speaks another protocol from here on: with a client that asked for it. Else it is Unlawful."""
        if not isinstance(self._forward, Upgrade):
            raise Unlawful("upgrade that was not asked for")
        check_switch(raw, head, self._forward.key)
        if self._relay.draining:
            self.stop(Reason.DRAINING)
            return
        from proxy.relay.tunnel import Tunnel  # noqa: PLC0415 - not paid for where there are no websockets

        self._kept = None
        self.status = head.status
        self.client.send_answer(b"".join((head.sent, UPGRADE_LINES, b"\r\n")))
        tunnel = Tunnel(self._relay, self, self.client)
        self.client = cast("ClientConnection", tunnel)  # all that is asked of one once its answer has begun
        tunnel.open()
        if early:
            self.relay_body(early)

    def relay_head(self, head: ResponseHead, data: bytes | memoryview, at: int, *, endless: bool = False) -> None:
        """Send the head on, and data[at:] of its body; data[:at] is nothing, or the head as it came."""
        sent = head.sent
        if 300 <= head.status < 500:
            if (reason := self._misfit(head.status)) is not None:
                self._drop_upstream()
                self._refuse(reason)
                return
            if head.status < 400 and (stripped := self._forward.route.stripped):
                sent = restore_location(sent, stripped)
        self._kept = None
        self.status = head.status
        if endless or not self.request_done or self._relay.draining:
            self.closes = True
        if self.client.hsts and b"\r\nstrict-transport-security:" not in sent.lower():
            sent += self.client.hsts
        self.bytes_out += len(data) - at
        if at and head.is_verbatim and not self.closes and sent is head.sent:
            self.client.send_answer(data)
        else:
            last = b"Connection: close\r\n\r\n" if self.closes else b"\r\n"
            self.client.send_answer(b"".join((sent, last, memoryview(data)[at:])))

    def relay_body(self, data: bytes | memoryview) -> None:
        self.bytes_out += len(data)
        self.client.send_answer(data)

    def answered(self, *, reusable: bool) -> None:
        """The answer is whole."""
        upstream = self._upstream
        if upstream is None:
            return
        self._upstream = None
        now = monotonic()
        if reusable and self.request_done and not self.upstream_closes and not self._relay.draining:
            upstream.release(now)
        else:
            upstream.abort()
        self._end(_OK, now)
        self.client.exchange_ended(now, close=self.closes)

    def upstream_broke(self, reason: Reason, *, silent: bool) -> None:
        """The upstream's connection ended before the answer did; `silent`: before its first byte."""
        upstream, self._upstream = self._upstream, None
        if self._gone:
            return
        if self.status:
            # What was sent of the answer cannot be taken back; the client must see that it is cut.
            self._end(reason)
            self.client.cut()
        elif silent and self._kept is not None and upstream is not None and self._may_repeat(upstream):
            kept, self._kept = self._kept, None  # once
            upstream.pool.retries += 1
            self.client.hold_reading()
            self._connect(kept)
        else:
            self._refuse(reason)

    def stop(self, reason: Reason) -> None:
        """End it from here: neither side may take what it got for the whole."""
        self._drop_upstream()
        if self.status:
            self._end(reason)
            self.client.cut()
        else:
            self._refuse(reason)

    def pause_answer(self) -> None:
        if self._upstream is not None:
            self._upstream.reading.hold()

    def resume_answer(self) -> None:
        if self._upstream is not None:
            self._upstream.reading.go_on()

    # inside

    def _misfit(self, status: int) -> Reason | None:
        """Why an answer is kept from the client: it would take for itself what is meant for us, or be misled.

        A sender follows a redirect with a GET, is told 200 by some page, and takes its samples for stored. A 401
        judges a login, and no client's goes on: what was judged is ours, or that we have none. A sender would drop its
        samples for it, and a browser show its password to the wrong one. A 403 judges what may be done, which on a
        plain route is the client's to know; of writes the gate has judged the sender, so it is our account that may
        not write, and no sender need lose samples for that.
        """
        writes = self._forward.route.kind is _REMOTE_WRITE
        if status in _REDIRECTS:
            return Reason.UPSTREAM_REDIRECTS if writes else None
        files = self._backend.files
        login = b"" if files is None else files.line
        if not ((status in _ASKS_LOGIN and (login or writes)) or (status == 403 and login and writes)):
            return None
        if self._upstream is not None:
            self._upstream.pool.note_login(status, monotonic())
        if files is not None:
            self._relay.start(files.read_again(), lambda: None)
        return Reason.UPSTREAM_LOGIN

    def _may_repeat(self, upstream: UpstreamConnection) -> bool:
        """A used connection may have been dead before we wrote; on a fresh one the upstream has seen the request."""
        return upstream.used or self.head.method in _REPEATABLE

    def _take(self, data: bytes, at: int) -> tuple[bytes | memoryview, int] | None:
        """(What may go on, where the body ends in `data` or -1); None when the request was refused for its body."""
        try:
            taken = self._body.feed(data, at)
        except Unlawful:
            self.stop(Reason.UNLAWFUL)
            return None
        if self._body.size > self._forward.route.max_body_bytes:
            self.stop(Reason.BODY_TOO_LARGE)
            return None
        return taken

    def _first_bytes(self, body: bytes | memoryview) -> list[bytes | memoryview]:
        head, route, told, files = self.head, self._forward.route, self._forward.told, self._backend.files
        line = strip_line(head.line, route.stripped) if route.stripped else head.line.sent
        if files is not None:
            told += files.line
        if route.telling is not None and route.telling.quoted:
            told += certificate_line(self.client, self._relay.clock.machine()) + login_line(head.cookies)
        pieces = upstream_head(head, line, told, self.client.peer_lines)
        size = len(body)
        if 0 < size <= _JOINED_BYTES:
            pieces.append(body)
        first: list[bytes | memoryview] = [b"".join(pieces)]
        if size > _JOINED_BYTES:
            first.append(body)
        self.bytes_in += size
        if route.kind is _REMOTE_WRITE and head.method == b"POST":
            keeps = size <= _REPLAY_BYTES
        else:
            keeps = head.method in _REPEATABLE and not head.has_body
        if keeps:
            self._kept = first.copy()
        return first

    def _keep(self, data: bytes | memoryview) -> None:
        if self._kept is not None:
            self._kept.append(data)
            if self.bytes_in > _REPLAY_BYTES:
                self._kept = None

    def _connect(self, to_send: list[bytes | memoryview]) -> None:
        self._pending = to_send
        self._connecting = self._relay.start(self._connected(), self.client.cut)

    async def _connected(self) -> None:
        upstream = await self._backend.connect(self._relay.gate.snapshot.timeouts.connect)
        self._connecting = None
        if isinstance(upstream, Reason):
            self._refuse(upstream)
            return
        self._upstream = upstream
        pending, self._pending = self._pending, []
        self.client.continue_reading()
        upstream.begin(self, pending)  # which may put the client on hold again

    def _drop_upstream(self) -> None:
        upstream, self._upstream = self._upstream, None
        if upstream is not None:
            upstream.abort()

    def _refuse(self, reason: Reason) -> None:
        """Tell the client ourselves; nothing of an answer was sent yet."""
        deny = Deny(reason, self._forward.route, identity=self._forward.identity)
        close = self.closes or not self.request_done or self._relay.draining
        self.status, self.request_id = self.client.send_own(deny, self.head, close=close)
        self._end(reason)
        self.client.exchange_ended(monotonic(), close=close)

    def _end(self, reason: Reason, now: float | None = None) -> None:
        if self._gone:
            return
        self._gone = True
        if self._forward.place is not None:
            self._forward.place.give_back()
        self._kept = None
        if self._connecting is not None:
            self._connecting.cancel()
        now = monotonic() if now is None else now
        self.client.exchange = None
        report_exchange(self._relay, self, self._forward, reason, self._started, now)
