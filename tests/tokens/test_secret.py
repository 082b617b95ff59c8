from __future__ import annotations

import copy
import pickle
import re
import zlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.tokens.secret import Secret, digest, looks_minted, mint, parse
from proxy.tokens.token import TokenKind
from tests.tokens.play import randomness

KINDS = [(TokenKind.WRITE, "pgw"), (TokenKind.READER, "pgr")]


@pytest.mark.parametrize(("kind", "prefix"), KINDS)
def test_the_written_form_is_that_of_the_design(kind, prefix):
    minted = mint(kind, randomness())
    clear = minted.secret.reveal()
    assert re.fullmatch(rf"{prefix}_{minted.id}_[0-9A-Za-z]{{49}}", clear)
    assert len(minted.id) == 8
    assert minted.digest == digest(clear.encode())
    assert parse(clear.encode()) == (kind, minted.id)


def test_a_token_of_known_randomness_is_known_to_the_letter():
    # Computed by hand: id 16 bytes of 1 modulo 62**8, secret 32 bytes of 1, check the CRC-32 of all before it.
    clear = mint(TokenKind.WRITE, lambda n: b"\1" * n).secret.reveal()
    alphabet = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"

    def number(text):
        return sum(alphabet.index(letter) * 62**place for place, letter in enumerate(reversed(text)))

    _, token_id, rest = clear.split("_")
    assert number(token_id) == int("01" * 16, 16) % 62**8
    assert number(rest[:43]) == int("01" * 32, 16)
    assert number(rest[43:]) == zlib.crc32(clear[:-6].encode())


@pytest.mark.parametrize("byte", [0, 255])
def test_all_256_bits_fit(byte):
    clear = mint(TokenKind.READER, lambda n: bytes([byte]) * n).secret.reveal()
    assert len(clear) == 62
    assert looks_minted(clear.encode())


def test_two_tokens_are_never_the_same():
    random = randomness()
    minted = [mint(TokenKind.WRITE, random) for _ in range(1000)]
    assert len({token.id for token in minted}) == len({token.digest for token in minted}) == 1000


@given(st.randoms(use_true_random=False), st.integers(0, 61), st.integers(0, 255))
def test_one_wrong_letter_is_seen(random, place, byte):
    clear = bytearray(mint(TokenKind.WRITE, random.randbytes).secret.reveal().encode())
    if clear[place] != byte:
        clear[place] = byte
        assert not looks_minted(bytes(clear))
        assert parse(bytes(clear)) is None


GOOD = mint(TokenKind.WRITE, randomness()).secret.reveal().encode()


@pytest.mark.parametrize(
    "shown",
    [
        b"",
        b"pgw_",
        GOOD[:-1],
        GOOD + b"0",
        GOOD + b"\n",
        b" " + GOOD,
        GOOD.upper(),
        GOOD.replace(b"pgw", b"pgr"),
        GOOD.replace(b"_", b"-"),
        GOOD[:20] + "é".encode() + GOOD[22:],
        b"eyJhbGciOiJub25lIn0.e30.",
        b"x" * 100_000,
    ],
)
def test_what_is_not_ours_is_told_without_an_error(shown):
    assert not looks_minted(shown)
    assert parse(shown) is None


@given(st.binary(max_size=80))
def test_any_bytes_may_be_shown(shown):
    assert looks_minted(shown) is (parse(shown) is not None)


@pytest.mark.parametrize(
    "show",
    [repr, str, "{}".format, "{!r}".format, "{:>20}".format, lambda s: repr([s, {s: s}])],
)
def test_a_secret_never_prints(show):
    assert "hunter2" not in show(Secret("hunter2"))
    assert "<secret>" in show(Secret("hunter2"))


@pytest.mark.parametrize("leak", [pickle.dumps, copy.copy, copy.deepcopy])
def test_a_secret_is_not_carried_away(leak):
    with pytest.raises(TypeError):
        leak(Secret("hunter2"))


def test_a_secret_is_revealed_on_request_only():
    secret = Secret("hunter2")
    assert secret.reveal() == "hunter2"
    assert not hasattr(secret, "__dict__")


def test_what_is_minted_prints_without_its_secret():
    minted = mint(TokenKind.WRITE, randomness())
    assert minted.secret.reveal() not in repr(minted)
