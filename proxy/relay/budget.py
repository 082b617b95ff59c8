"""How many sockets may be open: one budget for the process, so that no crowd takes the last file from those inside.

Clients of the public listener may hold `size` of them, and with the connections to upstreams `most`: what lies between
is for upstreams alone, and what lies above is never theirs (the store, logs, what providers are asked by). A listener
beside the public one has a share that is taken out of both: it neither takes the senders' places nor loses its own.
"""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from proxy.relay.pool import Pool

_log = logging.getLogger("promgate.relay")

_PLENTY = 1_000_000
#: Such a listener is for few.
_SHARE = 8


class Places(Protocol):
    """Where the clients of a listener are counted. `size`: how many there may be at the most."""

    @property
    def size(self) -> int: ...
    def take(self) -> bool:
        """Count one in; False: there was no place for it. Either way it is counted until `give`."""

    def give(self) -> None: ...


class Budget:
    """Of the whole process; it is itself the places of the public listener."""

    def __init__(self, size: int = _PLENTY, most: int = 2 * _PLENTY) -> None:
        self.size = size
        self._most = most
        self._clients = 0
        self._upstreams = 0
        self._is_short = False
        self.pools: set[Pool] = set()

    def share(self, at_most: int = _PLENTY) -> Share:
        """Places for a listener of its own, which are taken out of these for good."""
        share = Share(min(max(1, self.size // _SHARE), at_most))
        self.size, self._most = max(1, self.size - share.size), max(1, self._most - share.size)
        return share

    def take(self) -> bool:
        self._clients += 1
        return self._clients <= self.size and self._has_room(0)

    def give(self) -> None:
        self._clients -= 1

    def may_dial(self, sockets: int) -> bool:
        """Whether there is room for so many more towards an upstream."""
        has_room = self._has_room(sockets)
        if not has_room and not self._is_short:
            _log.warning("no file is left for more connections to upstreams: raise the limit of open files")
        self._is_short = not has_room
        return has_room

    def lend(self, sockets: int) -> None:
        """So many are open, or about to be, towards an upstream, until they are given back."""
        self._upstreams += sockets

    def give_back(self, sockets: int) -> None:
        self._upstreams -= sockets

    def _has_room(self, sockets: int) -> bool:
        return self._clients + self._upstreams + sockets <= self._most or self._spare()

    def _spare(self) -> bool:
        """Close the connection to an upstream that has been idle longest, if one is."""
        idle = [pool for pool in self.pools if pool.idle]
        if idle:
            min(idle, key=lambda pool: pool.idle_since).drop_oldest()
        return bool(idle)


class Share:
    """The places of a listener beside the public one."""

    def __init__(self, size: int) -> None:
        self.size = size
        self._taken = 0

    def take(self) -> bool:
        self._taken += 1
        return self._taken <= self.size

    def give(self) -> None:
        self._taken -= 1
