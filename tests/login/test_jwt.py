"""Tokens good and forged, against real keys (5-threats O5, O6; RFC 8725)."""

from __future__ import annotations

import asyncio
import hashlib
import hmac
import json
import logging
import os
import subprocess
import sys

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec
from hypothesis import given
from hypothesis import strategies as st

from proxy.gate.ask import BUSY, LATE, REFUSED, Claims, VerifyJwt
from proxy.login import jwt as module
from proxy.login.jwt import JwtVerifier
from proxy.login.keys import import_keys
from tests.login.issuer import CLAIMS, LEFT_OUT, NOW, Issuer, b64, ec_key, ed_key, jwk, number, rsa_key, sign, written

ISSUER = Issuer()
GOOD = Claims("jwt:carol", ISSUER.written().terms, NOW - 60.0, NOW + 300.0)


@pytest.fixture(scope="module")
def verifier():
    made = JwtVerifier([ISSUER.written()])
    yield made
    made.close()


def verify(verifier, text):
    return asyncio.run(verifier.verify(VerifyJwt(text)))


@pytest.mark.parametrize(
    "how",
    [
        {},
        {"key": rsa_key()},
        {"header": {"kid": LEFT_OUT}},
        {"key": rsa_key(), "header": {"kid": LEFT_OUT}},
        {"header": {"typ": "JWT"}},
        {"header": {"x5t": "abc", "nonce": "n"}},
        {"claims": {"aud": ["other", "promgate"]}},
    ],
)
def test_good_tokens(verifier, how):
    assert verify(verifier, ISSUER.token(**how)) == GOOD


@pytest.mark.parametrize(
    ("alg", "key"), [("ES256", ec_key()), ("RS256", rsa_key()), ("PS256", rsa_key()), ("EdDSA", ed_key())]
)
def test_each_algorithm_where_it_is_the_issuers_and_nowhere_else(alg, key):
    issuer = Issuer()
    issuer.keys.append(jwk(ed_key(), kid="ed"))
    for algorithms in (("ES256",), ("RS256",), ("PS256",), ("EdDSA",), ("ES256", "RS256", "PS256", "EdDSA")):
        verifier = JwtVerifier([issuer.written(algorithms=algorithms)])
        try:
            found = verify(verifier, issuer.token(key=key, header={"alg": alg}))
            assert isinstance(found, Claims) is (alg in algorithms)
        finally:
            verifier.close()


@pytest.mark.parametrize(
    ("header", "claims", "any_typ", "at_jwt"),
    [
        ({}, {}, True, False),
        ({"typ": "JWT"}, {}, True, False),
        ({"typ": "at+jwt"}, {}, True, True),
        ({"typ": "AT+JWT"}, {}, True, True),
        ({"typ": "application/at+jwt"}, {}, True, True),
        ({"typ": "at+jwt"}, {"nonce": "n"}, True, True),
        ({"typ": "logout+jwt"}, {}, False, False),
        ({"typ": "dpop+jwt"}, {}, False, False),
        ({"typ": "secevent+jwt"}, {}, False, False),
        ({"typ": None}, {}, False, False),
        ({"typ": 7}, {}, False, False),
        ({"typ": ["at+jwt"]}, {}, False, False),
        # O16: an ID token proves to its client that somebody is there, and nothing to us
        ({}, {"nonce": "n"}, False, False),
        ({"typ": "JWT"}, {"at_hash": "h"}, False, False),
        ({"typ": "JWT"}, {"c_hash": "h"}, False, False),
        ({}, {"events": {"http://schemas.openid.net/event/backchannel-logout": {}}}, False, False),
        ({"typ": "JWT"}, {"typ": "ID"}, False, False),
        ({"typ": "JWT"}, {"typ": "Refresh"}, False, False),
        ({"typ": "JWT"}, {"typ": "Bearer"}, True, False),
        ({"typ": "JWT"}, {"typ": ["ID"]}, True, False),
    ],
)
def test_only_access_tokens(header, claims, any_typ, at_jwt):
    """O16."""
    for typ, good in (("", any_typ), ("at+jwt", at_jwt)):
        verifier = JwtVerifier([ISSUER.written(typ=typ)])
        try:
            assert isinstance(verify(verifier, ISSUER.token(header=header, claims=claims)), Claims) is good
        finally:
            verifier.close()


@pytest.mark.parametrize(("azp", "is_good"), [("agent", True), ("", False), (None, False), (7, False), (["a"], False)])
def test_whom_it_was_made_for(verifier, azp, is_good):
    found = verify(verifier, ISSUER.token(claims={"azp": azp, "aud": ["promgate", "other"]}))
    assert isinstance(found, Claims) is is_good


WANTED = (
    ("groups", "sre"), ("groups", "viewer"), ("scope", "metrics.read"), ("scp", "a"), ("realm.roles", "admin"),
    ("https://x.example/roles", "admin"),
)  # fmt: skip


@pytest.mark.parametrize(
    ("claims", "granted"),
    [
        ({}, []),
        ({"groups": ["dev", "sre"]}, ["groups=sre"]),
        ({"groups": ["viewer", "sre"]}, ["groups=sre", "groups=viewer"]),
        ({"groups": "sre"}, ["groups=sre"]),
        # O19: a list of texts, and a text is one name
        ({"groups": "viewer,sre"}, []),
        ({"groups": "viewer sre"}, []),
        ({"groups": ["viewer,sre"]}, []),
        ({"groups": ["sre", 7]}, []),
        ({"groups": [["sre"]]}, []),
        ({"groups": {"sre": True}}, []),
        ({"groups": None}, []),
        ({"groups": ["SRE", " sre"]}, []),
        ({"scope": "write metrics.read"}, ["scope=metrics.read"]),
        ({"scope": "metrics.read.all"}, []),
        ({"scope": ["metrics.read"]}, []),
        ({"scp": "b a"}, ["scp=a"]),
        ({"scp": ["b", "a"]}, ["scp=a"]),
        ({"realm": {"roles": ["admin"]}}, ["realm.roles=admin"]),
        ({"realm.roles": "admin", "realm": {"roles": []}}, ["realm.roles=admin"]),
        ({"realm": ["roles"]}, []),
        ({"https://x.example/roles": ["admin"]}, ["https://x.example/roles=admin"]),
    ],
)
def test_the_claims_that_roles_are_given_for(claims, granted):
    """O19."""
    verifier = JwtVerifier([ISSUER.written(wanted=WANTED, prefix="jwt:ci/")])
    try:
        found = verify(verifier, ISSUER.token(claims=claims))
        assert found.name == "jwt:ci/carol"
        assert found.granted == tuple(f"jwt:ci/ {each}" for each in granted)
    finally:
        verifier.close()


@pytest.mark.parametrize(
    ("scope", "writes"),
    [
        ("write", True),
        ("read write", True),
        ("writer", False),
        ("Write", False),
        ("read,write", False),
        ("", False),
        (["write"], False),  # RFC 8693 4.2: scope is one string
        (None, False),
    ],
)
def test_the_scope_that_writes(verifier, scope, writes):
    assert verify(verifier, ISSUER.token(claims={"scope": scope})).writes is writes


@pytest.mark.parametrize(
    ("claims", "not_before", "expires_at"),
    [
        ({"nbf": NOW}, NOW, NOW + 300),
        ({"nbf": NOW - 900}, NOW - 60, NOW + 300),
        ({"nbf": NOW + 900}, NOW + 900, NOW + 300),
        ({"iat": NOW + 900}, NOW + 900, NOW + 300),
        ({"exp": NOW - 900}, NOW - 60, NOW - 900),
        ({"exp": NOW + 0.5}, NOW - 60, NOW + 0.5),
    ],
)
def test_times_are_told_and_not_judged(verifier, claims, not_before, expires_at):
    told = verify(verifier, ISSUER.token(claims=claims))
    assert (told.not_before, told.expires_at) == (not_before, expires_at)


@pytest.mark.parametrize(
    "claims",
    [
        {"iss": "https://other"}, {"iss": "https://idp/"}, {"iss": "HTTPS://IDP"}, {"iss": LEFT_OUT}, {"iss": None},
        {"iss": ["https://idp"]}, {"iss": {}},
        {"aud": "other"}, {"aud": "promgate2"}, {"aud": "Promgate"}, {"aud": LEFT_OUT}, {"aud": []}, {"aud": None},
        {"aud": ["other"]}, {"aud": {"promgate": 1}}, {"aud": [["promgate"]]}, {"aud": "a promgate"},
        {"sub": LEFT_OUT}, {"sub": ""}, {"sub": None}, {"sub": 7}, {"sub": ["carol"]}, {"sub": "a,b"}, {"sub": "a b"},
        {"sub": "a\nb"}, {"sub": "carol\n"}, {"sub": "a\r"}, {"sub": "jürgen"}, {"sub": "a\u2028"}, {"sub": "x" * 257},
        {"exp": LEFT_OUT}, {"exp": None}, {"exp": str(NOW + 300)}, {"exp": True}, {"exp": [NOW]}, {"exp": float("nan")},
        {"exp": float("inf")}, {"exp": 10**400}, {"exp": 1e300}, {"iat": LEFT_OUT}, {"iat": "now"}, {"iat": None},
        {"iat": False}, {"nbf": "now"}, {"nbf": None}, {"nbf": float("nan")},
    ],
)  # fmt: skip
def test_a_claim_that_is_wrong_or_missing(verifier, claims):
    """O6."""
    assert verify(verifier, ISSUER.token(claims=claims)) == REFUSED


def forged(header, signature):
    text = written({"kid": "ec", **header}) + b"." + written(CLAIMS)
    return text + b"." + (signature(text) if callable(signature) else signature)


def public_pem(key):
    return key.public_key().public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo)


def with_secret(secret):
    return lambda text: b64(hmac.digest(secret, text, hashlib.sha256))


@pytest.mark.parametrize("alg", ["none", "None", "NONE", "nOnE", "", "HS256", "ES512", "EdDSA", None, 7, ["ES256"], {}])
@pytest.mark.parametrize("signature", [b"", b"AA", b64(bytes(64))])
def test_no_signature(verifier, alg, signature):
    """O5."""
    assert verify(verifier, forged({"alg": alg}, signature)) == REFUSED


@pytest.mark.parametrize(
    "secret",
    [
        public_pem(ec_key()),
        public_pem(rsa_key()),
        public_pem(rsa_key()).strip(),
        ISSUER.jwks().encode(),
        json.dumps(ISSUER.keys[0]).encode(),
        b"",
        b"promgate",
    ],
)
@pytest.mark.parametrize("kid", ["ec", "rsa", LEFT_OUT])
def test_a_public_key_is_no_shared_secret(verifier, secret, kid):
    """O5."""
    assert verify(verifier, forged({"alg": "HS256", "kid": kid}, with_secret(secret))) == REFUSED


@pytest.mark.parametrize(
    "how",
    [
        {"key": ec_key("other")},
        {"key": rsa_key("other")},
        {"key": ec_key("other"), "header": {"kid": LEFT_OUT}},
        {"key": ec_key("other", ec.SECP384R1)},
        {"key": rsa_key(), "header": {"kid": "ec"}},
        {"header": {"kid": "rsa"}},
        {"header": {"alg": "RS256"}},
        {"key": rsa_key(), "header": {"alg": "PS256"}},
        {"key": rsa_key(), "header": {"alg": "ES256"}},
        # O5: ids of nobody, or that would be a path or a query somewhere else
        {"header": {"kid": "unknown"}},
        {"header": {"kid": ""}},
        {"header": {"kid": None}},
        {"header": {"kid": 7}},
        {"header": {"kid": ["ec"]}},
        {"header": {"kid": "../../etc/passwd"}},
        {"header": {"kid": "' OR 1=1 --"}},
        # headers that bring keys or rules of their own
        {"header": {"crit": ["exp"]}},
        {"header": {"crit": []}},
        {"header": {"b64": False, "crit": ["b64"]}},
        {"header": {"b64": True}},
        {"header": {"jwk": jwk(ec_key())}},
        {"header": {"jku": "https://evil/keys"}},
        {"header": {"x5u": "https://evil/cert"}},
        {"header": {"x5c": ["MIIB"]}},
        {"key": ec_key("other"), "header": {"jwk": jwk(ec_key("other"))}},
    ],
)
def test_a_signature_of_another(verifier, how):
    """O5."""
    assert verify(verifier, ISSUER.token(**how)) == REFUSED


def test_every_bit_counts(verifier):
    text = ISSUER.token()
    for place in range(0, len(text), 7):
        changed = bytearray(text)
        changed[place] ^= 1
        assert verify(verifier, bytes(changed)) == REFUSED, place
    # the last letter of 64 octets holds four bits of nothing: another spelling is refused too
    last = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"
    accepted = [letter for letter in last if verify(verifier, text[:-1] + bytes([letter])) != REFUSED]
    assert accepted == [text[-1]]


TEXT = ISSUER.token()


@pytest.mark.parametrize(
    "text",
    [
        b"",
        b"...",
        TEXT + b"=",
        TEXT + b"\n",
        b" " + TEXT,
        TEXT.replace(b".", b". ", 1),
        TEXT.rpartition(b".")[0],
        TEXT.rpartition(b".")[0] + b".",
        TEXT + b".x",
        b".." + TEXT,
        b".".join([b64(b"[]"), b64(b"{}"), b""]),
        b".".join([b64(b"null"), b64(b"null"), b64(b"x")]),
        b".".join([b64(b'{"alg":"ES256"}'), b64(b"[" * 2900), b64(b"x")]),
        b".".join([b64(b"{" * 2900), b64(b"{}"), b64(b"x")]),
        b".".join([b64(b'"alg"'), written(CLAIMS), b64(b"x")]),
        b".".join([b64(b"\xff\xfe"), written(CLAIMS), b64(b"x")]),
    ],
)
def test_what_is_no_token(verifier, text):
    assert verify(verifier, text) == REFUSED


JSON = st.recursive(st.none() | st.booleans() | st.integers() | st.text(max_size=5), lambda x: st.lists(x, max_size=3))
NAMES = st.sampled_from([*CLAIMS, "alg", "kid", "crit", "b64", "typ", "nbf"])
OBJECTS = st.dictionaries(NAMES | st.text(max_size=3), JSON)


@given(OBJECTS | JSON, OBJECTS | JSON, st.binary(max_size=70), st.booleans())
def test_any_json_may_come(header, payload, signature, is_signed):
    verifier = JwtVerifier([ISSUER.written()])
    try:
        text = b64(json.dumps(header).encode()) + b"." + b64(json.dumps(payload).encode())
        text += b"." + b64(sign(ec_key(), text) if is_signed else signature)
        assert verifier._read(text) is None
    finally:
        verifier.close()


@given(st.binary(max_size=200))
def test_any_bytes_may_come(text):
    assert JwtVerifier([ISSUER.written()])._read(b"eyJ" + text) is None


def test_algorithms_are_the_issuers_own():
    verifier = JwtVerifier([ISSUER.written(algorithms=("RS256",))])
    try:
        assert verify(verifier, ISSUER.token()) == REFUSED
        assert verify(verifier, ISSUER.token(key=rsa_key())).name == "jwt:carol"
    finally:
        verifier.close()


@pytest.mark.parametrize(
    "key",
    [
        jwk(ec_key(), kid="ec", use="enc"),
        jwk(ec_key(), kid="ec", use=["sig"]),
        jwk(ec_key(), kid="ec", alg="ES384"),
        jwk(ec_key(), kid="ec", key_ops=["sign"]),
        jwk(ec_key(), kid="ec", key_ops=7),
        jwk(ec_key(), kid="ec", d=number(ec_key().private_numbers().private_value, 32)),
        jwk(ec_key(), kid=7),
        {**jwk(ec_key(), kid="ec"), "x": "AQAB"},
        {"kty": "EC", "kid": "ec"},
        {"kty": "OKP", "kid": "ec"},
        {"kty": ["EC"]},
        {"kty": "oct", "k": "AQAB", "kid": "ec"},
        {},
    ],
)
def test_a_key_that_is_not_for_this_is_passed_over(key):
    issuer = Issuer()
    issuer.keys = [key, jwk(rsa_key(), kid="rsa")]
    verifier = JwtVerifier([issuer.written()])
    try:
        assert verify(verifier, issuer.token()) == REFUSED
        assert verify(verifier, issuer.token(key=rsa_key())) == GOOD
    finally:
        verifier.close()


def test_a_weak_key_is_passed_over():
    issuer = Issuer()
    issuer.keys = [jwk(rsa_key("weak", 1024), kid="rsa")]
    verifier = JwtVerifier([issuer.written()])
    try:
        assert verify(verifier, issuer.token(key=rsa_key("weak", 1024))) == REFUSED
    finally:
        verifier.close()


def test_each_issuer_signs_with_its_own_keys():
    other = Issuer()
    other.keys = [jwk(ec_key("other"), kid="ec")]
    theirs = other.written().__class__("https://other", "promgate", other.jwks())
    verifier = JwtVerifier([ISSUER.written(), theirs])
    try:
        claims = {"iss": "https://other"}
        assert verify(verifier, other.token(key=ec_key("other"), claims=claims)).terms == theirs.terms
        assert verify(verifier, ISSUER.token(claims=claims)) == REFUSED
        assert verify(verifier, other.token(key=ec_key("other"))) == REFUSED
        verifier.take([theirs])  # a reload
        assert verify(verifier, ISSUER.token()) == REFUSED
    finally:
        verifier.close()


def test_keys_follow_their_file(tmp_path, caplog):
    issuer, path = Issuer(), tmp_path / "keys.json"
    old, new = jwk(ec_key(), kid="ec"), jwk(ec_key("other"), kid="new")
    signed_old, signed_new = issuer.token(), issuer.token(key=ec_key("other"), header={"kid": "new"})

    def put(text):
        (tmp_path / "next").write_text(text)
        os.replace(tmp_path / "next", path)  # noqa: PTH105

    def works():
        return [isinstance(verify(verifier, text), Claims) for text in (signed_old, signed_new)]

    put(json.dumps({"keys": [old]}))
    verifier = JwtVerifier([issuer.written(jwks_file=str(path))])
    try:
        assert works() == [True, False]
        put(json.dumps({"keys": [old, new]}))
        assert works() == [True, True]
        put(json.dumps({"keys": [new]}))
        assert works() == [False, True]
        with caplog.at_level(logging.ERROR):
            for bad in ("", "{", "[]", '{"keys": 7}', "<html>", '{"keys": [' + "x" * 2_000_000):
                put(bad)
                assert works() == [False, True], bad
        assert len(caplog.records) == 6  # once each, and not for each token
        path.unlink()
        assert works() == [False, True]
        put(json.dumps({"keys": [old]}))
        assert works() == [True, False]
    finally:
        verifier.close()


def test_a_file_may_be_late_with_a_key_that_it_never_had(tmp_path):
    issuer, path, now = Issuer(), tmp_path / "keys.json", [1000.0]
    path.write_text(issuer.jwks())
    verifier = JwtVerifier([issuer.written(jwks_file=str(path))], clock=lambda: now[0])
    fresh = issuer.token(key=ec_key("other"), header={"kid": "new"})
    try:
        assert verify(verifier, fresh) == LATE
        now[0] += 299
        assert verify(verifier, fresh) == LATE
        now[0] += 1
        assert verify(verifier, fresh) == REFUSED
        (tmp_path / "next").write_text(json.dumps({"keys": [jwk(ec_key("other"), kid="new")]}))
        os.replace(tmp_path / "next", path)  # noqa: PTH105
        assert isinstance(verify(verifier, fresh), Claims)
        assert verify(verifier, issuer.token()) == REFUSED  # it had that one, and has it no more
        for kid in ("", 7, None, "x" * 257):
            assert verify(verifier, issuer.token(header={"kid": kid})) == REFUSED
    finally:
        verifier.close()


def test_too_many_at_once(monkeypatch):
    monkeypatch.setattr(module, "_MAX_WAITING", 3)

    async def play():
        verifier = JwtVerifier([ISSUER.written()])
        try:
            question = VerifyJwt(ISSUER.token())
            return await asyncio.gather(*[verifier.verify(question) for _ in range(5)]), await verifier.verify(question)
        finally:
            verifier.close()

    at_once, after = asyncio.run(play())
    assert at_once == [GOOD, GOOD, GOOD, BUSY, BUSY]
    assert after == GOOD


def test_nothing_is_loaded_without_an_issuer():
    code = "import sys; from proxy.login.jwt import JwtVerifier; JwtVerifier(); print(*sys.modules)"
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert not {"joserfc", "cryptography"} & set(ran.stdout.split())


def test_a_question_does_not_print_its_token():
    assert "eyJ" not in repr(VerifyJwt(ISSUER.token()))


def test_a_set_without_a_key_for_signatures_holds_none_at_all():
    """RFC 7517 4.2, 4.3: or it would count as fetched, and its tokens as forged."""
    keys = [jwk(ec_key(), kid="ec", use="enc"), jwk(rsa_key(), kid="rsa", key_ops=["encrypt"])]
    assert import_keys({"keys": keys}) == []
    assert len(import_keys({"keys": [jwk(ec_key(), kid="ec", use="sig", key_ops=["verify"]), *keys]})) == 1
