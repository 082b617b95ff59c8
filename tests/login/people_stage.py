"""A login with an OpenID provider whose every word a test decides: real keys, real HTTP, and no browser.

The browser's part is played by `authorize`: what it is sent to becomes the query with which it comes back.
"""

from __future__ import annotations

import asyncio
import base64
import hashlib
import json
from contextlib import contextmanager
from urllib.parse import parse_qs, parse_qsl, urlsplit

from proxy.gate.providers import OidcLogin
from proxy.login.oidc import OidcProvider
from tests.kit.http_server import Reply
from tests.login.issuer import LEFT_OUT, NOW, Issuer, ec_key, jwk
from tests.login.provider import Provider, told

REDIRECT = "https://noc.example.net/-/callback/oidc"
CODE = "a-code"


def challenge(verifier):
    return base64.urlsafe_b64encode(hashlib.sha256(verifier.encode()).digest()).rstrip(b"=").decode()


def at_hash(access):
    return base64.urlsafe_b64encode(hashlib.sha256(access.encode()).digest()[:16]).rstrip(b"=").decode()


class OidcStage:
    """`claims` and `header` change the ID token, `tokens` the token answer, `userinfo` is what that endpoint tells."""

    def __init__(self, provider, **written):
        self.provider = provider
        self.monotonic = 1000.0
        self.now = float(NOW)
        self.issuer = Issuer()
        self.key, self.header, self.claims, self.tokens = None, {}, {}, {}
        self.userinfo = {"sub": "carol-1", "email": "Carol@Example.net", "email_verified": True}
        self.asked_for = {}
        self.grants = {CODE}
        provider.described = {
            "authorization_endpoint": f"{provider.base}/authorize?tenant=a",
            "token_endpoint": f"{provider.base}/token",
            "userinfo_endpoint": f"{provider.base}/userinfo",
            "end_session_endpoint": f"{provider.base}/end",
            "authorization_response_iss_parameter_supported": True,
            "code_challenge_methods_supported": ["plain", "S256"],
        }
        provider.answers |= {
            "/keys": {"keys": [jwk(ec_key(), kid="ec")]},
            "/token": self._give_tokens,
            "/userinfo": lambda _: told(self.userinfo),
        }
        self.written = OidcLogin("oidc", "Example", provider.base, "promgate", "s:cret", **written)
        self.login = OidcProvider(self.written, lambda: self.monotonic)

    def id_token(self, nonce=LEFT_OUT, **changes):
        claims = {
            "iss": self.provider.base, "aud": "promgate", "sub": "carol-1", "iat": NOW, "exp": NOW + 300,
            "nonce": nonce, **self.claims, **changes,
        }  # fmt: skip
        return self.issuer.token(key=self.key, header=self.header, claims=claims).decode()

    def _give_tokens(self, request):
        """As a provider does that knows its business: client, redirect URI, one use, PKCE."""
        form = dict(parse_qsl(request.body.decode()))
        self.form = form
        grant = form.get("code", form.get("refresh_token"))
        is_client = request.headers["Authorization"] == "Basic " + base64.b64encode(b"promgate:s%3Acret").decode()
        if not is_client:
            return told({"error": "invalid_client"}, 401)
        if grant not in self.grants:
            return told({"error": "invalid_grant"}, 400)
        self.grants.discard(grant)
        nonce = LEFT_OUT
        if form["grant_type"] == "authorization_code":
            verified = challenge(form["code_verifier"]) == self.asked_for["code_challenge"]
            if not verified or form["redirect_uri"] != self.asked_for["redirect_uri"]:
                return told({"error": "invalid_grant"}, 400)
            nonce = self.asked_for["nonce"]
        tokens = {
            "access_token": "access", "token_type": "Bearer", "refresh_token": "renewed",
            "id_token": self.id_token(nonce), **self.tokens,
        }  # fmt: skip
        self.grants.add(tokens.get("refresh_token"))
        return told({name: one for name, one in tokens.items() if one is not LEFT_OUT})

    def authorize(self, url, **changes):
        """The query with which the browser comes back from `url`; LEFT_OUT takes one away."""
        self.asked_for = {name: one for name, (one,) in parse_qs(urlsplit(url).query).items()}
        back = {"code": CODE, "state": self.asked_for["state"], "iss": self.provider.base, **changes}
        return {name: one for name, one in back.items() if one is not LEFT_OUT}

    async def log_in(self, **changes):
        """A whole login of one browser."""
        begun = await self.login.begin(REDIRECT)
        return await self.login.finish(self.authorize(begun.url, **changes), begun.memory, REDIRECT, self.now)

    def asked(self, path):
        return self.provider.asked[path]


@contextmanager
def oidc_stage(**written):
    """A stage, and how to play on it: `run(act)`, where `act` is an async function of nothing."""
    with Provider() as provider:
        stage = OidcStage(provider, **written)

        def run(act):
            async def whole():
                try:
                    return await act()
                finally:
                    await stage.login.aclose()

            return asyncio.run(whole())

        yield stage, run


def error(name, status=400):
    return Reply(status, json.dumps({"error": name}).encode(), "application/json")
