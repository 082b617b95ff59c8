"""A listener with a gate of its own beside the public one: with the same finder, report and control plane."""

from __future__ import annotations

from typing import TYPE_CHECKING

from proxy.process import room_for_clients
from proxy.relay.context import RelayContext
from proxy.relay.listener import Listeners

if TYPE_CHECKING:
    from collections.abc import Iterable

    from proxy.config.units import Address
    from proxy.gate.snapshot import Route
    from proxy.relay.context import Decider

#: Of what the process has room for: such a listener is for few, and must not take the senders' place.
_SHARE = 8


async def open_beside(
    public: Listeners, gate: Decider, routes: Iterable[Route], addresses: Iterable[Address], *, tls: bool
) -> Listeners | None:
    """None where there are no addresses. `tls`: as the public one speaks, else in clear. OSError names an address."""
    places = [(address.host, address.port) for address in addresses]
    if not places:
        return None
    relay = RelayContext(gate, public.relay.finder, public.relay.report)
    relay.internal, relay.trust = public.relay.internal, public.relay.trust
    relay.room = room_for_clients() // _SHARE
    relay.use_upstreams(routes)
    listeners = Listeners(relay, public.tls.context if tls and public.tls is not None else None)
    await listeners.open(places)
    return listeners
