"""Routes: each one compiled, and held against the others, the roles and the ways in.

The rule: a route that nobody could ever pass, or that everybody could by oversight, is a mistake and is told.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from proxy.config.problem import join_key
from proxy.config.shape import did_you_mean
from proxy.config.units import is_loopback
from proxy.gate.snapshot import RateLimit, Route, RouteKind, Rule, Way
from proxy.wire.grammar import TARGET
from proxy.wire.target import canonical_path
from proxy.wire.unlawful import Unlawful

if TYPE_CHECKING:
    from proxy.config.problem import Report
    from proxy.config.schema import AllowRule, Config, RateLimitOf, RouteOf

#: Names of promgate's own, exact and below (the rest of /-/ is free, Prometheus has names there too).
_RESERVED = ("/-/healthy", "/-/ready", "/-/login", "/-/callback", "/-/logout", "/-/console", "/-/api/v1", "/-/auth")

#: The role that a write token carries of itself.
_WRITE = "write"

#: The role of whoever shows nothing, on a route with `auth: [none]`.
_ANYONE = "anyone"

# Which ways lead to an identity. A token shown as a basic password still comes by the way of its kind.
_WAYS_TO = {"basic": {"basic"}, "token": {"write_token", "bearer"}, "jwt": {"jwt"}}
_WAYS_OF_THEMSELVES = {_WRITE: {"write_token"}, _ANYONE: {"none"}}
_TAKES_TOKENS = {"write_token", "bearer"}
_DEFAULT_MAX_DELAY_S = 10.0


def build_routes(config: Config, report: Report) -> tuple[Route, ...]:
    """Every route in the order of the file."""
    if not config.routes and report.is_sound("routes"):
        report.problem("routes", "at least one route is needed: nothing is let through by default")
    _check_unique(config, report)
    return tuple(_build_route(written, config, report) for written in config.routes)


def _check_unique(config: Config, report: Report) -> None:
    for option in ("name", "path"):
        seen: dict[str, str] = {}
        for route in config.routes:
            value, at = getattr(route, option), f"{route.at}.{option}"
            if value in seen and report.is_sound(at, seen[value]):
                first = report.line_of(seen[value])
                report.problem(at, f"{value!a} is already the {option} of the route in line {first}")
            seen.setdefault(value, at)


def _build_route(written: RouteOf, config: Config, report: Report) -> Route:
    _check_path(written, report)
    _check_methods(written, report)
    _check_ways(written, config, report)
    _check_allow(written, config, report)
    return Route(
        name=written.name,
        path=written.path,
        upstream=written.upstream,
        kind=RouteKind(written.kind),
        ways=frozenset(map(Way, written.auth)),
        rules=_build_rules(written),
        methods=_set_of(written.methods),
        rate_limit=_build_rate_limit(written.rate_limit, written, report),
        max_body_bytes=written.max_body_bytes,
    )


def _build_rules(written: RouteOf) -> tuple[Rule, ...]:
    if written.allow is None:
        return (Rule(_ANYONE),) if set(written.auth) == {"none"} else ()
    return tuple(Rule(rule.role, _set_of(rule.methods)) for rule in written.allow)


def _set_of(methods: tuple[bytes, ...] | None) -> frozenset[bytes] | None:
    return None if methods is None else frozenset(methods)


def _check_path(written: RouteOf, report: Report) -> None:
    path, at = written.path, f"{written.at}.path"
    if not report.is_sound(at):
        return
    if not path.startswith("/"):
        report.problem(at, f"a path begins with '/'; write {'/' + path!a}")
        return
    if path != "/" and path.endswith("/"):
        report.problem(at, f"a prefix has no '/' at its end; write {path.rstrip('/') or '/'!a}")
        return
    if "?" in path or path.encode().translate(None, TARGET):
        report.problem(at, "a path is visible ASCII, without a query: '?', '#', spaces and the like are not taken")
        return
    try:
        canonical = canonical_path(path.encode()).decode()
    except Unlawful as error:
        report.problem(at, f"no request could match it: {error}")
        return
    if canonical != path:
        report.problem(at, f"requests are matched in canonical form; write {canonical!a}")
    elif any(path == name or path.startswith(name + "/") for name in _RESERVED):
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
    for way in sorted(ways & _TAKES_TOKENS):
        if config.tokens.store is None and report.is_sound("tokens.store"):
            report.problem(at, f"{way} needs tokens.store: without it there are no tokens")
    if "jwt" in ways and not config.jwt and report.was_read("jwt"):
        report.problem(at, "jwt needs an issuer under jwt: whose tokens are to be believed?")
    if "basic" in ways and not config.basic_auth_users and report.was_read("basic_auth_users"):
        report.problem(at, "basic needs users: name one in basic_auth_users")


def _check_allow(written: RouteOf, config: Config, report: Report) -> None:
    at = f"{written.at}.allow"
    if not report.is_sound(at) or (written.allow is None and set(written.auth) == {"none"}):
        return
    if not written.allow:
        report.problem(at, "nobody may pass by default; list the roles that may")
        return
    for rule in written.allow:
        _check_rule(rule, written, config, report)
    roles = [join_key("roles", rule.role) for rule in written.allow]
    if not report.is_sound(at, f"{written.at}.auth", *roles) or not report.was_read("roles"):
        return
    stuck = [rule for rule in written.allow if not _ways_to(rule.role, config) & set(written.auth)]
    if len(stuck) < len(written.allow):
        for rule in stuck:
            report.warning(_place(rule, at, report), f"nobody has the role {rule.role} by {', '.join(written.auth)}")
    elif set(written.auth) == {"none"}:
        report.problem(at, "with auth: [none] everybody has the role anyone and no other; allow that, or leave it out")
    else:
        report.problem(at, f"nobody can pass: no way of {', '.join(written.auth)} leads to a role that is allowed")


def _check_rule(rule: AllowRule, route: RouteOf, config: Config, report: Report) -> None:
    at = _place(rule, f"{route.at}.allow", report)
    known = {*config.roles, _WRITE, _ANYONE}
    if rule.role not in known and report.is_sound(at) and report.was_read("roles"):
        report.problem(at, f"no role {rule.role} in roles{did_you_mean(rule.role, known)}")
    if rule.methods is not None and route.methods is not None and report.is_sound(f"{route.at}.methods"):
        never = set(rule.methods) - set(route.methods)
        if never:
            names = ", ".join(sorted(method.decode() for method in never))
            report.warning(at, f"the route does not take {names}, so the rule cannot either")


def _place(rule: AllowRule, allow: str, report: Report) -> str:
    return rule.at if rule.at in report.lines else allow


def _ways_to(role: str, config: Config) -> set[str]:
    """The ways by which somebody with `role` can come."""
    kinds = {identity.partition(":")[0] for identity in config.roles.get(role, ())}
    ways = {way for kind in kinds for way in _WAYS_TO.get(kind, ())}
    return ways | _WAYS_OF_THEMSELVES.get(role, set())


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
