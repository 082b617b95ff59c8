"""People of an OpenID provider: the authorization code flow with PKCE (OpenID Connect Core 1.0, RFC 9700).

What comes back by the browser is a stranger's word until state, issuer and code were held against what this browser
began with; then the provider's own answer is judged: its signature, for us, for this login, now.
"""

from __future__ import annotations

import asyncio
from time import monotonic
from typing import TYPE_CHECKING, Any

from proxy.login.description import Description
from proxy.login.fetched_keys import MAX_AGE_S, FetchedKeys, Look
from proxy.login.flow import (
    LOGIN_TTL_S,
    Refreshes,
    challenge_of,
    check_code,
    check_state,
    deadline,
    make_memory,
    with_query,
)
from proxy.login.id_token import find_fault, read_logout
from proxy.login.oidc_person import build_person, is_enough
from proxy.login.once import Once
from proxy.login.people import Begun, LoggedOut, Person, Refused
from proxy.login.provider import ProviderClient, ProviderError, endpoint_of
from proxy.login.signed import Signatures, Signed, parse_signed
from proxy.login.token_endpoint import BASIC, TokenEndpoint, is_token

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from proxy.gate.providers import OidcLogin


class OidcProvider:
    """`PeopleProvider` for one OpenID provider. `clock` is monotonic.

    `drift_s`: how far the machine's time, which judges the provider's tokens, is ahead of the `now` of each call.
    """

    def __init__(
        self, written: OidcLogin, clock: Callable[[], float] = monotonic, drift_s: Callable[[], float] = lambda: 0.0
    ) -> None:
        self.name, self.title = written.name, written.title
        self._written, self._clock, self._drift_s = written, clock, drift_s
        self._description = Description(written.issuer, written.ca_file, clock)
        self._keys = FetchedKeys(written.issuer, "", written.ca_file, lambda: None, clock)
        self._endpoint = TokenEndpoint(written.client_id, written.client_secret, written.client_secret_file)
        self._signatures: Signatures | None = None
        self._states, self._logouts = Once(2 * LOGIN_TTL_S), Once(2 * LOGIN_TTL_S)
        self._refreshes = Refreshes(self.name, written.refresh_s)

    async def begin(self, redirect_uri: str) -> Begun:
        async with deadline(self.name):
            told = await self._description.read()
        methods = told.get("code_challenge_methods_supported")
        if isinstance(methods, list) and "S256" not in methods:
            raise ProviderError(f"{self.name} takes no PKCE with S256: a code that is stolen on its way would let in")
        memory = make_memory(self.name)
        query = {
            **dict(self._written.authorize_params),
            "response_type": "code",
            "client_id": self._written.client_id,
            "redirect_uri": redirect_uri,
            "scope": " ".join(self._written.scopes),
            "state": memory["state"],
            "nonce": memory["nonce"],
            "code_challenge": challenge_of(memory["verifier"]),
            "code_challenge_method": "S256",
        }
        url = endpoint_of(told, "authorization_endpoint")
        return Begun(with_query(url, query), memory)

    async def finish(
        self, query: Mapping[str, str], memory: Mapping[str, str], redirect_uri: str, now: float
    ) -> Person | Refused:
        if refused := check_state(self.name, query, memory, self._states, now):
            return refused
        async with deadline(self.name):
            told = await self._description.read()
            if refused := self._check_answer(query, told):
                return refused
            form = {
                "grant_type": "authorization_code",
                "code": query["code"],
                "redirect_uri": redirect_uri,
                "code_verifier": memory["verifier"],
            }
            async with ProviderClient(self._written.ca_file) as client:
                tokens = await self._ask_tokens(client, told, form)
                if isinstance(tokens, Refused):
                    return tokens
                proof = await self._judge(tokens, (memory["nonce"],), now)
                if isinstance(proof, Refused):
                    return proof
                return await self._person(client, told, tokens, proof.claims, "", proof.text.decode(), now)

    async def refresh(self, person: Person, now: float) -> Person | Refused:
        if not person.refresh_token:
            return person
        return await self._refreshes.join(person.refresh_token, lambda: self._refresh(person, now))

    async def logout_url(self, person: Person, after: str, state: str = "") -> str | None:
        async with deadline(self.name):
            told = await self._description.read()
        if "end_session_endpoint" not in told:
            return None
        query = {"client_id": self._written.client_id, "post_logout_redirect_uri": after}
        if person.id_token:
            query["id_token_hint"] = person.id_token
        if state:
            query["state"] = state
        return with_query(endpoint_of(told, "end_session_endpoint"), query)

    async def read_logout_token(self, text: str, now: float) -> LoggedOut | Refused:
        async with deadline(self.name):
            token = await self._verify(text)
        if isinstance(token, Refused):
            return token
        found = read_logout(token, self._written.issuer, self._written.client_id, now + self._drift_s())
        if isinstance(found, LoggedOut) and not self._logouts.is_first(token.claims["jti"], now):
            return Refused("the logout token came before: its jti is known")
        return found

    async def aclose(self, grace_s: float = 0.0) -> None:
        await self._refreshes.aclose(grace_s)
        self._keys.close()
        await self._description.aclose()

    def _check_answer(self, query: Mapping[str, str], told: Mapping[str, Any]) -> Refused | None:
        """RFC 9207 first: an answer of another provider is not even an error of ours."""
        is_announced = told.get("authorization_response_iss_parameter_supported") is True
        if query.get("iss", None if is_announced else self._written.issuer) != self._written.issuer:
            return Refused("the answer is not from the provider that was asked (iss): log in again")
        return check_code(query)

    async def _ask_tokens(
        self, client: ProviderClient, told: Mapping[str, Any], form: Mapping[str, str]
    ) -> dict[str, Any] | Refused:
        ways = told.get("token_endpoint_auth_methods_supported")
        url = endpoint_of(told, "token_endpoint")
        tokens = await self._endpoint.ask(client, url, form, ways if isinstance(ways, list) else [BASIC])
        if isinstance(tokens, Refused):
            return tokens
        kind, access = tokens.get("token_type"), tokens.get("access_token")
        if not isinstance(kind, str) or kind.lower() != "bearer" or not is_token(access):
            raise ProviderError(f"{url} answered without an access token of type Bearer")
        return tokens

    async def _judge(self, tokens: Mapping[str, Any], nonces: tuple[str | None, ...], now: float) -> Signed | Refused:
        """The ID token among `tokens`, if it proves who came."""
        text = tokens.get("id_token")
        if not isinstance(text, str):
            raise ProviderError(f"{self.name} gave no ID token; is openid among scopes?")
        token = await self._verify(text)
        if isinstance(token, Refused):
            return token
        written = self._written
        at = now + self._drift_s()
        fault = find_fault(token, written.issuer, written.client_id, nonces, tokens["access_token"], at)
        return Refused(f"the ID token is not taken: {fault}") if fault else token

    async def _verify(self, text: str) -> Signed | Refused:
        """The token, if one of the issuer's keys has signed it. What cannot be told raises ProviderError."""
        token = parse_signed(text.encode(errors="replace"))
        if token is None or token.claims.get("iss") != self._written.issuer:
            return Refused("the token is not taken: it is none of this issuer")
        if token.head.get("alg") not in self._written.algorithms:
            return Refused("the token is not taken: its alg is none of `algorithms`")
        if self._signatures is None:
            self._signatures = await asyncio.to_thread(Signatures, self._written.algorithms)
        keys = self._keys
        keys.keep_fresh()
        if keys.is_silent or (keys.age_s or 0.0) > MAX_AGE_S:
            await keys.look_again()
        if keys.is_silent:
            raise ProviderError(f"the keys of {self._written.issuer} cannot be fetched")
        if self._signatures.has_signed(token.text, keys.named(token.kid)):
            return token
        if token.kid is None or (token.has_kid and not keys.named(token.kid)):
            look = await keys.look_again()
            if look is not Look.NOT and self._signatures.has_signed(token.text, keys.named(token.kid)):
                return token
            if look is not Look.ANEW:
                raise ProviderError(f"a token of {self._written.issuer} has a key that is not known, and may be new")
        return Refused("the token is not taken: no key of the issuer has signed it")

    async def _person(
        self,
        client: ProviderClient,
        told: Mapping[str, Any],
        tokens: Mapping[str, Any],
        claims: Mapping[str, Any],
        refresh_token: str,
        id_token: str,
        now: float,
    ) -> Person | Refused:
        """Who it is. `refresh_token` and `id_token` are those of before, for where no new ones came."""
        more: Mapping[str, Any] = {}
        if not is_enough(self._written, claims) and "userinfo_endpoint" in told:
            url = endpoint_of(told, "userinfo_endpoint")
            headers = {"Accept": "application/json", "Authorization": f"Bearer {tokens['access_token']}"}
            answer = await client.ask_once("GET", url, headers)
            if answer.status != 200:
                raise ProviderError(f"{url} answered {answer.status}", answer.status)
            more = answer.parse_object()
            if more.get("sub") != claims["sub"]:  # OpenID Connect Core 5.3.2
                return Refused("the provider's userinfo speaks of somebody else (sub): log in again")
        fresh = tokens.get("refresh_token")
        kept = {
            "refresh_token": fresh if isinstance(fresh, str) and is_token(fresh) else refresh_token,
            "id_token": id_token,
        }
        return build_person(self._written, claims, more, kept, now + self._written.refresh_s)

    async def _refresh(self, person: Person, now: float) -> Person | Refused:
        async with deadline(self.name):
            told = await self._description.read()
            form = {"grant_type": "refresh_token", "refresh_token": person.refresh_token}
            async with ProviderClient(self._written.ca_file) as client:
                tokens = await self._ask_tokens(client, told, form)
                if isinstance(tokens, Refused):
                    return tokens
                before = parse_signed(person.id_token.encode())
                claims: Mapping[str, Any] = {} if before is None else before.claims
                id_token = person.id_token
                if isinstance(tokens.get("id_token"), str):
                    # Core 12.2: it may have no nonce, or that of the login.
                    proof = await self._judge(tokens, (None, claims.get("nonce")), now)
                    if isinstance(proof, Refused):
                        return proof
                    claims, id_token = {"sid": person.provider_session, **proof.claims}, proof.text.decode()
                elif "userinfo_endpoint" in told:
                    claims = {name: claims.get(name, "") for name in ("sub", "sid")}
                if claims.get("sub") != person.subject:
                    return Refused("the provider now speaks of somebody else (sub): log in again")
                return await self._person(client, told, tokens, claims, person.refresh_token, id_token, now)
