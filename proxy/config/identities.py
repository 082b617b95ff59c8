"""Who has which roles and tenant, and comes from where: identities as they are written -> as the gate names them.

`KIND:NAME`, where a name with `=` in it is a claim of a token, or a name of a certificate. An identity that nobody
could have is a mistake and is told.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from proxy.config.people_keys import KINDS, parse_person, prefixes_of
from proxy.config.problem import join_key
from proxy.config.shape import did_you_mean
from proxy.config.users import users_are_known
from proxy.config.words import NAME
from proxy.gate.snapshot import Introspection, claim_key
from proxy.gate.tenants import ROLE, Tenants

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Mapping

    from proxy.config.problem import Report
    from proxy.config.schema import Config
    from proxy.gate.snapshot import Wanted
    from proxy.gate.sources import Sources

#: The role that a write token carries of itself, and that of whoever shows nothing, on a route with `auth: [none]`.
WRITE, ANYONE = "write", "anyone"
_KINDS = ("basic", "token", "jwt", "introspection", "cert", *KINDS)
#: Names of claims are words, or URLs (OpenID Connect Core 5.1.2); `.` leads into a claim that is an object.
_is_claim = re.compile(r"[A-Za-z0-9_.:/-]{1,128}", re.ASCII).fullmatch


def build_roles(config: Config, users: Collection[str], report: Report) -> Mapping[str, frozenset[str]]:
    """Identity, or key of a claim -> roles."""
    reader = _Reader(config, users, report)
    roles_of: dict[str, set[str]] = {}
    for role, identities in config.roles.items():
        path = join_key("roles", role)
        if re.fullmatch(r"[A-Za-z0-9_.-]{1,64}", role, re.ASCII) is None:
            report.problem(path, "a role is named with letters, digits, '_', '.' and '-', up to 64")
        for index, written in enumerate(identities):
            at = f"{path}[{index}]" if f"{path}[{index}]" in report.lines else path
            roles_of.setdefault(reader.parse(written, at), set()).add(role)
    return {identity: frozenset(roles) for identity, roles in roles_of.items()}


def build_tenants(config: Config, users: Collection[str], report: Report) -> Tenants:
    keys = _parse_keys("tenants", config.tenants, _Reader(config, users, report), report)
    tenants = {key: config.tenants[written] for key, written in keys.items()}
    if tenants and report.was_read("routes") and not any(route.tenant_header for route in config.routes):
        report.warning("tenants", "without effect: no route has a tenant_header")
    return Tenants(tenants)


def build_sources(config: Config, users: Collection[str], report: Report) -> Sources | None:
    """Identity, key of a claim, or key of a role -> networks. None: nobody is confined."""
    if not config.allowed_sources:
        return None
    from proxy.gate.addresses import Addresses  # noqa: PLC0415 - ipaddress costs 3 ms that only this needs to pay
    from proxy.gate.sources import Sources  # noqa: PLC0415

    for written, networks in config.allowed_sources.items():
        at = join_key("allowed_sources", written)
        if written == f"{ROLE}{ANYONE}" and report.is_sound(at):
            report.problem(at, "an open route is confined by its own allow_from")
        elif not networks and report.is_sound(at):
            report.problem(at, "from nowhere nobody could come: name a network, or take the line away")
    keys = _parse_keys("allowed_sources", config.allowed_sources, _Reader(config, users, report), report)
    return Sources({key: Addresses(config.allowed_sources[written]) for key, written in keys.items()})


def _parse_keys(option: str, written: Iterable[str], reader: _Reader, report: Report) -> dict[str, str]:
    """As the gate names them -> as they are written, in the order of the file. Each may be written once."""
    keys: dict[str, str] = {}
    for each in written:
        at = join_key(option, each)
        first = keys.setdefault(reader.parse_role(each, at) if each.startswith(ROLE) else reader.parse(each, at), each)
        if first != each and report.is_sound(at):
            report.problem(at, f"this is who {first[:80]!a} is; write one of the two")
    return keys


def wanted_of(keys: Collection[str], prefix: str) -> Wanted:
    """The claims among `keys`, by which roles or tenants are given, of whose identities begin with `prefix`."""
    start = claim_key(prefix, "", "")[:-1]
    pairs = (key.removeprefix(start).partition("=") for key in keys if key.startswith(start))
    return tuple(sorted((claim, value) for claim, _, value in pairs))


class _Reader:
    def __init__(self, config: Config, users: Collection[str], report: Report) -> None:
        self._users, self._report, self._roles = users, report, config.roles
        self._issuers = {one.name for one in config.jwt if one.name is not None}
        self._people = prefixes_of(config.oauth2)

    def parse(self, written: str, path: str) -> str:
        """`written` as the gate names identities."""
        kind, colon, name = written.partition(":")
        report = self._report
        if not report.is_sound(path):
            return written
        if kind not in _KINDS or not colon or not name:
            report.problem(
                path,
                f"{written[:80]!a} is not an identity; basic:USER, token:NAME, jwt:SUBJECT, jwt:CLAIM=VALUE, "
                "introspection:SUBJECT, introspection:CLAIM=VALUE, cert:CN=NAME, cert:SAN=NAME, and of people "
                "oidc:user:E-MAIL, github:org:ORGANIZATION and the like (docs/authentication.md) are taken",
            )
        elif kind == "cert" and not (name.startswith(("CN=", "SAN=")) and name.partition("=")[2]):
            report.problem(path, f"{written[:80]!a}: a certificate is named cert:CN=NAME or cert:SAN=NAME")
        elif kind == "basic" and name not in self._users and users_are_known(report):
            report.problem(path, f"no user {name[:80]!a} in basic_auth_users{did_you_mean(name, self._users)}")
        elif kind == "token":
            try:
                NAME.parse(name)
            except ValueError as error:
                report.problem(path, str(error))
        elif kind == "introspection":
            return self._claim(Introspection.prefix, name, path)
        elif kind == "jwt":
            return self._of_issuer(name, path)
        elif kind in KINDS:
            return self._person(kind, name, path) or written
        return written

    def parse_role(self, written: str, path: str) -> str:
        """`role:NAME`, of a role that somebody may have."""
        role = written.removeprefix(ROLE)
        known = {*self._roles, WRITE, ANYONE}
        if role not in known and self._report.is_sound(path) and self._report.was_read("roles"):
            self._report.problem(path, f"no role {role[:80]!a} in roles{did_you_mean(role, known)}")
        return written

    def _person(self, kind: str, name: str, path: str) -> str:
        if self._report.is_sound("oauth2"):
            try:
                return parse_person(kind, name, self._people[kind])
            except ValueError as error:
                self._report.problem(path, str(error))
        return ""

    def _of_issuer(self, name: str, path: str) -> str:
        if not self._issuers:
            return self._claim("jwt:", name, path)
        issuer, _, rest = name.partition("/")
        if issuer not in self._issuers:
            hint = did_you_mean(issuer, self._issuers)
            self._report.problem(path, f"issuers have names here: write jwt:ISSUER/...; {issuer[:80]!a} is none{hint}")
        return self._claim(f"jwt:{issuer}/", rest, path)

    def _claim(self, prefix: str, name: str, path: str) -> str:
        claim, equals, value = name.partition("=")
        if not equals or claim == "sub":
            return prefix + (value if equals else name)
        if not _is_claim(claim) or not value:
            self._report.problem(path, f"{name[:80]!a}: a claim is written CLAIM=VALUE, a subject with '=' sub=SUBJECT")
        return claim_key(prefix, claim, value)
