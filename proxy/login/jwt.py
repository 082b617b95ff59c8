"""JWTs of the configured issuers: is this one signed by its issuer, for us? (RFC 7519, RFC 8725)

Until the signature holds, all in a token is the word of a stranger: it picks neither the algorithm nor where keys come
from, and `kid` only chooses among the issuer's own. What the time means for it is the gate's business.
"""

from __future__ import annotations

import asyncio
import base64
import json
import re
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

from proxy.gate.ask import BUSY, REFUSED, JwtClaims
from proxy.login.jwks import KeySet

if TYPE_CHECKING:
    from collections.abc import Iterable

    from proxy.gate.ask import Answer, VerifyJwt
    from proxy.gate.snapshot import JwtIssuer

_MAX_WAITING = 256
_TIMEOUT_S = 5.0
#: Headers that bring keys, or rules, of their own (RFC 8725 3.10, RFC 7515 4.1.11).
_FORBIDDEN = frozenset({"crit", "b64", "jwk", "jku", "x5u", "x5c"})
#: A subject becomes part of an identity, which goes into logs and headers: visible ASCII, no comma.
_SUBJECT = re.compile(r"[!-+\--~]{1,256}").fullmatch


class JwtVerifier:
    """Answers VerifyJwt for the issuers it was last told of. One thread: key files are read one at a time."""

    def __init__(self, issuers: Iterable[JwtIssuer] = ()) -> None:
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="jwt")
        self._waiting = 0
        self.take(issuers)

    def take(self, issuers: Iterable[JwtIssuer]) -> None:
        """Believe these from now on, and no others."""
        self._issuers = {one.issuer: _Issuer(one) for one in issuers}

    async def verify(self, question: VerifyJwt) -> Answer:
        """JwtClaims or REFUSED, or BUSY when too many wait already (each takes some 0.2 ms) or it takes too long."""
        if self._waiting >= _MAX_WAITING:
            return BUSY
        self._waiting += 1
        try:
            async with asyncio.timeout(_TIMEOUT_S):
                claims = await asyncio.get_running_loop().run_in_executor(self._thread, self._read, question.text)
        except TimeoutError:
            return BUSY  # a key file on a mount that hangs
        finally:
            self._waiting -= 1
        return claims or REFUSED

    def close(self) -> None:
        self._thread.shutdown(wait=False, cancel_futures=True)

    def _read(self, text: bytes) -> JwtClaims | None:
        try:
            header, payload, _ = map(_decoded, text.split(b"."))
            head, claims = json.loads(header), json.loads(payload)
            issuer = self._issuers[claims["iss"]]
            if _FORBIDDEN & head.keys():
                return None
        except (ValueError, TypeError, KeyError, AttributeError, RecursionError):
            return None
        return issuer.claims_of(claims) if issuer.has_signed(text, head.get("kid")) else None


class _Issuer:
    def __init__(self, written: JwtIssuer) -> None:
        from joserfc import errors, jws  # noqa: PLC0415 - what a configuration does not use is not imported

        self._written = written
        self._keys = KeySet(written.jwks, written.jwks_file)
        self._verify = jws.deserialize_compact
        self._registry = jws.JWSRegistry(algorithms=written.algorithms, strict_check_header=False)
        self._wrong = (errors.JoseError, ValueError)

    def has_signed(self, text: bytes, kid: str | None) -> bool:
        for key in self._keys.named(kid):
            try:
                self._verify(text, key, registry=self._registry)
            except self._wrong:
                continue
            return True
        return False

    def claims_of(self, claims: dict[str, Any]) -> JwtClaims | None:
        """What we need of a payload whose signature holds; None where a claim is missing or not what it must be."""
        written = self._written
        audience, subject, scope = claims.get("aud"), claims.get("sub"), claims.get("scope")
        if written.audience not in (audience if isinstance(audience, list) else [audience]):
            return None
        if not isinstance(subject, str) or not _SUBJECT(subject):
            return None
        expires_at, issued_at = _seconds(claims.get("exp")), _seconds(claims.get("iat"))
        not_before = _seconds(claims.get("nbf", 0))
        if expires_at is None or issued_at is None or not_before is None:
            return None
        start = max(issued_at, not_before)
        writes = isinstance(scope, str) and "write" in scope.split(" ")
        return JwtClaims(subject, written.issuer, written.audience, start, expires_at, writes)


def _decoded(part: bytes) -> bytes:
    """base64url, in its one spelling (RFC 7515 2); ValueError for any other."""
    clear = base64.urlsafe_b64decode(part + b"=" * (-len(part) % 4))
    if base64.urlsafe_b64encode(clear).rstrip(b"=") != part:
        raise ValueError("not base64url")
    return clear


def _seconds(value: object) -> float | None:
    """A NumericDate (RFC 7519 2), or None."""
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not abs(value) < 1e12:
        return None
    return float(value)
