"""Who is asking: one credential -> an identity, a denial, or a question. What memory knows costs one look-up."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING

from proxy.gate.ask import (
    ABSENT,
    BUSY,
    LATE,
    REFUSED,
    UNREACHABLE,
    UNREADABLE,
    CheckPassword,
    Claims,
    FindToken,
    Introspect,
    VerifyJwt,
)
from proxy.gate.credentials import ShownCertificate, ShownJwt, ShownPassword, ShownToken
from proxy.gate.decision import Deny, Identity, Need, Reason
from proxy.gate.limit import address_key, user_key
from proxy.gate.reply import RETRY_AFTER_S
from proxy.gate.snapshot import RouteKind, Way
from proxy.tokens.token import TokenKind, TokenState, ended_at, is_accepted, state_at

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from proxy.gate.ask import Answer, Question
    from proxy.gate.credentials import Shown
    from proxy.gate.memory import Memory
    from proxy.gate.snapshot import Route, Snapshot
    from proxy.tokens.token import Token

_NONE, _OAUTH2 = Way.NONE, Way.OAUTH2  # a look-up in an Enum costs as much as a call
ANYONE = Identity("anyone", frozenset({"anyone"}), Way.NONE)
_NO_ROLES: frozenset[str] = frozenset()
_MAX_CERTIFIED = 10_000
_WRITE_ROLES = frozenset({"write"})
_WAY_OF = {TokenKind.WRITE: Way.WRITE_TOKEN, TokenKind.READER: Way.BEARER}
#: The hash of 32 random bytes that nobody kept: an unknown user must take as long as a known one.
_DECOY = b"$2b$10$pxhE5hFt.bIIaXxedjbtVuKn4uIH9WmF8qjRavOUpjBVGKnh3woDm"
#: Clocks differ (RFC 7519 4.1.5); what is just past its end is held and not lost, so `exp` needs no such leeway.
_CLOCK_SKEW_S = 60.0
#: For how long after its end, or before its beginning, a token on a write route means "not now" and not "never".
_GRACE_S = 300.0
#: Answers that say nothing of the token: it may be good.
_UNTOLD = {BUSY: Reason.BUSY, UNREACHABLE: Reason.PROVIDER_UNREACHABLE, LATE: Reason.KEY_LATE}


class Authenticator:
    """Compiled for one Snapshot; the memory it looks into is the process's."""

    __slots__ = (
        "_certified", "_decoys", "_guesses", "_held", "_identities", "_memory", "_per_user", "_snapshot", "_terms",
    )  # fmt: skip

    def __init__(self, snapshot: Snapshot, memory: Memory) -> None:
        self._snapshot = snapshot
        self._memory = memory
        self._guesses = memory.meter("guesses", snapshot.bounds.guesses)
        self._held = memory.meter("held", snapshot.bounds.held)
        self._per_user = memory.meter("guesses:user", snapshot.bounds.guesses_per_user)
        self._identities: dict[str, Identity] = {}
        self._certified: dict[tuple[str, ...], Identity] = {}
        self._terms = {one.terms for one in snapshot.jwt_issuers}
        if snapshot.introspection is not None:
            self._terms.add(snapshot.introspection.terms)
        self._decoys = _decoys(snapshot.users.values())

    def identify(
        self, route: Route, shown: Shown | None, ip: str, at: float, now: float, facts: Mapping[Question, Answer]
    ) -> Identity | Deny | Need:
        """`at` is monotonic, for limits; `now` is unix time, for the life of our own tokens."""
        if shown is None or _NONE in route.ways:
            is_open = _NONE in route.ways and _OAUTH2 not in route.ways
            return ANYONE if is_open else Deny(Reason.NO_CREDENTIAL, route)
        if shown.__class__ is ShownToken:
            token = self._memory.book.find(shown.digest)
            if token is not None:
                return self._known_token(route, token, ip, at, now)
            return self._unknown_token(route, shown, ip, at, now, facts)
        if isinstance(shown, ShownPassword):
            return self._password(route, shown, ip, at, facts)
        if isinstance(shown, ShownJwt):
            return self._jwt(route, shown, ip, at, now, facts)
        if isinstance(shown, ShownCertificate):
            return self._certificate(route, shown, now + self._memory.drift_s)
        return Deny(Reason.BAD_CREDENTIAL, route)

    def _known_token(self, route: Route, token: Token, ip: str, at: float, now: float) -> Identity | Deny:
        identity = self._identities.get(token.id) or self._token_identity(token)
        if not is_accepted(token, now):
            reason = self._ended(route, token, identity.way, now)
            if reason is Reason.TOKEN_RETIRED:
                return self._hold(route, identity, ip, at)
            return Deny(reason, route, identity=identity)
        if identity.way not in route.ways:
            return Deny(Reason.NOT_ALLOWED, route, identity=identity)
        return identity

    def _ended(self, route: Route, token: Token, way: Way, now: float) -> Reason:
        held = route.kind is RouteKind.REMOTE_WRITE and way in route.ways
        if state_at(token, now) is TokenState.REVOKED:
            # Strangers know it, but its own sender has data to keep until it is given the successor.
            is_leaked = token.held_until is not None and now < token.held_until
            return Reason.TOKEN_LEAKED if held and is_leaked else Reason.TOKEN_REVOKED
        ended = ended_at(token) or 0.0
        if held and now < ended + self._snapshot.token_rules.retry_grace_s:
            # Nothing is let in, and nothing is lost: senders drop a batch on 401, and keep it on 503.
            return Reason.TOKEN_RETIRED
        return Reason.TOKEN_ENDED

    def _hold(self, route: Route, identity: Identity, ip: str, at: float) -> Deny:
        """Not now. It is no guess; but who asks too often, by token and address, is told the longest wait there is."""
        is_fast = self._held.spend(f"{identity.token_id} {address_key(ip)}", at) > 0.0
        return Deny(Reason.TOKEN_RETIRED, route, retry_after_s=RETRY_AFTER_S[1] if is_fast else 0.0, identity=identity)

    def _unknown_token(
        self, route: Route, shown: ShownToken, ip: str, at: float, now: float, facts: Mapping[Question, Answer]
    ) -> Identity | Deny | Need:
        takes_tokens = _takes_tokens(route)
        lost = self._may_be_lost(now) if takes_tokens and route.kind is RouteKind.REMOTE_WRITE else None
        if shown.text and Way.INTROSPECTION in route.ways:
            introspect = Introspect(shown.text)
            if lost is None or facts.get(introspect) != REFUSED:
                return self._foreign(route, Way.INTROSPECTION, introspect, shown.digest, ip, at, now, facts)
        if not takes_tokens:
            return Deny(Reason.WAY_NOT_OPEN, route)
        if lost is Reason.STORE_EMPTY:
            return Deny(lost, route)
        question = FindToken(shown.digest)
        answer = facts.get(question)
        if answer == UNREADABLE:
            return Deny(Reason.STORE_UNREADABLE, route)
        is_absent = answer == ABSENT
        if not shown.minted or (is_absent and lost is None):
            return self._wrong(route, ip, at)
        if is_absent and lost is not None:
            return Deny(lost, route)
        if not self._memory.book.readable:
            return Deny(Reason.STORE_UNREADABLE, route)
        if lost is None:
            return self._ask(route, question, ip, at)
        # A fleet behind one address is no guesser: it takes nothing from those who log in from there.
        if self._held.spend(address_key(ip), at):
            return Deny(lost, route, retry_after_s=RETRY_AFTER_S[1])
        return Need(question, route)

    def _may_be_lost(self, now: float) -> Reason | None:
        """Why a token that nobody knows may be good: a volume that was lost must not make every sender drop its data.

        The first token of a new store says nothing of those that the lost one had.
        """
        book = self._memory.book
        if not book.has_store:
            return None
        if not len(book):
            return Reason.STORE_EMPTY
        return Reason.STORE_NEW if now < book.made_at + self._snapshot.token_rules.retry_grace_s else None

    def _password(
        self, route: Route, shown: ShownPassword, ip: str, at: float, facts: Mapping[Question, Answer]
    ) -> Identity | Deny | Need:
        if Way.BASIC not in route.ways:
            return Deny(Reason.WAY_NOT_OPEN, route)
        passwords = self._memory.passwords
        hashes = self._snapshot.users.get(shown.user)
        if hashes is not None and passwords.find(shown, hashes, at) is not None:
            return self._identity(f"basic:{shown.user}")
        question = CheckPassword(hashes or self._decoys, shown.password)
        answer = facts.get(question)
        if answer is None:
            if hashes is not None and passwords.knew(shown, hashes):
                return Need(CheckPassword(hashes, shown.password, was_right=True), route)
            return self._ask_password(route, question, shown.user, ip, at)
        if answer == BUSY:
            return Deny(Reason.BUSY, route)
        if not isinstance(answer, bytes) or hashes is None:
            self._per_user.charge(user_key(shown.user), at)
            return self._wrong(route, ip, at)
        passwords.remember(shown, hashes, answer, at)
        return self._identity(f"basic:{shown.user}")

    def _jwt(
        self, route: Route, shown: ShownJwt, ip: str, at: float, now: float, facts: Mapping[Question, Answer]
    ) -> Identity | Deny | Need:
        if Way.JWT in route.ways:
            return self._foreign(route, Way.JWT, VerifyJwt(shown.text), shown.digest, ip, at, now, facts)
        if Way.INTROSPECTION in route.ways:
            return self._foreign(route, Way.INTROSPECTION, Introspect(shown.text), shown.digest, ip, at, now, facts)
        return Deny(Reason.WAY_NOT_OPEN, route)

    def _foreign(
        self,
        route: Route,
        way: Way,
        question: VerifyJwt | Introspect,
        digest: bytes,
        ip: str,
        at: float,
        now: float,
        facts: Mapping[Question, Answer],
    ) -> Identity | Deny | Need:
        """A token that another minted: what memory knows of it, or else what its issuer says."""
        now += self._memory.drift_s
        verified = self._memory.jwts if way is Way.JWT else self._memory.introspected
        claims = verified.find(digest, at) or verified.find_ended(digest, now)
        if claims is None or claims.terms not in self._terms:
            answer = facts.get(question)
            if answer is None:
                return Need(question, route) if verified.knew(digest) else self._ask(route, question, ip, at)
            untold = _UNTOLD.get(answer) if isinstance(answer, str) else None
            if untold is not None:
                return Deny(untold, route)
            if not isinstance(answer, Claims) or answer.terms not in self._terms:
                verified.forget(digest)
                return self._wrong(route, ip, at)
            verified.remember(digest, answer, at)
            claims = answer
        return self._claimed(route, way, claims, ip, at, now)

    def _claimed(self, route: Route, way: Way, claims: Claims, ip: str, at: float, now: float) -> Identity | Deny:
        """An issuer's word, held against the time. Clocks differ: a sender may try again for a while."""
        roles = self._snapshot.roles
        held = roles.get(claims.name, _NO_ROLES)
        if claims.granted:
            held = held.union(*(roles.get(key, _NO_ROLES) for key in claims.granted))
        identity = Identity(claims.name, held | _WRITE_ROLES if claims.writes else held, way, granted=claims.granted)
        keeps = route.kind is RouteKind.REMOTE_WRITE
        if now >= claims.expires_at:
            is_held = keeps and now < claims.expires_at + _GRACE_S
            return Deny(Reason.JWT_EXPIRED if is_held else Reason.TOKEN_ENDED, route, identity=identity)
        if now < claims.not_before - _CLOCK_SKEW_S:
            if keeps and now >= claims.not_before - _GRACE_S:
                return Deny(Reason.JWT_EARLY, route, identity=identity)
            return self._wrong(route, ip, at)
        return identity

    def _certificate(self, route: Route, shown: ShownCertificate, now: float) -> Identity | Deny:
        """Nothing is guessed here: the handshake has verified it, by keys that nobody can try out."""
        if Way.CLIENT_CERT not in route.ways:
            return Deny(Reason.NO_CREDENTIAL, route)
        if now >= shown.not_after:
            return Deny(Reason.CERTIFICATE_ENDED, route)
        identity = self._certified.get(shown.names)
        if identity is None:
            roles = self._snapshot.roles
            held = _NO_ROLES.union(*(roles.get(name, _NO_ROLES) for name in shown.names))
            identity = Identity(shown.names[0], held, Way.CLIENT_CERT, granted=shown.names)
            if len(self._certified) < _MAX_CERTIFIED:
                self._certified[shown.names] = identity
        return identity

    def _ask(self, route: Route, question: Question, ip: str, at: float) -> Deny | Need:
        """A guess must be cheaper for us than for the guesser: it is charged before any work is done for it."""
        wait = self._guesses.spend(address_key(ip), at)
        if wait:
            return Deny(Reason.TOO_MANY_GUESSES, route, retry_after_s=wait)
        return Need(question, route)

    def _ask_password(self, route: Route, question: Question, user: str, ip: str, at: float) -> Deny | Need:
        """Guesses at one user from many addresses are charged to the user as well, whether there is such a user or not.

        Whoever knew the password before comes past here, and no guesser can lock them out.
        """
        need = self._ask(route, question, ip, at)
        wait = self._per_user.spend(user_key(user), at) if isinstance(need, Need) else 0.0
        return Deny(Reason.TOO_MANY_GUESSES, route, retry_after_s=wait) if wait else need

    def _wrong(self, route: Route, ip: str, at: float) -> Deny:
        """A wrong guess is charged (again); the answer is the same for each kind of wrong."""
        key = address_key(ip)
        wait = self._guesses.owes(key, at)
        self._guesses.charge(key, at)
        if wait:
            return Deny(Reason.TOO_MANY_GUESSES, route, retry_after_s=wait)
        return Deny(Reason.BAD_CREDENTIAL, route)

    def _token_identity(self, token: Token) -> Identity:
        name = f"token:{token.name}"
        roles = self._snapshot.roles.get(name, _NO_ROLES)
        if token.kind is TokenKind.WRITE:
            roles |= _WRITE_ROLES
        identity = self._identities[token.id] = Identity(name, roles, _WAY_OF[token.kind], token.id)
        return identity

    def _identity(self, name: str) -> Identity:
        identity = self._identities.get(name)
        if identity is None:
            identity = self._identities[name] = Identity(name, self._snapshot.roles.get(name, _NO_ROLES), Way.BASIC)
        return identity


def _takes_tokens(route: Route) -> bool:
    return Way.WRITE_TOKEN in route.ways or Way.BEARER in route.ways


def _decoys(users: Iterable[tuple[bytes, ...]]) -> tuple[bytes, ...]:
    """What an unknown user's password is held against: as many hashes, of the same costs, as most users have."""
    costs = Counter(tuple(one[4:6] for one in hashes) for hashes in users if hashes)
    usual = costs.most_common(1)[0][0] if costs else (_DECOY[4:6],)
    return tuple(_DECOY[:4] + cost + _DECOY[6:] for cost in usual)
