"""One end of a TCP connection in the test's hand: what is sent, when it is read, and how it ends."""

from __future__ import annotations

import asyncio
import socket
import struct
from dataclasses import dataclass, field
from typing import Self


class Cut(Exception):
    """The message ended before its own framing said so. `part` is what there was of it."""

    def __init__(self, part: bytes) -> None:
        super().__init__(f"cut after {len(part)} bytes: {part[:200]!r}")
        self.part = part


@dataclass
class Message:
    """A request or an answer, its body without framing. `fields` in lower case, in the order received."""

    start: str
    fields: list[tuple[str, str]]
    body: bytes = b""

    @property
    def status(self) -> int:
        return int(self.start.split(" ")[1])

    @property
    def target(self) -> str:
        return self.start.split(" ")[1]

    def get(self, name: str) -> str:
        """The one value of a field, "" without it."""
        values = [value for key, value in self.fields if key == name]
        assert len(values) <= 1, f"{name} twice"
        return values[0] if values else ""


@dataclass
class Peer:
    sock: socket.socket
    messages: list[Message] = field(default_factory=list)
    _buffer: bytes = b""

    @classmethod
    async def connect(cls, port: int, *, receive_buffer: int | None = None) -> Self:
        """`receive_buffer`: what the kernel holds for a reader that does not read."""
        sock = socket.socket()
        if receive_buffer is not None:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer)
        sock.setblocking(False)
        try:
            await asyncio.get_running_loop().sock_connect(sock, ("127.0.0.1", port))
        except OSError:
            sock.close()
            raise
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        return cls(sock)

    async def send(self, data: bytes) -> None:
        await asyncio.get_running_loop().sock_sendall(self.sock, data)

    async def receive(self, size: int = 65536) -> bytes:
        """Some bytes, b"" at a FIN. ConnectionError at a reset."""
        if self._buffer:
            data, self._buffer = self._buffer[:size], self._buffer[size:]
            return data
        return await asyncio.get_running_loop().sock_recv(self.sock, size)

    async def head(self) -> Message:
        """The next head; what came behind it waits."""
        data = b""
        while b"\r\n\r\n" not in data:
            data += await self._more(data)
        raw, _, self._buffer = data.partition(b"\r\n\r\n")
        start, *lines = raw.decode("latin-1").split("\r\n")
        pairs = (line.split(": ", 1) for line in lines)
        return Message(start, [(name.lower(), value) for name, value in pairs])

    async def exactly(self, size: int) -> bytes:
        data = bytearray()
        while len(data) < size:
            data += await self._more(data, size - len(data))
        return bytes(data)

    async def line(self) -> bytes:
        data = b""
        while not data.endswith(b"\r\n"):
            data += await self.exactly(1)
        return data[:-2]

    async def message(self, *, head_only: bool = False) -> Message:
        """The next request or answer, whole. `head_only`: the answer to a HEAD."""
        message = await self.head()
        is_answer = message.start.startswith("HTTP/")
        if message.get("transfer-encoding") == "chunked":
            message.body = b"" if head_only else await self.chunks()
        elif head_only or (is_answer and message.status in {204, 304}):
            pass
        elif length := message.get("content-length"):
            message.body = await self.exactly(int(length))
        elif is_answer:
            message.body = await self.rest()
        self.messages.append(message)
        return message

    async def chunks(self) -> bytes:
        body = bytearray()
        while size := int(await self.line(), 16):
            body += await self.exactly(size)
            assert await self.line() == b""
        assert await self.line() == b""
        return bytes(body)

    async def rest(self) -> bytes:
        """All until the FIN."""
        data = bytearray()
        while part := await self.receive():
            data += part
        return bytes(data)

    async def end(self) -> str:
        """Throw away what still comes; "fin" or "reset"."""
        try:
            while await self.receive():
                pass
        except ConnectionError:
            return "reset"
        return "fin"

    def half_close(self) -> None:
        self.sock.shutdown(socket.SHUT_WR)

    def close(self) -> None:
        self.sock.close()

    def reset(self) -> None:
        self.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.sock.close()

    async def _more(self, before: bytes | bytearray, size: int = 65536) -> bytes:
        try:
            data = await self.receive(size)
        except ConnectionError as error:
            raise Cut(bytes(before)) from error
        if not data:
            raise Cut(bytes(before))
        return data
