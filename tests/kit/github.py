"""A stand-in for GitHub, for there is no real one in a test: it does what GitHub does where a client may stumble.

Tokens come as a form unless JSON is asked for; errors come with 200; the e-mail of a user is null; lists come in pages,
the next named by Link; who shows no User-Agent gets 403; a code is good once, with its redirect URI and its verifier.
(https://docs.github.com/apps/oauth-apps/building-oauth-apps/authorizing-oauth-apps, https://docs.github.com/rest)
"""

from __future__ import annotations

import base64
import hashlib
import json
import secrets
from collections import Counter
from dataclasses import dataclass, field
from html import escape
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qsl, urlencode, urlsplit

from tests.kit.http_server import HttpServer, Reply

if TYPE_CHECKING:
    from pathlib import Path

    from tests.kit.http_server import Request

CLIENT, SECRET = "Iv1.github", "github-secret"
_PREFIX = "/api/v3"


@dataclass
class User:
    """Somebody at GitHub. `emails` are (address, is primary, is verified); `teams` are `ORG/SLUG`."""

    login: str
    number: int
    organizations: list[str] = field(default_factory=list)
    teams: list[str] = field(default_factory=list)
    emails: list[tuple[str, bool, bool]] = field(default_factory=list)
    email: str | None = None


class Github(HttpServer):
    """`users` by their login. `page` is how many of a list come at once, whatever is asked for.

    `authorize` is what the browser does: it answers where it is sent back to. For a real browser there is a page with a
    button for each user, who is logged in by that, and agrees. `answers` overrides a path.
    """

    def __init__(self, *users: User, page: int = 2, tls: tuple[Path, Path] | None = None) -> None:
        super().__init__(self._answer, tls)
        self.users = {user.login: user for user in users}
        self.page = page
        self.asked: Counter[str] = Counter()
        self.answers: dict[str, Reply] = {}
        self._codes: dict[str, tuple[str, str, str]] = {}
        self.tokens: dict[str, str] = {}

    @property
    def api(self) -> str:
        return self.base + _PREFIX

    def authorize(self, url: str, login: str) -> str:
        """Where `login`, who is logged in there and agrees, is sent back to from `url`."""
        where, query = urlsplit(url), dict(parse_qsl(urlsplit(url).query))
        if where.path != "/login/oauth/authorize" or query["client_id"] != CLIENT:
            raise ValueError(f"GitHub has nothing at {url}")
        if query["code_challenge_method"] != "S256":
            raise ValueError("GitHub takes S256 alone")
        code = secrets.token_hex(10)
        self._codes[code] = login, query["redirect_uri"], query["code_challenge"]
        return f"{query['redirect_uri']}?{urlencode({'code': code, 'state': query['state']})}"

    def _answer(self, request: Request) -> Reply:
        where = urlsplit(request.path)
        self.asked[where.path] += 1
        if where.path in self.answers:
            return self.answers[where.path]
        if where.path == "/login/oauth/authorize" and request.method == "GET":
            return self._ask_person(request.path)
        if where.path == "/login/oauth/access_token" and request.method == "POST":
            return self._give_token(request)
        if not request.headers["User-Agent"]:
            return Reply(403, b"Request forbidden by administrative rules. Please make sure it has a User-Agent")
        login = self.tokens.get((request.headers["Authorization"] or "").removeprefix("Bearer "), "")
        if login not in self.users:
            return _told({"message": "Bad credentials"}, 401)
        return self._of_user(self.users[login], where.path.removeprefix(_PREFIX), where.query)

    def _ask_person(self, path: str) -> Reply:
        url, _, login = (self.base + path).partition("&as=")
        if login:
            return Reply(302, headers={"Location": self.authorize(url, login)})
        links = (f'<a href="{escape(url)}&amp;as={name}">Authorize as {name}</a>' for name in self.users)
        return Reply(200, f"<!doctype html><title>GitHub</title>{' '.join(links)}".encode(), "text/html")

    def _give_token(self, request: Request) -> Reply:
        form = dict(parse_qsl(request.body.decode()))
        login, redirect, challenge = self._codes.pop(form.get("code", ""), ("", "", ""))
        hashed = hashlib.sha256(form.get("code_verifier", "").encode()).digest()
        if (form.get("client_id"), form.get("client_secret")) != (CLIENT, SECRET):
            told = {"error": "incorrect_client_credentials", "error_description": "The client_id is wrong."}
        elif not login or base64.urlsafe_b64encode(hashed).rstrip(b"=").decode() != challenge:
            told = {"error": "bad_verification_code", "error_description": "The code is incorrect or expired."}
        elif form.get("redirect_uri") != redirect:
            told = {"error": "redirect_uri_mismatch", "error_description": "The redirect_uri MUST match."}
        else:
            token = f"gho_{secrets.token_hex(18)}"
            self.tokens[token] = login
            told = {"access_token": token, "scope": "read:org,user:email", "token_type": "bearer"}
        if "application/json" in (request.headers["Accept"] or ""):
            return _told(told)
        return Reply(200, urlencode(told).encode(), "application/x-www-form-urlencoded; charset=utf-8")

    def _of_user(self, user: User, path: str, query: str) -> Reply:
        match path:
            case "/user":
                return _told({"login": user.login, "id": user.number, "email": user.email})
            case "/user/emails":
                names = ("email", "primary", "verified", "visibility")
                return self._paged(path, query, [dict(zip(names, (*one, None), strict=True)) for one in user.emails])
            case "/user/orgs":
                return self._paged(path, query, [{"login": one, "id": 1} for one in user.organizations])
            case "/user/teams":
                pairs = (one.split("/") for one in user.teams)
                listed = [{"slug": slug, "name": slug.title(), "organization": {"login": org}} for org, slug in pairs]
                return self._paged(path, query, listed)
        return _told({"message": "Not Found"}, 404)

    def _paged(self, path: str, query: str, whole: list[Any]) -> Reply:
        number = int(dict(parse_qsl(query)).get("page", "1"))
        start = (number - 1) * self.page
        links = [f'<{self.api}{path}?per_page=100&page=1>; rel="first"']
        if start + self.page < len(whole):
            links.insert(0, f'<{self.api}{path}?per_page=100&page={number + 1}>; rel="next"')
        return _told(whole[start : start + self.page], headers={"Link": ", ".join(links)})


def _told(value: Any, status: int = 200, headers: dict[str, str] | None = None) -> Reply:
    return Reply(status, json.dumps(value).encode(), "application/json; charset=utf-8", headers or {})
