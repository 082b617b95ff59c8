"""One client connection: bytes in, heads to the gate, bodies to the exchange, one request at a time.

It reads like a table of states: HEAD (between requests), BODY (a body passes), WAIT (the request is whole, its answer
is not), HOLD (a fact or an upstream is awaited; bytes wait), LINGER (answered before the body was read: what still
comes is thrown away, never parsed). Data may arrive in any state: what was read does not stop at pause_reading().
"""

from __future__ import annotations

import asyncio
import math
from time import monotonic
from typing import TYPE_CHECKING, Any

from proxy.gate.credentials import LastShown
from proxy.gate.decision import Deny, Forward, Inquire, Inquiry, Need, Reason
from proxy.gate.edits import peer_lines, with_line
from proxy.gate.inquiry import read_inquiry
from proxy.gate.reply import build_refusal
from proxy.relay.exchange import Exchange
from proxy.relay.judging import find_verdict
from proxy.relay.outflow import Outflow
from proxy.relay.own import build_own
from proxy.relay.pace import BodyPace
from proxy.relay.reading import Reading, peer_address, peer_certificate
from proxy.relay.report import report_answer, report_bytes
from proxy.relay.upstream import WRITE_LIMIT
from proxy.wire.head import admit_request, find_head_end
from proxy.wire.unlawful import Unlawful

if TYPE_CHECKING:
    from proxy.gate.credentials import Shown
    from proxy.gate.decision import Local, Ruling, Verdict
    from proxy.relay.context import RelayContext
    from proxy.wire.head import RequestHead

_HEAD, _BODY, _WAIT, _HOLD, _LINGER, _CLOSED = range(6)
#: What a client may send ahead (pipelining) before it is asked to pause.
_AHEAD_BYTES = 64 * 1024
#: What is read and thrown away after an early answer, so that the answer is not lost to a reset.
_LINGER_BYTES = 256 * 1024
#: Answers of our own to one connection before others have their turn.
_ANSWERS_AT_ONCE = 32
_CONTINUE = b"HTTP/1.1 100 Continue\r\n\r\n"
_LAST_CALL_S = 0.5  # for a request that is on its way when its connection is to be closed for a drain


class ClientConnection(asyncio.Protocol):
    """Sits on a plain transport or on a TLS connection; both look alike from here."""

    __slots__ = (
        "_buffer", "_eof", "_forgiven", "_out", "_pace", "_reading", "_relay", "_scheme",
        "_settling", "_spare", "_state", "deadline", "exchange", "hsts", "ip", "last_shown", "peer", "peer_lines",
    )  # fmt: skip

    def __init__(self, relay: RelayContext, scheme: str) -> None:
        self._relay = relay
        self._scheme = scheme
        self._state = _HEAD
        self._buffer = b""
        self._eof = False
        self._forgiven = False
        self._settling: asyncio.Task[None] | None = None
        self.exchange: Exchange | None = None
        self.deadline = math.inf

    def connection_made(self, transport: Any) -> None:
        relay = self._relay
        self._reading = Reading(transport)
        self._out = Outflow(transport)
        transport.set_write_buffer_limits(high=WRITE_LIMIT)
        self.peer = self.ip = peer_address(transport)
        self.peer_lines = peer_lines(self.ip, self._scheme)
        self.hsts = relay.gate.snapshot.hsts if self._scheme == "https" else b""
        self.deadline = monotonic() + relay.gate.snapshot.timeouts.header
        self.last_shown = LastShown(peer_certificate(transport, relay.trust))
        if not relay.admit(self):
            self._state = _CLOSED
            transport.abort()

    def connection_lost(self, _exc: Exception | None) -> None:
        self._relay.forget(self)
        self._state = _CLOSED
        self._end_exchange(Reason.CLIENT_GONE)

    def eof_received(self) -> bool:
        """It may have gone, or only closed its side after a whole request (RFC 9112 9.6): each piece gets `linger`."""
        self._eof = True
        if self._state == _HEAD:
            self._next_request()  # a head that is not whole is cut there
        if self._state == _WAIT and not self._out.choked:
            self.deadline = monotonic() + self._relay.gate.snapshot.timeouts.linger
        if self._state in {_HOLD, _WAIT} or self._buffer:
            return True
        if self._state == _BODY:
            self.cut()
        elif self._state != _CLOSED:
            self._close()  # what it is owed goes first
        return False

    def pause_writing(self) -> None:
        self._out.choke()
        self.deadline = monotonic() + self._relay.gate.snapshot.timeouts.send
        if self.exchange is not None:
            self.exchange.pause_answer()

    def resume_writing(self) -> None:
        if self._state == _CLOSED:
            return  # until the last byte
        self._out.choked = False
        now = monotonic()
        if self.exchange is not None:
            self.deadline = now + self._relay.gate.snapshot.timeouts.stream
            self.exchange.resume_answer()
        elif self._state == _HEAD:
            self.deadline = now + self._relay.gate.snapshot.timeouts.idle
            self._go_on()

    def data_received(self, data: bytes) -> None:
        state = self._state
        try:
            if state == _HEAD:
                self._heads(data)
            elif state == _BODY:
                self._body_data(data)
            elif state == _LINGER:
                self._spare -= len(data)
                if self._spare < 0:
                    self._close()
            elif state != _CLOSED:
                self._buffer += data
                if len(self._buffer) > _AHEAD_BYTES:
                    self.hold_reading()
        except Unlawful as wrong:
            self._unlawful(wrong)

    def _heads(self, data: bytes) -> None:
        """Work through whole heads in `data` until one opens a body, waits, or is not whole yet."""
        begun = searched = len(self._buffer)
        if searched:
            data = self._buffer + data
            self._buffer = b""
        answered = 0
        while data:
            if self._out.choked or answered == _ANSWERS_AT_ONCE:
                self._buffer = data  # who takes no answers is not asked for more; who asks for many lets others in
                self.hold_reading()
                asyncio.get_running_loop().call_soon(self._go_on)
                return
            answered += 1
            if data[0] == 13 and data[:2] == b"\r\n" and len(data) > 2 and not self._forgiven:
                self._forgiven = True
                data = data[2:]  # RFC 9112 2.2: one empty line before a request is forgiven
                searched = max(0, searched - 2)
            end = find_head_end(data, searched)
            if end < 0:
                if self._eof:
                    self.cut()
                    return
                if not begun:
                    self.deadline = monotonic() + self._relay.gate.snapshot.timeouts.header
                self._buffer = data
                return
            self._forgiven = False
            data = self._request(data, end)
            if self._state != _HEAD:
                self._buffer += data
                return
            begun = searched = 0

    def _request(self, data: bytes, end: int) -> bytes:
        """Act on the request whose head is data[:end]; what is left of `data` is still to be read."""
        now = monotonic()
        relay = self._relay
        head = admit_request(data, end, relay.request_memo, self.last_shown.line)
        shown = self.last_shown.read(head)
        gate = relay.gate
        if gate.proxies is not None:
            self.ip, self.peer_lines = gate.proxies.read(data[:end], self.peer, self._scheme)
        decision = gate.decide(head, shown, self.ip, now, relay.clock.at(now))
        if decision.__class__ is Forward and not decision.wait_s:
            if relay.request_memo.is_fresh:
                relay.remember(head, self.peer)
            if head.authorization is not None:
                self.last_shown.keep(head, shown)
            return self._forward(head, decision, data, end + 4, now)
        rest = data[end + 4 :]
        if isinstance(decision, Inquire):
            inquiry = read_inquiry(decision, data[:end], head, gate.proxies, self.peer, relay.request_memo)
            return self._otherwise(head, shown, inquiry, rest, now)
        return self._otherwise(head, shown, decision, rest, now)

    def _forward(self, head: RequestHead, forward: Forward, data: bytes, at: int, now: float) -> bytes:
        """Open the exchange and give it what data[at:] holds of the body; the bytes after the body are returned."""
        exchange = self.exchange = Exchange(self, self._relay, head, forward, now)
        timeouts = self._relay.gate.snapshot.timeouts
        self.deadline = now + (timeouts.linger if self._eof else timeouts.response)
        if head.expects and at == len(data):
            self._out.send(_CONTINUE)
        self._state = _BODY if head.has_body else _WAIT
        end = exchange.open(data, at)
        if end < 0:
            self._pace = BodyPace(now)
            self._body_goes_on(len(data) - at)
            return b""
        if self._state == _BODY:
            self._state = _WAIT
        return data[end:]

    def _otherwise(
        self, head: RequestHead, shown: Shown | None, decision: Verdict | Need | Inquiry, rest: bytes, now: float
    ) -> bytes:
        if isinstance(decision, (Need, Forward, Inquiry)):
            self._state = _HOLD
            self.deadline = math.inf  # what is asked for has its own
            if len(rest) > _AHEAD_BYTES:  # else go on reading: only so can be seen that the client leaves
                self.hold_reading()
            self._settling = self._relay.start(self._settle(head, shown, decision), self.cut)
            return rest
        return self._answer(head, decision, rest, now)

    async def _settle(self, head: RequestHead, shown: Shown | None, decision: Need | Forward | Inquiry) -> None:
        started = monotonic()
        try:
            verdict = await find_verdict(self._relay, head, shown, self.ip, decision)
        except asyncio.CancelledError:
            report_answer(self._relay, self, head, Deny(Reason.CLIENT_GONE, decision.route), 0, started)
            if self._state != _CLOSED:  # nobody here asked for it, and without an answer its client would wait for ever
                self.cut()
            raise
        self._settling = None
        rest, self._buffer, self._state = self._buffer, b"", _HEAD
        self.continue_reading()  # before the exchange begins: its upstream may put it on hold again
        if isinstance(verdict, Forward):
            self._buffer = self._forward(head, verdict, rest, 0, monotonic())
        else:
            self._buffer = self._answer(head, verdict, rest, monotonic())
        if self._state == _HEAD:
            self._next_request()
        elif self._state == _BODY and self._eof:
            self.cut()

    def _answer(self, head: RequestHead, decision: Deny | Local | Ruling, rest: bytes, now: float) -> bytes:
        """Answer it ourselves. A body that is not all here yet is never parsed: the connection ends."""
        whole = not head.chunked and head.length <= len(rest)
        last = self._eof and len(rest) <= max(head.length, 0)
        close = head.close or not whole or last or self._relay.draining or decision.reason is Reason.CERTIFICATE_ENDED
        status, request_id = self.send_own(decision, head, close=close)
        report_answer(self._relay, self, head, decision, status, now, request_id)
        if close:
            self._linger(whole=whole or head.expects)  # who waits for our 100 sends no body after a refusal
            return b""
        if not self._out.choked:
            self.deadline = now + self._relay.gate.snapshot.timeouts.idle
        return rest[max(head.length, 0) :]

    def send_own(self, decision: Deny | Local | Ruling, head: RequestHead, *, close: bool) -> tuple[int, int]:
        """Answer it ourselves: (the status that was told, the request's id)."""
        status, request_id, answer = build_own(self._relay, head, decision, close=close)
        self._out.send(with_line(answer, self.hsts))
        return status, request_id

    def _body_data(self, data: bytes) -> None:
        assert self.exchange is not None
        end = self.exchange.relay_request(data)
        if end < 0:
            self._body_goes_on(len(data))
        elif self._state == _BODY:
            self._state = _WAIT
            self._buffer = data[end:]
            self.deadline = monotonic() + self._relay.gate.snapshot.timeouts.response

    def _body_goes_on(self, size: int) -> None:
        if self._reading.on:
            self.deadline = self._pace.deadline(size, self._relay.gate.snapshot)

    # the answer, from the exchange

    def send_answer(self, data: bytes | memoryview) -> None:
        self._out.send(data)
        if not self._out.choked:
            timeouts = self._relay.gate.snapshot.timeouts
            self.deadline = monotonic() + (timeouts.linger if self._eof else timeouts.stream)

    def exchange_ended(self, now: float, *, close: bool) -> None:
        """The answer is sent, whole: on to the next request, or the end."""
        if self._state == _CLOSED:
            return
        if close or (self._eof and not self._buffer):
            self._linger(whole=self._state == _WAIT)
            return
        self._state = _HEAD
        if self._out.choked:
            return  # the deadline for taking what was sent is running; `resume_writing` goes on
        self.deadline = now + (_LAST_CALL_S if self._relay.draining else self._relay.gate.snapshot.timeouts.idle)
        if self._buffer:  # not from within: a thousand requests sent ahead would be a thousand frames deep
            asyncio.get_running_loop().call_soon(self._next_request)
        if not self._reading.on:
            self.continue_reading()

    def hold_reading(self) -> None:
        self._reading.hold()
        if self._state == _BODY:
            self.deadline = monotonic() + self._relay.gate.snapshot.timeouts.response

    def continue_reading(self) -> None:
        if self._state == _BODY and not self._reading.on:
            self._pace.begin(monotonic())
            self.deadline = self._pace.deadline(0, self._relay.gate.snapshot)
        self._reading.go_on()

    def cut(self) -> None:
        """End it so that the client sees a cut, not an end."""
        self._state = _CLOSED
        self.deadline = math.inf
        self._end_exchange(Reason.CLIENT_GONE)
        self._out.reset()

    def leave(self) -> tuple[Reading, Outflow, bytes, bool]:
        """Give the transport up to a tunnel: both ways of it, what was sent ahead, and whether that was the last."""
        self._state, self.exchange = _CLOSED, None
        return self._reading, self._out, self._buffer, self._eof

    # deadlines, from the sweep

    def expire(self, now: float) -> None:
        """The deadline has passed: whoever was waited for has lost the right to it."""
        timeouts = self._relay.gate.snapshot.timeouts
        if self._state == _LINGER:
            self._close()
        elif self._out.choked:
            if self._out.took(self._relay.gate.snapshot.bounds.body_min_rate_bytes * timeouts.send):
                self.deadline = now + timeouts.send  # slow, but it reads
            else:
                self._late(now)
        elif self._state == _HEAD and not self._buffer:
            self._close()
        elif self._eof:
            self.cut()
        elif self.exchange is not None and (self._state == _WAIT or not self._reading.on):
            self.deadline = now + timeouts.response
            self.exchange.stop(Reason.UPSTREAM_LATE)
        else:
            self._late(now)

    def drain(self, *, last_call: bool = True) -> None:
        """Between requests: close, after a last call. Within one: close after it."""
        if self._state == _HEAD and not self._buffer:
            if self._out.choked or not last_call:
                self._close()
            else:
                self.deadline = min(self.deadline, monotonic() + _LAST_CALL_S)
        elif self.exchange is not None and not self.exchange.status:  # else it was told that it may go on: a last call
            self.exchange.closes = True

    def _late(self, now: float) -> None:
        if self.exchange is not None:
            self._end_exchange(Reason.CLIENT_LATE)
        elif self._state == _HEAD:
            report_bytes(self._relay, self.peer, Reason.CLIENT_LATE, 0, now)
        self.cut()

    def _go_on(self) -> None:
        if self._state == _HEAD and not self._out.choked:
            self.continue_reading()
            self._next_request()

    def _next_request(self) -> None:
        if self._state == _HEAD and self._buffer:
            data, self._buffer = self._buffer, b""
            self.data_received(data)

    def _unlawful(self, wrong: Unlawful) -> None:
        self._out.send(build_refusal(wrong.status, wrong.text))
        report_bytes(self._relay, self.peer, Reason.UNLAWFUL, wrong.status, monotonic())
        self._linger(whole=False)

    def _linger(self, *, whole: bool) -> None:
        """Nothing more is answered here. What is still on its way in is thrown away, within bounds."""
        if whole and not self._buffer:
            self._close()
            return
        self._buffer = b""
        self._state = _LINGER
        self._spare = _LINGER_BYTES
        self.deadline = monotonic() + self._relay.gate.snapshot.timeouts.linger
        self.continue_reading()

    def _close(self) -> None:
        self._state, self._buffer = _CLOSED, b""
        self._out.close()
        timeouts = self._relay.gate.snapshot.timeouts
        self.deadline = monotonic() + (timeouts.send if self._out.choked else timeouts.linger)

    def _end_exchange(self, reason: Reason) -> None:
        if self._settling is not None:
            self._settling.cancel()
        if self.exchange is not None:
            self.exchange.cancel(reason)
