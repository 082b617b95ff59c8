"""Routes: each one compiled, and held against the others, the roles and the ways in.

The rule: a route that nobody could ever pass, or that everybody could by oversight, is a mistake and is told.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from proxy.config import access
from proxy.config.control import reserved_by
from proxy.config.units import is_loopback
from proxy.config.upstream import build_upstreams
from proxy.config.users import users_are_known
from proxy.gate.snapshot import Concurrency, RateLimit, Route, RouteKind, Way

if TYPE_CHECKING:
    from pathlib import Path

    from proxy.config.problem import Report
    from proxy.config.route_schema import RateLimitOf, RouteOf
    from proxy.config.schema import Config

_DEFAULT_MAX_DELAY_S = 10.0


def build_routes(config: Config, report: Report, base: Path, *, open_files: bool) -> tuple[Route, ...]:
    """Every route in the order of the file. `base`: where relative paths start."""
    if not config.routes and report.is_sound("routes"):
        report.problem("routes", "at least one route is needed: nothing is let through by default")
    _check_unique(config, report)
    return tuple(_build_route(written, config, report, base, open_files=open_files) for written in config.routes)


def on_every_host(own: tuple[Route, ...], built: tuple[Route, ...]) -> tuple[Route, ...]:
    """Promgate's own routes, for each host that the routes of the file claim, and for all others.

    Which names they answer to is their own affair (`only_hosts`). Where each route has its host, nobody else serves
    those names, so that they are claimed: there another path has no route, and under any other name no host.
    """
    claimed = frozenset(host for route in built for host in route.hosts)
    if not claimed:
        return own
    if all(route.hosts for route in built):
        claimed = claimed.union(*(route.only_hosts or () for route in own))
    return (*(replace(route, hosts=claimed) for route in own), *own)


def _check_unique(config: Config, report: Report) -> None:
    names: dict[str, str] = {}
    paths: dict[tuple[str, bytes], str] = {}
    for route in config.routes:
        at = f"{route.at}.name"
        first = names.setdefault(route.name, at)
        if first != at and report.is_sound(at, first):
            report.problem(at, f"{route.name!a} is already the name of the route in line {report.line_of(first)}")
        at = f"{route.at}.path"
        for host in route.host or (b"",):
            first = paths.setdefault((route.path, host), at)
            if first != at and report.is_sound(at, first):
                there = f" on {host.decode()}" if host else ""
                line = report.line_of(first)
                report.problem(at, f"{route.path!a} is already the path of the route in line {line}{there}")


def _build_route(written: RouteOf, config: Config, report: Report, base: Path, *, open_files: bool) -> Route:
    _check_path(written, config, report)
    _check_methods(written, report)
    _check_ways(written, config, report)
    _check_websocket(written, report)
    upstreams = build_upstreams(written.upstream, f"{written.at}.upstream", report, base, open_files=open_files)
    return Route(
        name=written.name,
        path=written.path,
        upstream=upstreams[0],
        spares=upstreams[1:],
        first_available=written.upstream.balance == "first_available",
        hosts=frozenset(written.host),
        stripped=_build_stripped(written, report),
        kind=RouteKind(written.kind),
        ways=frozenset(map(Way, written.auth)),
        rules=access.build_rules(written, config, report),
        methods=_set_of(written.methods),
        rate_limit=_build_rate_limit(written.rate_limit, written, report),
        concurrency=_build_concurrency(written, report),
        max_body_bytes=written.max_body_bytes,
        unblocked=access.build_unblocked(written, report),
        addresses=access.build_addresses(written, report),
        exempt=access.build_exempt(written, report),
        telling=access.build_telling(written, config, report),
        websocket=written.websocket,
    )


def _build_stripped(written: RouteOf, report: Report) -> bytes:
    """The part of the path that is taken off; empty for none."""
    prefix, at, path = written.strip_prefix, f"{written.at}.strip_prefix", written.path
    if not prefix or not report.is_sound(at, f"{written.at}.path"):
        return b""
    whole = path if prefix == "true" else prefix
    if whole == "/":
        report.problem(at, "of / nothing can be taken off; leave it out")
    elif whole.endswith("/"):
        report.problem(at, f"a prefix has no '/' at its end; write {whole.rstrip('/')[:80]!a}")
    elif path != whole and not path.startswith(whole + "/"):
        report.problem(at, f"{whole[:80]!a} is no beginning of {path!a} in whole segments; nothing could be taken off")
    elif path == whole and path.endswith("/api/v1/write"):
        prefix = path.removesuffix("/api/v1/write")
        report.problem(at, f"the upstream would get / and not the path for writes; write {prefix!a}")
    return whole.encode()


def _set_of(methods: tuple[bytes, ...] | None) -> frozenset[bytes] | None:
    return None if methods is None else frozenset(methods)


def _check_path(written: RouteOf, config: Config, report: Report) -> None:
    path, at = written.path, f"{written.at}.path"
    if not report.is_sound(at):
        return
    if any(path == name or path.startswith(name + "/") for name in reserved_by(config)):
        report.problem(at, f"{path} is a name of promgate itself; choose another prefix")
    elif written.kind == "plain" and path.endswith("/api/v1/write"):
        report.warning(at, "senders write here, but kind is plain: a refusal may make them drop samples")


def _check_methods(written: RouteOf, report: Report) -> None:
    at = f"{written.at}.methods"
    if written.methods is None or not report.is_sound(at):
        return
    if not written.methods:
        report.problem(at, "an empty list takes nothing; name methods, or leave the key out")
    elif written.kind == "remote_write" and b"POST" not in written.methods:
        report.problem(at, "senders push with POST, which is missing here")


def _check_ways(written: RouteOf, config: Config, report: Report) -> None:
    ways, at = set(written.auth), f"{written.at}.auth"
    if not report.is_sound(at):
        return
    if not ways:
        report.problem(at, "at least one way in is needed; an open route says [none]")
    if "none" in ways and len(ways) > 1:
        report.problem(at, "none cannot stand beside other ways: whoever shows nothing would be let in")
    if ways == {"none"} and not all(is_loopback(address.host) for address in config.listen):
        report.warning(at, "open to anybody who reaches the listener")
    if config.tokens.store is None and report.is_sound("tokens.store"):
        if "bearer" in ways:
            report.problem(at, "bearer needs tokens.store: without it there are no tokens")
        if "write_token" in ways and not config.write_tokens and report.was_read("write_tokens"):
            report.problem(at, "write_token needs tokens.store, or write_tokens: without both there are no tokens")
    tls = config.tls_server_config
    asks = tls is not None and tls.client_auth_type != "NoClientCert"
    if "client_cert" in ways and not asks and report.is_sound("tls_server_config"):
        report.problem(at, "client_cert needs tls_server_config.client_auth_type: no client is asked for one")
    if "jwt" in ways and not config.jwt and report.was_read("jwt"):
        report.problem(at, "jwt needs an issuer under jwt: whose tokens are to be believed?")
    if "introspection" in ways and config.introspection is None and report.was_read("introspection"):
        report.problem(at, "introspection needs a provider under introspection: who is to be asked?")
    if "oauth2" in ways:
        _check_people(written, config, report)
    if "basic" in ways and not config.basic_auth_users and not config.htpasswd and users_are_known(report):
        report.problem(at, "basic needs users: name one in basic_auth_users")


def _check_people(written: RouteOf, config: Config, report: Report) -> None:
    at = f"{written.at}.auth"
    if not config.has_sessions and report.was_read("oauth2"):
        report.problem(
            at,
            "oauth2 needs a provider under oauth2, or sessions for those with a password: where are people to log in?",
        )
    elif not config.oauth2 and "basic" not in written.auth and report.was_read("oauth2"):
        report.problem(at, "without a provider under oauth2 people log in with a password: add basic")
    elif written.host and config.external_url and report.is_sound("external_url", f"{written.at}.host"):
        there = (urlsplit(config.external_url).hostname or "").encode()
        if there not in written.host:
            report.warning(f"{written.at}.host", "people log in at external_url and come back there, not to this host")
    if written.kind == "remote_write" and report.is_sound(f"{written.at}.kind"):
        report.problem(at, "senders cannot log in: on a route of kind remote_write oauth2 lets nobody in")


def _build_concurrency(route: RouteOf, report: Report) -> Concurrency | None:
    written = route.concurrency
    if written is None:
        return None
    if set(route.auth) == {"none"} and written.by == "identity" and report.is_sound(f"{written.at}.by"):
        report.problem(f"{written.at}.by", "with auth: [none] nobody is known; write by: ip")
    return Concurrency(written.limit, written.by == "identity")


def _check_websocket(written: RouteOf, report: Report) -> None:
    at = f"{written.at}.websocket"
    if not written.websocket or not report.is_sound(at, f"{written.at}.kind", f"{written.at}.methods"):
        return
    if written.kind == "remote_write":
        report.problem(at, "senders push with POST; give websockets a route of kind plain")
    elif written.methods is not None and b"GET" not in written.methods:
        report.problem(at, "a websocket is opened with GET, which is missing in methods")


def _build_rate_limit(written: RateLimitOf | None, route: RouteOf, report: Report) -> RateLimit | None:
    if written is None:
        return None
    at = written.at
    delayed = written.mode == "delay"
    if report.is_sound(f"{at}.mode", f"{at}.max_delay") and written.max_delay is not None and not delayed:
        report.problem(f"{at}.max_delay", "has a meaning only with mode: delay")
    if set(route.auth) == {"none"} and report.is_sound(f"{route.at}.auth"):
        if delayed:
            report.problem(f"{at}.mode", "an unknown peer is never delayed (it would park connections); write reject")
        if written.by == "identity" and report.is_sound(f"{at}.by"):
            report.problem(f"{at}.by", "with auth: [none] nobody is known; write by: ip")
    return RateLimit(
        rate=written.rate,
        interval_s=written.interval,
        burst=written.burst,
        by_identity=written.by == "identity",
        max_delay_s=(written.max_delay or _DEFAULT_MAX_DELAY_S) if delayed else 0.0,
    )
