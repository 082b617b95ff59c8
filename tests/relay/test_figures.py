"""What a scrape is told of providers: a series for each issuer that is configured, and none for what a client says."""

from __future__ import annotations

import asyncio

from proxy.gate.ask import Introspect, VerifyJwt
from proxy.gate.snapshot import Introspection, JwtIssuer
from proxy.login.introspection import Introspector
from proxy.login.jwt import JwtVerifier
from proxy.relay.figures import provider_samples
from tests.login.issuer import Issuer, ec_key, jwk
from tests.login.provider import Provider


def figures(jwts, introspector):
    return {(metric.name, *labels): value for metric, value, labels in provider_samples(jwts, introspector)}


def test_where_nobody_is_asked_there_are_no_series():
    jwts = JwtVerifier([Issuer().written()])
    try:
        assert figures(jwts, Introspector()) == {}
    finally:
        jwts.close()


def test_what_was_asked():
    async def play():
        now = [1000.0]
        jwts = JwtVerifier([JwtIssuer(provider.base, "promgate")], clock=lambda: now[0])
        introspector = Introspector(Introspection(f"{provider.base}/introspect", "promgate", "secret"))
        try:
            before = figures(jwts, introspector)
            await jwts.verify(VerifyJwt(Issuer().token(claims={"iss": provider.base})))
            await introspector.find(Introspect(b"opaque"))
            now[0] += 17
            return before, figures(jwts, introspector)
        finally:
            jwts.close()
            await introspector.aclose()

    with Provider() as provider:
        provider.answers |= {"/keys": {"keys": [jwk(ec_key(), kid="ec")]}, "/introspect": {"active": False}}
        before, after = asyncio.run(play())
    fetches, asked = "promgate_jwks_fetches_total", "promgate_introspections_total"
    zero = {(fetches, provider.base, "ok"): 0, (fetches, provider.base, "failed"): 0}
    assert before == zero | {(asked, "active"): 0, (asked, "refused"): 0, (asked, "failed"): 0}
    assert after == before | {
        (fetches, provider.base, "ok"): 1,
        ("promgate_jwks_age_seconds", provider.base): 17,
        (asked, "refused"): 1,
    }
