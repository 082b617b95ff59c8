"""Asking a provider about opaque tokens (RFC 7662, 5-threats O17): what is believed, refused, or not told."""

from __future__ import annotations

import asyncio
import base64
import logging
import math
from urllib.parse import parse_qs

import pytest

from proxy.gate.ask import BUSY, REFUSED, UNREACHABLE, Claims, Introspect
from proxy.gate.snapshot import Introspection
from proxy.login import introspection as module
from proxy.login.introspection import Introspector, claims_of
from tests.kit.http_server import Reply
from tests.kit.wait import wait_for
from tests.login.issuer import LEFT_OUT, NOW
from tests.login.provider import Provider, told

WRITTEN = Introspection(
    "https://idp/introspect",
    "promgate",
    "secret",
    issuer="https://idp",
    audience="promgate",
    wanted=(("client_id", "agent"), ("groups", "sre")),
)
ACTIVE = {
    "active": True, "iss": "https://idp", "aud": ["promgate"], "client_id": "agent", "scope": "write", "exp": NOW + 60,
    "iat": NOW, "token_type": "Bearer",
}  # fmt: skip
GOOD = Claims(
    "introspection:client_id=agent",
    WRITTEN.terms,
    NOW,
    NOW + 60,
    writes=True,
    granted=("introspection: client_id=agent",),
)


def said(**changes):
    return {name: value for name, value in {**ACTIVE, **changes}.items() if value is not LEFT_OUT}


@pytest.mark.parametrize(
    ("changes", "name"),
    [
        ({}, "client_id=agent"),
        ({"sub": "carol"}, "carol"),
        ({"aud": "promgate"}, "client_id=agent"),
        ({"iss": LEFT_OUT}, "client_id=agent"),
        ({"token_type": LEFT_OUT}, "client_id=agent"),
        ({"token_type": "bearer"}, "client_id=agent"),
        ({"iat": LEFT_OUT, "nbf": NOW}, "client_id=agent"),
    ],
)
def test_an_active_token(changes, name):
    found = claims_of(said(**changes), WRITTEN)
    assert (found.name, found.not_before, found.expires_at) == (f"introspection:{name}", NOW, NOW + 60)
    assert found.writes
    assert found.granted == GOOD.granted


def test_a_token_without_an_end_has_none_for_us():
    assert claims_of(said(exp=LEFT_OUT), WRITTEN).expires_at > NOW + 1e9


@pytest.mark.parametrize(
    "changes",
    [
        {"active": False}, {"active": "true"}, {"active": 1}, {"active": None}, {"active": LEFT_OUT},
        {"active": [True]},
        {"iss": "https://idp/"}, {"iss": "https://other"}, {"iss": None}, {"iss": ["https://idp"]},
        {"aud": "other"}, {"aud": LEFT_OUT}, {"aud": []}, {"aud": None}, {"aud": "Promgate"}, {"aud": {"promgate": 1}},
        {"token_type": "DPoP"}, {"token_type": "refresh_token"}, {"token_type": None}, {"token_type": 7},
        {"exp": "soon"}, {"exp": None}, {"exp": True}, {"exp": math.nan}, {"iat": "now"}, {"nbf": "now"},
        {"sub": ""}, {"sub": None}, {"sub": 7}, {"sub": "a b"}, {"sub": "a,b"}, {"sub": "a\n"},
        {"sub": "client_id=agent"},
        {"client_id": LEFT_OUT}, {"client_id": ""}, {"client_id": "a b"},
    ],
)  # fmt: skip
def test_what_is_refused(changes):
    """O17."""
    assert claims_of(said(**changes), WRITTEN) is None


class Stage:
    def __init__(self, provider, **changes):
        self.provider = provider
        self.now = 1000.0
        url = f"{provider.base}/introspect"
        written = {"url": url, "client_id": "pro mgate", "client_secret": "s:e/c+ret", **changes}
        self.introspector = Introspector(Introspection(**written), lambda: self.now)
        self.answer(ACTIVE)

    def answer(self, value):
        self.provider.answers["/introspect"] = value

    @property
    def asked(self):
        return self.provider.asked["/introspect"]

    async def find(self, token=b"opaque"):
        return await self.introspector.find(Introspect(token))


@pytest.fixture
def play():
    """Runs a play, an async function of the stage; `changes` are of its configuration."""

    def run(act, **changes):
        async def whole():
            try:
                await act(stage)
            finally:
                await stage.introspector.aclose()

        with Provider() as provider:
            changes = {name: value(provider) if callable(value) else value for name, value in changes.items()}
            stage = Stage(provider, **changes)
            asyncio.run(whole())

    return run


def test_how_it_is_asked(play):
    async def act(stage):
        assert isinstance(await stage.find(), Claims)
        (request,) = stage.provider.requests
        assert parse_qs(request.body.decode()) == {"token": ["opaque"], "token_type_hint": ["access_token"]}
        user, _, secret = base64.b64decode(request.headers["Authorization"].removeprefix("Basic ")).partition(b":")
        assert (user, secret) == (b"pro+mgate", b"s%3Ae%2Fc%2Bret")  # RFC 6749 2.3.1

    play(act)


def test_its_endpoint_is_discovered_once(play):
    async def act(stage):
        stage.answer(said(iss=stage.provider.base))
        for token in (b"a", b"b"):
            assert isinstance(await stage.find(token), Claims)
        assert stage.provider.asked["/.well-known/openid-configuration"] == 1

    play(act, url="", issuer=lambda provider: provider.base)


@pytest.mark.parametrize(
    "reply",
    [
        Reply(500), Reply(503), Reply(401), Reply(403), Reply(302), Reply(200, b"<html>", "text/html"),
        Reply(200, b"[]"),
        Reply(200, b'{"active": "' + b"x" * 10_000_000),
    ],
)  # fmt: skip
def test_what_says_nothing_of_the_token(play, reply, caplog):
    """O17."""

    async def act(stage):
        stage.answer(reply)
        with caplog.at_level(logging.INFO):
            assert await stage.find() == UNREACHABLE
            assert await stage.find() == UNREACHABLE  # nobody waits for another failure at once
            assert stage.asked == 1
            stage.now += 1
            assert await stage.find() == UNREACHABLE
            assert stage.asked == 2
            stage.answer(ACTIVE)
            stage.now += 1
            assert isinstance(await stage.find(), Claims)
        assert [record.levelname for record in caplog.records] == ["ERROR", "INFO"]
        assert "opaque" not in caplog.text
        assert "s:e/c+ret" not in caplog.text
        assert stage.introspector.counts == {"active": 1, "refused": 0, "failed": 2}

    play(act)


def test_one_flight_for_the_same_token(play):
    async def act(stage):
        stage.provider.hold.clear()
        waiting = [asyncio.create_task(stage.find()) for _ in range(20)]
        gone = waiting.pop()
        await asyncio.sleep(0)
        gone.cancel()
        stage.provider.hold.set()
        assert all(isinstance(each, Claims) for each in await asyncio.gather(*waiting))
        assert stage.asked == 1

    play(act)


@pytest.mark.parametrize("after", [None, Introspection("https://other/introspect", "a", "b")])
def test_a_reload_ends_nobody_who_waits(play, after):
    async def act(stage):
        stage.provider.hold.clear()
        waiting = [asyncio.create_task(stage.find()) for _ in range(3)]
        try:
            await asyncio.to_thread(wait_for, lambda: stage.provider.requests, "the question")
            stage.introspector.take(after)
            assert await asyncio.gather(*waiting) == [UNREACHABLE] * 3
        finally:
            stage.provider.hold.set()

    play(act)


def test_flights_are_bounded_and_nobody_waits_for_long(play, monkeypatch):
    monkeypatch.setattr(module, "_MAX_FLIGHTS", 3)
    monkeypatch.setattr(module, "MAX_WAIT_S", 0.2)

    async def act(stage):
        stage.provider.hold.clear()
        try:
            answers = await asyncio.gather(*(stage.find(b"%d" % number) for number in range(5)))
            assert answers == [UNREACHABLE] * 3 + [BUSY] * 2
        finally:
            stage.provider.hold.set()

    play(act)


@pytest.mark.parametrize("token", [b"a b", b"a\xff", b"=", b"a=b", b"caf\xc3\xa9", b'"x"'])
def test_what_can_be_no_token_is_not_asked(play, token):
    async def act(stage):
        assert await stage.find(token) == REFUSED
        assert not stage.provider.requests

    play(act)


def test_a_secret_that_was_replaced_is_read_again(play, tmp_path):
    secret = tmp_path / "secret"
    secret.write_text("old\n")

    def answer(request):
        known = base64.b64encode(b"pro+mgate:new").decode()
        return told(ACTIVE) if request.headers["Authorization"] == f"Basic {known}" else Reply(401)

    async def act(stage):
        stage.answer(answer)
        assert await stage.find() == UNREACHABLE
        secret.write_text("new\n")
        stage.now += 1
        assert isinstance(await stage.find(), Claims)
        asked = stage.asked
        assert isinstance(await stage.find(b"another"), Claims)
        assert stage.asked == asked + 1

    play(act, client_secret="old", client_secret_file=str(secret))


def test_a_reload_asks_elsewhere(play):
    async def act(stage):
        await stage.find()
        with Provider() as other:
            other.answers["/introspect"] = said(active=False)
            stage.introspector.take(Introspection(f"{other.base}/introspect", "a", "b"))
            assert await stage.find() == REFUSED
        stage.introspector.take(None)
        assert await stage.find() == REFUSED
        assert stage.asked == 1

    play(act)
