"""The TLS layers that were weighed against each other, each under the same small server: `python -m bench.tls_servers`.

`shared-bio` is promgate's own (proxy/relay/tls.py); the others are as short as they can be and still be measured,
and lack what a server needs (deadlines, close_notify, bounds). docs/tls.md says what came of it.
"""

from __future__ import annotations

import asyncio
import gc
import socket
import ssl
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import uvloop

from proxy.pki.context import build_server_context
from proxy.relay.tls import TlsListener

if TYPE_CHECKING:
    from proxy.pki.groups import ServerContext

PIECE = bytes(256_000)  # what uvloop reads at once from an upstream
SMALL = b"HTTP/1.1 200 OK\r\nContent-Length: 1024\r\n\r\n" + bytes(1024)
TAKEN = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"
WRITE_LIMIT = 262144
RECORD = 16384


class Answerer(asyncio.Protocol):
    """GET / gives 1 KB, GET /<n> n bytes in big writes with back-pressure, POST takes a body."""

    __slots__ = ("body_left", "buffer", "left", "paused", "transport")

    def connection_made(self, transport: Any) -> None:
        self.transport = transport
        self.buffer, self.body_left, self.left, self.paused = b"", 0, 0, False
        transport.set_write_buffer_limits(WRITE_LIMIT)

    def data_received(self, data: bytes) -> None:
        if self.body_left:
            self.body_left -= len(data)
            if not self.body_left:
                self.transport.write(TAKEN)
            return
        data = self.buffer + data
        end = data.find(b"\r\n\r\n")
        if end < 0:
            self.buffer = data
            return
        self.buffer = b""
        if data.startswith(b"GET / "):
            self.transport.write(SMALL)
        elif data.startswith(b"GET /"):
            self.left = int(data[5 : data.index(b" ", 5)])
            self.transport.write(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % self.left)
            self.resume_writing()
        else:
            at = data.lower().index(b"content-length: ") + 16
            self.body_left = int(data[at : data.index(b"\r", at)]) - (len(data) - end - 4)
            if not self.body_left:
                self.transport.write(TAKEN)

    def pause_writing(self) -> None:
        self.paused = True

    def resume_writing(self) -> None:
        self.paused = False
        while self.left and not self.paused:
            piece = PIECE[: self.left]
            self.left -= len(piece)
            self.transport.write(piece)


class OwnBios(asyncio.Protocol):
    """A pair of BIOs per connection, filled in slices of `slice_bytes` so that they stay small."""

    def __init__(self, context: ssl.SSLContext, slice_bytes: int) -> None:
        self.incoming, self.outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        self.tls: Any = context.wrap_bio(self.incoming, self.outgoing, server_side=True)
        self.slice_bytes = slice_bytes
        self.inner = Answerer()
        self.open = False

    def connection_made(self, transport: Any) -> None:
        self.transport = transport
        self.set_write_buffer_limits = transport.set_write_buffer_limits
        self.pause_writing, self.resume_writing = self.inner.pause_writing, self.inner.resume_writing

    def write(self, data: bytes) -> None:
        view, parts = memoryview(data), []
        for at in range(0, len(view), self.slice_bytes):
            self.tls.write(view[at : at + self.slice_bytes])
            parts.append(self.outgoing.read())
        self.transport.write(b"".join(parts))

    def data_received(self, data: bytes) -> None:
        view, parts = memoryview(data), []
        for at in range(0, len(view), self.slice_bytes):
            self.incoming.write(view[at : at + self.slice_bytes])
            try:
                if not self.open:
                    self._shake_hands()
                self._read(parts)
            except ssl.SSLWantReadError:
                continue
            except ssl.SSLError:
                self.transport.close()
                return
        if parts:
            self.inner.data_received(b"".join(parts))

    def _shake_hands(self) -> None:
        try:
            self.tls.do_handshake()
        finally:
            if self.outgoing.pending:
                self.transport.write(self.outgoing.read())
        self.open, self.tls = True, self.tls._sslobj  # noqa: SLF001 - as promgate does
        self.inner.connection_made(self)

    def _read(self, parts: list[bytes]) -> None:
        while part := self.tls.read(RECORD):
            parts.append(part)
            if not self.incoming.pending:
                return
        self.transport.close()


class NonBlockingSocket:
    """`SSLSocket` on the loop's `add_reader` and `add_writer`: OpenSSL makes the system calls, one or two a record."""

    def __init__(self, loop: asyncio.AbstractEventLoop, plain: socket.socket, context: ssl.SSLContext) -> None:
        self.loop = loop
        self.socket = context.wrap_socket(plain, server_side=True, do_handshake_on_connect=False)
        self.inner = Answerer()
        self.waiting: list[memoryview] = []
        loop.add_reader(self.socket, self._shake_hands)

    def set_write_buffer_limits(self, _high: int) -> None:
        """It pauses as soon as the kernel's buffer is full."""

    def _shake_hands(self) -> None:
        try:
            self.socket.do_handshake()
        except ssl.SSLWantReadError:
            return
        except OSError:
            self._close()
            return
        self.tls: Any = self.socket._sslobj  # noqa: SLF001 - as promgate does
        self.inner.connection_made(self)
        self.loop.add_reader(self.socket, self._read)
        self._read()

    def _read(self) -> None:
        parts = []
        try:
            while part := self.tls.read(RECORD):
                parts.append(part)
                if len(part) < RECORD:
                    break
            else:
                self._close()
                return
        except ssl.SSLWantReadError:
            pass
        except OSError:
            self._close()
            return
        if parts:
            self.inner.data_received(b"".join(parts))

    def write(self, data: bytes) -> None:
        self.waiting.append(memoryview(data))
        if len(self.waiting) == 1 and not self._flush():
            self.loop.add_writer(self.socket, self._writable)
            self.inner.pause_writing()

    def _flush(self) -> bool:
        """Whether all is sent. A write that has to wait is repeated with the same bytes (SSL_write(3))."""
        try:
            while self.waiting:
                while view := self.waiting[0]:
                    self.waiting[0] = view[self.tls.write(view[:RECORD]) :]
                del self.waiting[0]
        except ssl.SSLWantWriteError:
            return False
        except OSError:
            self._close()
        return True

    def _writable(self) -> None:
        if self._flush() and self.socket.fileno() >= 0:
            self.loop.remove_writer(self.socket)
            self.inner.resume_writing()

    def _close(self) -> None:
        self.waiting.clear()
        self.loop.remove_reader(self.socket)
        self.loop.remove_writer(self.socket)
        self.socket.close()


async def serve(layer: str, port: int, ours: ServerContext) -> None:
    loop, context = asyncio.get_running_loop(), ours.x25519
    where: Any = {"host": "127.0.0.1", "port": port, "backlog": 4096}
    match layer.split("-"):
        case ["shared", "bio"]:
            await loop.create_server(TlsListener(ours, Answerer).connection, **where)
        case ["own", "bios", size]:
            await loop.create_server(lambda: OwnBios(context, int(size) * 1024), **where)
        case ["loop", "ssl"]:
            await loop.create_server(Answerer, ssl=context, **where)
        case ["ssl", "socket"]:
            listening = socket.create_server(("127.0.0.1", port), backlog=4096)
            listening.setblocking(False)
            loop.add_reader(listening, _accept, loop, listening, context)
    gc.collect()
    gc.freeze()
    await asyncio.Event().wait()


def _accept(loop: asyncio.AbstractEventLoop, listening: socket.socket, context: ssl.SSLContext) -> None:
    for _ in range(64):
        try:
            accepted, _ = listening.accept()
        except BlockingIOError:
            return
        accepted.setblocking(False)
        accepted.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        NonBlockingSocket(loop, accepted, context)


if __name__ == "__main__":
    layer, loop_name, port, cert, key = sys.argv[1:]
    served = serve(layer, int(port), build_server_context(Path(cert), Path(key), ssl.TLSVersion.TLSv1_2))
    (uvloop.run if loop_name == "uvloop" else asyncio.run)(served)
