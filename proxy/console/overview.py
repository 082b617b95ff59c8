"""The console's first page: who you are, what you may do, and how promgate is."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from proxy.console.html import logout_form, page, tag
from proxy.gate.snapshot import CONTROL

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from proxy.console.asker import Asker
    from proxy.console.html import Markup
    from proxy.gate.guessers import Guessers
    from proxy.gate.snapshot import Concurrency, RateLimit, Route, Rule
    from proxy.tokens.lifecycle import Summary


class Seen(NamedTuple):
    """What the page is made of. `missing` keeps promgate from being ready.

    `tokens` or `guessers` None: not for this asker.
    """

    asker: Asker
    routes: Sequence[Route]
    missing: Sequence[str]
    tokens: Sequence[Summary] | None
    version: str
    now: float
    guessers: Guessers | None = None


def render_overview(seen: Seen, style: str, logout: str = "") -> str:
    """The whole page. `logout` is where somebody with a session ends it."""
    asker = seen.asker
    who = [("Identity", asker.identity), ("Known by", _WAYS.get(asker.way, asker.way))]
    who += [("Token", asker.token_id)] if asker.token_id else []
    who += [("Roles", ", ".join(sorted(asker.roles)) or "none"), ("Address", asker.address)]
    return page(
        "promgate",
        style,
        tag("header", tag("h1", "promgate"), _readiness(seen.missing)),
        tag(
            "main",
            tag(
                "section",
                tag("h2", "You"),
                tag("dl", *(pair for name, value in who for pair in _pair(name, value))),
                logout_form(logout) if logout else [],
            ),
            tag("section", tag("h2", "What you may do"), _routes(seen)),
            [] if seen.tokens is None else tag("section", tag("h2", "Tokens"), _tokens(seen.tokens, seen.now)),
            [] if seen.guessers is None else tag("section", tag("h2", "Too many guesses"), _guessers(seen.guessers)),
        ),
        tag("footer", f"promgate {seen.version}"),
    )


#: A page is for reading; the API has them all.
_MOST = 500
MOST_GUESSERS = 50
_WAYS = {
    "basic": "a password",
    "bearer": "a reader token",
    "write_token": "a write token",
    "jwt": "a signed token (JWT)",
    "client_cert": "a client certificate",
    "oauth2": "a login",
}


def _readiness(missing: Sequence[str]) -> Markup:
    if not missing:
        return tag("p", "ready", class_="state well")
    return tag("p", f"not ready: {', '.join(missing)}", class_="state unwell")


def _pair(name: str, value: str) -> Iterator[Markup]:
    yield tag("dt", name)
    yield tag("dd", value)


def _routes(seen: Seen) -> Markup:
    rows = [row for route in seen.routes if (row := _route(route, seen.asker))]
    if not rows:
        return tag("p", "Nothing here: no route has a rule for one of your roles.")
    return _table(("Path", "Methods", "Where", "Limits", "Goes to"), rows)


def _route(route: Route, asker: Asker) -> tuple[str, ...] | None:
    """A row for what the asker may do on a route by the way it came; None for nothing."""
    mine = [rule for rule in route.rules if rule.role in asker.roles and _methods(rule, route)]
    if not mine or asker.way not in {way.value for way in route.ways}:
        return None
    methods = "; ".join(dict.fromkeys(_methods(rule, route) for rule in mine))
    where = "; ".join(dict.fromkeys(_where(rule, route) for rule in mine))
    host = f" on {', '.join(sorted(name.decode() for name in route.hosts))}" if route.hosts else ""
    limits = ", ".join(filter(None, (_rate(route.rate_limit), _at_once(route.concurrency)))) or "none"
    goes_to = "promgate itself" if route.upstream == CONTROL else route.upstream.authority
    return route.path + host, methods, where, limits, goes_to


def _methods(rule: Rule, route: Route) -> str:
    """Those that both take; empty where they have none in common."""
    methods = rule.methods if route.methods is None else route.methods & (rule.methods or route.methods)
    return "any" if methods is None else ", ".join(sorted(method.decode() for method in methods))


def _where(rule: Rule, route: Route) -> str:
    if not rule.paths:
        return "everywhere"
    return ", ".join(path.decode().removeprefix(route.path.rstrip("/")) for path in rule.paths)


def _rate(limit: RateLimit | None) -> str:
    return f"{limit.rate:g} in {limit.interval_s:g} s, {limit.burst} at once" if limit else ""


def _at_once(bound: Concurrency | None) -> str:
    return f"{bound.limit} under way" if bound else ""


def _tokens(tokens: Sequence[Summary], now: float) -> Markup:
    if not tokens:
        return tag("p", "None yet: ", tag("code", "promgate token create NAME"), " makes the first.")
    more = f"The first {_MOST} of {len(tokens)} names." if len(tokens) > _MOST else ""
    rows = [
        (line.name, line.kind.value, line.id, line.state.value, _minted(line, now), _previous(line, now))
        for line in tokens[:_MOST]
    ]
    table = _table(("Name", "Kind", "Id", "State", "Minted", "Older ones still taken"), rows)
    return tag("div", tag("p", more), table) if more else table


def _guessers(guessers: Guessers) -> Markup:
    """Who has to wait just now. Whoever is known (a token, a password that was right before) does not."""
    rows = [("address", each.who, _span(each.wait_s)) for each in guessers.addresses]
    rows += [("user", each.who, _span(each.wait_s)) for each in guessers.users]
    more = guessers.address_count + guessers.user_count - len(rows)
    if guessers.strange:
        rows.append(("user", f"{guessers.strange} names of no user", ""))
    if more:
        rows.append(("", f"{more} more", ""))
    return _table(("What", "Who", "Waits for"), rows) if rows else tag("p", "Nobody is refused for that just now.")


def _previous(line: Summary, now: float) -> str:
    if not line.previous:
        return "none"
    until = "" if line.previous_until is None else f", the last for {_span(line.previous_until - now)} more"
    return f"{line.previous}{until}"


def _minted(line: Summary, now: float) -> str:
    return _age(now - line.minted_at) if line.minted_at else "in the configuration"


def _age(seconds: float) -> str:
    return f"{_span(seconds)} ago"


def _span(seconds: float) -> str:
    for size, unit in ((86400, "d"), (3600, "h"), (60, "min")):
        if seconds >= 2 * size:
            return f"{seconds / size:.0f} {unit}"
    return f"{max(0.0, seconds):.0f} s"


def _table(names: Iterable[str], rows: Iterable[Iterable[str]]) -> Markup:
    names = tuple(names)
    head = tag("thead", tag("tr", *(tag("th", name, scope="col") for name in names)))
    body = tag(
        "tbody",
        *(
            tag("tr", *(tag("td", value, data_name=name) for name, value in zip(names, row, strict=True)))
            for row in rows
        ),
    )
    return tag("table", head, body)
