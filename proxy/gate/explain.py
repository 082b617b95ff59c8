"""Why the gate decided so: a decision, taken apart into what stood behind it, in the order of the checks.

Nothing is decided here. What is told is read from the decision itself and from what the gate looked at.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from proxy.gate.authorize import find_rule
from proxy.gate.credentials import ShownCertificate, ShownJwt, ShownPassword, ShownToken
from proxy.gate.decision import Deny, Forward, Reason
from proxy.gate.prefix import strip_line
from proxy.gate.reply import status_of, text_of
from proxy.gate.routing import host_name
from proxy.gate.snapshot import Way
from proxy.tokens.token import ended_at, state_at

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from proxy.gate.addresses import Addresses
    from proxy.gate.credentials import Shown
    from proxy.gate.decision import Identity, Verdict
    from proxy.gate.snapshot import RateLimit, Route, Rule
    from proxy.gate.sources import Sources
    from proxy.tokens.token import Token
    from proxy.wire.head import RequestHead


def explain(
    head: RequestHead,
    shown: Shown | None,
    ip: str,
    verdict: Verdict,
    tokens: Iterable[Token],
    now: float,
    sources: Sources | None = None,
) -> dict[str, object]:
    """What stood behind `verdict`, by field; a field is left out where the gate did not come so far.

    `tokens` are those that the gate knows, `now` is the unix time of the decision. No secret is among the values.
    """
    told: dict[str, object] = {
        "request": f"{head.method.decode()} {head.path.decode()}",
        "host": host_name(head.host).decode(),
        "client": ip,
    }
    if not isinstance(verdict, Forward | Deny):
        return told | _outcome(verdict.reason.value, status_of(verdict.reason, None), text_of(verdict.reason))
    route, identity = verdict.route, verdict.identity
    if route is not None:
        told["route"] = _route(route)
    told["credential"] = _kind_of(shown)
    if identity is not None and identity.session:
        told["credential"] = "the session of a person"
    if identity is not None:
        told |= _who(identity, tokens, now)
        confined = [] if sources is None else list(sources.of(identity))
        if confined:
            told["sources"] = [_source(key, addresses, ip) for key, addresses in confined]
    if route is not None:
        told |= _rules(route, identity, head)
    if isinstance(verdict, Forward):
        return told | _forwarded(head, verdict)
    if verdict.reason is Reason.NOT_ALLOWED and route is not None:
        told["allowed"] = _allowed(route, head)
    return told | _outcome(verdict.reason.value, status_of(verdict.reason, route), text_of(verdict.reason))


def _outcome(reason: str, status: int, text: str) -> dict[str, object]:
    return {"decision": "answer" if status < 400 else "deny", "reason": reason, "status": status, "answer": text}


def _forwarded(head: RequestHead, forward: Forward) -> dict[str, object]:
    route = forward.route
    line = strip_line(head.line, route.stripped) if route.stripped else head.line.sent
    told: dict[str, object] = {
        "decision": "forward",
        "reason": "ok",
        "upstream": route.upstream.authority,
        "sent": line.split(b" ")[1].partition(b"?")[0].decode(),
    }
    if forward.told:
        told["told"] = forward.told.decode().strip().split("\r\n")
    return told


def _route(route: Route) -> str:
    ways = ", ".join(way.value for way in Way if way in route.ways)
    hosts = f", hosts {b', '.join(sorted(route.hosts)).decode()}" if route.hosts else ""
    return f"{route.name}: prefix {route.path}{hosts}, kind {route.kind.value}, auth {ways}"


def _kind_of(shown: Shown | None) -> str:
    match shown:
        case None:
            return "none was shown"
        case ShownToken(minted=minted):
            return "a token of promgate's form" if minted else "a token of another form"
        case ShownPassword(user=user):
            return f"a password of {user!r}"
        case ShownJwt():
            return "a JWT"
        case ShownCertificate(names=names):
            return f"a client certificate of {', '.join(names)}"
        case _:
            return "one that no method can take"


def _who(identity: Identity, tokens: Iterable[Token], now: float) -> dict[str, object]:
    told: dict[str, object] = {
        "identity": identity.name,
        "way": identity.way.value,
        "roles": sorted(identity.roles),
    }
    token = next((one for one in tokens if one.id == identity.token_id), None) if identity.token_id else None
    if token is not None:
        told["token"] = f"{token.id} ({token.kind}): {' '.join(_state(token, now))}"
    return told


def _source(key: str, addresses: Addresses, ip: str) -> str:
    does = "fits" if addresses.admit(ip) else "does not fit"
    return f"{key} from {', '.join(map(str, addresses.allowed))}: {does}"


def _state(token: Token, now: float) -> Iterator[str]:
    yield state_at(token, now).value
    end = ended_at(token)
    if end is not None and now < end:
        yield f"for {end - now:.0f} s more"
    elif end is not None:
        yield f"since {now - end:.0f} s"


def _rules(route: Route, identity: Identity | None, head: RequestHead) -> dict[str, object]:
    """The rule that lets this identity do this; all of the route's where there is none."""
    roles = frozenset[str]() if identity is None else identity.roles
    rule = find_rule(route.rules, roles, head.method, head.path)
    told: dict[str, object] = {"rule": _rule(rule)} if rule else {"rules": [_rule(each) for each in route.rules]}
    if route.rate_limit is not None:
        told["limit"] = _limit(route.rate_limit)
    return told


def _allowed(route: Route, head: RequestHead) -> str:
    """The roles that may do it, for whoever is about to give one."""
    roles = sorted({rule.role for rule in route.rules})
    may = [role for role in roles if find_rule(route.rules, frozenset({role}), head.method, head.path)]
    return ", ".join(may) or "by no role of this route"


def _rule(rule: Rule) -> str:
    methods = "every method" if rule.methods is None else ", ".join(sorted(each.decode() for each in rule.methods))
    return f"{rule.role}: {methods} {_below(rule.paths)}"


def _below(paths: tuple[bytes, ...]) -> str:
    return f"at {', '.join(path.decode() for path in paths)}" if paths else "everywhere on the route"


def _limit(limit: RateLimit) -> str:
    by = "identity" if limit.by_identity else "address"
    wait = f"delayed up to {limit.max_delay_s:g} s" if limit.max_delay_s else "refused"
    return f"{limit.rate:g} in {limit.interval_s:g} s, {limit.burst} at once, by {by}, more is {wait}"
