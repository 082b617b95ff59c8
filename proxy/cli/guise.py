"""Somebody who is named and shows nothing (`promgate explain --as`): what the gate would see of them.

As `roles` and `tenants` name people, tokens and claims; several names are those of one, who has all of them. What a
provider or an issuer would have to confirm is taken for confirmed.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, NamedTuple

from proxy.cli.case import Unable, stand_in
from proxy.config.people_keys import ANY, KINDS, parse_person
from proxy.gate.ask import Claims
from proxy.gate.credentials import ShownCertificate, ShownJwt, ShownToken
from proxy.gate.origin import SAFE
from proxy.gate.providers import OidcLogin
from proxy.gate.session import Session, provider_terms
from proxy.gate.snapshot import claim_key
from proxy.tokens.secret import digest

if TYPE_CHECKING:
    from collections.abc import Sequence

    from proxy.config.read import Loaded
    from proxy.gate.credentials import Shown
    from proxy.gate.memory import Memory
    from proxy.gate.providers import Provider
    from proxy.gate.snapshot import Introspection, JwtIssuer

_TAKEN = (
    "token:NAME, basic:USER, cert:CN=NAME; or of one whom an issuer or a provider knows, once for each thing that they "
    "are: jwt:SUBJECT, jwt:CLAIM=VALUE, introspection:CLAIM=VALUE, oidc:user:E-MAIL, oidc:group:GROUP, github:team:O/T"
)
#: Nobody's: an id is 256 random bits.
_ID = "0" * 43
_NAMELESS = "somebody"
_LIFE_S = 300.0


class Guise(NamedTuple):
    """What is shown, which fields come with it, and what an issuer says of it when it is asked."""

    shown: Shown | None
    fields: tuple[str, ...] = ()
    claims: Claims | None = None


def put_on(names: Sequence[str], method: bytes, loaded: Loaded, memory: Memory, now: float) -> Guise:
    """The guise of whom these names mean, in a request with `method`. Raises Unable. A session is put into `memory`."""
    kinds = {name.partition(":")[0] for name in names}
    if len(kinds) == 1 and (kind := next(iter(kinds))) in _READERS:
        return _READERS[kind](names, method, loaded, memory, now)
    shown = stand_in(names[0], memory.book.tokens.values(), now) if len(names) == 1 else None
    if shown is None:
        raise Unable(f"--as {' '.join(map(ascii, names))}: taken are {_TAKEN}; show any other credential itself")
    return Guise(shown)


def _certificate(names: Sequence[str], _: bytes, _loaded: Loaded, _memory: Memory, _now: float) -> Guise:
    for name in names:
        if not name.startswith(("cert:CN=", "cert:SAN=")):
            raise Unable(f"--as {name!a}: a certificate is named cert:CN=NAME or cert:SAN=NAME")
    return Guise(ShownCertificate(tuple(names), math.inf))


def _jwt(names: Sequence[str], _: bytes, loaded: Loaded, _memory: Memory, now: float) -> Guise:
    issuers = [each for each in loaded.snapshot.jwt_issuers if all(name.startswith(each.prefix) for name in names)]
    if not issuers:
        known = ", ".join(f"{each.prefix}..." for each in loaded.snapshot.jwt_issuers) or "none: there is no jwt"
        raise Unable(f"--as {' '.join(map(ascii, names))}: of one issuer, which are known as {known}")
    text = b"eyJ.."
    return Guise(ShownJwt(text, digest(text)), claims=_claims(names, issuers[0], now))


def _introspection(names: Sequence[str], _: bytes, loaded: Loaded, _memory: Memory, now: float) -> Guise:
    provider = loaded.snapshot.introspection
    if provider is None:
        raise Unable(f"--as {names[0]!a}: there is no introspection in the configuration")
    text = b"opaque"
    return Guise(ShownToken(digest(text), minted=False, text=text), claims=_claims(names, provider, now))


def _claims(names: Sequence[str], issuer: JwtIssuer | Introspection, now: float) -> Claims:
    subject, granted = _NAMELESS, []
    for name in names:
        claim, equals, value = name.removeprefix(issuer.prefix).partition("=")
        if not equals or claim == "sub":
            subject = value if equals else claim
        else:
            granted.append(claim_key(issuer.prefix, claim, value))
    writes = claim_key(issuer.prefix, "scope", "write") in granted
    return Claims(issuer.prefix + subject, issuer.terms, now, now + _LIFE_S, writes, tuple(granted))


def _person(names: Sequence[str], method: bytes, loaded: Loaded, memory: Memory, now: float) -> Guise:
    snapshot = loaded.snapshot
    kind = names[0].partition(":")[0]
    providers = {each.prefix: each for each in snapshot.people if isinstance(each, OidcLogin) is (kind == "oidc")}
    prefixes = {each.name: each.prefix for each in providers.values()}
    try:
        keys = [parse_person(kind, name.partition(":")[2], prefixes) for name in names]
    except ValueError as error:
        raise Unable(f"--as: {error}") from None
    known = [each for prefix, each in providers.items() if all(key.startswith(prefix) for key in keys)]
    if not known or snapshot.sessions is None:
        raise Unable("--as: one person comes from one provider")
    session = _session(keys, known[0], now)
    memory.sessions.put(session, now)
    fields = [f"Cookie: {snapshot.sessions.cookie.decode()}={_ID}"]
    if method not in SAFE:
        fields.append(f"Origin: {snapshot.external_url}")  # as from a page of ours
    return Guise(None, tuple(fields))


def _session(keys: list[str], provider: Provider, now: float) -> Session:
    prefix = provider.prefix
    names = [key for key in keys if key.startswith((f"{prefix}user:", f"{prefix}sub:"))]
    domains = [f"{prefix}domain:{name.rpartition('@')[2]}" for name in names if "@" in name]
    granted = dict.fromkeys([*keys, *domains, f"{prefix}{ANY}"])
    name = next(iter(names), f"{prefix}{'sub' if isinstance(provider, OidcLogin) else 'user'}:{_NAMELESS}")
    return Session(digest(_ID.encode()), name, provider.name, provider_terms(provider), now, tuple(granted))


_READERS = {"cert": _certificate, "jwt": _jwt, "introspection": _introspection, **dict.fromkeys(KINDS, _person)}
