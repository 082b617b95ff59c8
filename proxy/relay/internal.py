"""The control plane as an upstream: reached over a socketpair, so that no port and no file leads around the gate."""

from __future__ import annotations

import asyncio
import socket
from typing import TYPE_CHECKING, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable

P = TypeVar("P", bound=asyncio.Protocol)


class Internal:
    """`serve` makes the server's end of each connection; until it is set nobody is there."""

    def __init__(self) -> None:
        self.serve: Callable[[], asyncio.Protocol] | None = None

    async def connect(self, make: Callable[[], P]) -> P:
        """A connection to it. OSError: it is not there (yet, or any more)."""
        if self.serve is None:
            raise ConnectionRefusedError("the control plane is not running")
        loop = asyncio.get_running_loop()
        ours, theirs = socket.socketpair()
        for end in (ours, theirs):
            end.setblocking(False)
        try:
            await loop.connect_accepted_socket(self.serve, theirs)
            _, protocol = await loop.create_unix_connection(make, sock=ours)
        except BaseException:  # the loop closes what it has begun with, and `theirs` sees the end of `ours`
            ours.close()
            raise
        return protocol
