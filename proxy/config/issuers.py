"""Who signs or knows tokens of others: the options, and what they mean together.

Key sets are read here, so that what is wrong with one is told with the rest. Nothing is fetched: a configuration is
checked without asking anybody.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from proxy.config import files
from proxy.config.identities import wanted_of
from proxy.config.shape import REQUIRED, ListOf, Section, choice, option
from proxy.config.words import ALGORITHM, FILE, JSON, NAME, PROVIDER_URL, SECRET, TEXT
from proxy.gate.snapshot import Introspection, JwtIssuer
from proxy.wire.url import is_safe_url

if TYPE_CHECKING:
    from collections.abc import Collection
    from pathlib import Path

    from proxy.config.problem import Report
    from proxy.config.schema import Config

    #: By which roles or tenants are given.
    Keys = Collection[str]

# The algorithms of `Jwt` need these (RFC 7518 6.1, RFC 8037 2).
_PUBLIC_TYPES = {"ES256": "EC", "RS256": "RSA", "PS256": "RSA", "EdDSA": "OKP"}


class Jwt(Section):
    """Whose signed tokens are believed. `iss` and `aud` must be exactly these.

    Keys come from `jwks` or `jwks_file`, from `jwks_url`, or, where none of them is written, from where the issuer's
    `/.well-known/openid-configuration` says. What is fetched is fetched anew every 5 minutes.
    """

    issuer: str = option(TEXT, REQUIRED, "The `iss` claim.")
    audience: str = option(TEXT, REQUIRED, "A member of the `aud` claim.")
    name: str | None = option(
        NAME,
        None,
        "Begins the names of this issuer's identities: with `ci` they are `jwt:ci/SUBJECT` and `jwt:ci/CLAIM=VALUE`. "
        "Needed where roles name identities of several issuers.",
    )
    jwks: str | None = option(JSON, None, "The issuer's public keys, as the JSON of a JWK set.", has_file=True)
    jwks_url: str | None = option(PROVIDER_URL, None, "Where its JWK set is fetched.")
    ca_file: str | None = option(FILE, None, "Authorities that sign the issuer's certificate; left out: the system's.")
    algorithms: tuple[str, ...] = option(
        ListOf(ALGORITHM, or_one=True),
        ["ES256", "RS256"],
        "Signature algorithms that are believed. EdDSA is that of Ed25519 keys.",
    )
    typ: str = option(
        choice("any", "at+jwt"),
        "any",
        "`at+jwt`: only tokens that call themselves access tokens (RFC 9068). `any`: also those that call themselves "
        "`JWT` or nothing, if nothing in them says that they are ID or logout tokens.",
    )


class IntrospectionOf(Section):
    """Who is asked about tokens that promgate can not judge itself (RFC 7662). An answer is believed for 30s."""

    issuer: str | None = option(
        TEXT, None, "Whose tokens they are: `iss`, where it is told, must be exactly this. Finds `url` by discovery."
    )
    url: str | None = option(PROVIDER_URL, None, "The introspection endpoint; left out: the one that the issuer names.")
    audience: str | None = option(TEXT, None, "A member of the token's `aud`. Left out: tokens for anybody are taken.")
    client_id: str = option(TEXT, REQUIRED, "As whom promgate asks, with basic auth.")
    client_secret: str = option(
        SECRET, REQUIRED, "Its secret. The file is read again when the provider refuses it.", has_file=True
    )
    ca_file: str | None = option(
        FILE, None, "Authorities that sign the provider's certificate; left out: the system's."
    )


def build_issuers(config: Config, keys: Keys, report: Report, base: Path) -> tuple[JwtIssuer, ...]:
    """One JwtIssuer for each entry of `jwt`; its `jwks` is the text of a JWK set. `base`: where paths start."""
    issuers: dict[str, str] = {}
    names: dict[str, str] = {}
    for written in config.jwt:
        _check_unique(written.issuer, f"{written.at}.issuer", issuers, "issuer", report)
        if written.name is not None:
            _check_unique(written.name, f"{written.at}.name", names, "name", report)
        if not written.algorithms and report.is_sound(f"{written.at}.algorithms"):
            report.problem(f"{written.at}.algorithms", "at least one algorithm is needed")
        _check_keys(written, report, base)
    _check_names(config, report)
    return tuple(_build_issuer(each, keys, base) for each in config.jwt)


def _build_issuer(written: Jwt, keys: Keys, base: Path) -> JwtIssuer:
    prefix = "jwt:" if written.name is None else f"jwt:{written.name}/"
    return JwtIssuer(
        issuer=written.issuer,
        audience=written.audience,
        jwks=written.jwks or "",
        algorithms=written.algorithms,
        jwks_file=written.files.get("jwks", ""),
        jwks_url=written.jwks_url or "",
        ca_file=_path(written.ca_file, base),
        typ="" if written.typ == "any" else written.typ,
        prefix=prefix,
        wanted=wanted_of(keys, prefix),
    )


def _check_unique(value: str, at: str, seen: dict[str, str], what: str, report: Report) -> None:
    if value in seen and report.is_sound(at):
        report.problem(at, f"this {what} stands already in line {report.line_of(seen[value])}")
    seen.setdefault(value, at)


def _check_names(config: Config, report: Report) -> None:
    """Whoever could sign `sub: ci/x` without a name of its own would pass for x of ci."""
    if len(config.jwt) < 2:
        return
    are_named = any(one.name is not None for one in config.jwt)
    written = {name for names in config.roles.values() for name in names} | set(config.tenants)
    if not are_named and not any(one.startswith("jwt:") for one in written):
        return
    for issuer in config.jwt:
        if issuer.name is None and report.is_sound(issuer.at, f"{issuer.at}.name"):
            report.problem(
                issuer.at,
                "with several issuers and identities called jwt:..., each needs a name: each could sign as another's",
            )


def _check_keys(written: Jwt, report: Report, base: Path) -> None:
    at = written.at
    is_set = written.jwks is not None or "jwks" in written.files
    if is_set and written.jwks_url is not None and report.is_sound(f"{at}.jwks", f"{at}.jwks_url"):
        report.problem(f"{at}.jwks_url", "jwks and jwks_url exclude each other; write one of them")
    if written.jwks is not None and report.is_sound(f"{at}.jwks"):
        _check_set(written.jwks, written, report)
    if is_set:
        if written.ca_file is not None and report.is_sound(f"{at}.ca_file"):
            report.problem(f"{at}.ca_file", "without effect: the keys are not fetched")
        return
    if written.jwks_url is None and report.is_sound(f"{at}.issuer", f"{at}.jwks", f"{at}.jwks_file", f"{at}.jwks_url"):
        check_discovery(written.issuer, f"{at}.issuer", "jwks_url, jwks or jwks_file", report)
    _check_authorities(written.ca_file, f"{at}.ca_file", report, base)


def check_discovery(issuer: str, at: str, instead: str, report: Report) -> None:
    """Report an issuer whose description of itself cannot be fetched; `instead`: what may be written then."""
    if not is_safe_url(issuer) or "?" in issuer:
        report.problem(at, f"{issuer[:80]!a} is no https URL, so nothing can be discovered there; write {instead}")


def _check_authorities(ca_file: str | None, at: str, report: Report, base: Path) -> None:
    if ca_file is not None and report.is_sound(at):
        files.check_authorities(base / ca_file, at, report)


def _path(file: str | None, base: Path) -> str:
    return "" if file is None else str(base / file)


def _check_set(text: str, written: Jwt, report: Report) -> None:
    import json  # noqa: PLC0415 - only a configuration with JWT pays for it

    path = f"{written.at}.jwks"
    try:
        keys: Any = json.loads(text)["keys"]
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


def build_introspection(
    config: Config, keys: Keys, report: Report, base: Path, *, open_files: bool
) -> Introspection | None:
    """The provider that knows opaque tokens; None where nobody is asked."""
    written = config.introspection
    if written is None:
        return None
    _check_endpoint(written, report)
    if written.audience is None and report.is_sound("introspection.audience"):
        report.warning("introspection", "no audience: a token that its provider made for another service is taken, too")
    if open_files:
        _check_authorities(written.ca_file, "introspection.ca_file", report, base)
    return Introspection(
        url=written.url or "",
        client_id=written.client_id,
        client_secret=written.client_secret,
        client_secret_file=written.files.get("client_secret", ""),
        issuer=written.issuer or "",
        audience=written.audience or "",
        ca_file=_path(written.ca_file, base),
        wanted=wanted_of(keys, Introspection.prefix),
    )


def _check_endpoint(written: IntrospectionOf, report: Report) -> None:
    if written.url is not None or not report.is_sound("introspection.url", "introspection.issuer"):
        return
    if written.issuer is None:
        report.problem("introspection", "nobody to ask: write url, or issuer, which names its endpoint by discovery")
    else:
        check_discovery(written.issuer, "introspection.issuer", "url", report)
