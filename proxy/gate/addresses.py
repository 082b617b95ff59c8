"""From where a route may be used: networks, compiled at load. Which address a peer has is not decided here."""

from __future__ import annotations

import ipaddress
from dataclasses import dataclass

from proxy.wire.ip import find_address

Network = ipaddress.IPv4Network | ipaddress.IPv6Network


@dataclass(frozen=True, slots=True)
class Addresses:
    """`denied` goes before `allowed`; an empty `allowed` is everywhere."""

    allowed: tuple[Network, ...] = ()
    denied: tuple[Network, ...] = ()

    def admit(self, ip: str) -> bool:
        """Whether a peer may come from `ip`, of any zone. One without an address (a unix socket) is in no network."""
        address = find_address(ip.partition("%")[0])
        if address is None:
            return not self.allowed
        for network in self.denied:
            if address in network:
                return False
        for network in self.allowed:
            if address in network:
                return True
        return not self.allowed
