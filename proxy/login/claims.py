"""What a token says, once it is known that its issuer said so: its claims as the gate needs them (RFC 7519 4).

A claim of another type than its own is no claim. What the time means for it is the gate's business.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

from proxy.gate.snapshot import claim_key

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from proxy.gate.snapshot import Wanted

#: A subject becomes part of an identity, which goes into logs and headers: visible ASCII, no comma.
is_subject = re.compile(r"[!-+\--~]{1,256}").fullmatch
#: Claims of words with spaces between them (RFC 8693 4.2; `scp` is Microsoft's and Okta's name for it).
_WORDS = frozenset({"scope", "scp"})


def is_for(claims: Mapping[str, Any], audience: str) -> bool:
    """Whether `aud` is, or has, exactly this (RFC 7519 4.1.3)."""
    told = claims.get("aud")
    return audience in (told if isinstance(told, list) else [told])


def seconds(value: object) -> float | None:
    """A NumericDate (RFC 7519 2), or None."""
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not abs(value) < 1e12:
        return None
    return float(value)


def writes(claims: Mapping[str, Any]) -> bool:
    """Whether the scope holds the word `write`."""
    scope = claims.get("scope")
    return isinstance(scope, str) and "write" in scope.split(" ")


def granted(claims: Mapping[str, Any], prefix: str, wanted: Wanted) -> tuple[str, ...]:
    """Those of the `wanted` (claim, value) pairs that are there, as the keys under which roles are found."""
    return tuple(claim_key(prefix, claim, value) for claim, value in wanted if value in set(texts_of(claims, claim)))


def texts_of(claims: Mapping[str, Any], name: str) -> Iterator[str]:
    """The texts that the claim holds. `a.b` is the claim of this name, or `b` within `a`.

    A list counts only if it is one of texts, and a text is one value, whatever it looks like.
    """
    value: Any = claims
    for part in [name] if name in claims else name.split("."):
        value = value.get(part) if isinstance(value, dict) else None
    if isinstance(value, str):
        yield from value.split(" ") if name in _WORDS else [value]
    elif isinstance(value, list) and name != "scope" and all(isinstance(one, str) for one in value):
        yield from value
