"""The PROXY protocol's header before a connection's first byte, versions 1 and 2 (haproxy.org, proxy-protocol.txt).

A load balancer that passes TLS on untouched says by it whose connection it is. What is not exactly such a header is
refused, and so is one that names no client over TCP (`UNKNOWN`, other families), though 2.1 and 2.2 would have it taken
for the proxy's own: a connection whose client is not known is nobody's, and must not have the rights of the proxy. For
itself the proxy speaks by the command LOCAL of version 2, and by nothing else.
"""

from __future__ import annotations

import ipaddress
import re
from typing import NamedTuple

from proxy.wire.ip import take_for
from proxy.wire.unlawful import Unlawful

#: 2.1: a receiver may wait for a CRLF within the first 107 characters.
_MAX_TEXT_BYTES = 107
_SIGNATURE = b"\r\n\r\n\0\r\nQUIT\n"
#: Addresses and vendors' extensions (TLVs) after the 16 octets of version 2.
_MAX_REST_BYTES = 4096
_TEXT = re.compile(rb"PROXY (TCP[46]) ([0-9A-Fa-f.:]+) ([0-9A-Fa-f.:]+) [0-9]{1,5} [0-9]{1,5}")
_LOCAL, _PROXY = 0x20, 0x21
_TCP4, _TCP6 = 0x11, 0x21


class ProxyHeader(NamedTuple):
    """`ip` is the client's address, empty where the proxy speaks for itself; `end` is where the header ends."""

    ip: str
    end: int


def admit_proxy_header(data: bytes) -> ProxyHeader | None:
    """The header at the beginning of `data`, None while it is not whole; Unlawful when it is none."""
    if data.startswith(_SIGNATURE[: len(data)]):
        return _binary(data)
    if data.startswith(b"PROXY "[: len(data)]):
        return _text(data)
    raise Unlawful("no PROXY header from a proxy that must send one")


def _text(data: bytes) -> ProxyHeader | None:
    end = data.find(b"\r\n", 0, _MAX_TEXT_BYTES)
    if end < 0:
        if len(data) >= _MAX_TEXT_BYTES:
            raise Unlawful("PROXY header too long")
        return None
    match = _TEXT.fullmatch(data, 0, end)
    if match is None:
        raise Unlawful("malformed PROXY header")
    wanted = ipaddress.IPv4Address if match[1] == b"TCP4" else ipaddress.IPv6Address
    try:
        source, _ = (wanted(address.decode()) for address in match.group(2, 3))
    except ValueError:
        raise Unlawful("malformed PROXY header") from None
    return ProxyHeader(str(take_for(source)), end + 2)


def _binary(data: bytes) -> ProxyHeader | None:
    if len(data) < 16:
        return None
    command, family, size = data[12], data[13], int.from_bytes(data[14:16], "big")
    if command not in {_LOCAL, _PROXY} or size > _MAX_REST_BYTES:
        raise Unlawful("malformed PROXY header")
    if command == _PROXY and family not in {_TCP4, _TCP6}:
        raise Unlawful("PROXY header without a client over TCP")
    if len(data) < 16 + size:
        return None
    if command == _LOCAL:
        return ProxyHeader("", 16 + size)
    width = 4 if family == _TCP4 else 16
    if size < 2 * width + 4:
        raise Unlawful("malformed PROXY header")
    return ProxyHeader(str(take_for(ipaddress.ip_address(data[16 : 16 + width]))), 16 + size)
