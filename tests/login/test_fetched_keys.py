"""Keys that are fetched: seldom, shared, for a while without their issuer (5-threats O8, R14). The clock is ours."""

from __future__ import annotations

import asyncio
import json
import logging

import pytest

from proxy.gate.ask import LATE, REFUSED, UNREACHABLE, Claims, VerifyJwt
from proxy.gate.snapshot import JwtIssuer
from proxy.login import fetched_keys
from proxy.login.jwt import JwtVerifier
from tests.kit.http_server import Reply
from tests.kit.wait import wait_for
from tests.login.issuer import Issuer, ec_key, jwk
from tests.login.provider import Provider

OLD, NEW = jwk(ec_key(), kid="ec"), jwk(ec_key("other"), kid="new")


class Stage:
    """A provider that shows `keys`, a verifier that follows it, and a clock that stands still."""

    def __init__(self, provider):
        self.provider = provider
        self.now = 1000.0
        self.doubts = 0
        self.set([OLD])
        written = JwtIssuer(provider.base, "promgate")
        self.verifier = JwtVerifier([written], self._doubt, lambda: self.now)

    @property
    def keys(self):
        (keys,) = self.verifier.fetched
        return keys

    @property
    def fetches(self):
        return self.provider.asked["/keys"]

    def _doubt(self):
        self.doubts += 1

    def set(self, keys):
        self.provider.answers["/keys"] = {"keys": keys}

    def fail(self, reply=None):
        self.provider.answers["/keys"] = reply or Reply(500)

    def token(self, name=None, kid="ec"):
        key = ec_key(name) if name else ec_key()
        return Issuer().token(key=key, header={"kid": kid}, claims={"iss": self.provider.base})

    async def verify(self, text=None):
        return await self.verifier.verify(VerifyJwt(text or self.token()))

    async def pass_time(self, seconds):
        self.now += seconds
        self.keys.keep_fresh()
        await self.keys._flights.join(self.provider.base, _nothing)


async def _nothing():
    """Where no fetch is under way."""


@pytest.fixture
def play():
    """Runs a play, an async function of the stage."""

    def run(act):
        async def whole():
            try:
                await act(stage)
            finally:
                stage.verifier.close()

        with Provider() as provider:
            stage = Stage(provider)
            asyncio.run(whole())

    return run


def test_the_first_token_waits_for_the_first_fetch(play):
    async def act(stage):
        found = await stage.verify()
        assert isinstance(found, Claims)
        assert (stage.fetches, stage.provider.asked["/.well-known/openid-configuration"]) == (1, 1)
        assert isinstance(await stage.verify(), Claims)
        assert stage.fetches == 1

    play(act)


def test_a_new_key_works_within_one_fetch(play):
    """O8."""

    async def act(stage):
        await stage.verify()
        stage.set([OLD, NEW])
        fresh = stage.token("other", "new")
        assert await stage.verify(fresh) == LATE  # it may be good, and nobody can be asked yet
        stage.now += fetched_keys.MIN_GAP_S
        assert isinstance(await stage.verify(fresh), Claims)
        assert stage.fetches == 2
        assert stage.doubts == 0

    play(act)


def test_an_unknown_key_is_refused_once_the_issuer_does_not_know_it(play):
    async def act(stage):
        await stage.verify()
        stage.now += fetched_keys.MIN_GAP_S
        assert await stage.verify(stage.token("other", "new")) == REFUSED
        assert await stage.verify(stage.token("other", "new")) == LATE  # within the pause it may have got one

    play(act)


@pytest.mark.parametrize("kid", ["../../etc/passwd", "' OR 1=1 --", "x" * 256])
def test_an_id_is_only_looked_up(play, kid):
    async def act(stage):
        await stage.verify()
        stage.now += fetched_keys.MIN_GAP_S
        assert await stage.verify(stage.token("other", kid)) == REFUSED
        assert set(stage.provider.asked) == {"/keys", "/.well-known/openid-configuration"}

    play(act)


@pytest.mark.parametrize("kid", ["", "x" * 257, 7, ["ec"], {}])
def test_an_id_that_nobody_has_costs_no_fetch(play, kid):
    async def act(stage):
        await stage.verify()
        stage.now += fetched_keys.MIN_GAP_S
        assert await stage.verify(stage.token("other", kid)) == REFUSED
        assert stage.fetches == 1

    play(act)


def test_wrong_signatures_and_wrong_algorithms_cost_no_fetch(play):
    async def act(stage):
        await stage.verify()
        stage.now += fetched_keys.MIN_GAP_S
        assert await stage.verify(stage.token("other", "ec")) == REFUSED
        good = stage.token()
        assert await stage.verify(good[:-4] + b"AAAA") == REFUSED
        for alg in ("none", "HS256", "RS512", None):
            text = Issuer().token(header={"kid": "new", "alg": alg}, claims={"iss": stage.provider.base})
            assert await stage.verify(text) == REFUSED
        assert stage.fetches == 1

    play(act)


def test_a_flood_of_unknown_keys_costs_two_fetches_a_minute(play):
    """O8."""

    async def act(stage):
        for number in range(120):  # ten minutes
            texts = [stage.token("other", f"made-up-{number}-{each}") for each in range(3)]
            answers = await asyncio.gather(*map(stage.verify, texts))
            assert set(answers) <= {LATE, REFUSED}
            stage.now += 5
        assert stage.fetches <= 20
        assert isinstance(await stage.verify(), Claims)  # and who is known is not disturbed

    play(act)


def test_all_who_wait_share_one_fetch(play):
    async def act(stage):
        stage.provider.hold.clear()
        waiting = [asyncio.create_task(stage.verify()) for _ in range(20)]
        gone = waiting.pop()
        await asyncio.sleep(0)
        gone.cancel()  # one client that leaves does not end it for the others
        stage.provider.hold.set()
        assert all(isinstance(each, Claims) for each in await asyncio.gather(*waiting))
        assert stage.fetches == 1

    play(act)


def test_a_key_that_came_after_the_fetch_began_is_not_refused(play):
    """The fetch that is under way may have been answered before the key was there."""

    async def act(stage):
        fresh = stage.token("other", "new")
        stage.provider.hold.clear()
        first = asyncio.create_task(stage.verify())
        try:
            await asyncio.to_thread(wait_for, lambda: stage.provider.requests, "the fetch to begin")
            late = asyncio.create_task(stage.verify(fresh))
            await asyncio.sleep(0)
        finally:
            stage.provider.hold.set()
        assert isinstance(await first, Claims)
        assert await late == LATE
        stage.set([OLD, NEW])
        stage.now += fetched_keys.MIN_GAP_S
        assert isinstance(await stage.verify(fresh), Claims)

    play(act)


def test_a_reload_that_ends_a_fetch_ends_nobody_who_waits_for_it(play):
    async def act(stage):
        stage.provider.hold.clear()
        waiting = [asyncio.create_task(stage.verify()) for _ in range(3)]
        try:
            await asyncio.to_thread(wait_for, lambda: stage.provider.requests, "the fetch to begin")
            stage.verifier.take([])
            assert await asyncio.gather(*waiting) == [UNREACHABLE] * 3
        finally:
            stage.provider.hold.set()

    play(act)


def test_nobody_waits_for_long_and_not_everybody_may(play, monkeypatch):
    monkeypatch.setattr(fetched_keys, "MAX_WAIT_S", 0.2)
    monkeypatch.setattr(fetched_keys, "MAX_WAITING", 3)

    async def act(stage):
        stage.provider.hold.clear()
        try:
            answers = await asyncio.gather(*(stage.verify() for _ in range(9)))
            assert answers == [UNREACHABLE] * 9
            assert stage.keys._waiting == 0
        finally:
            stage.provider.hold.set()

    play(act)


@pytest.mark.parametrize(
    "reply",
    [
        Reply(500),
        Reply(200, b"<html>", "text/html"),
        Reply(200, b'{"keys": "' + b"x" * 10_000_000),
        Reply(200, b'{"keys": []}'),
        Reply(200, b'{"keys": 7}'),
        Reply(200, b"{}"),
        Reply(200, json.dumps({"keys": [{"kty": "oct", "k": "AQAB"}]}).encode()),
    ],
)
def test_cached_keys_serve_an_outage_for_an_hour(play, reply, caplog):
    """O8."""

    async def act(stage):
        await stage.verify()
        stage.fail(reply)
        fetched_at, fetches = stage.now, stage.fetches
        with caplog.at_level(logging.INFO):
            while stage.now + 590 < fetched_at + fetched_keys.MAX_SILENCE_S:
                await stage.pass_time(590)
                assert isinstance(await stage.verify(), Claims)
                assert await stage.verify(stage.token("other", "new")) == UNREACHABLE
            assert stage.fetches - fetches == 6
            assert stage.doubts == 0
            await stage.pass_time(60)
            assert await stage.verify() == UNREACHABLE
            assert stage.doubts == 1  # what was verified before is in doubt, too
            stage.set([OLD])
            await stage.pass_time(60)
            assert isinstance(await stage.verify(), Claims)
        texts = [record.message for record in caplog.records if record.name == "promgate.jwt"]
        assert [text.split(":")[0].split(" ", 4)[-1] for text in texts] != []
        assert len(texts) == 3  # it fails; too long; it is back

    play(act)


def test_an_issuer_that_is_down_from_the_start(play):
    async def act(stage):
        stage.fail()
        assert await stage.verify() == UNREACHABLE
        assert await stage.verify() == UNREACHABLE
        assert stage.fetches == 1
        stage.set([OLD])
        await stage.pass_time(fetched_keys.MIN_GAP_S)
        assert isinstance(await stage.verify(), Claims)
        assert stage.keys.counts == {"ok": 1, "failed": 1}

    play(act)


def test_a_key_that_was_withdrawn_stops_within_the_cache_age(play):
    """O8."""
    async def act(stage):
        await stage.verify()
        stage.set([NEW])
        await stage.pass_time(fetched_keys.MAX_AGE_S)
        assert await stage.verify() == LATE
        assert stage.doubts == 1
        await stage.pass_time(fetched_keys.MIN_GAP_S)
        assert await stage.verify() == REFUSED

    play(act)


def test_it_runs_by_itself(play):
    async def act(stage):
        running = asyncio.create_task(stage.verifier.run())
        async with asyncio.timeout(60):
            assert isinstance(await stage.verify(), Claims)
        running.cancel()
        assert stage.fetches == 1

    play(act)


def test_a_reload_keeps_what_was_fetched(play):
    async def act(stage):
        await stage.verify()
        stage.provider.hold.clear()
        try:
            base = stage.provider.base
            stage.verifier.take([JwtIssuer(base, "promgate", typ="at+jwt"), JwtIssuer("https://other", "x")])
            assert await stage.verify() == REFUSED  # another typ is wanted now
            stage.verifier.take([JwtIssuer(base, "promgate")])
            assert isinstance(await stage.verify(), Claims)
            assert stage.fetches == 1
        finally:
            stage.provider.hold.set()

    play(act)


def test_keys_at_an_url_of_their_own_need_no_discovery():
    with Provider() as provider:
        provider.answers["/keys"] = {"keys": [OLD]}
        verifier = JwtVerifier([JwtIssuer("https://idp", "promgate", jwks_url=f"{provider.base}/keys")])
        try:
            assert isinstance(asyncio.run(verifier.verify(VerifyJwt(Issuer().token()))), Claims)
            assert provider.asked == {"/keys": 1}
        finally:
            verifier.close()
