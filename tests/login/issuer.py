"""An issuer of JWTs with real keys. Tokens are encoded by hand, so that nothing is too wrong to be written."""

from __future__ import annotations

import base64
import json
from functools import cache
from typing import Any

from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, padding, rsa
from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature

from proxy.gate.snapshot import JwtIssuer

NOW = 1_700_000_000
CLAIMS = {"iss": "https://idp", "aud": "promgate", "sub": "carol", "iat": NOW - 60, "exp": NOW + 300}
LEFT_OUT = object()

Key = ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey | ed25519.Ed25519PrivateKey
Words = dict[str, Any]


def b64(data: bytes) -> bytes:
    return base64.urlsafe_b64encode(data).rstrip(b"=")


def written(value: Words) -> bytes:
    return b64(json.dumps({key: one for key, one in value.items() if one is not LEFT_OUT}).encode())


def number(value: int, size: int) -> str:
    return b64(value.to_bytes(size, "big")).decode()


@cache
def ec_key(name: str = "one", curve: type[ec.EllipticCurve] = ec.SECP256R1) -> ec.EllipticCurvePrivateKey:
    """The key of this name; the same one for all of a run."""
    return ec.generate_private_key(curve())


@cache
def ed_key() -> ed25519.Ed25519PrivateKey:
    return ed25519.Ed25519PrivateKey.generate()


@cache
def rsa_key(name: str = "one", bits: int = 2048) -> rsa.RSAPrivateKey:
    return rsa.generate_private_key(65537, bits)


def jwk(key: Key, **more: Any) -> Words:
    """The public key as a JWK sets it down (RFC 7518 6)."""
    if isinstance(key, rsa.RSAPrivateKey):
        n = key.public_key().public_numbers().n
        return {"kty": "RSA", "n": number(n, key.key_size // 8), "e": "AQAB", **more}
    if isinstance(key, ed25519.Ed25519PrivateKey):
        return {"kty": "OKP", "crv": "Ed25519", "x": b64(key.public_key().public_bytes_raw()).decode(), **more}
    point = key.public_key().public_numbers()
    size = (key.curve.key_size + 7) // 8
    name = {"secp256r1": "P-256", "secp384r1": "P-384"}[key.curve.name]
    return {"kty": "EC", "crv": name, "x": number(point.x, size), "y": number(point.y, size), **more}


def sign(key: Key, text: bytes, alg: str = "") -> bytes:
    if isinstance(key, ed25519.Ed25519PrivateKey):
        return key.sign(text)
    if isinstance(key, rsa.RSAPrivateKey) and alg == "PS256":
        return key.sign(text, padding.PSS(padding.MGF1(hashes.SHA256()), 32), hashes.SHA256())
    if isinstance(key, rsa.RSAPrivateKey):
        return key.sign(text, padding.PKCS1v15(), hashes.SHA256())
    r, s = decode_dss_signature(key.sign(text, ec.ECDSA(hashes.SHA256())))
    size = (key.curve.key_size + 7) // 8
    return r.to_bytes(size, "big") + s.to_bytes(size, "big")


class Issuer:
    """`https://idp` with one key of each kind; `keys` may be changed."""

    def __init__(self) -> None:
        self.keys = [jwk(ec_key(), kid="ec"), jwk(rsa_key(), kid="rsa")]

    def jwks(self) -> str:
        return json.dumps({"keys": self.keys})

    def written(self, **more: Any) -> JwtIssuer:
        """This issuer as the configuration has it."""
        return JwtIssuer("https://idp", "promgate", self.jwks(), **more)

    def token(self, *, key: Key | None = None, header: Words | None = None, claims: Words | None = None) -> bytes:
        """A good one; `header` and `claims` change it before it is signed with `key`."""
        key = key or ec_key()
        alg, kid = "ES256", "ec"
        if isinstance(key, rsa.RSAPrivateKey):
            alg, kid = "RS256", "rsa"
        elif isinstance(key, ed25519.Ed25519PrivateKey):
            alg, kid = "EdDSA", "ed"
        head = {"alg": alg, "kid": kid, **(header or {})}
        text = written(head) + b"." + written({**CLAIMS, **(claims or {})})
        return text + b"." + b64(sign(key, text, str(head["alg"])))
