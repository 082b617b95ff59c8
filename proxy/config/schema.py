"""Every option, once: its kind, its default as one would write it, and what it does.

`read` fills these sections from a file, `build` says what they mean together, docs/configuration.md is made
from them (`python -m proxy.config.docs`). Key names are Prometheus' own wherever it has one.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

from proxy.config.control import ConsoleOf
from proxy.config.forward_auth import ForwardAuthOf
from proxy.config.issuers import IntrospectionOf, Jwt
from proxy.config.people import Oauth2, Sessions
from proxy.config.route_schema import RouteOf
from proxy.config.shape import REQUIRED, ListOf, MapOf, Refused, Section, Table, choice, option, whole
from proxy.config.tokens import Tokens
from proxy.config.web_config import HttpServerConfig, TlsServerConfig
from proxy.config.words import (
    ADDRESS,
    DIGEST,
    DURATION,
    FILE,
    HASH,
    HTPASSWD,
    IDENTITY,
    NETWORK,
    ORIGIN,
    PREFIX,
    RATE,
    SIZE,
    SPAN,
    SWITCH,
    TENANT,
)

if TYPE_CHECKING:
    from pathlib import Path

    from proxy.config.units import Address
    from proxy.gate.snapshot import ClientTrust


class Tls(NamedTuple):
    """Certificates of the listeners; `min_version` is TLS12 or TLS13. `trust` None: clients show none.

    `others` are more pairs of certificate and key, each for the names in it.
    """

    cert_file: Path
    key_file: Path
    min_version: str
    trust: ClientTrust | None = None
    others: tuple[tuple[Path, Path], ...] = ()


class AccessLog(NamedTuple):
    """Where the access log goes (None: stderr) and how a line looks (logfmt or json)."""

    file: Path | None
    format: str


class Settings(NamedTuple):
    """What the process needs beside the Snapshot. Paths are absolute. `store` is the SQLite file, None without one.

    `telemetry` is where metrics and health are shown, None: nowhere. `watch`: a changed file is taken by itself.
    `console_listen`: where the console is if not on the public listener.
    `redirect_listen` are the plain addresses from which people are sent to https.
    """

    path: Path
    listen: tuple[Address, ...]
    tls: Tls | None
    store: Path | None
    access_log: AccessLog
    telemetry: Address | None
    watch: bool
    proxy_protocol: bool
    reloads_by_http: bool = False
    console_listen: Address | None = None
    control_prefix: str = "/-"
    redirect_listen: tuple[Address, ...] = ()
    audit: Path | None = None


class TimeoutsOf(Section):
    """Deadlines of the data plane. docs/behaviour.md tells what each one answers or cuts."""

    tls_handshake: float = option(SPAN, "10s", "From accept to the end of the TLS handshake.")
    header: float = option(SPAN, "10s", "From the first byte of a request to the end of its head.")
    idle: float = option(SPAN, "330s", "Between two requests of a kept-alive client. Go's clients close at 5m.")
    body: float = option(SPAN, "30s", "For a request body; it grows by 1s with each `limits.body_min_rate` bytes.")
    connect: float = option(SPAN, "3s", "To connect to the upstream, retries included.")
    response: float = option(SPAN, "5m", "From the end of a request to the head of the upstream's answer.")
    stream: float = option(SPAN, "1h", "Between two pieces of the upstream's answer.")
    tunnel: float = option(SPAN, "1h", "For an open websocket to be silent in both directions.")
    send: float = option(SPAN, "60s", "For a peer to take any of what waits to be sent to it.")
    linger: float = option(SPAN, "2s", "For a refused client to stop sending before its connection is cut.")
    upstream_idle: float = option(SPAN, "55s", "For an unused connection to the upstream to be kept.")
    drain_delay: float = option(
        DURATION, "0s", "After SIGTERM, for load balancers to see that `/-/ready` is 503 before the listeners close."
    )
    drain: float = option(SPAN, "30s", "For requests under way to finish after that.")


class Guesses(Section):
    """How many unknown credentials one IP address may show before it has to wait."""

    rate: float = option(RATE, "10", "Guesses for each `interval`.")
    interval: float = option(SPAN, "1s", "The time that `rate` counts for.")
    burst: int = option(whole(1, 1_000_000), "20", "Guesses at once.")


class GuessesPerUser(Section):
    """How many unknown passwords one user name may be shown, from all addresses together, before they have to wait.

    Who has shown the right one since promgate started never waits.
    """

    rate: float = option(RATE, "1", "Guesses for each `interval`.")
    interval: float = option(SPAN, "1s", "The time that `rate` counts for.")
    burst: int = option(whole(1, 1_000_000), "30", "Guesses at once.")


class Limits(Section):
    """How much of anything one peer, or all together, may hold."""

    body_min_rate: int = option(
        SIZE, "500B", "Bytes a second below which a request body is given up, once `timeouts.body` is over."
    )
    max_connections: int = option(whole(1, 1_000_000), "20000", "Client connections at once.")
    max_connections_per_ip: int = option(whole(1, 1_000_000), "2000", "Client connections at once from one address.")
    guesses: Guesses = option(Table(Guesses), {}, "Brake on guessing credentials, for each IP address.")
    guesses_per_user: GuessesPerUser = option(
        Table(GuessesPerUser), {}, "Brake on guessing passwords, for each user name."
    )


class AccessLogOf(Section):
    """One line for each request."""

    file: str = option(FILE, "stderr", "A file to append to, or `stderr`.")
    format: str = option(choice("logfmt", "json"), "logfmt", "How a line is written.")


class AuditOf(Section):
    """A record of every change of a token's life, whoever made it. What cannot be recorded is not changed."""

    file: str = option(
        FILE, REQUIRED, "A file to append to, as JSON lines, each with the hash of the one before (docs/audit.md)."
    )


class Telemetry(Section):
    """Metrics, health and readiness, for machines: no login, and no secret to be seen. docs/metrics.md has them all."""

    listen: Address = option(
        ADDRESS, "127.0.0.1:9099", "Address of `/metrics`, `/-/healthy` and `/-/ready`, in plain HTTP."
    )


class RedirectHttp(Section):
    """A plain listener that lets nobody in: people are sent to `external_url`, programs are told to go there."""

    listen: tuple[Address, ...] = option(ListOf(ADDRESS, or_one=True), REQUIRED, "Its addresses: `:80`.")


class Hsts(Section):
    """Browsers that were here once come by https alone (RFC 6797). Sent on TLS, unless an upstream sends its own."""

    max_age: float = option(DURATION, "365d", "For how long; `0s` takes it back.")
    include_subdomains: bool = option(SWITCH, "false", "For every name below the host's, too.")


class ReloadOf(Section):
    """How a changed configuration is taken, besides by SIGHUP: whole or not at all."""

    watch: bool = option(
        SWITCH,
        "false",
        "Take a changed file, and changed files that it names, by itself once they are at rest (within 3s). "
        "The swaps of a mounted ConfigMap or Secret are seen.",
    )
    http: bool = option(
        SWITCH,
        "false",
        "Take it by `POST /-/reload` too: on the telemetry listener from whoever reaches it, as in Prometheus, and "
        "with `console` from the role `admin`.",
    )


class Config(Section):
    """The whole file."""

    @property
    def has_sessions(self) -> bool:
        """Whether somebody can have one: where a provider, or a form for passwords, lets them in."""
        return bool(self.oauth2) or self.sessions is not None

    version: str = option(choice("1"), "1", "Version of this format.")
    listen: tuple[Address, ...] = option(
        ListOf(ADDRESS, or_one=True),
        ["127.0.0.1:9443"],
        "Addresses of the public listener: `host:port`, `[v6]:port`, or `:port` for all.",
    )
    tls_server_config: TlsServerConfig | None = option(
        Table(TlsServerConfig), None, "TLS of the listeners. Without it they may be loopback only."
    )
    external_url: str | None = option(
        ORIGIN,
        None,
        "Where people reach promgate: `https://noc.example.net`. Redirects lead there, whoever asks, and its pages are "
        "promgate's own, whatever Host a proxy before promgate makes of it.",
    )
    redirect_http: RedirectHttp | None = option(Table(RedirectHttp), None, "Send people from http to https.")
    hsts: Hsts | None = option(Table(Hsts), None, "Strict-Transport-Security. Left out: it is not sent.")
    insecure_plaintext: bool = option(
        SWITCH, "false", "Let listeners that other machines reach speak without TLS. Secrets then cross in clear."
    )
    trusted_proxies: tuple[Any, ...] = option(
        ListOf(NETWORK, or_one=True),
        [],
        "Networks of the proxies before promgate, whose X-Forwarded-For is believed: the right-most address in it "
        "that is not of these is the client's. Nobody's by default.",
    )
    proxy_protocol: bool = option(
        SWITCH,
        "false",
        "`trusted_proxies` begin each connection with a PROXY header, version 1 or 2, at every listener but that of "
        "`telemetry`; others must not.",
    )
    basic_auth_users: dict[str, tuple[str, ...]] = option(
        MapOf("user", ListOf(HASH, or_one=True)),
        {},
        "User -> bcrypt hash (`promgate hash-password`), or a list of hashes while a password is rotated.",
    )
    htpasswd: str = option(
        HTPASSWD,
        None,
        "More users, as lines `user:hash` of bcrypt (`htpasswd -B -C 10`). SIGHUP reads the file again.",
        has_file=True,
    )
    roles: dict[str, tuple[str, ...]] = option(
        MapOf("role", ListOf(IDENTITY, or_one=True)),
        {},
        "Role -> identities that have it: `basic:USER`, `token:NAME`, `jwt:SUBJECT`, `jwt:CLAIM=VALUE`, "
        "`introspection:SUBJECT`, `introspection:CLAIM=VALUE`, `cert:CN=NAME`, `cert:SAN=NAME`; of people who log in "
        "`oidc:any`, `oidc:user:E-MAIL`, `oidc:sub:SUBJECT`, `oidc:group:GROUP`, `oidc:domain:DOMAIN`, `github:any`, "
        "`github:user:LOGIN`, `github:id:NUMBER`, `github:org:ORGANIZATION`, `github:team:ORGANIZATION/TEAM`.",
    )
    tenants: dict[str, str] = option(
        MapOf("identity", TENANT),
        {},
        "Whose data somebody sees, on routes with a `tenant_header`: an identity as in `roles` (groups, domains "
        "and claims, too), or `role:ROLE` -> tenant. Of several that are somebody's, the first in the file counts.",
    )
    allowed_sources: dict[str, tuple[Any, ...]] = option(
        MapOf("identity", ListOf(NETWORK, or_one=True)),
        {},
        "From where somebody may come: an identity as in `roles`, which is refused from anywhere else, or `role:ROLE`, "
        "which counts there alone -> networks. Of several that are somebody's each must fit. Who is not named may come "
        "from everywhere.",
    )
    tokens: Tokens = option(Table(Tokens), {}, "Tokens and their rotation.")
    write_tokens: dict[str, tuple[bytes, ...]] = option(
        MapOf("name", ListOf(DIGEST, or_one=True)),
        {},
        "Write tokens without a store, or beside one: name -> the digest of its token, `sha256:` and 64 hexadecimal "
        "digits (`promgate token digest`), or a list while it is rotated by hand, the current one first. No command "
        "changes them; what a reload takes away is held for `tokens.retry_grace` (docs/rotation.md).",
    )
    jwt: tuple[Jwt, ...] = option(ListOf(Table(Jwt), or_one=True), [], "Issuers of JSON web tokens.")
    introspection: IntrospectionOf | None = option(
        Table(IntrospectionOf), None, "Who is asked about opaque tokens of others."
    )
    oauth2: tuple[Oauth2, ...] = option(
        ListOf(Table(Oauth2), or_one=True), [], "Providers by which people log in; needs `external_url`."
    )
    sessions: Sessions | None = option(
        Table(Sessions),
        None,
        "How long they stay logged in. Written out (as `{}` at least) without `oauth2`, users with a password have "
        "sessions and a login page, on routes whose `auth` lists `basic` and `oauth2`; it needs `external_url`.",
    )
    timeouts: TimeoutsOf = option(Table(TimeoutsOf), {}, "Deadlines.")
    limits: Limits = option(Table(Limits), {}, "Bounds.")
    access_log: AccessLogOf = option(Table(AccessLogOf), {}, "The access log.")
    audit: AuditOf | None = option(Table(AuditOf), None, "The record of changes. Left out: there is none.")
    telemetry: Telemetry | None = option(
        Table(Telemetry), None, "Metrics and health. Without this section there are none, and no port is taken."
    )
    console: ConsoleOf | None = option(Table(ConsoleOf), None, "The console and the admin API.")
    forward_auth: ForwardAuthOf | None = option(Table(ForwardAuthOf), None, "Answering other proxies that ask.")
    control_prefix: str = option(PREFIX, "/-", "Where promgate's own names begin: `/-/console`, `/-/auth`.")
    reload: ReloadOf = option(Table(ReloadOf), {}, "Taking a changed configuration.")
    routes: tuple[RouteOf, ...] = option(ListOf(Table(RouteOf)), REQUIRED, "What stands behind the listener.")
    http_server_config: HttpServerConfig | None = option(
        Table(HttpServerConfig), None, "Taken so that a web config can be pasted."
    )
    rate_limit = option(Refused("a limit belongs to a route here; write routes[].rate_limit"), None, "")
