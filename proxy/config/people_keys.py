"""Identities of people as an operator writes them -> the keys under which their roles are found.

`oidc:KIND:VALUE` and `github:KIND:VALUE`, or `oidc:any`. Where several providers of a kind are configured each could
say of anybody that they are `admin@example.net`, so there the provider's name goes first: `oidc:okta/user:E-MAIL`.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, NamedTuple

from proxy.config.shape import did_you_mean

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from proxy.config.people import Oauth2

# As `login` takes them from a provider: what could not come from there is a mistake.
_is_mail = re.compile(r"[!-+\--?A-~]{1,64}@[a-z0-9.-]{1,255}").fullmatch
_is_domain = re.compile(r"[a-z0-9.-]{1,255}").fullmatch
_is_subject = re.compile(r"[!-+\--~]{1,256}").fullmatch
_is_login = re.compile(r"[a-z0-9_-]{1,64}").fullmatch
_is_number = re.compile(r"[0-9]{1,20}").fullmatch
_is_team = re.compile(r"[a-z0-9_-]{1,64}/[a-z0-9_.-]{1,128}").fullmatch
_is_group = re.compile(r".{1,256}").fullmatch


class _Form(NamedTuple):
    """What may stand behind a kind. `folds`: providers do not tell upper case from lower."""

    word: str
    takes: Callable[[str], object]
    folds: bool = True


_FORMS: Mapping[str, Mapping[str, _Form]] = {
    "oidc": {
        "user": _Form("E-MAIL", _is_mail),
        "sub": _Form("SUBJECT", _is_subject, folds=False),
        "group": _Form("GROUP", _is_group, folds=False),
        "domain": _Form("DOMAIN", _is_domain),
    },
    "github": {
        "user": _Form("LOGIN", _is_login),
        "id": _Form("NUMBER", _is_number),
        "org": _Form("ORGANIZATION", _is_login),
        "team": _Form("ORGANIZATION/TEAM", _is_team),
    },
}
KINDS = tuple(_FORMS)
ANY = "any"


def prefixes_of(providers: tuple[Oauth2, ...]) -> dict[str, dict[str, str]]:
    """Kind -> name of each provider of it -> how its identities begin."""
    found: dict[str, dict[str, str]] = {kind: {} for kind in KINDS}
    for each in providers:
        found[each.provider][each.known_as] = ""
    for kind, names in found.items():
        for name in names:
            names[name] = f"{kind}:" if len(names) == 1 else f"{kind}:{name}/"
    return found


def parse_person(kind: str, rest: str, prefixes: Mapping[str, str]) -> str:
    """The key of `KIND:REST`; ValueError says what is wrong.

    `prefixes` are those of the providers of this kind, by name.
    """
    if not prefixes:
        raise ValueError(f"nobody can be it: oauth2 has no provider of kind {kind}")
    prefix, rest = _split_provider(kind, rest, prefixes)
    if rest == ANY:
        return prefix + ANY
    what, colon, value = rest.partition(":")
    form = _FORMS[kind].get(what)
    if form is None or not colon:
        taken = ", ".join([f"{prefix}{ANY}", *(f"{prefix}{name}:{one.word}" for name, one in _FORMS[kind].items())])
        raise ValueError(f"{rest[:80]!a} names nobody; {taken} are taken{did_you_mean(what, (*_FORMS[kind], ANY))}")
    value = value.lower() if form.folds else value
    if not form.takes(value):
        raise ValueError(f"{value[:80]!a} is no {form.word} that a provider could tell")
    return f"{prefix}{what}:{value}"


def parse_team(text: str) -> str:
    """`ORG/TEAM` as GitHub compares it; ValueError."""
    if not _is_team(text.lower()):
        raise ValueError(f"{text[:80]!a} is no team; write ORGANIZATION/TEAM, with the team's slug")
    return text.lower()


def parse_organization(text: str) -> str:
    if not _is_login(text.lower()):
        raise ValueError(f"{text[:80]!a} is no organization; write its name as it stands in its URL")
    return text.lower()


def parse_domain(text: str) -> str:
    """`example.net`, or `*`; ValueError."""
    if text != "*" and (not _is_domain(text.lower()) or text.startswith(".")):
        raise ValueError(f"{text[:80]!a} is no domain; write what stands behind the @, or '*' for any")
    return text.lower()


def _split_provider(kind: str, rest: str, prefixes: Mapping[str, str]) -> tuple[str, str]:
    if len(prefixes) == 1:
        (prefix,) = prefixes.values()
        return prefix, rest
    name, slash, person = rest.partition("/")
    if not slash or name not in prefixes:
        hint = did_you_mean(name, prefixes) if slash else ""
        names = ", ".join(prefixes)
        raise ValueError(f"several providers are of kind {kind}: write {kind}:PROVIDER/..., one of {names}{hint}")
    return prefixes[name], person
