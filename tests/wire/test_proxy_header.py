"""The PROXY protocol's header, whole, cut anywhere, and made wrong."""

from __future__ import annotations

import socket

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.wire.proxy_header import ProxyHeader, admit_proxy_header
from proxy.wire.unlawful import Unlawful

SIGNATURE = b"\r\n\r\n\0\r\nQUIT\n"


def binary(command: int, family: int, rest: bytes, size: int | None = None) -> bytes:
    return SIGNATURE + bytes([command, family]) + (len(rest) if size is None else size).to_bytes(2, "big") + rest


def packed(source: str, family: socket.AddressFamily) -> bytes:
    return socket.inet_pton(family, source) * 2 + b"\x04\xd2\x01\xbb"


GOOD = [
    (b"PROXY TCP4 198.51.100.9 192.0.2.1 1234 443\r\n", "198.51.100.9"),
    (b"PROXY TCP6 2001:DB8::9 2001:db8::1 1234 443\r\n", "2001:db8::9"),
    (binary(0x21, 0x11, packed("198.51.100.9", socket.AF_INET)), "198.51.100.9"),
    (binary(0x21, 0x21, packed("2001:db8::9", socket.AF_INET6)), "2001:db8::9"),
    (b"PROXY TCP6 ::FFFF:198.51.100.9 ::ffff:192.0.2.1 1234 443\r\n", "198.51.100.9"),
    (binary(0x21, 0x21, packed("::ffff:198.51.100.9", socket.AF_INET6)), "198.51.100.9"),
    (binary(0x21, 0x11, packed("198.51.100.9", socket.AF_INET) + b"\x03\x00\x04abcd"), "198.51.100.9"),
    (binary(0x20, 0x00, b""), ""),
    (binary(0x20, 0x11, packed("198.51.100.9", socket.AF_INET)), ""),
    (binary(0x20, 0x31, bytes(216)), ""),
]


@pytest.mark.parametrize(("header", "ip"), GOOD)
@pytest.mark.parametrize("after", [b"", b"\x16\x03\x01", b"GET / HTTP/1.1\r\n"])
def test_good(header, ip, after):
    assert admit_proxy_header(header + after) == ProxyHeader(ip, len(header))
    for cut in range(len(header)):
        assert admit_proxy_header(header[:cut]) is None


@pytest.mark.parametrize(
    "data",
    [
        b"GET / HTTP/1.1\r\n",
        b"\x16\x03\x01\x02\x00",
        b"PROXX",
        b"proxy TCP4 198.51.100.9 192.0.2.1 1234 443\r\n",
        b"PROXY TCP4 198.51.100.9 192.0.2.1 1234\r\n",
        b"PROXY TCP4 198.51.100.9  192.0.2.1 1234 443\r\n",
        b"PROXY TCP4 2001:db8::9 2001:db8::1 1234 443\r\n",
        b"PROXY TCP6 198.51.100.9 192.0.2.1 1234 443\r\n",
        b"PROXY TCP4 198.51.100.900 192.0.2.1 1234 443\r\n",
        b"PROXY TCP4 198.51.100.9 nonsense 1234 443\r\n",
        b"PROXY UDP4 198.51.100.9 192.0.2.1 1234 443\r\n",
        b"PROXY TCP4 " + b"1" * 200,
        b"PROXY UNKNOWN\r\n",
        b"PROXY UNKNOWN 198.51.100.9 192.0.2.1 1234 443\r\n",
        binary(0x22, 0x11, packed("198.51.100.9", socket.AF_INET)),
        binary(0x11, 0x11, packed("198.51.100.9", socket.AF_INET)),
        *(binary(0x21, family, bytes(216)) for family in range(256) if family not in {0x11, 0x21}),
        binary(0x21, 0x00, b""),
        binary(0x21, 0x11, bytes(11)),
        binary(0x21, 0x21, bytes(35)),
        binary(0x21, 0x11, b"", size=4097),
    ],
)
def test_bad(data):
    with pytest.raises(Unlawful):
        admit_proxy_header(data)


@given(st.binary(max_size=300))
def test_whatever_comes_it_is_judged(data):
    for beginning in (b"", b"PROXY ", SIGNATURE, SIGNATURE + b"\x21\x11\x00"):
        try:
            found = admit_proxy_header(beginning + data)
        except Unlawful:
            continue
        assert found is None or found.end <= len(beginning + data)
