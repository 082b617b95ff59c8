"""Listening sockets that live on when the process has no file left to open.

asyncio's own loop then tries each place of the queue, with a traceback and a timer for every one of them: thousands a
second. It is given sockets that say it once, so that it comes back a second later, as it means to. uvloop accepts by
itself, and turns such clients away.
"""

from __future__ import annotations

import asyncio
import errno
import socket

#: What says that it is the process that has no file left, and no fault of a peer's.
NO_FILES = frozenset({errno.EMFILE, errno.ENFILE})


class ListeningSocket(socket.socket):
    """A TCP socket. `accept` tells once that there is no file, and the next time that there is nobody."""

    def __init__(self, family: int) -> None:
        super().__init__(family, socket.SOCK_STREAM)
        self._told = False

    def accept(self) -> tuple[socket.socket, object]:
        if self._told:
            self._told = False
            raise BlockingIOError(errno.EAGAIN, "no file to open; later")
        try:
            return super().accept()
        except OSError as error:
            self._told = error.errno in NO_FILES
            raise


async def bind(host: str, port: int) -> list[ListeningSocket]:
    """One socket for each address of `host` (empty: all addresses); OSError when one cannot be had."""
    loop = asyncio.get_running_loop()
    found = await loop.getaddrinfo(host or None, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
    bound: list[ListeningSocket] = []
    try:
        for family, _, _, _, address in dict.fromkeys(found):
            try:
                sock = ListeningSocket(family)
            except OSError:
                continue  # a kernel without IPv6
            bound.append(sock)
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            if family == socket.AF_INET6:
                sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
            sock.setblocking(False)
            sock.bind(address)
    except OSError:
        for sock in bound:
            sock.close()
        raise
    return bound
