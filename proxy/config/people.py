"""Who knows people, and how long they stay logged in: the options, and what they mean together.

Nothing is asked here: a configuration is checked without its providers.
"""

from __future__ import annotations

from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from proxy.config import files
from proxy.config.issuers import check_discovery
from proxy.config.people_keys import parse_domain, parse_organization, parse_team, prefixes_of
from proxy.config.shape import REQUIRED, Kind, ListOf, MapOf, Section, choice, option
from proxy.config.units import format_duration, is_loopback
from proxy.config.words import ALGORITHM, FILE, NAME, PROVIDER_URL, SECRET, SPAN, SWITCH, TEXT
from proxy.gate.providers import GithubLogin, OidcLogin, Provider, SessionTimes

if TYPE_CHECKING:
    from collections.abc import Collection
    from pathlib import Path

    from proxy.config.problem import Report
    from proxy.config.schema import Config

    #: By which roles or tenants are given.
    Keys = Collection[str]

_GITHUB, _GITHUB_API = "https://github.com", "https://api.github.com"
#: What the login itself needs of a request to a provider; nobody else may set it.
_OURS = frozenset(
    """response_type response_mode client_id client_secret redirect_uri scope state nonce code_challenge
    code_challenge_method request request_uri registration""".split()
)
#: Options that one of the two kinds of provider has alone.
_ONLY_FOR = {
    "oidc": (
        "issuer", "algorithms", "authorize_params", "email_claim", "insecure_unverified_email", "groups_claim",
        "allowed_groups",
    ),
    "github": ("base_url", "api_url", "organizations", "teams"),
}  # fmt: skip
_LONG_SESSION_S = 7 * 86400.0


def _scope(text: str) -> str:
    # RFC 6749 3.3
    if not text.isascii() or not text.isprintable() or set(text) & {" ", '"', "\\"}:
        raise ValueError("a scope is one word; write a list of them")
    return text


_SCOPE = Kind("scope", _scope, "")
_DOMAIN = Kind("domain", parse_domain, "")
_ORGANIZATION = Kind("organization", parse_organization, "")
_TEAM = Kind("team", parse_team, "")


class Oauth2(Section):
    """A provider by which people log in. docs/authentication.md has one ready for each of the usual providers.

    Register `EXTERNAL_URL/-/callback/NAME` there as the redirect URI, and `EXTERNAL_URL/-/logout` as where people
    come back to after they logged out.
    """

    provider: str = option(choice("oidc", "github"), "oidc", "`oidc`: any OpenID provider. `github`: GitHub's own way.")
    name: str | None = option(
        NAME, None, "A word for it, in its redirect URI and in logs. Left out: `oidc` or `github`. Each has its own."
    )
    title: str | None = option(TEXT, None, "What people read on the login page. Left out: its host, or `GitHub`.")
    issuer: str | None = option(
        TEXT, None, "Of `oidc`, and needed there: exactly what the provider calls itself. All else is discovered."
    )
    client_id: str = option(TEXT, REQUIRED, "What the provider calls promgate.")
    client_secret: str = option(
        SECRET,
        None,
        "Its secret. Left out: a public client, of `oidc` alone. The file is read again when the provider refuses it.",
        has_file=True,
    )
    scopes: tuple[str, ...] = option(
        ListOf(_SCOPE, or_one=True),
        [],
        "What is asked for. Left out: `openid`, `email`, `profile`; of `github` `read:user`, `user:email`, and "
        "`read:org` where an organization or team matters. Many want `offline_access` before they let a session "
        "be looked at again.",
    )
    authorize_params: dict[str, str] = option(
        MapOf("parameter", TEXT), {}, "Of `oidc`: more parameters for its login page, such as `prompt: consent`."
    )
    algorithms: tuple[str, ...] = option(
        ListOf(ALGORITHM, or_one=True), ["ES256", "RS256"], "Of `oidc`: signature algorithms that are believed."
    )
    email_claim: str = option(
        TEXT, "email", "Of `oidc`: where the e-mail stands. Another than `email` needs `insecure_unverified_email`."
    )
    insecure_unverified_email: bool = option(
        SWITCH,
        "false",
        "Of `oidc`: take an e-mail of which the provider does not say `email_verified: true`. Where people choose "
        "their e-mail themselves, anybody is then anybody.",
    )
    groups_claim: str = option(
        TEXT, "groups", "Of `oidc`: where the groups stand, a list of texts. `a.b` is `b` within `a`."
    )
    allowed_groups: tuple[str, ...] = option(
        ListOf(TEXT, or_one=True), [], "Of `oidc`: who is in none of these may not log in. Left out: no condition."
    )
    allowed_domains: tuple[str, ...] = option(
        ListOf(_DOMAIN, or_one=True),
        [],
        "Whose verified e-mail is of none of these may not log in. `*`, and left out: no condition.",
    )
    organizations: tuple[str, ...] = option(
        ListOf(_ORGANIZATION, or_one=True), [], "Of `github`: who is in none of these, nor in `teams`, may not log in."
    )
    teams: tuple[str, ...] = option(
        ListOf(_TEAM, or_one=True), [], "Of `github`: `ORGANIZATION/TEAM`; who is in one of these may log in."
    )
    base_url: str = option(PROVIDER_URL, _GITHUB, "Of `github`: where people log in; a GitHub Enterprise server.")
    api_url: str | None = option(
        PROVIDER_URL, None, "Of `github`: its API. Left out: `https://api.github.com`, or `BASE_URL/api/v3`."
    )
    ca_file: str | None = option(
        FILE, None, "Authorities that sign the provider's certificate; left out: the system's."
    )

    @property
    def known_as(self) -> str:
        """`name`, or what stands for it."""
        return self.name or self.provider


class Sessions(Section):
    """How long people stay logged in (`oauth2`)."""

    absolute: float = option(SPAN, "12h", "At most; then they log in again.")
    idle: float = option(SPAN, "1h", "Without a request.")
    refresh: float = option(
        SPAN,
        "5m",
        "Between two looks at the provider, for whom it gave a refresh token: who lost a group loses its roles then, "
        "and who was locked out is logged out.",
    )


def build_people(
    config: Config, keys: Keys, report: Report, base: Path, *, open_files: bool
) -> tuple[Provider, ...]:
    """One value for each entry of `oauth2`. `base`: where paths start."""
    _check_unique(config, report)
    _check_external_url(config, report)
    for written in config.oauth2:
        _check_kind(written, report)
        _check_conditions(written, keys, report)
        if written.ca_file is not None and open_files and report.is_sound(f"{written.at}.ca_file"):
            files.check_authorities(base / written.ca_file, f"{written.at}.ca_file", report)
    _check_audiences(config, report)
    prefixes = prefixes_of(config.oauth2)
    refresh_s = SessionTimes().refresh_s if config.sessions is None else config.sessions.refresh
    return tuple(
        _build(written, prefixes[written.provider][written.known_as], keys, refresh_s, base)
        for written in config.oauth2
    )


def build_session_times(config: Config, report: Report) -> SessionTimes:
    written = config.sessions
    if written is None:
        return SessionTimes()
    times = SessionTimes(written.absolute, written.idle, written.refresh)
    if not report.is_sound("sessions"):
        return times
    is_used = config.console is not None or any("oauth2" in route.auth for route in config.routes)
    if not config.oauth2 and not is_used and report.is_sound("oauth2", "routes", "console"):
        report.warning("sessions", "no route takes them: write auth: [basic, oauth2] where people open pages")
    if written.idle > written.absolute:
        report.warning("sessions.idle", f"without effect: a session ends after {format_duration(written.absolute)}")
    if written.absolute > _LONG_SESSION_S:
        report.warning("sessions.absolute", "long: a cookie that leaked lets in for as long")
    if written.refresh > written.absolute:
        report.warning("sessions.refresh", "without effect: the session is over before the provider is asked again")
    return times


def _build(written: Oauth2, prefix: str, keys: Keys, refresh_s: float, base: Path) -> Provider:
    known = frozenset(key for key in keys if key.startswith(prefix))
    ca_file = "" if written.ca_file is None else str(base / written.ca_file)
    domains = frozenset(written.allowed_domains) if "*" not in written.allowed_domains else frozenset()
    secret_file = written.files.get("client_secret", "")
    if written.provider == "github":
        return GithubLogin(
            name=written.known_as,
            title=written.title or _github_title(written),
            client_id=written.client_id,
            client_secret=written.client_secret or "",
            client_secret_file=secret_file,
            scopes=written.scopes or _github_scopes(written, prefix, known),
            base_url=written.base_url.rstrip("/"),
            api_url=_api_url(written),
            ca_file=ca_file,
            organizations=frozenset(written.organizations),
            teams=frozenset(written.teams),
            allowed_domains=domains,
            prefix=prefix,
            known=known,
            refresh_s=refresh_s,
        )
    return OidcLogin(
        name=written.known_as,
        title=written.title or urlsplit(written.issuer or "").hostname or written.known_as,
        issuer=written.issuer or "",
        client_id=written.client_id,
        client_secret=written.client_secret or "",
        client_secret_file=secret_file,
        scopes=written.scopes or ("openid", "email", "profile"),
        ca_file=ca_file,
        algorithms=written.algorithms,
        authorize_params=tuple(sorted(written.authorize_params.items())),
        email_claim=written.email_claim,
        takes_unverified_email=written.insecure_unverified_email,
        groups_claim=written.groups_claim,
        allowed_groups=frozenset(written.allowed_groups),
        allowed_domains=domains,
        prefix=prefix,
        known=known,
        refresh_s=refresh_s,
    )


def _github_title(written: Oauth2) -> str:
    return "GitHub" if written.base_url == _GITHUB else urlsplit(written.base_url).hostname or "GitHub"


def _github_scopes(written: Oauth2, prefix: str, known: frozenset[str]) -> tuple[str, ...]:
    """`read:org` only where it is needed: people are asked for it, and organizations may have to approve."""
    matters = written.organizations or written.teams
    if matters or any(key.startswith((f"{prefix}org:", f"{prefix}team:")) for key in known):
        return ("read:user", "user:email", "read:org")
    return ("read:user", "user:email")


def _api_url(written: Oauth2) -> str:
    if written.api_url is not None:
        return written.api_url.rstrip("/")
    base_url = written.base_url.rstrip("/")
    return _GITHUB_API if base_url == _GITHUB else f"{base_url}/api/v3"


def _check_unique(config: Config, report: Report) -> None:
    seen: dict[str, str] = {}
    for written in config.oauth2:
        at = f"{written.at}.name"
        first = seen.setdefault(written.known_as, at)
        if first != at and report.is_sound(at, first, f"{written.at}.provider"):
            line = report.line_of(first)
            report.problem(at, f"{written.known_as} is already the name of the provider in line {line}; choose another")


def _check_external_url(config: Config, report: Report) -> None:
    if not config.has_sessions or not report.is_sound("external_url"):
        return
    url = config.external_url
    if url is None and config.oauth2:
        report.problem("oauth2", "needs external_url: where do providers send people back to?")
    elif url is None:
        report.problem("sessions", "needs external_url: where do people log in?")
    elif not url.startswith("https://") and not is_loopback((urlsplit(url).hostname or "").strip("[]")):
        report.problem("external_url", "people come there with what lets them in, so it must begin with https://")


def _check_kind(written: Oauth2, report: Report) -> None:
    at = written.at
    if not report.is_sound(f"{at}.provider"):
        return
    for kind, names in _ONLY_FOR.items():
        for name in names if kind != written.provider else ():
            if f"{at}.{name}" in report.lines and report.is_sound(f"{at}.{name}"):
                report.problem(f"{at}.{name}", f"has a meaning only with provider: {kind}")
    if written.provider == "github":
        if written.client_secret is None and "client_secret" not in written.files and report.is_sound(at):
            report.problem(at, "GitHub wants client_secret, or client_secret_file")
        return
    if written.issuer is None:
        if report.is_sound(f"{at}.issuer"):
            report.problem(at, "issuer is missing: what does the provider call itself?")
    elif report.is_sound(f"{at}.issuer"):
        check_discovery(written.issuer, f"{at}.issuer", "its URL", report)
    if not written.algorithms and report.is_sound(f"{at}.algorithms"):
        report.problem(f"{at}.algorithms", "at least one algorithm is needed")
    if written.scopes and "openid" not in written.scopes and report.is_sound(f"{at}.scopes"):
        report.problem(f"{at}.scopes", "openid is missing: without it a provider tells nobody's name")
    for name in written.authorize_params:
        if name in _OURS and report.is_sound(f"{at}.authorize_params"):
            report.problem(f"{at}.authorize_params.{name}", "the login sets it itself; leave it out")


def _check_conditions(written: Oauth2, keys: Keys, report: Report) -> None:
    """Who may log in is more than it seems where an e-mail can be made up, or a provider has all the world."""
    at = written.at
    unverified = written.insecure_unverified_email
    if written.email_claim != "email" and not unverified and report.is_sound(f"{at}.email_claim"):
        report.problem(
            f"{at}.email_claim",
            "email_verified speaks of email alone; write insecure_unverified_email: true if your provider lets nobody "
            "choose this claim",
        )
    if unverified and report.is_sound(f"{at}.insecure_unverified_email"):
        report.warning(
            f"{at}.insecure_unverified_email",
            "whoever may choose their e-mail at the provider is let in as anybody; oidc:sub and oidc:group are safer",
        )
    is_open = not (written.organizations or written.teams or set(written.allowed_domains) - {"*"})
    if written.provider == "github" and is_open and "github:any" in keys and report.is_sound(at):
        report.warning(at, "github:any is everybody with a GitHub account; name organizations or teams")


def _check_audiences(config: Config, report: Report) -> None:
    """An ID token proves to promgate who a person is, and is no key to what stands behind it (RFC 9068 2.1)."""
    logins = {(each.issuer, each.client_id) for each in config.oauth2 if each.issuer is not None}
    for issuer in config.jwt:
        at = f"{issuer.at}.audience"
        if (issuer.issuer, issuer.audience) in logins and issuer.typ != "at+jwt" and report.is_sound(at):
            report.problem(
                at,
                "it is the client_id of oauth2, so ID tokens of people could pass for access tokens; write typ: at+jwt "
                "or give the API an audience of its own",
            )
