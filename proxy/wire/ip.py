"""What address a text is. IPv4 in IPv6 clothes (`::ffff:a.b.c.d`, of a socket on both) is taken for what it is."""

from __future__ import annotations

import ipaddress
from functools import lru_cache

Address = ipaddress.IPv4Address | ipaddress.IPv6Address


@lru_cache(maxsize=4096)
def find_address(text: str) -> Address | None:
    """None for what is no address, and for one with a zone (`%eth0`): that is no address to anybody but one machine."""
    if "%" in text:
        return None
    try:
        address = ipaddress.ip_address(text)
    except ValueError:
        return None
    return take_for(address)


def take_for(address: Address) -> Address:
    return getattr(address, "ipv4_mapped", None) or address
