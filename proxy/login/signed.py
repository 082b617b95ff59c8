"""Signed JSON web tokens, taken apart: what one says, and whether a key has signed it (RFC 7515, RFC 8725).

Which algorithms are believed is our own list and nothing in a token. joserfc is imported with the first list.
"""

from __future__ import annotations

import base64
import json
from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Iterable

    from proxy.login.keys import Key

#: Headers that bring keys, or rules, of their own (RFC 8725 3.10, RFC 7515 4.1.11).
_FORBIDDEN = frozenset({"crit", "b64", "jwk", "jku", "x5u", "x5c"})
MAX_KID = 256


class Signed(NamedTuple):
    """One token: until its signature holds, the word of a stranger."""

    text: bytes
    head: dict[str, Any]
    claims: dict[str, Any]

    @property
    def typ(self) -> str:
        """What it calls itself, as RFC 7515 4.1.9 compares it; empty for nothing."""
        typ = self.head.get("typ", "")
        return typ.lower().removeprefix("application/") if isinstance(typ, str) else "not a text"

    @property
    def kid(self) -> Any:
        return self.head.get("kid")

    @property
    def has_kid(self) -> bool:
        """Whether its key id is one that an issuer's key could have."""
        return isinstance(self.kid, str) and 0 < len(self.kid) <= MAX_KID


def parse_signed(text: bytes) -> Signed | None:
    """The token in `text`; None for what is none, or brings rules of its own."""
    try:
        header, payload, _ = map(_decoded, text.split(b"."))
        head, claims = json.loads(header), json.loads(payload)
    except (ValueError, RecursionError):
        return None
    if not isinstance(head, dict) or not isinstance(claims, dict) or _FORBIDDEN & head.keys():
        return None
    return Signed(text, head, claims)


class Signatures:
    """Verifies by `algorithms` and no others."""

    def __init__(self, algorithms: tuple[str, ...]) -> None:
        from joserfc import errors, jws  # noqa: PLC0415 - what a configuration does not use is not imported

        class Registry(jws.JWSRegistry):
            """Our own list of algorithms and no other. joserfc would warn of the name EdDSA (RFC 9864)."""

            def get_alg(self, name: str) -> Any:
                if name not in algorithms:
                    raise errors.UnsupportedAlgorithmError(f"{name!a} is not taken")
                return self.algorithms[name]

        self._verify = jws.deserialize_compact
        self._registry = Registry(algorithms=list(algorithms), strict_check_header=False)
        self._wrong = (errors.JoseError, ValueError, TypeError, AttributeError)

    def has_signed(self, text: bytes, keys: Iterable[Key]) -> bool:
        """Whether one of `keys` has."""
        for key in keys:
            try:
                self._verify(text, key, registry=self._registry)
            except self._wrong:
                continue
            return True
        return False


def _decoded(part: bytes) -> bytes:
    """base64url, in its one spelling (RFC 7515 2); ValueError for any other."""
    clear = base64.urlsafe_b64decode(part + b"=" * (-len(part) % 4))
    if base64.urlsafe_b64encode(clear).rstrip(b"=") != part:
        raise ValueError("not base64url")
    return clear
