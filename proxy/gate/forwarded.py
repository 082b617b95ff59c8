"""Who stands behind a proxy that is trusted: the right-most address in X-Forwarded-For that is not a proxy of ours.

Each proxy appends the address that it saw, so what stands to the right was said by those we trust and what stands to
the left of the client by nobody: it is not read, and not sent on (RFC 7239 8.1 warns of it). One entry that is no
address, and the whole chain is worth nothing: the peer itself is the client then.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

from proxy.wire.fields import values_of
from proxy.wire.grammar import is_authority
from proxy.wire.ip import find_address

if TYPE_CHECKING:
    from proxy.gate.addresses import Network

_MAX_HOPS = 32
#: With a port, as some load balancers write it; an IPv6 address with one stands in brackets (RFC 7239 6).
_WITH_PORT = re.compile(r"(?:([0-9.]+)|\[([0-9A-Fa-f:.]+)\])(?::[0-9]{1,5})?", re.ASCII).fullmatch


@dataclass(frozen=True, slots=True)
class Proxies:
    """The peers that may say who their client is."""

    networks: tuple[Network, ...] = ()

    def trust(self, ip: str) -> bool:
        address = find_address(ip)
        return address is not None and any(address in network for network in self.networks)

    def read(self, head: bytes, peer: str, scheme: str) -> tuple[str, bytes]:
        """(The client's address, the X-Forwarded lines and the blank line for the upstream) of a lawful head."""
        if not self.trust(peer):
            return peer, _write([peer], scheme, b"")
        lines = head.split(b"\r\n")
        hops = self._walk(_chain(lines), peer)
        proto = b"".join(values_of(lines, b"x-forwarded-proto")).lower()
        host = b"".join(values_of(lines, b"x-forwarded-host"))
        said = proto.decode() if proto in {b"http", b"https"} else scheme
        return hops[0], _write(hops, said, host if is_authority(host) else b"")

    def names_client(self, head: bytes, peer: str) -> bool:
        """Whether a trusted peer says for whom it asks, in addresses.

        Else all its clients would be the peer: a single guesser could keep out everybody who comes anew, and what is
        for the peer's network would be for all of them.
        """
        return len(self._walk(_chain(head.split(b"\r\n")), peer)) > 1

    def _walk(self, chain: str, peer: str) -> list[str]:
        """The client, and the proxies between it and us."""
        hops = [peer]
        for entry in reversed(chain.split(",") if chain.strip(" \t,") else []):
            written = _WITH_PORT(entry.strip(" \t"))
            address = find_address((written[1] or written[2]) if written else entry.strip(" \t"))
            if address is None or len(hops) > _MAX_HOPS:
                return [peer]
            hops.append(str(address))
            if not self.trust(hops[-1]):
                break
        return hops[::-1]


def _chain(lines: list[bytes]) -> str:
    return b",".join(values_of(lines, b"x-forwarded-for")).decode("latin-1")


def _write(hops: list[str], scheme: str, host: bytes) -> bytes:
    lines = f"X-Forwarded-For: {', '.join(hops)}\r\nX-Forwarded-Proto: {scheme}\r\n".encode()
    return lines + (b"X-Forwarded-Host: %b\r\n\r\n" % host if host else b"\r\n")
