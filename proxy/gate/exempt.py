"""Which requests need no credential: those for exact paths, by some methods, perhaps from some networks alone.

Health checks ask from wherever they are. A reloader beside us asks from where nobody else does, and that has to be
certain: who names a client other than itself has come through a proxy, and is not who is known by its address.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from proxy.gate.authorize import READING

if TYPE_CHECKING:
    from proxy.gate.addresses import Addresses
    from proxy.wire.head import RequestHead


@dataclass(frozen=True, slots=True)
class Exemption:
    """`path` is whole, with the route's prefix. `addresses` None: from everywhere."""

    path: bytes
    methods: frozenset[bytes] = READING
    addresses: Addresses | None = None

    def covers(self, head: RequestHead, ip: str) -> bool:
        if head.path != self.path or head.method not in self.methods:
            return False
        return self.addresses is None or (self.addresses.admit(ip) and not head.is_passed_on)


def is_exempt(exemptions: tuple[Exemption, ...], head: RequestHead, ip: str) -> bool:
    return any(each.covers(head, ip) for each in exemptions)
