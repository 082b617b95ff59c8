"""May they? The roles that are ready made, and the one look at a route's rules.

What a rule of the configuration means is worked out at load (`config.access`); here is only who, which method, where.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from proxy.gate.snapshot import RouteKind

if TYPE_CHECKING:
    from collections.abc import Mapping

    from proxy.gate.snapshot import Rule


class Grant(NamedTuple):
    """A part of what a role may do: methods (None: all), places below a route's prefix (none: everywhere), kinds."""

    methods: frozenset[bytes] | None = None
    paths: tuple[str, ...] = ()
    kinds: frozenset[RouteKind] = frozenset(RouteKind)


READING = frozenset({b"GET", b"HEAD"})
#: RFC 9110 9, RFC 5789: what a route takes that names none.
METHODS = READING | {b"POST", b"PUT", b"PATCH", b"DELETE", b"OPTIONS"}
_POST = frozenset({b"POST"})
#: Prometheus takes a long query as a form: POST reads here (web/api/v1, `wrapAgent` with both methods).
_QUERIES = tuple(
    f"/api/v1/{name}"
    for name in ("query", "query_range", "query_exemplars", "series", "labels", "format_query", "parse_query")
)
_VIEWER = (Grant(READING), Grant(_POST, _QUERIES))
READY_MADE: Mapping[str, tuple[Grant, ...]] = {
    "viewer": _VIEWER,
    # Alertmanager's API v2: POST /silences, DELETE /silence/ID.
    "silencer": (*_VIEWER, Grant(_POST | {b"DELETE"}, ("/api/v2/silence", "/api/v2/silences"))),
    "notifier": (Grant(_POST, ("/api/v2/alerts",)),),
    # What `write` is for tokens, for everybody else who pushes.
    "writer": (Grant(_POST, kinds=frozenset({RouteKind.REMOTE_WRITE})),),
    "admin": (Grant(),),
}
#: A role of the operator's own, and `write` and `anyone`: whatever the route takes.
_EVERYTHING = (Grant(),)


def grants_of(role: str) -> tuple[Grant, ...]:
    return READY_MADE.get(role, _EVERYTHING)


def find_rule(rules: tuple[Rule, ...], roles: frozenset[str], method: bytes, path: bytes) -> Rule | None:
    """The first of `rules` that lets somebody with `roles` do this, or None."""
    for rule in rules:  # a plain loop: any() over a generator costs three times as much here
        if (
            rule.role in roles
            and (rule.methods is None or method in rule.methods)
            and (not rule.paths or lies_below(path, rule.paths))
        ):
            return rule
    return None


def lies_below(path: bytes, prefixes: tuple[bytes, ...]) -> bool:
    """Whether `path` is one of `prefixes`, or below one in whole segments."""
    for prefix in prefixes:
        if path.startswith(prefix) and (len(path) == len(prefix) or path[len(prefix)] == 0x2F):
            return True
    return False
