"""Forward auth: the route at which other proxies ask about requests that they relay themselves. Off by default.

Whoever may ask chooses the request that is judged and the address that pays for a guess: so there must be proxies that
are trusted, and they must not be everybody.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from proxy.config.shape import Section, option
from proxy.config.words import SWITCH
from proxy.gate.snapshot import CONTROL, Route, Way

if TYPE_CHECKING:
    from proxy.config.problem import Report
    from proxy.config.schema import Config


class ForwardAuthOf(Section):
    """Forward auth (`/-/auth`): nginx, Traefik, Caddy or Envoy asks whether it may relay a request.

    docs/forward-auth.md says how. Only peers in `trusted_proxies` may ask. Left out: nobody.
    """

    enabled: bool = option(SWITCH, "true", "`false` is as if the section were not there.")


def build_forward_auth(config: Config, report: Report) -> tuple[Route, ...]:
    """On the public listener, under every name."""
    if config.forward_auth is None or not config.forward_auth.enabled:
        return ()
    if report.is_sound("forward_auth", "trusted_proxies"):
        if not config.trusted_proxies:
            report.problem("forward_auth", "nobody may ask: name the proxies in trusted_proxies")
        elif any(network.prefixlen == 0 for network in config.trusted_proxies):
            report.problem("trusted_proxies", "name the proxies: with forward_auth everybody could ask here")
    path = f"{config.control_prefix.rstrip('/')}/auth"
    return (Route("promgate:auth", path, CONTROL, ways=frozenset({Way.NONE}), inquires=True),)
