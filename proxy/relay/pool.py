"""Connections to one upstream. A connection comes back only after an answer whose end is beyond doubt."""

from __future__ import annotations

import asyncio
from time import monotonic
from typing import TYPE_CHECKING

from proxy.gate.decision import Reason
from proxy.relay.upstream import UpstreamConnection

if TYPE_CHECKING:
    from proxy.gate.snapshot import Upstream
    from proxy.wire.response import ResponseMemo

_MAX_IDLE = 512
#: Between two attempts to connect: quick enough for a restart to go unnoticed, slow enough not to spin.
_RETRY_PAUSE_S = (0.02, 0.25)


class Pool:
    """The idle connections of one upstream, newest first: the oldest may then grow stale and be swept away."""

    def __init__(self, upstream: Upstream, memo: ResponseMemo) -> None:
        self._upstream = upstream
        self._memo = memo
        self._idle: dict[UpstreamConnection, float] = {}  # connection -> idle since; insertion order is age
        self._all: set[UpstreamConnection] = set()
        self.connect_failures = 0
        self.retries = 0  # of requests, counted by their exchanges

    @property
    def idle(self) -> int:
        return len(self._idle)

    @property
    def active(self) -> int:
        return len(self._all) - len(self._idle)

    def take(self) -> UpstreamConnection | None:
        """An idle connection, or None: then `connect`."""
        idle = self._idle
        return idle.popitem()[0] if idle else None

    def give(self, connection: UpstreamConnection, now: float) -> None:
        """Take back a connection that is between two exchanges."""
        if len(self._idle) >= _MAX_IDLE:
            connection.abort()
            return
        self._idle[connection] = now

    def forget(self, connection: UpstreamConnection) -> None:
        """The connection is gone."""
        self._idle.pop(connection, None)
        self._all.discard(connection)

    def sweep(self, idle_before: float) -> None:
        """Close what has been idle since before that time (monotonic)."""
        for connection in [c for c, since in self._idle.items() if since < idle_before]:
            connection.abort()

    def close(self) -> None:
        for connection in list(self._all):
            connection.abort()

    async def connect(self, budget_s: float) -> UpstreamConnection | Reason:
        """A fresh connection within the budget: a refused connect is tried again, so that a restart goes unnoticed."""
        deadline = monotonic() + budget_s
        pause, longest = _RETRY_PAUSE_S
        refused = False
        while (left := deadline - monotonic()) > 0:
            try:
                async with asyncio.timeout(left):
                    connection = await self._dial()
            except TimeoutError:
                self.connect_failures += 1
                break
            except OSError:
                self.connect_failures += 1
                refused = True
                await asyncio.sleep(min(pause, max(0.0, deadline - monotonic())))
                pause = min(2 * pause, longest)
            else:
                self._all.add(connection)
                return connection
        return Reason.UPSTREAM_REFUSED if refused else Reason.UPSTREAM_LATE

    async def _dial(self) -> UpstreamConnection:
        """OSError when it is refused, or when there is no such socket (yet)."""
        loop, (host, port, path) = asyncio.get_running_loop(), self._upstream
        if path:
            _, connection = await loop.create_unix_connection(lambda: UpstreamConnection(self, self._memo), path)
        else:
            _, connection = await loop.create_connection(lambda: UpstreamConnection(self, self._memo), host, port)
        return connection
