"""People of GitHub, or of a GitHub Enterprise server: OAuth 2 with ways of its own, and an API instead of an ID token.

Who somebody is, is asked with the token that the code gave, over TLS, each time anew. An organization or a team counts
when the API lists it; an e-mail when it is the primary one and verified. What could not be read to its end is an error,
never a shorter list.
"""

from __future__ import annotations

import re
from time import monotonic
from typing import TYPE_CHECKING, Any, Final

from proxy.login.flow import (
    LOGIN_TTL_S,
    Refreshes,
    challenge_of,
    check_code,
    check_state,
    deadline,
    make_memory,
    with_query,
)
from proxy.login.oidc_person import fold_mail
from proxy.login.once import Once
from proxy.login.people import Begun, LoggedOut, Person, Refused
from proxy.login.provider import ProviderClient, ProviderError
from proxy.login.token_endpoint import POST, TokenEndpoint, is_token

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from proxy.gate.providers import GithubLogin

#: Who asks: without a User-Agent it answers 403 (https://docs.github.com/rest, "User agent required").
_HEADERS: Final = {
    "Accept": "application/vnd.github+json",
    "User-Agent": "promgate",
    "X-GitHub-Api-Version": "2022-11-28",
}
#: Of a hundred each. Nobody is in more organizations; a list that goes on for ever is none.
_MAX_PAGES: Final = 10
_is_login = re.compile(r"[a-z0-9_-]{1,64}").fullmatch
_next_of = re.compile(r'<([^>]+)>\s*;[^,]*\brel="?next"?').search


class GithubProvider:
    """`PeopleProvider` for one GitHub."""

    def __init__(self, written: GithubLogin, clock: Callable[[], float] = monotonic) -> None:
        del clock  # nothing is kept here for a time
        self.name, self.title = written.name, written.title
        self._written = written
        self._endpoint = TokenEndpoint(written.client_id, written.client_secret, written.client_secret_file)
        self._states = Once(2 * LOGIN_TTL_S)
        self._refreshes = Refreshes(self.name, written.refresh_s)

    async def begin(self, redirect_uri: str) -> Begun:
        memory = make_memory(self.name)
        query = {
            "client_id": self._written.client_id,
            "redirect_uri": redirect_uri,
            "scope": " ".join(self._written.scopes),
            "state": memory["state"],
            "code_challenge": challenge_of(memory["verifier"]),
            "code_challenge_method": "S256",
            "allow_signup": "false",
        }
        return Begun(with_query(f"{self._written.base_url}/login/oauth/authorize", query), memory)

    async def finish(
        self, query: Mapping[str, str], memory: Mapping[str, str], redirect_uri: str, now: float
    ) -> Person | Refused:
        if refused := check_state(self.name, query, memory, self._states, now) or check_code(query):
            return refused
        form = {"code": query["code"], "redirect_uri": redirect_uri, "code_verifier": memory["verifier"]}
        url = f"{self._written.base_url}/login/oauth/access_token"
        async with deadline(self.name), ProviderClient(self._written.ca_file) as client:
            tokens = await self._endpoint.ask(client, url, form, [POST])
            if isinstance(tokens, Refused):
                return tokens
            kind, access = tokens.get("token_type"), tokens.get("access_token")
            if not isinstance(kind, str) or kind.lower() != "bearer" or not is_token(access):
                raise ProviderError(f"{url} answered without an access token of type Bearer")
            return await self._look(client, str(access), now)

    async def refresh(self, person: Person, now: float) -> Person | Refused:
        return await self._refreshes.join(person.refresh_token, lambda: self._refresh(person, now))

    async def logout_url(self, person: Person, after: str, state: str = "") -> str | None:  # noqa: ARG002 - GitHub has none
        return None

    async def read_logout_token(self, text: str, now: float) -> LoggedOut | Refused:  # noqa: ARG002 - GitHub sends none
        return Refused(f"{self.name} is GitHub, which logs nobody out from afar")

    async def aclose(self, grace_s: float = 0.0) -> None:
        await self._refreshes.aclose(grace_s)

    async def _refresh(self, person: Person, now: float) -> Person | Refused:
        try:
            async with deadline(self.name), ProviderClient(self._written.ca_file) as client:
                found = await self._look(client, person.refresh_token, now)
        except ProviderError as error:
            if error.status == 401:  # the token was revoked, by the person or by GitHub
                return Refused("GitHub takes this login no more: log in again")
            raise
        if isinstance(found, Person) and found.subject != person.subject:
            return Refused("GitHub now speaks of somebody else: log in again")
        return found

    async def _look(self, client: ProviderClient, token: str, now: float) -> Person | Refused:
        """Who has the token, and what they are."""
        written = self._written
        headers = {**_HEADERS, "Authorization": f"Bearer {token}"}
        answer = await client.ask_once("GET", f"{written.api_url}/user", headers)
        if answer.status != 200:
            raise ProviderError(f"{answer.url} answered {answer.status}", answer.status)
        user = answer.parse_object()
        number, login = user.get("id"), user.get("login")
        folded = login.lower() if isinstance(login, str) and login.isascii() else ""
        if not isinstance(number, int) or isinstance(number, bool) or not _is_login(folded):
            raise ProviderError(f"{answer.url} told of nobody with an id and a login")
        organizations = await self._names(client, headers, "org", written.organizations, _organization)
        teams = await self._names(client, headers, "team", written.teams, _team)
        if (written.organizations or written.teams) and not (
            written.organizations & organizations or written.teams & teams
        ):
            return Refused("you are in none of the organizations and teams that may log in here: ask whoever runs it")
        if written.allowed_domains:
            mail = await self._mail(client, headers)
            if mail.rpartition("@")[2] not in written.allowed_domains:
                return Refused("your verified primary e-mail at GitHub is of no domain that may log in here")
        name = f"{written.prefix}user:{folded}"
        keys = {f"{written.prefix}any", f"{written.prefix}id:{number}"}
        keys.update(f"{written.prefix}org:{one}" for one in organizations)
        keys.update(f"{written.prefix}team:{one}" for one in teams)
        return Person(
            provider=self.name,
            name=name,
            subject=str(number),
            granted=(name, *sorted(keys & written.known)),
            refresh_token=token,
            fresh_until=now + written.refresh_s,
        )

    async def _names(
        self,
        client: ProviderClient,
        headers: Mapping[str, str],
        what: str,
        wanted: frozenset[str],
        name_of: Callable[[Any], str],
    ) -> frozenset[str]:
        """The person's organizations (`org`) or teams (`team`); none where none matters, for then nobody is asked."""
        start = f"{self._written.prefix}{what}:"
        if not wanted and not any(key.startswith(start) for key in self._written.known):
            return frozenset()
        listed = await self._list(client, headers, f"/user/{what}s?per_page=100")
        return frozenset(name for one in listed if (name := name_of(one)))

    async def _mail(self, client: ProviderClient, headers: Mapping[str, str]) -> str:
        """The primary e-mail if it is verified. That of `/user` is what somebody shows of themselves, often nothing."""
        for one in await self._list(client, headers, "/user/emails?per_page=100"):
            if isinstance(one, dict) and one.get("primary") is True and one.get("verified") is True:
                return fold_mail(one.get("email"))
        return ""

    async def _list(self, client: ProviderClient, headers: Mapping[str, str], path: str) -> list[Any]:
        """All pages of a list."""
        url, found = f"{self._written.api_url}{path}", []
        for _ in range(_MAX_PAGES):
            answer = await client.ask_once("GET", url, headers)
            if answer.status != 200:
                raise ProviderError(f"{answer.url} answered {answer.status}; are all scopes granted?", answer.status)
            found += answer.parse_list()
            following = _next_of(answer.link)
            if following is None:
                return found
            url = following[1]
            if not url.startswith(f"{self._written.api_url}/"):  # the token goes nowhere else
                raise ProviderError(f"{answer.url} goes on at another place, {url[:200]!a}: it is not asked there")
        raise ProviderError(f"{self._written.api_url}{path} has more than {_MAX_PAGES} pages")


def _organization(one: Any) -> str:
    return _folded(one.get("login")) if isinstance(one, dict) else ""


def _team(one: Any) -> str:
    """`ORG/SLUG`."""
    if not isinstance(one, dict):
        return ""
    organization, slug = _organization(one.get("organization")), _folded(one.get("slug"))
    return f"{organization}/{slug}" if organization and slug else ""


def _folded(name: object) -> str:
    return name.lower() if isinstance(name, str) and name.isascii() else ""
