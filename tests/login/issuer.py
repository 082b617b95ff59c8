"""An issuer of JWTs with real keys. Tokens are encoded by hand, so that nothing is too wrong to be written."""

from __future__ import annotations

import base64
import json
from functools import cache

from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, padding, rsa
from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature
from proxy.gate.snapshot import JwtIssuer

NOW = 1_700_000_000
CLAIMS = {"iss": "https://idp", "aud": "promgate", "sub": "carol", "iat": NOW - 60, "exp": NOW + 300}
LEFT_OUT = object()


def b64(data):
    return base64.urlsafe_b64encode(data).rstrip(b"=")


def written(value):
    return b64(json.dumps({key: one for key, one in value.items() if one is not LEFT_OUT}).encode())


def number(value, size):
    return b64(value.to_bytes(size, "big")).decode()


@cache
def ec_key(name="one", curve=ec.SECP256R1):
    return ec.generate_private_key(curve())


@cache
def rsa_key(name="one", bits=2048):
    return rsa.generate_private_key(65537, bits)


def jwk(key, **more):
    numbers = key.public_key().public_numbers()
    if isinstance(key, ec.EllipticCurvePrivateKey):
        size = (key.curve.key_size + 7) // 8
        name = {"secp256r1": "P-256", "secp384r1": "P-384"}[key.curve.name]
        return {"kty": "EC", "crv": name, "x": number(numbers.x, size), "y": number(numbers.y, size), **more}
    return {"kty": "RSA", "n": number(numbers.n, key.key_size // 8), "e": "AQAB", **more}


def sign(key, text):
    if isinstance(key, rsa.RSAPrivateKey):
        return key.sign(text, padding.PKCS1v15(), hashes.SHA256())
    r, s = decode_dss_signature(key.sign(text, ec.ECDSA(hashes.SHA256())))
    size = (key.curve.key_size + 7) // 8
    return r.to_bytes(size, "big") + s.to_bytes(size, "big")


class Issuer:
    """`https://idp` with one key of each kind; `keys` may be changed."""

    def __init__(self):
        self.key = ec_key()
        self.keys = [jwk(self.key, kid="ec"), jwk(rsa_key(), kid="rsa")]

    def jwks(self):
        return json.dumps({"keys": self.keys})

    def written(self, **more):
        return JwtIssuer("https://idp", "promgate", self.jwks(), **more)

    def token(self, *, key=None, header=None, claims=None):
        """A good one; `header` and `claims` change it before it is signed with `key`."""
        key = key or self.key
        is_rsa = isinstance(key, rsa.RSAPrivateKey)
        head = {"alg": "RS256" if is_rsa else "ES256", "kid": "rsa" if is_rsa else "ec", **(header or {})}
        text = written(head) + b"." + written({**CLAIMS, **(claims or {})})
        return text + b"." + b64(sign(key, text))
