"""Who is asking, by the session of a person with a browser: looked at only where nothing better was shown.

Nobody can guess an id of 256 bits, so an unknown one is no guess: it is an old cookie, and its browser is sent to log
in. Each costs a look into the store, so that an address has only so many; a session that memory knows never waits.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from proxy.gate.ask import ABSENT, BUSY, FOUND, REFUSED, STANDING, UNREADABLE, FindSession, RefreshSession
from proxy.gate.authenticate import ANYONE
from proxy.gate.credentials import Malformed, read_session
from proxy.gate.decision import Deny, Identity, Need, Reason
from proxy.gate.limit import address_key
from proxy.gate.navigation import is_navigation
from proxy.gate.origin import SAFE, is_own_page
from proxy.gate.session import provider_terms, user_terms
from proxy.gate.snapshot import RateLimit, Way
from proxy.gate.telling import quote

if TYPE_CHECKING:
    from collections.abc import Mapping

    from proxy.gate.ask import Answer, Question
    from proxy.gate.credentials import ShownPassword
    from proxy.gate.memory import Memory
    from proxy.gate.session import LiveSession, Session
    from proxy.gate.snapshot import Route, Snapshot
    from proxy.wire.head import RequestHead

#: A page of a browser with an old cookie asks some twenty times at once.
_LOOKS = RateLimit(rate=20, interval_s=1.0, burst=100, by_identity=False)
#: For how long a session goes on without its provider's word, once that is due.
OUTAGE_S = 3600.0
_MAX_LOCATION_BYTES = 2048
_NO_ROLES: frozenset[str] = frozenset()
_ANYONE_TOO = ANYONE.roles


class People:
    """Compiled for one Snapshot; the memory it looks into is the process's."""

    __slots__ = ("_looks", "_memory", "_snapshot", "_terms")

    def __init__(self, snapshot: Snapshot, memory: Memory) -> None:
        self._snapshot = snapshot
        self._memory = memory
        self._looks = memory.meter("sessions", _LOOKS)
        self._terms = {provider.name: provider_terms(provider) for provider in snapshot.people}

    def identify(
        self, route: Route, head: RequestHead, ip: str, at: float, now: float, facts: Mapping[Question, Answer]
    ) -> Identity | Deny | Need:
        """`at` is monotonic, for limits; `now` is unix time, for the life of sessions."""
        rules = self._snapshot.sessions
        shown = read_session(head.cookies, rules.cookie) if rules is not None else None
        if shown is None or isinstance(shown, Malformed):
            return self._nobody(route, head, Reason.NO_CREDENTIAL if shown is None else Reason.SESSION_ENDED)
        if facts.get(RefreshSession(shown.digest)) == REFUSED:
            return self._nobody(route, head, Reason.SESSION_ENDED)
        live = self._memory.sessions.find(shown.digest)
        if live is None:
            return self._unknown(route, head, shown.digest, ip, at, facts)
        if not self.is_alive(live, now) or not _is_for(route, live.session):
            return self._nobody(route, head, Reason.SESSION_ENDED)
        stale = None if Way.NONE in route.ways else self._refresh(route, live.session, now, facts)
        if stale is not None:
            return stale
        identity = self._identity(live.session, route)
        if head.method not in SAFE and not is_own_page(head, self._snapshot.external_url):
            return Deny(Reason.FOREIGN_ORIGIN, route, identity=identity)
        if STANDING not in facts:
            live.seen_at = max(live.seen_at, now)
        return identity

    def _unknown(
        self, route: Route, head: RequestHead, digest: bytes, ip: str, at: float, facts: Mapping[Question, Answer]
    ) -> Identity | Deny | Need:
        answer = facts.get(FindSession(digest))
        if answer == UNREADABLE:
            return Deny(Reason.SESSIONS_UNREADABLE, route)
        if answer in {BUSY, FOUND}:  # found, and out of memory again: it is full of those who come just now
            return Deny(Reason.BUSY, route)
        if answer == ABSENT:
            return self._nobody(route, head, Reason.SESSION_ENDED)
        wait = self._looks.spend(address_key(ip), at)
        return Deny(Reason.TOO_MANY_GUESSES, route, retry_after_s=wait) if wait else Need(FindSession(digest), route)

    def is_alive(self, live: LiveSession, now: float) -> bool:
        """By its times, and by the configuration: a provider, a user, the password that began it takes it along."""
        session, times = live.session, self._snapshot.session_times
        if now >= session.began_at + times.absolute_s or now >= live.seen_at + times.idle_s:
            return False
        if session.login:
            return self._terms.get(session.login) == session.terms
        user = session.name.removeprefix("basic:")
        return any(user_terms(user, one) == session.terms for one in self._snapshot.users.get(user, ()))

    def admit(self, identity: Identity, shown: ShownPassword, at: float) -> Identity:
        """The user whose password was right at `at`, with the terms of the session that it is to begin."""
        found = self._memory.passwords.find(shown, self._snapshot.users.get(shown.user, ()), at)
        return identity if found is None else replace(identity, terms=user_terms(shown.user, found))

    def terms_of(self, login: str) -> str:
        """Those of a provider; empty where there is none of that name."""
        return self._terms.get(login, "")

    def _refresh(
        self, route: Route, session: Session, now: float, facts: Mapping[Question, Answer]
    ) -> Deny | Need | None:
        """None: it may go on. A provider that is down costs nobody a session; for how long they go on has an end."""
        if now < session.fresh_until:
            return None
        answer = facts.get(RefreshSession(session.digest))
        if answer is None:
            return Need(RefreshSession(session.digest), route)
        if answer == FOUND or now < session.fresh_until + OUTAGE_S:
            return None
        return Deny(Reason.BUSY if answer == BUSY else Reason.PROVIDER_UNREACHABLE, route)

    def _identity(self, session: Session, route: Route) -> Identity:
        roles = self._snapshot.roles
        held = roles.get(session.name, _NO_ROLES).union(*(roles.get(key, _NO_ROLES) for key in session.granted))
        if Way.NONE in route.ways:
            held |= _ANYONE_TOO
        return Identity(session.name, held, Way.OAUTH2, session=session.digest.hex(), granted=session.granted)

    def _nobody(self, route: Route, head: RequestHead, reason: Reason) -> Identity | Deny:
        """A browser that opens a page is sent to log in, and then back; to everybody else that would be a lie."""
        if Way.NONE in route.ways:
            return ANYONE
        rules = self._snapshot.sessions
        if rules is None or not is_navigation(head):
            return Deny(reason, route)
        return Deny(Reason.LOGIN_NEEDED, route, location=f"{rules.login}?rd={_asked(head)}")


def _is_for(route: Route, session: Session) -> bool:
    """Where no password lets in, none does that was shown to the login page."""
    return bool(session.login) or Way.BASIC in route.ways or Way.NONE in route.ways


def _asked(head: RequestHead) -> str:
    """The path that was asked for, as the value of a parameter; less its query where that is too long to be kept."""
    whole = quote((head.path + head.line.query).decode())
    return whole if len(whole) <= _MAX_LOCATION_BYTES else quote(head.path.decode())[:_MAX_LOCATION_BYTES]
