"""All that was configured, compiled for one look-up each. Made by `config.build`, replaced whole, never changed."""

from __future__ import annotations

import enum
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, ClassVar, NamedTuple

from proxy.gate.providers import SessionTimes
from proxy.gate.tenants import Tenants

if TYPE_CHECKING:
    from collections.abc import Mapping

    from proxy.gate.addresses import Addresses
    from proxy.gate.exempt import Exemption
    from proxy.gate.forwarded import Proxies
    from proxy.gate.providers import Provider
    from proxy.gate.session import SessionRules
    from proxy.gate.sources import Sources
    from proxy.tokens.schedule import Period
    from proxy.tokens.targets import CanaryRules, Target
    from proxy.tokens.token import Token


class RouteKind(enum.Enum):
    """What a client on this route does with an answer; remote-write senders drop data on most refusals."""

    PLAIN = "plain"
    REMOTE_WRITE = "remote_write"


class Way(enum.Enum):
    """A way in. The value is the word of the configuration (`auth: [...]`)."""

    WRITE_TOKEN = "write_token"  # noqa: S105 - the name of a method, not a secret
    BEARER = "bearer"
    BASIC = "basic"
    JWT = "jwt"
    INTROSPECTION = "introspection"
    CLIENT_CERT = "client_cert"
    OAUTH2 = "oauth2"
    NONE = "none"

    # Enum's own hash is a Python function; a way is looked up for each request.
    __hash__ = object.__hash__


class UpstreamTls(NamedTuple):
    """How an upstream proves itself, and what it is shown. Files are absolute paths.

    Empty: the system's authorities, no certificate of ours, the upstream's host as its name.
    """

    ca_file: str = ""
    cert_file: str = ""
    key_file: str = ""
    server_name: str = ""
    min_version: str = "TLS12"


@dataclass(frozen=True, slots=True)
class UpstreamLogin:
    """What promgate itself shows an upstream: the password of `user`, or a bearer token where that is empty.

    `file` is where the secret was read from, to be read again when it changes.
    """

    user: str
    secret: str = field(repr=False)
    file: str = ""


class ClientTrust(NamedTuple):
    """Which client certificates a listener takes. Files are absolute paths; `allowed_sans` empty: any.

    Its files are followed while they change; the names are read at the start.
    """

    ca_file: str
    is_required: bool
    crl_file: str = ""
    allowed_sans: frozenset[str] = frozenset()


class Upstream(NamedTuple):
    """An HTTP/1.1 server reached over TCP (`tls` None: in clear), or over the unix socket at the absolute path.

    `health_path` answers 2xx while it is well; empty: it is well while it takes connections.
    """

    host: str
    port: int
    socket: str = ""
    tls: UpstreamTls | None = None
    login: UpstreamLogin | None = None
    health_path: bytes = b""

    @property
    def authority(self) -> str:
        """How logs and metrics call it."""
        if self.socket:
            return f"unix:{self.socket}"
        if not self.port:
            return self.host
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{host}:{self.port}"


#: promgate's own console and API, which no address leads to.
CONTROL = Upstream("control", 0)


@dataclass(frozen=True, slots=True)
class RateLimit:
    """`rate` requests per `interval_s`, `burst` at once. `max_delay_s` > 0: wait that long before refusing."""

    rate: float
    interval_s: float
    burst: int
    by_identity: bool = True
    max_delay_s: float = 0.0


class Concurrency(NamedTuple):
    """How many requests may be under way at once, for each identity or each address."""

    limit: int
    by_identity: bool = True


@dataclass(frozen=True, slots=True)
class Rule:
    """Who may pass a route: a role, the methods it may use there (None: all that the route takes), and where.

    `paths` are whole canonical paths, each with all that lies below it; empty: everywhere on the route.
    """

    role: str
    methods: frozenset[bytes] | None = None
    paths: tuple[bytes, ...] = ()


@dataclass(frozen=True, slots=True)
class Telling:
    """What an upstream is told of who is asking. `tenant` is everybody's on the route; empty: each has its own.

    `quoted`: percent-encoded, so that any name fits, and with way and token id; the control plane reads it.
    """

    identity: bool = False
    quoted: bool = False
    tenant_header: str = ""
    tenant: str = ""


@dataclass(frozen=True, slots=True)
class Route:
    """One prefix of the public listener and what stands behind it. `methods` None: any method that is not refused.

    `hosts` are names in lower case, empty: all that no other route claims. `stripped` is the beginning of `path` that
    the upstream does not see. `unblocked` are paths below the prefix.
    `spares` are further upstreams of the same kind: the one with the fewest requests under way serves, or with
    `first_available` the first that can be reached.
    With `only_hosts` it answers to these names and to addresses alone: a page that has its own name point here (DNS
    rebinding) is not answered.
    `inquires`: nothing is relayed, but proxies ask here about requests that they hold (`gate.inquiry`).
    """

    name: str
    path: str
    upstream: Upstream
    kind: RouteKind = RouteKind.PLAIN
    ways: frozenset[Way] = frozenset()
    rules: tuple[Rule, ...] = ()
    methods: frozenset[bytes] | None = None
    rate_limit: RateLimit | None = None
    concurrency: Concurrency | None = None
    max_body_bytes: int = 32 * 1024 * 1024
    hosts: frozenset[bytes] = frozenset()
    stripped: bytes = b""
    unblocked: tuple[bytes, ...] = ()
    addresses: Addresses | None = None
    exempt: tuple[Exemption, ...] = ()
    telling: Telling | None = None
    spares: tuple[Upstream, ...] = ()
    first_available: bool = False
    websocket: bool = False
    only_hosts: frozenset[bytes] | None = None
    inquires: bool = False


@dataclass(frozen=True, slots=True)
class Timeouts:
    """Deadlines of the data plane, in seconds. docs/behaviour.md tells what each one cuts."""

    tls_handshake: float = 10.0
    header: float = 10.0
    idle: float = 330.0
    body: float = 30.0
    connect: float = 3.0
    response: float = 300.0
    stream: float = 3600.0
    tunnel: float = 3600.0
    send: float = 60.0
    linger: float = 2.0
    upstream_idle: float = 55.0
    drain_delay: float = 0.0
    drain: float = 30.0


@dataclass(frozen=True, slots=True)
class Bounds:
    """How much of anything one peer, or all together, may hold."""

    body_min_rate_bytes: int = 500
    max_connections: int = 20_000
    max_connections_per_ip: int = 2_000
    guesses: RateLimit = RateLimit(rate=10, interval_s=1.0, burst=20, by_identity=False)
    guesses_per_user: RateLimit = RateLimit(rate=1, interval_s=1.0, burst=30)
    #: For a sender with a retired token. An agent of many shards asks in a burst, and then as Retry-After says.
    held: RateLimit = RateLimit(rate=2, interval_s=1.0, burst=50, by_identity=False)


#: Pairs of a claim and a value that roles are given for.
Wanted = tuple[tuple[str, str], ...]


def claim_key(prefix: str, claim: str, value: str) -> str:
    """Under what `Snapshot.roles` has the roles of a claim. No subject holds a space, so none can pass for it."""
    return f"{prefix} {claim}={value}"


@dataclass(frozen=True, slots=True)
class JwtIssuer:
    """Whose signed tokens are believed: exact `issuer` and `audience`, and where the keys come from.

    They are those of the JWKS document `jwks` (read again from `jwks_file` when it changes) or, where that is empty,
    those at `jwks_url`, which discovery finds if it is empty too. `prefix` begins the names of its identities. `typ`
    not empty: that type of token and no other.
    """

    issuer: str
    audience: str
    jwks: str = ""
    algorithms: tuple[str, ...] = ("ES256", "RS256")
    jwks_file: str = ""
    jwks_url: str = ""
    ca_file: str = ""
    typ: str = ""
    prefix: str = "jwt:"
    wanted: Wanted = ()

    @property
    def terms(self) -> str:
        """What a token was judged by, the keys left out: what was remembered under other terms counts no more."""
        return repr((self.issuer, self.audience, self.algorithms, self.typ, self.prefix, self.wanted))


@dataclass(frozen=True, slots=True)
class Introspection:
    """Who is asked about opaque tokens of others (RFC 7662), and what must be said of one.

    `url` empty: discovery finds it from `issuer`. `issuer` and `audience` must be exactly these where they are given.
    """

    url: str
    client_id: str
    client_secret: str = field(repr=False)
    client_secret_file: str = ""
    issuer: str = ""
    audience: str = ""
    ca_file: str = ""
    wanted: Wanted = ()

    prefix: ClassVar[str] = "introspection:"

    @property
    def terms(self) -> str:
        """As of JwtIssuer."""
        return repr((self.url, self.client_id, self.issuer, self.audience, self.wanted))


@dataclass(frozen=True, slots=True)
class TokenRules:
    """The times of a token's life, in seconds, where the tokens of a name are put, and how a new one is proven.

    `rotation` None: rotations are begun by hand. `finish_when_quiet_s` None: no overlap ends early by itself.
    """

    overlap_s: float = 24 * 3600.0
    max_overlap_s: float = 7 * 24 * 3600.0
    retry_grace_s: float = 3600.0
    deliver: Mapping[str, tuple[Target, ...]] = field(default_factory=dict)
    canary: CanaryRules | None = None
    rotation: Period | None = None
    finish_when_quiet_s: float | None = None
    #: Names with one sender, which fetches the successor of its token itself.
    renewing: frozenset[str] = frozenset()
    #: Tokens whose digests the configuration lists, in its order. They are beside the store, and beyond every command.
    configured: tuple[Token, ...] = ()


@dataclass(frozen=True, slots=True)
class Snapshot:
    """The configuration as the gate and the relay use it.

    `users` maps a name to its bcrypt hashes; `roles` maps an identity (`basic:NAME`, `token:NAME`, `jwt:SUB`,
    `introspection:SUB`, `cert:CN=NAME`, `cert:SAN=NAME`, `oidc:user:E-MAIL`, `github:user:LOGIN`), or the key of a
    claim, to its roles. `people` are the providers by which people log in. `sources` None: nobody is confined.
    `routes` keep the order of the file; `gate.routing` picks the longest whole-segment prefix.
    `console` are promgate's own routes where they have a listener of their own, else they are among `routes`.
    `external_url` is an origin (`https://noc.example.net`); `hsts` is the whole field line for people's answers over
    TLS, empty for none. `sessions` None: nobody logs in.
    """

    routes: tuple[Route, ...]
    users: Mapping[str, tuple[bytes, ...]] = field(default_factory=dict, repr=False)
    roles: Mapping[str, frozenset[str]] = field(default_factory=dict)
    tenants: Tenants = field(default_factory=Tenants)
    sources: Sources | None = None
    token_rules: TokenRules = field(default_factory=TokenRules)
    timeouts: Timeouts = field(default_factory=Timeouts)
    bounds: Bounds = field(default_factory=Bounds)
    jwt_issuers: tuple[JwtIssuer, ...] = ()
    introspection: Introspection | None = None
    people: tuple[Provider, ...] = ()
    session_times: SessionTimes = field(default_factory=SessionTimes)
    trusted_proxies: Proxies | None = None
    external_url: str = ""
    hsts: bytes = b""
    console: tuple[Route, ...] = ()
    sessions: SessionRules | None = None
