"""Issuers of JWTs: their key sets are read here, so that what is wrong with one is told with the rest."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from proxy.gate.snapshot import JwtIssuer

if TYPE_CHECKING:
    from proxy.config.problem import Report
    from proxy.config.schema import Config, Jwt

# The algorithms of `schema.Jwt` need these (RFC 7518 6.1).
_PUBLIC_TYPES = {"ES256": "EC", "RS256": "RSA"}


def build_issuers(config: Config, report: Report) -> tuple[JwtIssuer, ...]:
    """One JwtIssuer for each entry of `jwt`; its `jwks` is the text of the JWK set."""
    seen: dict[str, str] = {}
    for written in config.jwt:
        at = f"{written.at}.issuer"
        if written.issuer in seen and report.is_sound(at):
            report.problem(at, f"this issuer stands already in line {report.line_of(seen[written.issuer])}")
        seen.setdefault(written.issuer, at)
        if not written.algorithms and report.is_sound(f"{written.at}.algorithms"):
            report.problem(f"{written.at}.algorithms", "at least one algorithm is needed")
        if report.is_sound(f"{written.at}.jwks"):
            _check_keys(written, report)
    if len(config.jwt) > 1 and any(one.startswith("jwt:") for names in config.roles.values() for one in names):
        report.problem("jwt", "with several issuers, roles may not name jwt:SUBJECT: each issuer could sign as it")
    return tuple(
        JwtIssuer(each.issuer, each.audience, each.jwks, each.algorithms, each.files.get("jwks", ""))
        for each in config.jwt
    )


def _check_keys(written: Jwt, report: Report) -> None:
    import json  # noqa: PLC0415 - only a configuration with JWT pays for it

    path = f"{written.at}.jwks"
    try:
        keys: Any = json.loads(written.jwks)["keys"]
    except (ValueError, RecursionError, TypeError, KeyError):
        keys = None
    if not isinstance(keys, list) or not all(isinstance(key, dict) for key in keys):
        report.problem(path, 'not a JWK set: {"keys": [...]} is wanted (RFC 7517 5)')
        return
    if any(key.get("kty") == "oct" or "d" in key for key in keys):
        report.problem(path, "the set holds a private or shared key (<secret>); only public keys belong here")
    usable = {_PUBLIC_TYPES[name] for name in written.algorithms}
    if not any(key.get("kty") in usable for key in keys):
        report.warning(path, f"no key of type {' or '.join(sorted(usable))}: no token of this issuer can be verified")
