"""The telemetry listener: /metrics, /-/healthy and /-/ready, for machines that are trusted to look and no more.

It reads as strictly as the public listener (the same `wire/`), answers one request at a time, and keeps nothing: a
connection too many costs the one its place that has been silent longest, so that no idler can keep a scrape out.
"""

from __future__ import annotations

import asyncio
from time import monotonic
from typing import TYPE_CHECKING, Any

from proxy.background import begin
from proxy.gate.reply import build_answer, build_refusal
from proxy.tokens.ports import Asked
from proxy.wire.head import RequestMemo, admit_request, find_head_end
from proxy.wire.unlawful import Unlawful

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Sequence

    from proxy.wire.head import RequestHead

MAX_CONNECTIONS = 64
HEAD_S = 10.0
#: Go's clients close at 5m, so that they, not we, end a connection.
IDLE_S = 330.0
SEND_S = 10.0
RELOAD_S = 60.0
#: Whoever scrapes as fast as it can gets the same page again: a page is the only dear thing here.
PAGE_LIVES_S = 0.25
_AHEAD_BYTES = 64 * 1024
_TAKEN = frozenset({b"GET", b"HEAD"})
#: As Prometheus.
_RELOADING = frozenset({b"POST", b"PUT"})
_PATHS = frozenset({b"/metrics", b"/-/healthy", b"/-/ready"})


class Telemetry:
    """`build_page` makes the answer to /metrics, of `content_type`; `unready` names what is missing, or nothing.

    `reload` gives what reads the configuration now, for who asks, and tells what keeps it from being taken; None:
    nobody may ask for it here, or not just now.
    """

    def __init__(
        self,
        build_page: Callable[[], bytes],
        content_type: str,
        unready: Callable[[], str],
        reload: Callable[[], Callable[[Asked], Awaitable[Sequence[str]]] | None] = lambda: None,
        max_connections: int = MAX_CONNECTIONS,
    ) -> None:
        self._build_page = build_page
        self._content_type = content_type
        self._unready = unready
        self._reload = reload
        self._max_connections = max_connections
        self._page = b""
        self._page_at = -PAGE_LIVES_S
        self._server: asyncio.Server | None = None
        self.memo = RequestMemo(frozenset())  # never told to keep: who asks here is nobody we know
        self.connections: dict[_Connection, None] = {}  # in the order of their last request

    async def open(self, host: str, port: int) -> None:
        """OSError names the address when it cannot be had."""
        loop = asyncio.get_running_loop()
        try:
            self._server = await loop.create_server(lambda: _Connection(self), host or None, port)
        except OSError as error:
            why = error.strerror or error
            raise OSError(error.errno, f"cannot listen on {host}:{port} (telemetry): {why}") from error

    def close(self) -> None:
        if self._server is not None:
            self._server.close()
        for connection in list(self.connections):
            connection.cut()

    def note(self, connection: _Connection) -> None:
        """It is new, or has asked something: it is the last one to make room."""
        self.connections.pop(connection, None)
        self.connections[connection] = None
        if len(self.connections) > self._max_connections:
            next(iter(self.connections)).cut()

    def answer(self, head: RequestHead, *, close: bool) -> bytes:
        head_only = head.method == b"HEAD"
        fields: list[str] = []
        if head.path not in _PATHS:
            status, text = 404, "promgate: /metrics, /-/healthy and /-/ready are here"
        elif head.method not in _TAKEN:
            status, text, fields = 405, "promgate: only GET and HEAD are taken here", ["Allow: GET, HEAD"]
        elif head.path == b"/metrics":
            return self._metrics(close=close, head_only=head_only)
        elif head.path == b"/-/ready" and (missing := self._unready()):
            status, text = 503, f"not ready: {missing}"
        else:
            status, text = 200, "ok"
        return build_answer(status, text, fields, close=close, head_only=head_only)

    def asks_reload(self, head: RequestHead) -> bool:
        return head.path == b"/-/reload" and head.method in _RELOADING and self._reload() is not None

    async def reload(self, head: RequestHead, address: str) -> bytes:
        """The answer to a reload that was asked for. A page in a browser may not ask: it has an Origin (RFC 6454 7)."""
        reload = self._reload()
        if reload is None:
            return build_answer(404, "promgate: nobody may ask for it here", [], close=True)
        if any(line[:7].lower() == b"origin:" for line in head.fields.split(b"\r\n")):
            return build_answer(403, "promgate: not from a browser", [], close=True)
        problems = await reload(Asked("anyone", "telemetry", address, "reload"))
        if problems:
            text = "\n".join(("promgate: not taken, the one before it serves", *problems))
            return build_answer(500, text, [], close=True)
        return build_answer(200, "reloaded", [], close=True)

    def _metrics(self, *, close: bool, head_only: bool) -> bytes:
        now = monotonic()
        if now - self._page_at >= PAGE_LIVES_S:
            self._page, self._page_at = self._build_page(), now
        lines = ["HTTP/1.1 200 OK", f"Content-Type: {self._content_type}", f"Content-Length: {len(self._page)}"]
        if close:
            lines.append("Connection: close")
        return "\r\n".join([*lines, "", ""]).encode() + (b"" if head_only else self._page)


class _Connection(asyncio.Protocol):
    """One client. `_ended`: its last answer is sent, and what still comes is thrown away."""

    __slots__ = ("_buffer", "_choked", "_ended", "_reloading", "_searched", "_telemetry", "_timer", "_transport")

    def __init__(self, telemetry: Telemetry) -> None:
        self._telemetry = telemetry
        self._buffer = b""
        self._searched = 0
        self._choked = False
        self._ended = False
        self._reloading: asyncio.Task[None] | None = None
        self._timer: asyncio.TimerHandle | None = None

    def connection_made(self, transport: Any) -> None:
        self._transport = transport
        transport.set_write_buffer_limits(high=0)  # an answer is either gone, or `pause_writing` says that it waits
        self._within(HEAD_S)
        self._telemetry.note(self)

    def connection_lost(self, _exc: Exception | None) -> None:
        self._ended = True
        self._telemetry.connections.pop(self, None)
        if self._reloading is not None:
            self._reloading.cancel()  # nobody is told; the reload itself goes on
        if self._timer is not None:
            self._timer.cancel()

    def data_received(self, data: bytes) -> None:
        if self._ended:
            return
        if not self._buffer and not self._choked:
            self._within(HEAD_S)
        self._buffer += data
        if len(self._buffer) > _AHEAD_BYTES:
            self.cut()  # asks on and on, and takes no answer
        elif not self._choked:
            self._next()

    def pause_writing(self) -> None:
        self._choked = True
        self._within(SEND_S)

    def resume_writing(self) -> None:
        self._choked = False
        if not self._ended:
            self._within(IDLE_S)
            self._next()

    def cut(self) -> None:
        self._ended = True
        self._telemetry.connections.pop(self, None)
        self._transport.abort()

    def _next(self) -> None:
        """Answer the first request that is whole. Those behind it wait for the next turn of the loop."""
        if self._ended or self._choked or not self._buffer:
            return
        try:
            end = find_head_end(self._buffer, self._searched)
            if end < 0:
                self._searched = len(self._buffer)
                return
            head = admit_request(self._buffer, end, self._telemetry.memo)
        except Unlawful as wrong:
            self._end(build_refusal(wrong.status, wrong.text))
            return
        self._buffer, self._searched = self._buffer[end + 4 :], 0
        self._telemetry.note(self)
        if self._telemetry.asks_reload(head):
            self._ended = True
            self._within(RELOAD_S)
            self._reloading = begin(self._reload(head))
            return
        close = head.close or head.has_body  # a body is no part of any question here: it is not read
        answer = self._telemetry.answer(head, close=close)
        if close:
            self._end(answer)
            return
        self._within(HEAD_S if self._buffer else IDLE_S)
        self._transport.write(answer)
        if self._buffer:
            asyncio.get_running_loop().call_soon(self._next)

    async def _reload(self, head: RequestHead) -> None:
        peer = self._transport.get_extra_info("peername")
        self._end(await self._telemetry.reload(head, str(peer[0]) if peer else ""))

    def _end(self, answer: bytes) -> None:
        """The last answer. Closing before the client does could take it back by a reset (RFC 9112 9.6)."""
        self._ended = True
        self._buffer = b""
        self._within(SEND_S)
        self._transport.write(answer)
        self._transport.write_eof()

    def _within(self, seconds: float) -> None:
        """Whatever is waited for has this long from now."""
        if self._timer is not None:
            self._timer.cancel()
        self._timer = asyncio.get_running_loop().call_later(seconds, self.cut)
