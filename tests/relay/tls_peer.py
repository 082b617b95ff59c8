"""The other end of a TLS connection, with its records in hand: what is sent, joined or cut is the test's to choose."""

import asyncio
import contextlib
import ssl


def trusting(ca_file, pair=None) -> ssl.SSLContext:
    """`pair`: the path, without its ending, of the certificate and key that are shown when the server asks."""
    context = ssl.create_default_context(cafile=ca_file)
    if pair is not None:
        context.load_cert_chain(f"{pair}.crt", f"{pair}.key")
    context.check_hostname = False
    context.options &= ~ssl.OP_IGNORE_UNEXPECTED_EOF  # Python's default takes a cut for an end
    return context


class Peer:
    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, context: ssl.SSLContext) -> None:
        self.reader = reader
        self.writer = writer
        self.incoming = ssl.MemoryBIO()
        self.outgoing = ssl.MemoryBIO()
        self.tls = context.wrap_bio(self.incoming, self.outgoing)

    @classmethod
    async def connect(cls, port: int, context: ssl.SSLContext) -> "Peer":
        peer = await cls.connect_tcp(port, context)
        await peer.handshake()
        return peer

    @classmethod
    async def connect_tcp(cls, port: int, context: ssl.SSLContext) -> "Peer":
        return cls(*await asyncio.open_connection("127.0.0.1", port), context)

    async def handshake(self, *, send_last: bool = True) -> None:
        """With `send_last` False the Finished stays in `outgoing`, to leave with what is sent next."""
        while True:
            try:
                self.tls.do_handshake()
            except ssl.SSLWantReadError:
                await self.send(b"")
                await self.receive_some()
            else:
                break
        if send_last:
            await self.send(b"")

    def hello(self) -> bytes:
        try:
            self.tls.do_handshake()
        except ssl.SSLWantReadError:
            return self.outgoing.read()
        raise AssertionError("a handshake without an answer")

    def records(self, *chunks: bytes, close_notify: bool = False) -> bytes:
        """Each chunk as records of its own, not sent."""
        for chunk in chunks:
            self.tls.write(chunk)
        if close_notify:
            with contextlib.suppress(ssl.SSLWantReadError):
                self.tls.unwrap()
        return self.outgoing.read()

    async def send(self, *chunks: bytes) -> None:
        await self.send_raw(self.records(*(chunk for chunk in chunks if chunk)))

    async def send_raw(self, data: bytes) -> None:
        if data:
            self.writer.write(data)
            await self.writer.drain()

    async def receive_some(self) -> None:
        data = await self.reader.read(65536)
        if data:
            self.incoming.write(data)
        else:
            self.incoming.write_eof()

    async def read(self, size: int) -> bytes:
        """Exactly `size` bytes, or fewer at a lawful end; ssl.SSLError (UNEXPECTED_EOF_WHILE_READING) at a cut."""
        parts: list[bytes] = []
        while size:
            try:
                part = self.tls.read(min(size, 65536))
            except ssl.SSLWantReadError:
                await self.receive_some()
                continue
            if not part:
                break
            parts.append(part)
            size -= len(part)
        return b"".join(parts)

    def leave(self) -> None:
        self.writer.transport.abort()
