"""JWK sets -> the public keys in them that can verify (RFC 7517). What is of no use here is passed over (section 5).

joserfc is imported with the first set: it costs 9 MB.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterable

    from joserfc.jwk import ECKey, OKPKey, RSAKey

    Key = ECKey | RSAKey | OKPKey

_MAX_KEYS = 64
_MIN_RSA_BITS = 2048  # RFC 7518 3.3


def import_keys(told: Any) -> list[Key]:
    """The usable keys of a set. TypeError or KeyError: it is none."""
    return [key for one in told["keys"][:_MAX_KEYS] if (key := _import_key(one)) is not None]


def read_keys(text: str | bytes) -> list[Key]:
    """The same of a text; ValueError or RecursionError too."""
    return import_keys(json.loads(text))


def marks_of(keys: Iterable[Key]) -> set[tuple[str | None, str]]:
    """What tells whether a key is still in a set: its id, and itself (RFC 7638)."""
    return {(key.kid, key.thumbprint()) for key in keys}


def _verifies(one: Any) -> bool:
    """Whether its issuer says so, or nothing (RFC 7517 4.2, 4.3)."""
    return one.get("use", "sig") == "sig" and "verify" in one.get("key_ops", ["verify"])


def _import_key(one: Any) -> Key | None:
    from joserfc import errors, jwk  # noqa: PLC0415 - see the module's docstring

    kinds: dict[str, type[Key]] = {"EC": jwk.ECKey, "RSA": jwk.RSAKey, "OKP": jwk.OKPKey}
    try:
        kind = kinds.get(one.get("kty"))
        if kind is None or "d" in one or not _verifies(one):
            return None
        if kind is jwk.RSAKey and len(one["n"]) * 6 < _MIN_RSA_BITS:
            return None
        if kind is jwk.OKPKey and one["crv"] != "Ed25519":
            return None
        return kind.import_key(one)
    except (errors.JoseError, ValueError, TypeError, KeyError, AttributeError):
        return None
