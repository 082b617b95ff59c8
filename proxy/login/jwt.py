"""JWTs of the configured issuers: is this one signed by its issuer, for us? (RFC 7519, RFC 8725)

Until the signature holds, all in a token is the word of a stranger: it picks neither the algorithm nor where keys come
from, and `kid` only chooses among the issuer's own. A key that is not there may be a new one: then the issuer is asked,
and where it cannot be, nothing is said of the token.
"""

from __future__ import annotations

import asyncio
from concurrent.futures import ThreadPoolExecutor
from time import monotonic
from typing import TYPE_CHECKING

from proxy.gate.ask import BUSY, LATE, REFUSED, UNREACHABLE, Claims
from proxy.login.claims import granted, is_for, is_subject, seconds, writes
from proxy.login.fetched_keys import FetchedKeys, Look
from proxy.login.jwks import KeySet
from proxy.login.signed import Signatures, parse_signed

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from proxy.gate.ask import Answer, VerifyJwt
    from proxy.gate.snapshot import JwtIssuer
    from proxy.login.signed import Signed

_MAX_WAITING = 256
_TIMEOUT_S = 5.0
#: What an access token may call itself. Other types have other uses (RFC 8725 3.11): `logout+jwt`, `dpop+jwt`, ...
_TYPES = frozenset({"", "jwt", "at+jwt"})
#: What only ID tokens (OpenID Connect Core 2, 3.3.2.11) and logout tokens say. They are not for us.
_NOT_ACCESS = ("nonce", "at_hash", "c_hash", "s_hash", "events")


class JwtVerifier:
    """Answers VerifyJwt for the issuers it was last told of. One thread: key files are read one at a time.

    `doubt` is called when a key was withdrawn that may have signed what was verified before.
    """

    def __init__(
        self,
        issuers: Iterable[JwtIssuer] = (),
        doubt: Callable[[], None] = lambda: None,
        clock: Callable[[], float] = monotonic,
    ) -> None:
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="jwt")
        self._waiting = 0
        self._doubt, self._clock = doubt, clock
        self._fetched: dict[tuple[str, str, str], FetchedKeys] = {}
        self._taken = asyncio.Event()
        self.take(issuers)

    @property
    def fetched(self) -> Iterable[FetchedKeys]:
        """The key sets that are fetched."""
        return self._fetched.values()

    def take(self, issuers: Iterable[JwtIssuer]) -> None:
        """Believe these from now on, and no others. Keys that come from where they came before stay."""
        before, self._fetched = self._fetched, {}
        self._issuers = {one.issuer: _Issuer(one, self._keys_of(one, before)) for one in issuers}
        for place, gone in before.items():
            if place not in self._fetched:
                gone.close()
        self._taken.set()

    async def run(self) -> None:
        """Keep what is fetched fresh, until cancelled."""
        while True:
            self._taken.clear()
            waits = [keys.keep_fresh() for keys in self._fetched.values()]
            try:
                async with asyncio.timeout(min(waits, default=None)):
                    await self._taken.wait()
            except TimeoutError:
                continue

    async def verify(self, question: VerifyJwt) -> Answer:
        """Claims, REFUSED, LATE or UNREACHABLE where the key may be a new one, or BUSY.

        It is BUSY when too many wait already (each takes some 0.2 ms), or when it takes too long.
        """
        answer = await self._judge(question.text)
        if not isinstance(answer, _Issuer):
            return answer
        keys = answer.keys
        if isinstance(keys, KeySet):
            return LATE
        look = await keys.look_again()
        if look is not Look.NOT:
            again = await self._judge(question.text)
            if not isinstance(again, _Issuer):
                return again
        if look is Look.ANEW:
            return REFUSED
        return UNREACHABLE if keys.failed or keys.is_silent else LATE

    def close(self) -> None:
        self._thread.shutdown(wait=False, cancel_futures=True)
        for keys in self._fetched.values():
            keys.close()

    def _keys_of(self, issuer: JwtIssuer, before: dict[tuple[str, str, str], FetchedKeys]) -> KeySet | FetchedKeys:
        if issuer.jwks:
            return KeySet(issuer.jwks, issuer.jwks_file, self._clock)
        place = issuer.issuer, issuer.jwks_url, issuer.ca_file
        keys = self._fetched[place] = before.get(place) or FetchedKeys(*place, self._doubt, self._clock)
        return keys

    async def _judge(self, text: bytes) -> Claims | str | _Issuer:
        if self._waiting >= _MAX_WAITING:
            return BUSY
        self._waiting += 1
        try:
            async with asyncio.timeout(_TIMEOUT_S):
                read = await asyncio.get_running_loop().run_in_executor(self._thread, self._read, text)
        except TimeoutError:
            return BUSY  # a key file on a mount that hangs
        finally:
            self._waiting -= 1
        return read or REFUSED

    def _read(self, text: bytes) -> Claims | _Issuer | None:
        """What a good token says; None for a bad one; its issuer, where that may have a key that is not known here."""
        token = parse_signed(text)
        if token is None:
            return None
        name = token.claims.get("iss")
        issuer = self._issuers.get(name) if isinstance(name, str) else None
        if issuer is None or not issuer.takes_type(token):
            return None
        if issuer.has_signed(token):
            return issuer.claims_of(token)
        return issuer if issuer.may_sign(token) else None


class _Issuer:
    def __init__(self, written: JwtIssuer, keys: KeySet | FetchedKeys) -> None:
        self.keys = keys
        self._written = written
        self._signatures = Signatures(written.algorithms)

    def takes_type(self, token: Signed) -> bool:
        return token.typ == self._written.typ if self._written.typ else token.typ in _TYPES

    def has_signed(self, token: Signed) -> bool:
        return self._signatures.has_signed(token.text, self.keys.named(token.kid))

    def may_sign(self, token: Signed) -> bool:
        """Whether the signature may be by a key that we do not know: its id is none of ours, and may come."""
        if token.head.get("alg") not in self._written.algorithms:
            return False
        if isinstance(self.keys, FetchedKeys):
            return token.kid is None or (token.has_kid and not self.keys.named(token.kid))
        return token.has_kid and not self.keys.named(token.kid) and self.keys.may_come(token.kid)

    def claims_of(self, token: Signed) -> Claims | None:
        """What we need of a payload whose signature holds; None where a claim is missing or not what it must be."""
        claims = token.claims
        written = self._written
        subject = claims.get("sub")
        if not is_for(claims, written.audience) or _is_other(token):
            return None
        if not isinstance(subject, str) or not is_subject(subject):
            return None
        if "azp" in claims and not (isinstance(claims["azp"], str) and claims["azp"]):
            return None
        expires_at, issued_at = seconds(claims.get("exp")), seconds(claims.get("iat"))
        not_before = seconds(claims.get("nbf", 0))
        if expires_at is None or issued_at is None or not_before is None:
            return None
        return Claims(
            written.prefix + subject,
            written.terms,
            max(issued_at, not_before),
            expires_at,
            writes(claims),
            granted(claims, written.prefix, written.wanted),
        )


def _is_other(token: Signed) -> bool:
    """Whether it is an ID token, a logout token or a refresh token, which prove nothing to us (RFC 9068 2.1).

    `typ: at+jwt` in the header settles it; without it, what only such tokens say tells. Keycloak says it outright.
    """
    if token.typ == "at+jwt":
        return False
    claims = token.claims
    return any(name in claims for name in _NOT_ACCESS) or claims.get("typ") in ("ID", "Refresh", "Offline", "Logout")
