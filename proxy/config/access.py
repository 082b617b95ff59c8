"""Who may do what on a route, from where, and what the upstream is told of them: compiled, or told as a fault.

The rule: a permission that nobody could use, or that means less than it seems to, is a mistake and is told.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from proxy.config.identities import ANYONE, WRITE
from proxy.config.problem import join_key
from proxy.config.shape import did_you_mean
from proxy.gate.authorize import READING, READY_MADE, Grant, grants_of, lies_below
from proxy.gate.exempt import Exemption
from proxy.gate.routing import HEALTH_PATHS, closed_on
from proxy.gate.snapshot import RouteKind, Rule, Telling
from proxy.gate.tenants import ROLE

if TYPE_CHECKING:
    from collections.abc import Iterable

    from proxy.config.problem import Report
    from proxy.config.route_schema import AllowRule, ExemptRule, RouteOf
    from proxy.config.schema import Config
    from proxy.gate.addresses import Addresses

# Which ways lead to an identity. A token shown as a basic password still comes by the way of its kind.
_WAYS_TO = {
    "basic": {"basic"}, "token": {"write_token", "bearer"}, "jwt": {"jwt"}, "introspection": {"introspection"},
    "cert": {"client_cert"}, "oidc": {"oauth2"}, "github": {"oauth2"},
}  # fmt: skip
_WAYS_OF_THEMSELVES = {WRITE: {"write_token", "jwt", "introspection"}, ANYONE: {"none"}}


def build_rules(written: RouteOf, config: Config, report: Report) -> tuple[Rule, ...]:
    """The rules of `allow`; each rule of a ready-made role becomes as many as it has grants."""
    _check_allow(written, config, report)
    if written.allow is None:
        return (Rule(ANYONE),) if set(written.auth) == {"none"} else ()
    return tuple(each for rule in written.allow for each in _rules_of(rule, written))


def _rules_of(rule: AllowRule, written: RouteOf) -> list[Rule]:
    rules = []
    for grant in grants_of(rule.role):
        methods = grant.methods if rule.methods is None else _common(grant, rule.methods)
        places = _places(grant.paths, rule.path or "")
        if RouteKind(written.kind) in grant.kinds and places is not None and (methods is None or methods):
            rules.append(Rule(rule.role, methods, tuple(_whole(written, place) for place in places)))
    return rules


def _common(grant: Grant, methods: tuple[bytes, ...]) -> frozenset[bytes]:
    return frozenset(methods) if grant.methods is None else grant.methods & frozenset(methods)


def _places(granted: tuple[str, ...], path: str) -> tuple[str, ...] | None:
    """Where a grant and the `path` of its rule meet (none: everywhere); None: nowhere."""
    if path in {"", "/"}:
        return granted
    if not granted or _lies_below(path, granted):
        return (path,)
    return tuple(place for place in granted if _lies_below(place, (path,))) or None


def _lies_below(path: str, places: Iterable[str]) -> bool:
    return lies_below(path.encode(), tuple(place.encode() for place in places))


def _whole(written: RouteOf, path: str) -> bytes:
    """A path relative to the route's prefix -> as a request has it."""
    return f"{written.path.rstrip('/')}{path}".encode()


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
    known = {*config.roles, WRITE, ANYONE}
    if rule.role not in known and report.is_sound(at) and report.was_read("roles"):
        report.problem(at, f"no role {rule.role} in roles{did_you_mean(rule.role, known)}")
    if rule.methods is not None and route.methods is not None and report.is_sound(f"{route.at}.methods"):
        never = set(rule.methods) - set(route.methods)
        if never:
            report.warning(at, f"the route does not take {_names(never)}, so the rule cannot either")
    if rule.role in READY_MADE and report.is_sound(at, f"{route.at}.kind"):
        _check_ready_made(rule, route, at, report)


def _check_ready_made(rule: AllowRule, route: RouteOf, at: str, report: Report) -> None:
    beyond = set(rule.methods or ())
    for grant in grants_of(rule.role):
        beyond -= beyond if grant.methods is None else grant.methods
    if beyond:
        report.problem(at, f"{rule.role} is ready made and never does {_names(beyond)}; allow a role of another name")
    elif rule.role == "writer" and route.kind != RouteKind.REMOTE_WRITE.value:
        report.problem(at, "writer is ready made: it pushes to routes of kind remote_write, and may do nothing here")
    elif not _rules_of(rule, route):
        report.problem(at, f"{rule.role} is ready made and has nothing to do there; allow a role of another name")


def _names(methods: Iterable[bytes]) -> str:
    return ", ".join(sorted(method.decode() for method in methods))


def _place(rule: AllowRule | ExemptRule, allow: str, report: Report) -> str:
    return rule.at if rule.at in report.lines else allow


def _ways_to(role: str, config: Config) -> set[str]:
    """The ways by which somebody with `role` can come."""
    kinds = {identity.partition(":")[0] for identity in config.roles.get(role, ())}
    ways = {way for kind in kinds for way in _WAYS_TO.get(kind, ())}
    return ways | _WAYS_OF_THEMSELVES.get(role, set())


def build_unblocked(written: RouteOf, report: Report) -> tuple[bytes, ...]:
    closed = closed_on(RouteKind(written.kind))
    for index, path in enumerate(written.unblock):
        at = _item(f"{written.at}.unblock", index, report)
        if report.is_sound(at, f"{written.at}.kind") and not lies_below(path.encode(), closed):
            report.problem(at, f"{path} is not closed on this route; closed are {b', '.join(closed).decode()}")
        elif "none" in written.auth and report.is_sound(at, f"{written.at}.auth"):
            report.problem(at, f"with auth: [none] anybody could use {path}; take away one of the two")
    return tuple(path.encode() for path in written.unblock)


def build_exempt(written: RouteOf, report: Report) -> tuple[Exemption, ...]:
    for rule in written.exempt:
        at = _place(rule, f"{written.at}.exempt", report)
        if report.is_sound(at, f"{at}.path", f"{written.at}.methods", f"{written.at}.path"):
            _check_exempt(rule, written, at, report)
    return tuple(
        Exemption(_whole(written, rule.path), frozenset(rule.methods), _build_networks(rule.allow_from))
        for rule in written.exempt
    )


def _check_exempt(rule: ExemptRule, written: RouteOf, at: str, report: Report) -> None:
    path, methods = rule.path.encode(), set(rule.methods)
    closed = closed_on(RouteKind(written.kind))
    if written.methods is not None and not methods & set(written.methods):
        report.problem(at, f"an exempt path is for {_names(methods)} here, and the route takes none of them")
    elif not methods <= READING and not rule.allow_from:
        report.problem(at, f"{_names(methods - READING)} may change something: name in allow_from who may do that")
    elif lies_below(path, closed) and not lies_below(path, tuple(each.encode() for each in written.unblock)):
        report.problem(at, f"{rule.path} is closed on this route; unblock opens it")
    elif _whole(written, rule.path) in HEALTH_PATHS:
        report.problem(at, f"{rule.path} is answered by promgate itself, for anybody; leave it out")


def build_addresses(written: RouteOf, report: Report) -> Addresses | None:
    if not written.allow_from and not written.deny_from:
        return None
    if not report.is_sound(f"{written.at}.allow_from", f"{written.at}.deny_from"):
        return None
    addresses = _build_networks(written.allow_from, written.deny_from)
    for index, network in enumerate(written.allow_from):
        inside = [each for each in written.deny_from if each.version == network.version and network.subnet_of(each)]
        if inside:
            at = _item(f"{written.at}.allow_from", index, report)
            report.problem(at, f"nobody can come from {network}: deny_from has {inside[0]}, and goes first")
    return addresses


def _build_networks(allowed: tuple[Any, ...], denied: tuple[Any, ...] = ()) -> Addresses | None:
    if not allowed and not denied:
        return None
    from proxy.gate.addresses import Addresses  # noqa: PLC0415 - ipaddress costs 3 ms that only this needs to pay

    return Addresses(allowed, denied)


def build_telling(written: RouteOf, config: Config, report: Report) -> Telling | None:
    at = f"{written.at}.tenant_header"
    if written.tenant_header is None:
        if written.tenant is not None and report.is_sound(at, f"{written.at}.tenant"):
            report.problem(f"{written.at}.tenant", "has a meaning only with tenant_header")
        return Telling(identity=True) if written.identity_headers else None
    if written.tenant is None and report.is_sound(at, f"{written.at}.tenant"):
        of_all = f"{ROLE}{ANYONE}" in config.tenants
        if set(written.auth) == {"none"} and not of_all and report.is_sound(f"{written.at}.auth"):
            report.problem(at, "with auth: [none] nobody has a tenant of their own; write tenant: NAME")
        elif not config.tenants and report.was_read("tenants"):
            report.problem(at, "nobody has a tenant: name one for each in tenants, or tenant: NAME for all")
    return Telling(written.identity_headers, tenant_header=written.tenant_header, tenant=written.tenant or "")


def _item(path: str, index: int, report: Report) -> str:
    at = f"{path}[{index}]"
    return at if at in report.lines else path
