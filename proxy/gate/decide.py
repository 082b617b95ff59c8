"""One request -> one decision, in this order, and nowhere else.

route -> blocked endpoints -> method -> who (memory first; what is unknown or dear only within the limit for
guesses) -> may they -> how large -> how often -> forward. Nothing here waits: a fact that memory does not
hold is asked for (`Need`), and the relay calls again with the answer - then every state is judged anew.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from proxy.gate.ask import WAITED
from proxy.gate.authenticate import Authenticator
from proxy.gate.decision import Decision, Deny, Forward, Identity, Local, Reason
from proxy.gate.limit import address_key
from proxy.gate.routing import Router, is_blocked
from proxy.gate.snapshot import Route

if TYPE_CHECKING:
    from collections.abc import Mapping

    from proxy.gate.ask import Answer, Question
    from proxy.gate.credentials import Shown
    from proxy.gate.memory import Memory
    from proxy.gate.snapshot import Snapshot
    from proxy.wire.head import RequestHead

_NO_FACTS: Mapping[Question, Answer] = {}
_LOCAL = {b"/-/healthy": Reason.HEALTH, b"/-/ready": Reason.HEALTH, b"*": Reason.OPTIONS}
_MEMO_PATHS = 1024
_MEMO_PATH_BYTES = 256
_READING = frozenset({b"GET", b"HEAD"})

#: RFC 9110 9, RFC 5789. CONNECT and TRACE are for proxies of another kind, and for attackers (H27).
METHODS = frozenset({b"GET", b"HEAD", b"POST", b"PUT", b"PATCH", b"DELETE", b"OPTIONS"})
_REFUSED_METHODS = frozenset({b"CONNECT", b"TRACE", b"TRACK"})


class Gate:
    """A Snapshot compiled for deciding. Replaced whole on reload; `memory` is carried over."""

    __slots__ = ("_find_route", "_identify", "_meters", "_open_paths", "snapshot")

    def __init__(self, snapshot: Snapshot, memory: Memory) -> None:
        self.snapshot = snapshot
        self._find_route = Router(snapshot.routes).find
        self._open_paths: dict[bytes, Route] = {}
        self._identify = Authenticator(snapshot, memory).identify
        self._meters = {
            route.name: memory.meter(f"route:{route.name}", route.rate_limit)
            for route in snapshot.routes
            if route.rate_limit is not None
        }

    def decide(
        self,
        head: RequestHead,
        shown: Shown | None,
        ip: str,
        at: float,
        now: float,
        facts: Mapping[Question, Answer] = _NO_FACTS,
    ) -> Decision:
        """`ip` is the peer's address; `at` monotonic seconds (limits), `now` unix seconds (the life of tokens)."""
        path = head.path
        route = self._open_paths.get(path)
        is_known = route is not None
        if route is None:
            found = self._find_open(path, head.method)
            if found.__class__ is not Route:
                return found  # type: ignore[return-value]  # mypy narrows by isinstance alone, which costs more
            route = found
        taken = route.methods
        if (head.method not in METHODS) if taken is None else (head.method not in taken):
            return Deny(_refused_method(head.method), route)
        who = self._identify(route, shown, ip, at, now, facts)
        if who.__class__ is not Identity:
            return who  # type: ignore[return-value]
        identity: Identity = who
        if not _is_allowed(route, identity, head.method):
            return Deny(Reason.NOT_ALLOWED, route, identity=identity)
        if head.length > route.max_body_bytes:
            return Deny(Reason.BODY_TOO_LARGE, route, identity=identity)
        if not is_known and len(self._open_paths) < _MEMO_PATHS and len(path) < _MEMO_PATH_BYTES and path not in _LOCAL:
            self._open_paths[path] = route  # only for those who are let in: nobody else fills it
        limit = route.rate_limit
        if limit is None or WAITED in facts:
            return Forward(route, identity)
        wait = self._meters[route.name].spend(identity.name if limit.by_identity else address_key(ip), at)
        if wait > limit.max_delay_s:
            return Deny(Reason.OVER_RATE, route, retry_after_s=wait, identity=identity)
        return Forward(route, identity, wait)

    def _find_open(self, path: bytes, method: bytes) -> Route | Deny | Local:
        if path in _LOCAL and (method in _READING or path == b"*"):
            return Local(_LOCAL[path])
        route = self._find_route(path)
        if route is None:
            return Deny(Reason.NO_ROUTE)
        if is_blocked(route, path):
            return Deny(Reason.BLOCKED, route)
        return route


def _refused_method(method: bytes) -> Reason:
    return Reason.METHOD_NOT_TAKEN if method in METHODS or method in _REFUSED_METHODS else Reason.METHOD_UNKNOWN


def _is_allowed(route: Route, identity: Identity, method: bytes) -> bool:
    roles = identity.roles
    for rule in route.rules:  # a plain loop: any() over a generator costs three times as much here
        if rule.role in roles and (rule.methods is None or method in rule.methods):
            return True
    return False
