"""What a real authorization server signs and says (oauth2-mock-server, which forges on request)."""

from __future__ import annotations

import asyncio
import time

import pytest

from proxy.gate.ask import LATE, REFUSED, UNREACHABLE, Claims, Introspect, VerifyJwt
from proxy.gate.snapshot import Introspection, JwtIssuer
from proxy.login import fetched_keys
from proxy.login.introspection import Introspector
from proxy.login.jwt import JwtVerifier
from tests.kit.providers import AUDIENCE, Forger

pytestmark = pytest.mark.real

GOOD = {"aud": AUDIENCE, "sub": "agent"}


@pytest.fixture(scope="module")
def forger(tmp_path_factory):
    with Forger(tmp_path_factory.mktemp("forger")) as made:
        yield made


def verify(forger, *tokens):
    async def play():
        verifier = JwtVerifier([JwtIssuer(forger.base, AUDIENCE, algorithms=("RS256",))])
        try:
            return [await verifier.verify(VerifyJwt(token.encode())) for token in tokens]
        finally:
            verifier.close()

    return asyncio.run(play())


def test_signed_claims(forger):
    now = time.time()
    wrong = [
        {"iss": forger.base + "/"}, {"iss": "https://evil"}, {"iss": None}, {"aud": "other"}, {"aud": None},
        {"aud": []},
        {"sub": None}, {"sub": ""}, {"sub": 7}, {"exp": None}, {"exp": "soon"}, {"exp": True}, {"iat": None},
        {"iat": "now"}, {"nbf": "now"}, {"nonce": "n"}, {"at_hash": "h"}, {"events": {}}, {"azp": 7},
    ]  # fmt: skip
    good, *bad = verify(
        forger, forger.forge(payload=GOOD), *(forger.forge(payload={**GOOD, **changes}) for changes in wrong)
    )
    assert (good.name, good.writes) == ("jwt:agent", True)
    assert good.not_before <= now + 5 < good.expires_at
    assert bad == [REFUSED] * len(wrong)


def test_headers(forger):
    bad = [{"typ": "logout+jwt"}, {"jku": "https://evil/keys"}, {"x5u": "https://evil/cert"}]
    answers = verify(forger, *(forger.forge(payload=GOOD, header=header) for header in bad))
    assert answers == [REFUSED] * len(bad)


def test_a_new_key_works_within_one_fetch(forger):
    now = [1000.0]

    async def play():
        verifier = JwtVerifier([JwtIssuer(forger.base, AUDIENCE, algorithms=("RS256",))], clock=lambda: now[0])

        def verified(token):
            return verifier.verify(VerifyJwt(token.encode()))

        try:
            assert isinstance(await verified(old), Claims)
            await asyncio.to_thread(forger.add_key)
            # it signs with its keys in turn
            fresh = [await asyncio.to_thread(lambda: forger.forge(payload=GOOD)) for _ in range(2)]
            assert LATE in [await verified(token) for token in fresh]
            now[0] += fetched_keys.MIN_GAP_S
            for token in (*fresh, old):
                assert isinstance(await verified(token), Claims)
            (keys,) = verifier.fetched
            assert keys.counts == {"ok": 2, "failed": 0}
        finally:
            verifier.close()

    old = forger.forge(payload=GOOD)
    asyncio.run(play())


@pytest.mark.parametrize(
    ("said", "answer"),
    [
        ({"body": {"active": False}}, REFUSED),
        ({"body": {"active": "true", "sub": "agent", "aud": AUDIENCE}}, REFUSED),
        ({"body": {"active": True, "sub": "agent", "aud": "other"}}, REFUSED),
        ({"body": {"active": True, "sub": "agent", "aud": AUDIENCE, "iss": "https://evil"}}, REFUSED),
        ({"body": {}}, REFUSED),
        ({"status": 500, "body": {"active": True}}, UNREACHABLE),
        ({"status": 401, "body": {"active": True}}, UNREACHABLE),
        ({"status": 429, "body": {}}, UNREACHABLE),
    ],
)
def test_introspection(forger, said, answer):
    async def play():
        introspector = Introspector(
            Introspection(forger.introspection(**said), "promgate", "secret", issuer=forger.base, audience=AUDIENCE)
        )
        try:
            return await introspector.find(Introspect(b"opaque"))
        finally:
            await introspector.aclose()

    assert asyncio.run(play()) == answer


def test_introspection_of_an_active_token(forger):
    body = {"active": True, "sub": "agent", "aud": AUDIENCE, "scope": "write", "exp": time.time() + 60}

    async def play():
        introspector = Introspector(
            Introspection(forger.introspection(body=body), "promgate", "secret", issuer=forger.base, audience=AUDIENCE)
        )
        try:
            return await introspector.find(Introspect(b"opaque"))
        finally:
            await introspector.aclose()

    assert isinstance(asyncio.run(play()), Claims)
