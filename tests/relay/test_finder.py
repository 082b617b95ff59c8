"""Each question goes to the one place that can answer it."""

from __future__ import annotations

import asyncio

import bcrypt
import pytest

from proxy.gate.ask import (
    ABSENT,
    FOUND,
    REFUSED,
    UNREADABLE,
    WAITED,
    CheckPassword,
    Claims,
    FindToken,
    VerifyJwt,
)
from proxy.login.jwt import JwtVerifier
from proxy.login.passwords import PasswordChecker
from proxy.relay.finder import AnswerFinder
from proxy.stores.sqlite import open_store
from proxy.stores.watch import StoreWatch
from proxy.tokens.book import TokenBook
from tests.login.issuer import Issuer
from tests.tokens.play import committed

HASH = bcrypt.hashpw(b"right", bcrypt.gensalt(4))


def answer(question, *, watch=None, jwts=None):
    async def ask():
        passwords = PasswordChecker()
        try:
            return await AnswerFinder(watch, passwords, jwts).answer(question)
        finally:
            passwords.close()

    return asyncio.run(ask())


@pytest.mark.parametrize(("password", "right"), [(b"right", True), (b"wrong", False)])
def test_a_password(password, right):
    assert answer(CheckPassword((HASH,), password)) == (HASH if right else False)


def test_a_wait_is_over_when_it_is_asked():
    assert answer(WAITED) is True


def test_a_token_without_a_store():
    assert answer(FindToken(b"x" * 32)) == ABSENT


def test_a_token_that_another_process_has_just_minted(tmp_path):
    async def play():
        store = open_store(tmp_path / "promgate.db")
        other = open_store(tmp_path / "promgate.db")
        book = TokenBook()
        watch = StoreWatch(store, book, poll_s=60)
        passwords = PasswordChecker()
        await watch.start()
        try:
            finder = AnswerFinder(watch, passwords)
            committed(other, "sender")
            (token,) = other.named("sender")
            assert book.find(token.digest) is None
            assert await finder.answer(FindToken(token.digest)) == FOUND
            assert book.find(token.digest) == token  # it is in the book when the answer arrives
            assert await finder.answer(FindToken(b"x" * 32)) == ABSENT
        finally:
            passwords.close()
            await watch.stop()
            store.close()
            other.close()

    asyncio.run(play())


def test_a_store_that_cannot_be_read(tmp_path):
    async def play():
        store = open_store(tmp_path / "promgate.db")
        book = TokenBook()
        watch = StoreWatch(store, book, poll_s=60)
        passwords = PasswordChecker()
        committed(store, "sender")
        await watch.start()
        try:
            store.close()
            finder = AnswerFinder(watch, passwords)
            assert await finder.answer(FindToken(b"x" * 32)) == UNREADABLE
            assert not book.readable
            assert await finder.answer(FindToken(b"x" * 32)) == UNREADABLE
            assert len(book) == 1
        finally:
            passwords.close()
            await watch.stop()

    asyncio.run(play())


def test_a_signed_token():
    issuer = Issuer()
    jwts = JwtVerifier([issuer.written()])
    try:
        found = answer(VerifyJwt(issuer.token()), jwts=jwts)
        assert isinstance(found, Claims)
        assert found.name == "jwt:carol"
        assert answer(VerifyJwt(issuer.token() + b"x"), jwts=jwts) == REFUSED
    finally:
        jwts.close()
    assert answer(VerifyJwt(issuer.token())) == REFUSED
