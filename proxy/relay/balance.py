"""Several upstreams behind one route: which of them serves a request, and where it goes when one cannot be reached.

Whoever was down at the last attempt comes last, and is tried all the same when nobody else is there: a health check may
be wrong, and a refused request is certain.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

from proxy.relay.pool import connect

if TYPE_CHECKING:
    from collections.abc import Sequence

    from proxy.gate.decision import Reason
    from proxy.relay.pool import Pool
    from proxy.relay.upstream import UpstreamConnection
    from proxy.relay.upstream_files import UpstreamFiles


class Backend(Protocol):
    """What an exchange needs of whatever stands behind a route."""

    @property
    def files(self) -> UpstreamFiles | None: ...
    def take(self) -> UpstreamConnection | None: ...
    async def connect(self, budget_s: float) -> UpstreamConnection | Reason: ...


class Balance:
    """The pools of a route's upstreams, in the order of the configuration; all are shown the same credential."""

    __slots__ = ("_first_available", "_pools")

    def __init__(self, pools: Sequence[Pool], *, first_available: bool) -> None:
        self._pools = pools
        self._first_available = first_available

    @property
    def files(self) -> UpstreamFiles | None:
        return self._pools[0].files

    def take(self) -> UpstreamConnection | None:
        """An idle connection of the one that is to serve, or None: then `connect`."""
        return self._order()[0].take()

    async def connect(self, budget_s: float) -> UpstreamConnection | Reason:
        """A fresh connection to the one that is to serve, or to the next that can be reached."""
        return await connect(self._order(), budget_s)

    def _order(self) -> list[Pool]:
        if self._first_available:
            return sorted(self._pools, key=lambda pool: pool.is_down)
        return sorted(self._pools, key=lambda pool: (pool.is_down, pool.active))
