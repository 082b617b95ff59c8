"""One request -> one decision, in this order, and nowhere else.

route -> blocked endpoints -> method -> from where -> who (memory first; what is unknown or dear only within
the limit for guesses) -> from where they come -> may they -> how large -> how often -> may it leave HTTP -> forward.
Nothing here waits: a fact that memory does not hold is asked for (`Need`), and the relay calls again with the answer:
every state is judged anew.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from proxy.gate.ask import WAITED
from proxy.gate.authenticate import ANYONE, Authenticator
from proxy.gate.authorize import METHODS, READING, find_rule
from proxy.gate.credentials import ShownToken
from proxy.gate.decision import Decision, Deny, Forward, Identity, Inquire, Local, Reason
from proxy.gate.exempt import is_exempt
from proxy.gate.limit import address_key
from proxy.gate.origin import SAFE, is_foreign_page
from proxy.gate.people import People
from proxy.gate.places import Place
from proxy.gate.routing import HEALTH_PATHS, answers_to, build_sites, host_name, is_blocked
from proxy.gate.snapshot import CONTROL, Route, Way
from proxy.gate.telling import tell
from proxy.gate.upgrade import judge_upgrade

if TYPE_CHECKING:
    from collections.abc import Mapping

    from proxy.gate.ask import Answer, Question
    from proxy.gate.credentials import Shown, ShownPassword
    from proxy.gate.decision import Need
    from proxy.gate.memory import Memory
    from proxy.gate.routing import Site
    from proxy.gate.snapshot import Concurrency, Snapshot
    from proxy.wire.head import RequestHead

_NO_FACTS: Mapping[Question, Answer] = {}
_LOCAL = {**dict.fromkeys(HEALTH_PATHS, Reason.HEALTH), b"*": Reason.OPTIONS}
_NONE, _OAUTH2 = Way.NONE, Way.OAUTH2
#: A browser keeps these, and sends them along with what any page makes it ask. (Sessions are judged with their cookie.)
_SENT_ALONG = frozenset({Way.BASIC, Way.CLIENT_CERT})
_MEMO_PATHS = 1024
_MEMO_PATH_BYTES = 256

#: Stands for a form of promgate's own, which takes passwords and nothing else.
_FORM = Route("promgate:form", "/", CONTROL, ways=frozenset({Way.BASIC}))
#: For proxies of another kind, and for attackers (H27).
_REFUSED_METHODS = frozenset({b"CONNECT", b"TRACE", b"TRACK"})


class Gate:
    """A Snapshot compiled for deciding. Replaced whole on reload; `memory` is carried over."""

    __slots__ = ("_identify", "_meters", "_people", "_places", "_site", "_sites", "proxies", "snapshot")

    def __init__(self, snapshot: Snapshot, memory: Memory) -> None:
        self.snapshot = snapshot
        #: None: every peer is taken for the client, and X-Forwarded-For is nobody's.
        self.proxies = snapshot.trusted_proxies
        self._site, self._sites = build_sites(snapshot.routes)
        self._identify = Authenticator(snapshot, memory).identify
        self._people = People(snapshot, memory)
        self._meters = {
            route.name: memory.meter(f"route:{route.name}", route.rate_limit)
            for route in snapshot.routes
            if route.rate_limit is not None
        }
        self._places = {route.name: memory.places(route.name) for route in snapshot.routes if route.concurrency}

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
        site = self._site
        if self._sites is not None:
            site = self._sites.get(host_name(head.host), site)
        route = site.open_paths.get(path)
        is_known = route is not None
        if route is None:
            found = _find_open(site, head)
            if found.__class__ is not Route:
                return found  # type: ignore[return-value]  # mypy narrows by isinstance alone, which costs more
            route = found
        taken = route.methods
        if (head.method not in METHODS) if taken is None else (head.method not in taken):
            return Deny(_refused_method(head.method), route)
        if route.addresses is not None and not route.addresses.admit(ip):
            return Deny(Reason.ADDRESS_NOT_ALLOWED, route)
        if route.exempt and is_exempt(route.exempt, head, ip):
            return self._pass_exempt(route, head, ip, at)
        who = self._identify(route, shown, ip, at, now, facts)
        if who.__class__ is not Identity:
            if _OAUTH2 in route.ways and isinstance(who, Deny) and who.reason is Reason.NO_CREDENTIAL:
                who = self._people.identify(route, head, ip, at, now, facts)
            if who.__class__ is not Identity:
                return who  # type: ignore[return-value]
        identity: Identity = who
        sources = self.snapshot.sources
        if sources is not None and _NONE not in route.ways:  # what is open to anybody: a logout, too
            confined = sources.confine(identity, ip)
            if confined is None or _has_lost_its_rule(route, head, identity, confined):
                return Deny(Reason.SOURCE_NOT_ALLOWED, route, identity=identity)
            identity = confined
        if shown.__class__ is not ShownToken and head.method not in SAFE and self._is_forged(head, identity):
            return Deny(Reason.FOREIGN_ORIGIN, route, identity=identity)
        if find_rule(route.rules, identity.roles, head.method, path) is None:
            return Deny(Reason.NOT_ALLOWED, route, identity=identity)
        told = b""
        if route.telling is not None:
            lines = tell(route.telling, identity, self.snapshot.tenants)
            if isinstance(lines, Reason):
                return Deny(lines, route, identity=identity)
            told = lines
        if head.length > route.max_body_bytes:
            return Deny(Reason.BODY_TOO_LARGE, route, identity=identity)
        if not is_known and len(site.open_paths) < _MEMO_PATHS and _may_remember(route, path):
            site.open_paths[path] = route  # only for those who are let in: nobody else fills it
        place = None
        if route.concurrency is not None:
            place = self._place(route, route.concurrency, identity, ip)
            if not place.is_free(route.concurrency.limit):
                return Deny(Reason.TOO_MANY_AT_ONCE, route, identity=identity)
        wait = 0.0
        limit = route.rate_limit
        if limit is not None and not (facts and WAITED in facts):
            wait = self._meters[route.name].spend(identity.name if limit.by_identity else address_key(ip), at)
            if wait > limit.max_delay_s:
                return Deny(Reason.OVER_RATE, route, retry_after_s=wait, identity=identity)
        forward = Forward(route, identity, wait, told, place)
        return judge_upgrade(head, forward, self.snapshot.external_url) if route.websocket and head.upgrade else forward

    def check_password(
        self, shown: ShownPassword, ip: str, at: float, now: float, facts: Mapping[Question, Answer] = _NO_FACTS
    ) -> Identity | Deny | Need:
        """Whose it is, where no request shows it but a form. It is a guess like any other, and charged like one."""
        found = self._identify(_FORM, shown, ip, at, now, facts)
        return self._people.admit(found, shown, at) if isinstance(found, Identity) else found

    def _is_forged(self, head: RequestHead, identity: Identity) -> bool:
        return identity.way in _SENT_ALONG and is_foreign_page(head, self.snapshot.external_url)

    def _place(self, route: Route, concurrency: Concurrency, identity: Identity, ip: str) -> Place:
        return Place(self._places[route.name], identity.name if concurrency.by_identity else address_key(ip))

    def _pass_exempt(self, route: Route, head: RequestHead, ip: str, at: float) -> Decision:
        """It is open: no credential is looked at, each address has its own rate, and nobody is delayed."""
        if head.length > route.max_body_bytes:
            return Deny(Reason.BODY_TOO_LARGE, route)
        if route.rate_limit is not None:
            meter, key = self._meters[route.name], address_key(ip)
            wait = meter.owes(key, at)
            if wait:
                return Deny(Reason.OVER_RATE, route, retry_after_s=wait)
            meter.spend(key, at)
        place = None
        if route.concurrency is not None:
            place = Place(self._places[route.name], address_key(ip))
            if not place.is_free(route.concurrency.limit):
                return Deny(Reason.TOO_MANY_AT_ONCE, route)
        return Forward(route, ANYONE, place=place)


def _has_lost_its_rule(route: Route, head: RequestHead, identity: Identity, confined: Identity) -> bool:
    """Whether it is where they come from that keeps them from it, and not who they are."""
    if confined is identity or find_rule(route.rules, confined.roles, head.method, head.path) is not None:
        return False
    return find_rule(route.rules, identity.roles, head.method, head.path) is not None


def _may_remember(route: Route, path: bytes) -> bool:
    """Whether every request for `path` finds `route`, whatever its method and Host are."""
    return len(path) < _MEMO_PATH_BYTES and path not in _LOCAL and route.only_hosts is None


def _find_open(site: Site, head: RequestHead) -> Route | Deny | Local | Inquire:
    path = head.path
    if path in _LOCAL and (head.method in READING or path == b"*"):
        return Local(_LOCAL[path])
    route = site.find(path)
    if route is None:
        return Deny(site.missing)
    if route.inquires:
        return Inquire(route) if head.method in METHODS else Deny(_refused_method(head.method), route)
    if not answers_to(route, head.host):
        return Deny(Reason.WRONG_HOST, route)
    if is_blocked(route, path):
        return Deny(Reason.BLOCKED, route)
    return route


def _refused_method(method: bytes) -> Reason:
    return Reason.METHOD_NOT_TAKEN if method in METHODS or method in _REFUSED_METHODS else Reason.METHOD_UNKNOWN
