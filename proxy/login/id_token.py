"""What an ID token and a logout token must say before they are believed (OpenID Connect Core 1.0 3.1.3.7, 12.2;
Back-Channel Logout 1.0 2.6). The signature is found out elsewhere; here is only what was signed, and the time.

A fault is a text for the log that tells the operator what the provider did; empty: there is none.
"""

from __future__ import annotations

import base64
import hashlib
from typing import TYPE_CHECKING, Any

from proxy.login.claims import is_subject, seconds
from proxy.login.people import LoggedOut, Refused

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping

    from proxy.login.signed import Signed

#: Clocks differ, by no more than this.
SKEW_S = 60.0
#: A logout token is sent at once; an old one was kept by somebody.
MAX_LOGOUT_AGE_S = 600.0
#: What an ID token may call itself (RFC 8725 3.11): access and logout tokens call themselves otherwise.
_TYPES = frozenset({"", "jwt"})
_LOGOUT_TYPES = _TYPES | {"logout+jwt"}
_LOGOUT_EVENT = "http://schemas.openid.net/event/backchannel-logout"
#: The hash of each algorithm of ours, for at_hash (Core 3.1.3.6; for Ed25519 the one that it is made of).
_HASHES = {"ES256": "sha256", "RS256": "sha256", "PS256": "sha256", "EdDSA": "sha512"}
_MAX_SESSION_ID = 256


def find_fault(
    token: Signed, issuer: str, client_id: str, nonces: Collection[str | None], access_token: str, now: float
) -> str:
    """Why the ID token proves nothing. `nonces` are those that it may have; None among them: it may have none."""
    claims = token.claims
    if token.typ not in _TYPES:
        return "it is a token of another type"
    if "events" in claims:
        return "it is a logout token"
    if fault := _find_common_fault(claims, issuer, client_id, now):
        return fault
    subject = claims.get("sub")
    if not isinstance(subject, str) or not subject:
        return "it has no sub"
    if not is_subject(subject):
        return "its sub is not of visible ASCII, or has a comma, or is too long for a name"
    nonce = claims.get("nonce")
    if not isinstance(nonce, str | None) or nonce not in nonces:
        return "its nonce is not that of this login"
    if "at_hash" in claims and claims["at_hash"] != _half_hash(token, access_token):
        return "its at_hash is not that of the access token that came with it"
    return ""


def read_logout(token: Signed, issuer: str, client_id: str, now: float) -> LoggedOut | Refused:
    """Whom a logout token logs out. Whether it came before is looked up by its `jti`, which is a text then."""
    claims = token.claims
    fault = _find_logout_fault(token, issuer, client_id, now)
    if fault:
        return Refused(f"the logout token is not taken: {fault}")
    return LoggedOut(claims.get("sub", ""), session_id(claims))


def session_id(claims: Mapping[str, Any]) -> str:
    """`sid`, or nothing where it is none."""
    sid = claims.get("sid", "")
    is_one = isinstance(sid, str) and len(sid) <= _MAX_SESSION_ID and sid.isascii() and sid.isprintable()
    return sid if is_one else ""


def _find_logout_fault(token: Signed, issuer: str, client_id: str, now: float) -> str:
    claims = token.claims
    if token.typ not in _LOGOUT_TYPES:
        return "it is a token of another type"
    if fault := _find_common_fault(claims, issuer, client_id, now):
        return fault
    if now > (seconds(claims["iat"]) or 0.0) + MAX_LOGOUT_AGE_S:
        return "it is too old"
    events = claims.get("events")
    if not isinstance(events, dict) or not isinstance(events.get(_LOGOUT_EVENT), dict):
        return "it tells of no logout"
    if "nonce" in claims:
        return "it has a nonce: it is an ID token"
    if not isinstance(claims.get("jti"), str) or not claims["jti"]:
        return "it has no jti"
    subject = claims.get("sub", "")
    if not isinstance(subject, str) or (subject and not is_subject(subject)):
        return "its sub is no text"
    if not subject and not session_id(claims):
        return "it names neither a subject nor a session"
    return ""


def _find_common_fault(claims: Mapping[str, Any], issuer: str, client_id: str, now: float) -> str:
    if claims.get("iss") != issuer:
        return "its iss is another"
    told = claims.get("aud")
    audiences = told if isinstance(told, list) else [told]
    if client_id not in audiences or not all(isinstance(one, str) for one in audiences):
        return "its aud does not have our client_id"
    if claims.get("azp", client_id) != client_id or (len(audiences) > 1 and "azp" not in claims):
        return "its azp is not our client_id"
    expires_at, issued_at = seconds(claims.get("exp")), seconds(claims.get("iat"))
    not_before = seconds(claims.get("nbf", 0))
    if expires_at is None or issued_at is None or not_before is None:
        return "exp, iat or nbf is no time"
    if now >= expires_at + SKEW_S:
        return "it has expired, or our clock is wrong"
    if now < max(issued_at, not_before) - SKEW_S:
        return "it is from the future, or our clock is wrong"
    return ""


def _half_hash(token: Signed, access_token: str) -> str:
    """The left half of a hash of the access token (Core 3.1.3.6)."""
    name = _HASHES.get(str(token.head.get("alg")), "sha256")
    whole = hashlib.new(name, access_token.encode()).digest()
    return base64.urlsafe_b64encode(whole[: len(whole) // 2]).rstrip(b"=").decode()
