"""Hellos of all kinds: which are agreed on by X25519 at once. OpenSSL itself is asked whether that is so."""

from __future__ import annotations

import contextlib
import ssl
import struct

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from proxy.pki.hello import offers_x25519

X25519, P256, P384, X448, FFDHE2048, FFDHE8192, MLKEM = 0x001D, 0x0017, 0x0018, 0x001E, 0x0100, 0x0104, 0x11EC
SIZES = {X25519: 32, P256: 65, P384: 97, X448: 56, FFDHE2048: 256, FFDHE8192: 1024, MLKEM: 1216, 0x2A2A: 1}
TLS12, TLS13 = 0x0303, 0x0304
P256_POINT = bytes.fromhex(
    "046b17d1f2e12c4247f8bce6e563a440f277037d812deb33a0f4a13945d898c296"
    "4fe342e2fe1a7f9b8ee7eb4a7c0f9e162bce33576b315ececbb6406837bf51f5"
)  # the generator of the curve


def vector(data: bytes, size: int) -> bytes:
    return len(data).to_bytes(size) + data


def extension(kind: int, data: bytes) -> bytes:
    return kind.to_bytes(2) + vector(data, 2)


def numbers(*values: int) -> bytes:
    return b"".join(value.to_bytes(2) for value in values)


def share(group: int) -> bytes:
    key = P256_POINT if group == P256 else b"\x09" * SIZES[group]
    return numbers(group) + vector(key, 2)


def hello(*shares: int, versions=(TLS13, TLS12), groups=tuple(SIZES), session=b"", more=b"") -> bytes:
    """A hello in one record. It names no host, and signatures by ECDSA with P-256 alone."""
    extensions = b"".join(
        (
            extension(10, vector(numbers(*groups), 2)),
            extension(13, vector(numbers(0x0403), 2)),
            extension(43, vector(numbers(*versions), 1)),
            extension(51, vector(b"".join(map(share, shares)), 2)),
            more,
        )
    )
    ciphers = numbers(0x1301, 0xC02B)
    body = numbers(TLS12) + bytes(32) + vector(session, 1) + vector(ciphers, 2) + b"\x01\x00" + vector(extensions, 2)
    return b"\x16\x03\x01" + vector(b"\x01" + vector(body, 3), 2)


GOOD = [
    hello(X25519),
    hello(0x2A2A, X25519),
    hello(MLKEM, X25519),
    hello(X25519, P256),
    hello(X25519, session=bytes(32), more=extension(0xFE0D, bytes(200))),
    hello(X25519) + b"\x14\x03\x03\x00\x01\x01",
]


@pytest.mark.parametrize("data", GOOD)
def test_agreed_on_at_once(data):
    assert offers_x25519(data)


def test_what_python_itself_sends():
    assert offers_x25519(python_hello())


SMUGGLED = share(X25519)  # where it is no share
CASES = {
    "no share": hello(),
    "another": hello(P256),
    "a dear one beside it": hello(X25519, P384),
    "a dear one before it": hello(FFDHE8192, X25519),
    "of TLS 1.2": hello(X25519, versions=(TLS12,)),
    "in the session's id": hello(FFDHE8192, session=SMUGGLED[:32]),
    "in another extension": hello(FFDHE8192, more=extension(0xFE0D, SMUGGLED)),
    "behind the record": hello(FFDHE8192) + SMUGGLED,
    "in two records": hello(X25519)[:3] + vector(hello(X25519)[5:60], 2) + b"\x16\x03\x01" + hello(X25519)[60:],
    "of another kind": b"\x17" + hello(X25519)[1:],
    "a message of another kind": hello(X25519)[:5] + b"\x02" + hello(X25519)[6:],
    "HTTP": b"GET / HTTP/1.1\r\n\r\n" + SMUGGLED,
}


@pytest.mark.parametrize("data", CASES.values(), ids=CASES)
def test_not_agreed_on_at_once(data):
    assert not offers_x25519(data)


def test_any_cut_is_a_no():
    data = GOOD[3]
    assert not any(offers_x25519(data[:size]) for size in range(len(data)))


@given(st.binary(max_size=600))
def test_any_bytes_may_come(data):
    assert not offers_x25519(data)
    offers_x25519(b"\x16\x03\x01" + vector(b"\x01" + vector(data, 3), 2))


def python_hello() -> bytes:
    sent = ssl.MemoryBIO()
    with contextlib.suppress(ssl.SSLWantReadError):
        ssl.create_default_context().wrap_bio(ssl.MemoryBIO(), sent, server_hostname="localhost").do_handshake()
    return sent.read()


@pytest.fixture(scope="module")
def openssl(made):
    """What OpenSSL answers when nothing was narrowed: the group of its answer, None for a refusal, 0 for another go."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(made / "one.crt", made / "one.key")

    def answer(data: bytes) -> int | None:
        incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        incoming.write(data)
        try:
            context.wrap_bio(incoming, outgoing, server_side=True).do_handshake()
        except ssl.SSLWantReadError:
            return group_of(outgoing.read())
        except ssl.SSLError:
            return None
        raise AssertionError("a handshake of one message")

    return answer


def group_of(answer: bytes) -> int | None:
    """Of a ServerHello; None while it asks for more of the hello or agrees on TLS 1.2, 0 when it asks for another."""
    if not answer:
        return None
    at = 5 + 4 + 2 + 32
    at += 1 + answer[at] + 2 + 1
    end = at + 2 + struct.unpack_from(">H", answer, at)[0]
    at += 2
    while at < end:
        kind, size = struct.unpack_from(">HH", answer, at)
        if kind == 51:
            return struct.unpack_from(">H", answer, at + 4)[0] if size > 2 else 0
        at += 4 + size
    return None


def test_openssl_is_asked_right(openssl):
    assert openssl(hello(X25519)) == X25519
    assert openssl(hello(P384, X25519)) is None, "the share is no point of that curve"
    assert openssl(hello(X448, X25519)) == X448
    assert openssl(hello()) == 0


groups = st.sampled_from(sorted(SIZES))


versions = st.just((TLS13, TLS12)) | st.lists(st.sampled_from([TLS13, TLS12, 0x0302, 0x5A5A]), min_size=1, max_size=3)
shares = st.builds(lambda *some: [*some[0], X25519, *some[1]], *[st.lists(groups, max_size=1)] * 2) | st.lists(groups)
flips = st.just(()) | st.lists(st.tuples(st.integers(0, 400), st.integers(0, 255)), max_size=3)


@settings(max_examples=400)
@given(shares=shares, order=st.permutations(sorted(SIZES)), versions=versions, flips=flips)
def test_what_is_taken_for_cheap_is_to_openssl(openssl, shares, order, versions, flips):
    data = bytearray(hello(*shares, versions=versions, groups=order))
    for at, value in flips:
        data[at % len(data)] = value
    if offers_x25519(bytes(data)):
        assert openssl(bytes(data)) in {X25519, P256, MLKEM, None}
