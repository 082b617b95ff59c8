"""Whose word on the client's address is taken (S3: the right-most untrusted one; a spoofed one never)."""

from __future__ import annotations

from ipaddress import ip_network

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.gate.forwarded import Proxies

OURS = Proxies((ip_network("10.0.0.0/8"), ip_network("192.0.2.7/32"), ip_network("2001:db8::/32")))
PEER = "10.0.0.1"


def head(*fields: bytes) -> bytes:
    return b"\r\n".join([b"GET / HTTP/1.1", b"Host: a", *fields])


def read(*fields: bytes, peer: str = PEER) -> tuple[str, list[bytes]]:
    ip, lines = OURS.read(head(*fields), peer, "https")
    assert lines.endswith(b"\r\n\r\n")
    return ip, lines[:-4].split(b"\r\n")


@pytest.mark.parametrize(
    ("chain", "client", "sent"),
    [
        ([], PEER, "10.0.0.1"),
        ([""], PEER, "10.0.0.1"),
        ([" , "], PEER, "10.0.0.1"),
        (["198.51.100.9"], "198.51.100.9", "198.51.100.9, 10.0.0.1"),
        (["198.51.100.9, 10.0.0.2"], "198.51.100.9", "198.51.100.9, 10.0.0.2, 10.0.0.1"),
        # what the client said itself is neither believed nor sent on
        (["127.0.0.1, 198.51.100.9, 10.0.0.2"], "198.51.100.9", "198.51.100.9, 10.0.0.2, 10.0.0.1"),
        (["10.0.0.9, 198.51.100.9"], "198.51.100.9", "198.51.100.9, 10.0.0.1"),
        (["<script>, 198.51.100.9"], "198.51.100.9", "198.51.100.9, 10.0.0.1"),
        # several lines are one list (RFC 9110 5.3)
        (["203.0.113.1", "198.51.100.9", "10.0.0.2"], "198.51.100.9", "198.51.100.9, 10.0.0.2, 10.0.0.1"),
        # all are ours: the one that is farthest away
        (["10.0.0.3, 10.0.0.2"], "10.0.0.3", "10.0.0.3, 10.0.0.2, 10.0.0.1"),
        # ports, brackets, IPv6, IPv4 in IPv6 clothes
        (["198.51.100.9:1234"], "198.51.100.9", "198.51.100.9, 10.0.0.1"),
        (["[2001:DB9::1]:443"], "2001:db9::1", "2001:db9::1, 10.0.0.1"),
        (["[2001:db9::1]"], "2001:db9::1", "2001:db9::1, 10.0.0.1"),
        (["198.51.100.9, 2001:db8::5"], "198.51.100.9", "198.51.100.9, 2001:db8::5, 10.0.0.1"),
        (["::ffff:198.51.100.9"], "198.51.100.9", "198.51.100.9, 10.0.0.1"),
        (["198.51.100.9, ::ffff:10.0.0.2"], "198.51.100.9", "198.51.100.9, 10.0.0.2, 10.0.0.1"),
        # garbage on the way to the client: the chain is worth nothing
        (["198.51.100.9, unknown"], PEER, "10.0.0.1"),
        (["unknown"], PEER, "10.0.0.1"),
        (["198.51.100.9,, 10.0.0.2"], PEER, "10.0.0.1"),
        (["198.51.100.9,"], PEER, "10.0.0.1"),
        (["_hidden"], PEER, "10.0.0.1"),
        (["198.51.100.900"], PEER, "10.0.0.1"),
        (["198.051.100.9"], PEER, "10.0.0.1"),
        (["fe80::1%eth0"], PEER, "10.0.0.1"),
        (["198.51.100.9:x"], PEER, "10.0.0.1"),
        (["\xff"], PEER, "10.0.0.1"),
        ([", ".join(["10.0.0.2"] * 100)], PEER, "10.0.0.1"),
    ],
)
@pytest.mark.parametrize("name", [b"X-Forwarded-For", b"x-forwarded-for", b"X-FORWARDED-FOR"])
def test_chains(chain, client, sent, name):
    ip, lines = read(*(name + b": " + one.encode("latin-1") for one in chain))
    assert ip == client
    assert lines == [b"X-Forwarded-For: " + sent.encode(), b"X-Forwarded-Proto: https"]


@pytest.mark.parametrize("peer", ["198.51.100.1", "192.0.2.8", "2001:db9::1", "local", "fe80::1%eth0", "11.0.0.1"])
def test_nobody_else_is_believed(peer):
    ip, lines = read(
        b"X-Forwarded-For: 10.0.0.1", b"X-Forwarded-Proto: http", b"X-Forwarded-Host: evil", b"Forwarded: for=1.1.1.1",
        peer=peer,
    )  # fmt: skip
    assert ip == peer
    assert lines == [b"X-Forwarded-For: " + peer.encode(), b"X-Forwarded-Proto: https"]


@pytest.mark.parametrize(
    ("fields", "lines"),
    [
        ([b"X-Forwarded-Proto: http"], [b"X-Forwarded-Proto: http"]),
        ([b"x-forwarded-proto:HTTPS"], [b"X-Forwarded-Proto: https"]),
        ([b"X-Forwarded-Proto: gopher"], [b"X-Forwarded-Proto: https"]),
        ([b"X-Forwarded-Proto: http, http"], [b"X-Forwarded-Proto: https"]),
        ([b"X-Forwarded-Proto: http", b"X-Forwarded-Proto: http"], [b"X-Forwarded-Proto: https"]),
        (
            [b"X-Forwarded-Host: noc.example.net:8443"],
            [b"X-Forwarded-Proto: https", b"X-Forwarded-Host: noc.example.net:8443"],
        ),
        ([b"X-Forwarded-Host: a, b"], [b"X-Forwarded-Proto: https"]),
        ([b"X-Forwarded-Host: "], [b"X-Forwarded-Proto: https"]),
        ([b"X_Forwarded_Proto: http", b"X-Forwarded-Protocol: http"], [b"X-Forwarded-Proto: https"]),
    ],
)
def test_scheme_and_host(fields, lines):
    assert read(*fields)[1][1:] == lines


@given(st.lists(st.binary(max_size=40).filter(lambda value: b"\r" not in value and b"\n" not in value), max_size=4))
def test_whatever_is_said_a_lawful_line_goes_on(values):
    ip, lines = read(*(b"X-Forwarded-For: " + value for value in values))
    assert lines[0].endswith(b"10.0.0.1")
    assert ip.encode() in lines[0]
    assert not lines[0].translate(None, b"X-Forwarded-For: 0123456789abcdef.,")
