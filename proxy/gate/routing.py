"""Which route a path belongs to: the longest prefix of whole segments, among the routes of the host that is named.

Nothing but path and Host takes part. Where no route names a host, Host does not either.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from proxy.gate.authorize import lies_below
from proxy.gate.decision import Reason
from proxy.gate.snapshot import CONTROL, RouteKind

if TYPE_CHECKING:
    from collections.abc import Iterable

    from proxy.gate.snapshot import Route

_PORT = re.compile(rb"(.*?)(?::[0-9]*)?", re.DOTALL).fullmatch
#: Names that no DNS server can point elsewhere.
_ADDRESS = re.compile(rb"[0-9.]+|\[[0-9a-f:.]+\]|localhost").fullmatch
#: Below every route's prefix, closed to all: they stop a server, erase data or show its memory.
_DANGEROUS = (b"/api/v1/admin", b"/-/quit", b"/-/reload", b"/debug")
#: Closed on routes that are not of kind remote_write: a reader's route is no way in for data.
_DATA_IN = (b"/api/v1/write", b"/api/v1/otlp/v1/metrics", b"/api/v1/read")


class Router:
    """Prefix -> route, compiled once per Snapshot. A look-up costs one dict access per segment, however many routes."""

    __slots__ = ("_by_prefix", "_longest", "_root")

    def __init__(self, routes: Iterable[Route]) -> None:
        by_prefix = {route.path.rstrip("/").encode(): route for route in routes}
        self._root = by_prefix.pop(b"", None)
        self._by_prefix = by_prefix
        self._longest = max(map(len, by_prefix), default=0)

    def find(self, path: bytes) -> Route | None:
        """The route of a canonical path, or None."""
        by_prefix = self._by_prefix
        route = by_prefix.get(path)
        if route is not None:
            return route
        # No further than the longest prefix: a path of thousands of segments must not cost their square.
        cut = path.rfind(b"/", 0, self._longest + 1)
        while cut > 0:
            route = by_prefix.get(path[:cut])
            if route is not None:
                return route
            cut = path.rfind(b"/", 0, cut)
        return self._root


class Site:
    """The routes of one host, and the paths that were found open there. `missing` is told where there is no route."""

    __slots__ = ("find", "missing", "open_paths")

    def __init__(self, routes: Iterable[Route], missing: Reason = Reason.NO_ROUTE) -> None:
        self.find = Router(routes).find
        self.missing = missing
        self.open_paths: dict[bytes, Route] = {}


def build_sites(routes: Iterable[Route]) -> tuple[Site, dict[bytes, Site] | None]:
    """(What serves every name that no route claims, host -> what serves it; None when no route names a host)."""
    routes = tuple(routes)
    hosts = {host for route in routes for host in route.hosts}
    everywhere = [route for route in routes if not route.hosts]
    if not hosts:
        return Site(everywhere), None
    serves = any(route.upstream != CONTROL for route in everywhere)
    rest = Site(everywhere, Reason.NO_ROUTE if serves else Reason.WRONG_HOST)
    return rest, {host: Site([route for route in routes if host in route.hosts]) for host in hosts}


def answers_to(route: Route, authority: bytes | None) -> bool:
    """Whether a Host field may name this route."""
    if route.only_hosts is None:
        return True
    name = host_name(authority)
    return name in route.only_hosts or _ADDRESS(name) is not None


def host_name(authority: bytes | None) -> bytes:
    """The name in a Host field, in the one spelling in which routes have it (RFC 9110 4.2.3); empty without one."""
    if authority is None:
        return b""
    name = authority.lower()
    if not name.endswith(b"]"):
        name = _PORT(name)[1]  # type: ignore[index]  # whatever it is, it matches
    return name.rstrip(b".")

#: Answered by promgate itself at each listener, for anybody and whatever the routes say.
HEALTH_PATHS = (b"/-/healthy", b"/-/ready")


def closed_on(kind: RouteKind) -> tuple[bytes, ...]:
    """What is closed below the prefix of each route of this kind; `unblock` opens it, or a part of it."""
    return _DANGEROUS if kind is RouteKind.REMOTE_WRITE else _DANGEROUS + _DATA_IN


def is_blocked(route: Route, path: bytes) -> bool:
    """True for the endpoints of the upstream that no route opens by itself."""
    rest = path[len(route.path.rstrip("/")) :]
    if route.unblocked and lies_below(rest, route.unblocked):
        return False
    closed = closed_on(route.kind)
    if lies_below(rest, closed) or _begins_above(route, path, closed):
        return True
    return any(_stands_in(rest, name) for name in closed if name != b"/debug") or _stands_in(rest, b"/debug/pprof")


def _begins_above(route: Route, path: bytes, closed: tuple[bytes, ...]) -> bool:
    """A prefix may lie within the upstream's API: `/prometheus/api/v1` does not open `/prometheus/api/v1/admin`.

    One that names such an endpoint itself does open it.
    """
    size = len(route.path.rstrip("/"))
    cut = path.rfind(b"/", 0, size)
    while cut >= 0:
        reaching = tuple(name for name in closed if cut + len(name) > size)
        if lies_below(path[cut:], reaching):
            return True
        cut = path.rfind(b"/", 0, cut)
    return False


def _stands_in(rest: bytes, name: bytes) -> bool:
    """The upstream may be mounted below the route: with `/` for a route, `/prometheus/-/quit` is closed too.

    Not so `/debug`, which may be anything: a label's name, for instance.
    """
    at = rest.find(name)
    while at >= 0:
        after = at + len(name)
        if after == len(rest) or rest[after : after + 1] == b"/":
            return True
        at = rest.find(name, after)
    return False
