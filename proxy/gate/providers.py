"""Providers of people, and for how long their word holds, as configured. Made by `config.build`, never changed.

Values alone: a provider is asked by `login`, and what a person may do is decided here as for everybody else.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import NamedTuple


class SessionTimes(NamedTuple):
    """How long a person stays logged in, in seconds: at most, unused, and between two looks at the provider."""

    absolute_s: float = 12 * 3600.0
    idle_s: float = 3600.0
    refresh_s: float = 300.0


@dataclass(frozen=True, slots=True)
class OidcLogin:
    """An OpenID provider (OpenID Connect Core 1.0), and who of those that it knows may log in.

    `client_secret` empty: a public client. It is read again from `client_secret_file` when the provider refuses it.
    `allowed_groups`, `allowed_domains` empty: no condition. Domains are lower case. `prefix` begins the names of its
    identities; `known` are the keys that somebody has a role for.
    """

    name: str
    title: str
    issuer: str
    client_id: str
    client_secret: str = field(default="", repr=False)
    client_secret_file: str = ""
    scopes: tuple[str, ...] = ("openid", "email", "profile")
    ca_file: str = ""
    algorithms: tuple[str, ...] = ("ES256", "RS256")
    authorize_params: tuple[tuple[str, str], ...] = ()
    email_claim: str = "email"
    takes_unverified_email: bool = False
    groups_claim: str = "groups"
    allowed_groups: frozenset[str] = frozenset()
    allowed_domains: frozenset[str] = frozenset()
    prefix: str = "oidc:"
    known: frozenset[str] = frozenset()
    refresh_s: float = 300.0


@dataclass(frozen=True, slots=True)
class GithubLogin:
    """GitHub or a GitHub Enterprise server, and who of its users may log in.

    `base_url` is where people log in, `api_url` where it is asked; neither has a '/' at its end. A user of one of
    `organizations`, or of one of `teams` (`ORG/TEAM`), may; where both are empty, anybody. Names are lower case, as
    GitHub compares them. The rest is as of OidcLogin.
    """

    name: str
    title: str
    client_id: str
    client_secret: str = field(repr=False)
    client_secret_file: str = ""
    scopes: tuple[str, ...] = ("read:user", "user:email")
    base_url: str = "https://github.com"
    api_url: str = "https://api.github.com"
    ca_file: str = ""
    organizations: frozenset[str] = frozenset()
    teams: frozenset[str] = frozenset()
    allowed_domains: frozenset[str] = frozenset()
    prefix: str = "github:"
    known: frozenset[str] = frozenset()
    refresh_s: float = 300.0


Provider = OidcLogin | GithubLogin
