"""From where a route may be used: networks, compiled at load. Which address a peer has is not decided here."""

from __future__ import annotations

import ipaddress
from dataclasses import dataclass
from functools import lru_cache

Network = ipaddress.IPv4Network | ipaddress.IPv6Network


@dataclass(frozen=True, slots=True)
class Addresses:
    """`denied` goes before `allowed`; an empty `allowed` is everywhere."""

    allowed: tuple[Network, ...] = ()
    denied: tuple[Network, ...] = ()

    def admit(self, ip: str) -> bool:
        """Whether a peer may come from `ip`. One without an address (a unix socket) is in no network."""
        address = _parse(ip)
        if address is None:
            return not self.allowed
        for network in self.denied:
            if address in network:
                return False
        for network in self.allowed:
            if address in network:
                return True
        return not self.allowed


@lru_cache(maxsize=4096)
def _parse(ip: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
    """An IPv4 address in IPv6 clothes (`::ffff:a.b.c.d`, from a listener on both) is judged as what it is."""
    try:
        address = ipaddress.ip_address(ip.partition("%")[0])
    except ValueError:
        return None
    return getattr(address, "ipv4_mapped", None) or address
