"""Which route a path belongs to: the longest prefix of whole segments, and nothing but the path."""

from __future__ import annotations

from typing import TYPE_CHECKING

from proxy.gate.snapshot import RouteKind

if TYPE_CHECKING:
    from collections.abc import Iterable

    from proxy.gate.snapshot import Route

#: Below every route's prefix, closed to all: they stop a server, erase data or show its memory.
_DANGEROUS = (b"/api/v1/admin", b"/-/quit", b"/-/reload", b"/debug")
#: Closed on routes that are not of kind remote_write: a reader's route is no way in for data.
_DATA_IN = (b"/api/v1/write", b"/api/v1/otlp/v1/metrics", b"/api/v1/read")


class Router:
    """Prefix -> route, compiled once per Snapshot. A look-up costs one dict access per segment, however many routes."""

    __slots__ = ("_by_prefix", "_root")

    def __init__(self, routes: Iterable[Route]) -> None:
        by_prefix = {route.path.rstrip("/").encode(): route for route in routes}
        self._root = by_prefix.pop(b"", None)
        self._by_prefix = by_prefix

    def find(self, path: bytes) -> Route | None:
        """The route of a canonical path, or None."""
        by_prefix = self._by_prefix
        route = by_prefix.get(path)
        if route is not None:
            return route
        cut = path.rfind(b"/")
        while cut > 0:
            route = by_prefix.get(path[:cut])
            if route is not None:
                return route
            cut = path.rfind(b"/", 0, cut)
        return self._root


def is_blocked(route: Route, path: bytes) -> bool:
    """True for the endpoints of the upstream that no route opens by itself."""
    rest = path[len(route.path.rstrip("/")) :]
    if rest.startswith(_DANGEROUS) and _whole_segments(rest, _DANGEROUS):
        return True
    return (
        route.kind is not RouteKind.REMOTE_WRITE and rest.startswith(_DATA_IN) and _whole_segments(rest, _DATA_IN)
    )


def _whole_segments(rest: bytes, prefixes: tuple[bytes, ...]) -> bool:
    return any(rest == prefix or rest.startswith(prefix + b"/") for prefix in prefixes)
