"""A listener with a gate of its own beside the public one: with the same finder, report and control plane."""

from __future__ import annotations

from typing import TYPE_CHECKING

from proxy.relay.context import RelayContext
from proxy.relay.listener import Listeners

if TYPE_CHECKING:
    from collections.abc import Iterable

    from proxy.config.units import Address
    from proxy.gate.snapshot import Route
    from proxy.relay.context import Decider


async def open_beside(
    public: Listeners, gate: Decider, routes: Iterable[Route], addresses: Iterable[Address], *, tls: bool
) -> Listeners | None:
    """None where there are no addresses. `tls`: as the public one speaks, else in clear. OSError names an address.

    Who stands before the public one stands before this one.
    """
    places = [(address.host, address.port) for address in addresses]
    if not places:
        return None
    budget = public.relay.budget
    relay = RelayContext(gate, public.relay.finder, public.relay.report, budget, budget.share())
    relay.clock, relay.internal, relay.trust = public.relay.clock, public.relay.internal, public.relay.trust
    relay.use_upstreams(routes)
    listeners = Listeners(relay, public.tls.context if tls and public.tls is not None else None)
    await listeners.open(places, proxied=public.is_proxied)
    return listeners
