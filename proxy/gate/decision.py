"""What the gate can say of a request: forward it, deny it, answer it here, or ask for a fact first."""

from __future__ import annotations

import enum
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from proxy.gate.ask import Question
    from proxy.gate.credentials import Shown
    from proxy.gate.places import Place
    from proxy.gate.snapshot import Route, Way
    from proxy.wire.head import RequestHead


class Reason(enum.StrEnum):
    """Why. The same word in the access log, in metric labels and in tests."""

    OK = "ok"
    HEALTH = "health"
    OPTIONS = "options"
    REDIRECTED = "redirected"
    PLAIN_HTTP = "plain_http"
    PLAIN_WRITE = "plain_write"
    NO_ROUTE = "no_route"
    WRONG_HOST = "wrong_host"
    BLOCKED = "blocked"
    METHOD_UNKNOWN = "method_unknown"
    METHOD_NOT_TAKEN = "method_not_taken"
    NO_CREDENTIAL = "no_credential"
    LOGIN_NEEDED = "login_needed"
    SESSION_ENDED = "session_ended"
    BAD_CREDENTIAL = "bad_credential"
    WAY_NOT_OPEN = "way_not_open"
    NOT_ALLOWED = "not_allowed"
    ADDRESS_NOT_ALLOWED = "address_not_allowed"
    SOURCE_NOT_ALLOWED = "source_not_allowed"
    NOT_A_PROXY = "not_a_proxy"
    NO_INQUIRY = "no_inquiry"
    GRANTED = "granted"
    IDENTITY_UNFIT = "identity_unfit"
    NO_TENANT = "no_tenant"
    FOREIGN_ORIGIN = "foreign_origin"
    TOKEN_RETIRED = "token_retired"  # noqa: S105
    TOKEN_LEAKED = "token_leaked"  # noqa: S105
    TOKEN_ENDED = "token_ended"  # noqa: S105
    TOKEN_REVOKED = "token_revoked"  # noqa: S105
    JWT_EXPIRED = "jwt_expired"
    JWT_EARLY = "jwt_early"
    KEY_LATE = "key_late"
    PROVIDER_UNREACHABLE = "provider_unreachable"
    CERTIFICATE_ENDED = "certificate_ended"
    STORE_EMPTY = "store_empty"
    STORE_NEW = "store_new"
    STORE_UNREADABLE = "store_unreadable"
    SESSIONS_UNREADABLE = "sessions_unreadable"
    TOO_MANY_GUESSES = "too_many_guesses"
    OVER_RATE = "over_rate"
    TOO_MANY_AT_ONCE = "too_many_at_once"
    BUSY = "busy"
    BODY_TOO_LARGE = "body_too_large"
    UNLAWFUL = "unlawful"
    UPSTREAM_REFUSED = "upstream_refused"
    UPSTREAM_BROKE = "upstream_broke"
    UPSTREAM_REDIRECTS = "upstream_redirects"
    UPSTREAM_LOGIN = "upstream_login"
    UPSTREAM_LATE = "upstream_late"
    CLIENT_GONE = "client_gone"
    CLIENT_LATE = "client_late"
    TUNNEL_IDLE = "tunnel_idle"
    DRAINING = "draining"


@dataclass(frozen=True, slots=True)
class Identity:
    """Who is asking, with which roles, and by which way.

    `name` is `token:NAME`, `basic:NAME`, `jwt:SUBJECT`, `introspection:SUBJECT`, `cert:CN=NAME`, `cert:SAN=NAME`,
    `anyone`, or what a provider calls a person. `session` is the digest of theirs, in hex; empty: none. `granted` is
    what else is known of it: keys of `Snapshot.roles` (groups, claims, further names of a certificate). `terms` are
    those of the session that it is to begin: where a password came by a form.
    """

    name: str
    roles: frozenset[str]
    way: Way
    token_id: str = ""
    session: str = ""
    granted: tuple[str, ...] = ()
    terms: str = ""


@dataclass(slots=True)
class Forward:
    """Relay it after `wait_s` seconds, with the lines `told`. A plain dataclass: frozen ones cost six times as much.

    `place` is to be taken when it goes on its way, and given back when it ends; None: nothing is counted.
    """

    route: Route
    identity: Identity
    wait_s: float = 0.0
    told: bytes = b""
    place: Place | None = None


@dataclass(slots=True)
class Upgrade(Forward):
    """Relay it, and when the upstream answers the handshake with `key`, bytes in both directions."""

    key: bytes = b""


@dataclass(slots=True)
class Deny:
    """`location`: where a browser that was not let in may log in."""

    reason: Reason
    route: Route | None = None
    retry_after_s: float = 0.0
    identity: Identity | None = None
    location: str = ""


@dataclass(slots=True)
class Local:
    """Answered by promgate itself, for anybody; `location` is where a redirect leads."""

    reason: Reason
    location: str = ""


@dataclass(slots=True)
class Need:
    """A fact that memory does not hold: find the answer and decide again."""

    question: Question
    route: Route


@dataclass(slots=True)
class Inquire:
    """It asks about another request (forward auth): `gate.inquiry` reads which one."""

    route: Route


@dataclass(slots=True)
class Inquiry:
    """The request that a proxy asks about, and the credential that it shows. `route` is that of the inquiry."""

    route: Route
    head: RequestHead
    shown: Shown | None


@dataclass(slots=True)
class Ruling:
    """What the proxy is told of the request `head`: that it may pass, with the lines `told`; or that it may not."""

    head: RequestHead
    route: Route | None
    identity: Identity | None
    told: bytes = b""
    deny: Deny | None = None

    @property
    def reason(self) -> Reason:
        return Reason.GRANTED if self.deny is None else self.deny.reason


Verdict = Forward | Deny | Local
Decision = Verdict | Need | Inquire
