"""The control plane's own routes: console, admin API, reload. They pass the same gate as every other route.

Off unless the section is there: a proxy that nobody administers over the network has no such door, and does not
pay for the web framework behind it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple
from urllib.parse import urlsplit

from proxy.config.shape import ListOf, Section, choice, option
from proxy.config.units import is_loopback
from proxy.config.words import ADDRESS, HOST, NAME, SWITCH
from proxy.gate.routing import HEALTH_PATHS
from proxy.gate.session import SessionRules
from proxy.gate.snapshot import CONTROL, RateLimit, Route, Rule, Telling, Way
from proxy.wire.cookies import PLAIN_SESSION, SECURE_SESSION

if TYPE_CHECKING:
    from collections.abc import Iterable

    from proxy.config.problem import Report
    from proxy.config.schema import Config
    from proxy.config.units import Address

_READING = frozenset({b"GET", b"HEAD"})
#: Forms and JSON of the admin API are small; what is larger is no request of it.
_MAX_BODY_BYTES = 64 * 1024
#: A person, or a pipeline; whoever asks faster is neither.
_RATE = RateLimit(rate=10, interval_s=1.0, burst=40)
#: By address. A login takes some five requests, and behind one address there may be a whole office.
_LOGIN_RATE = RateLimit(rate=20, interval_s=1.0, burst=100, by_identity=False)
_TELLING = Telling(identity=True, quoted=True)


class ConsoleOf(Section):
    """The console (`/-/console`) and the admin API (`/-/api/v1`). Left out: there is neither."""

    enabled: bool = option(SWITCH, "true", "`false` is as if the section were not there.")
    listen: Address | None = option(
        ADDRESS, None, "An address of their own, with the TLS of the public one. Left out: on the public listener."
    )
    hosts: tuple[bytes, ...] = option(
        ListOf(HOST, or_one=True),
        [],
        "Names by which they may be asked, beside that of `external_url`, `localhost` and addresses; others get 421.",
    )
    auth: tuple[str, ...] = option(
        ListOf(choice("basic", "bearer", "jwt", "introspection", "client_cert", "oauth2"), or_one=True),
        [],
        "Ways in: `basic`, `bearer`, `jwt`, `introspection`, `client_cert`, `oauth2`. Left out: each of them that is "
        "configured.",
    )
    allow: tuple[str, ...] = option(
        ListOf(NAME, or_one=True), [], "Roles that may see the console; the admin API is for `admin`. Left out: all."
    )


class Console(NamedTuple):
    """What is built of the section: its routes, and where they are served if not on the public listener."""

    routes: tuple[Route, ...] = ()
    listen: Address | None = None


def build_console(config: Config, report: Report) -> Console:
    written = config.console
    if written is None or not written.enabled:
        if config.reload.http and config.telemetry is None and report.is_sound("reload", "telemetry"):
            report.problem("reload.http", "nobody could ask: it needs telemetry, or console")
        return Console()
    _check_listen(config, report)
    ways = frozenset(map(Way, written.auth or _configured_ways(config)))
    if not ways and report.is_sound("console", "basic_auth_users", "htpasswd", "tokens", "jwt"):
        report.problem("console", "nobody could log in: configure basic_auth_users, or another way in")
    roles = written.allow or tuple(config.roles)
    if not roles and report.is_sound("console", "roles"):
        report.problem("console", "nobody could see it: give somebody a role in roles")
    prefix = config.control_prefix.rstrip("/")
    hosts = _build_hosts(written, config, report)
    return Console(tuple(_routes(prefix, ways, roles, hosts, takes_reload=config.reload.http)), written.listen)


def check_prefix(config: Config, routes: Iterable[Route], report: Report) -> None:
    """Own names are longer than any prefix, so that a route's own would lie behind them."""
    prefix, at = config.control_prefix, "control_prefix"
    if not report.is_sound(at):
        return
    if prefix == "/":
        report.problem(at, "/api/v1 and /console may be anybody's; write a prefix of promgate's own: /-")
        return
    for route in routes:
        if route.path != "/" and f"{prefix}/".startswith(f"{route.path}/"):
            report.warning(at, f"{prefix}/api/v1 and others are promgate's own, and are taken from route {route.name}")


def build_renew(config: Config) -> tuple[Route, ...]:
    """Where the senders of `tokens.senders` fetch their tokens: on the public listener, where they push."""
    if not config.tokens.senders:
        return ()
    return (
        Route(
            "promgate:renew",
            f"{config.control_prefix.rstrip('/')}/api/v1/renew",
            CONTROL,
            ways=frozenset({Way.WRITE_TOKEN}),
            rules=(Rule("write"),),
            methods=frozenset({b"POST"}),
            rate_limit=_RATE,
            max_body_bytes=_MAX_BODY_BYTES,
            telling=_TELLING,
        ),
    )


def build_login(config: Config) -> tuple[Route, ...]:
    """Where people log in and out. Anybody may come there, and each address only so often."""
    if not config.has_sessions:
        return ()
    prefix = config.control_prefix.rstrip("/")
    named = () if config.console is None else config.console.hosts
    own = {(urlsplit(config.external_url).hostname or "").encode()} if config.external_url else set()
    taken = {"login": _READING | {b"POST"}, "callback": _READING, "logout": _READING | {b"POST"}}
    return tuple(
        Route(
            f"promgate:{name}",
            f"{prefix}/{name}",
            CONTROL,
            # Whoever has a session is known by it, and whoever has none is anyone.
            ways=frozenset({Way.NONE, Way.OAUTH2}),
            rules=(Rule("anyone"),),
            methods=methods,
            rate_limit=_LOGIN_RATE,
            max_body_bytes=_MAX_BODY_BYTES,
            telling=_TELLING,
            only_hosts=frozenset(own.union(named)),
        )
        for name, methods in taken.items()
    )


def build_sessions(config: Config) -> SessionRules | None:
    """How a session is known, and where its browser logs in; None where nobody can."""
    if not config.has_sessions:
        return None
    origin = config.external_url or ""
    cookie = SECURE_SESSION if origin.startswith("https://") else PLAIN_SESSION
    return SessionRules(cookie, f"{origin}{config.control_prefix.rstrip('/')}/login")


def reserved_by(config: Config) -> tuple[str, ...]:
    """Names of promgate's own, exact and below: no route may take them (the rest of /-/ is Prometheus' as well).

    `reload` is one of them where it is answered: elsewhere it is a path like any other.
    """
    prefix = config.control_prefix.rstrip("/")
    takes_reload = config.reload.http and config.console is not None and config.console.enabled
    names = ("login", "callback", "logout", "console", "api/v1", "auth", *(["reload"] if takes_reload else []))
    return (*(path.decode() for path in HEALTH_PATHS), *(f"{prefix}/{name}" for name in names))


def _build_hosts(written: ConsoleOf, config: Config, report: Report) -> frozenset[bytes]:
    own = {(urlsplit(config.external_url).hostname or "").encode()} if config.external_url else set()
    hosts = own.union(written.hosts)
    listen = config.listen if written.listen is None else (written.listen,)
    is_local = all(is_loopback(each.host) for each in listen)
    if not hosts and not is_local and report.is_sound("external_url", "listen", "console"):
        report.warning("console", "it answers to addresses and localhost alone: write external_url, or console.hosts")
    return frozenset(hosts)


def _routes(
    prefix: str, ways: frozenset[Way], roles: Iterable[str], hosts: frozenset[bytes], *, takes_reload: bool
) -> Iterable[Route]:
    def route(name: str, path: str, rules: tuple[Rule, ...], methods: frozenset[bytes] | None) -> Route:
        return Route(
            f"promgate:{name}",  # a ':' is in no name that an operator can choose
            prefix + path,
            CONTROL,
            ways=ways,
            rules=rules,
            methods=methods,
            rate_limit=_RATE,
            max_body_bytes=_MAX_BODY_BYTES,
            telling=_TELLING,
            only_hosts=hosts,
        )

    admin = (Rule("admin"),)
    yield route("console", "/console", tuple(Rule(role, _READING) for role in roles), _READING)
    yield route("api", "/api/v1", admin, frozenset({b"GET", b"HEAD", b"POST"}))
    if takes_reload:
        yield route("reload", "/reload", admin, frozenset({b"POST", b"PUT"}))


def _configured_ways(config: Config) -> Iterable[str]:
    if config.basic_auth_users or config.htpasswd:
        yield "basic"
    if config.tokens.store is not None:
        yield "bearer"
    if config.jwt:
        yield "jwt"
    if config.introspection is not None:
        yield "introspection"
    tls = config.tls_server_config
    if tls is not None and tls.client_auth_type != "NoClientCert":
        yield "client_cert"
    if config.has_sessions and (config.console is None or config.console.listen is None):
        yield "oauth2"


def _check_listen(config: Config, report: Report) -> None:
    address = config.console.listen if config.console is not None else None
    at = "console.listen"
    if address is not None and config.console is not None and "oauth2" in config.console.auth and report.is_sound(at):
        report.problem(at, "people log in at external_url and come back there; take oauth2 from console.auth")
    if address is None or not report.is_sound(at, "listen", "tls_server_config"):
        return
    if config.tls_server_config is None and not is_loopback(address.host) and not config.insecure_plaintext:
        report.problem(at, f"other machines reach {address}, and there is no TLS: write tls_server_config")
