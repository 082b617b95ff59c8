"""What a client was sent and has not taken yet, and how its connection ends.

A slow reader lives and one who does not read is cut, so what counts is the progress between two looks.
"""

from __future__ import annotations

import fcntl
import socket
import struct
import sys
import termios
from typing import Any

#: SO_LINGER on, for no time: close() sends RST (socket(7)).
_RESET = struct.pack("ii", 1, 0)


class Outflow:
    """`choked`: the transport has asked for a pause, or is closing with bytes that wait."""

    __slots__ = ("_transport", "_unsent", "choked", "send")

    def __init__(self, transport: Any) -> None:  # a socket's, or a TlsConnection
        self._transport = transport
        self._unsent = 0
        self.send = transport.write
        self.choked = False

    def choke(self) -> None:
        """From now on progress is measured."""
        self.choked = True
        self._unsent = unsent_bytes(self._transport)

    def took(self, least: float) -> bool:
        """Whether the client took that many octets since the last look; if so, they are counted off."""
        unsent = unsent_bytes(self._transport)
        if self._unsent - unsent < least:
            return False
        self._unsent = unsent
        return True

    def close(self) -> None:
        """End the connection once all is sent; `choked` tells whether something still waits."""
        self.choked = bool(self._transport.get_write_buffer_size())
        if self.choked:
            self.choke()
        self._transport.close()

    def reset(self) -> None:
        """A body without a length ends with its connection: only a reset tells that it is not whole (RFC 9112 8)."""
        sock = self._transport.get_extra_info("socket")
        if sock is not None:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)
        self._transport.abort()


def unsent_bytes(transport: Any) -> int:
    """What the peer has not taken yet, in our buffer and in the kernel's.

    The kernel holds megabytes and takes more only when a third is free: our buffer alone would show a slow
    reader as one who does not read at all.
    """
    size: int = transport.get_write_buffer_size()
    sock = transport.get_extra_info("socket")
    try:
        return size + int.from_bytes(fcntl.ioctl(sock.fileno(), termios.TIOCOUTQ, bytes(4)), sys.byteorder)
    except (AttributeError, OSError):  # closed by now
        return size
