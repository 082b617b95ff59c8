"""promgate before a small upstream, a real provider of people, and somebody with a browser that speaks plain HTTP."""

from __future__ import annotations

import re
from contextlib import contextmanager
from http.cookies import SimpleCookie
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol
from urllib.parse import parse_qs, urlencode, urlsplit

from tests.kit.dev_login import DevBrowser
from tests.kit.fetch import fetch
from tests.kit.http_server import HttpServer, Reply, Request
from tests.kit.process import free_port
from tests.kit.promgate import Promgate
from tests.kit.providers import PeopleProvider
from tests.kit.users import htpasswd, write_private

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path

    from tests.kit.fetch import Answer

COOKIE = "__Host-promgate"
STATE = "__Host-promgate-login"
#: What a browser that opens a page sends, and what a form of one of our pages does.
OPENS = {"Accept": "text/html,*/*", "Sec-Fetch-Mode": "navigate", "Sec-Fetch-Site": "none"}
FORM = {"Content-Type": "application/x-www-form-urlencoded", "Sec-Fetch-Site": "same-origin"}


class Site(NamedTuple):
    """`seen` are the requests that the upstream got."""

    promgate: Promgate
    provider: PeopleProvider
    seen: list[Request]

    @property
    def base(self) -> str:
        return self.promgate.base


class Served(Protocol):
    """Where somebody goes: a promgate, whoever its provider is."""

    @property
    def promgate(self) -> Promgate: ...

    @property
    def base(self) -> str: ...


class Person:
    """One browser: it keeps the cookies of promgate and, beside them, those of the provider."""

    def __init__(self, site: Served) -> None:
        self.site = site
        self.cookies: dict[str, str] = {}
        self.at_provider = DevBrowser()

    def ask(
        self, path: str, method: str = "GET", body: bytes | None = None, headers: Mapping[str, str] | None = None
    ) -> Answer:
        """One request to promgate, with what the browser knows."""
        fields = dict(headers or {})
        if self.cookies:
            fields["Cookie"] = "; ".join(f"{name}={value}" for name, value in self.cookies.items())
        site = self.site
        answer = fetch(
            site.base + path, method=method, body=body, headers=fields, ca_file=site.promgate.ca_file, timeout_s=30
        )
        for line in answer.headers.get_all("Set-Cookie", []):
            for name, morsel in SimpleCookie(line).items():
                if morsel["max-age"] == "0":
                    self.cookies.pop(name, None)
                else:
                    self.cookies[name] = morsel.value
        return answer

    def open(self, path: str) -> Answer:
        """As a page, the browser's own way."""
        return self.ask(path, headers=OPENS)

    def submit(self, path: str, **form: str) -> Answer:
        return self.ask(path, "POST", urlencode(form).encode(), {"Origin": self.site.base, **FORM})

    def go_to_provider(self, rd: str = "/app/x") -> str:
        """Begin a login; the URL at the provider."""
        answer = self.open("/-/login/corp?" + urlencode({"rd": rd}))
        assert answer.status == 302, answer.body
        return str(answer.headers["Location"])

    def come_back(self, name: str, rd: str = "/app/x") -> str:
        """Log in at the provider; the path and query with which the browser is sent back to promgate."""
        url = self.at_provider.log_in(self.go_to_provider(rd), name, self.site.base)
        where = urlsplit(url)
        return f"{where.path}?{where.query}"

    def log_in(self, name: str, rd: str = "/app/x") -> Answer:
        """All of it: the answer that has the session."""
        return self.open(self.come_back(name, rd))


def asked_for(answer: Answer) -> str:
    """The path that a redirect to the login page remembers."""
    return parse_qs(urlsplit(str(answer.headers["Location"])).query)["rd"][0]


def links_of(page: bytes) -> list[str]:
    return re.findall(r'href="([^"]*)"', page.decode())


@contextmanager
def people_site(directory: Path, client: Mapping[str, Any] | None = None, **config: Any) -> Iterator[Site]:
    """`client` is more of what the provider knows of promgate; `config` is merged over the usual one.

    That is: /app, by password too, and /people, for `viewer` (all of example.net, and ann) and `admin` (group sre).
    """
    port = free_port()
    base = f"https://127.0.0.1:{port}"
    seen: list[Request] = []

    def answer(request: Request) -> Reply:
        seen.append(request)
        return Reply(200, b"the page", "text/html")

    own = {
        "redirect_uris": [f"{base}/-/callback/corp"],
        "post_logout_redirect_uris": [f"{base}/-/logout"],
        **(client or {}),
    }
    with HttpServer(answer) as upstream, PeopleProvider(directory / "provider", **own) as provider:
        write_private(directory / "promgate" / "users", htpasswd("ann"))
        write_private(directory / "promgate" / "client.secret", "promgate-secret")
        login = {
            "name": "corp", "title": "Corp & Co", "issuer": provider.base, "client_id": "promgate",
            "client_secret_file": "client.secret", "scopes": ["openid", "email", "groups", "offline_access"],
        }  # fmt: skip
        route = {"upstream": upstream.base, "allow": ["viewer", {"role": "admin"}]}
        merged = {
            "external_url": base,
            "htpasswd_file": "users",
            "oauth2": login,
            "roles": {"viewer": ["oidc:domain:example.net", "basic:ann"], "admin": ["oidc:group:sre"]},
            "routes": [
                {"name": "app", "path": "/app", "auth": ["basic", "oauth2"], **route},
                {"name": "people", "path": "/people", "auth": "oauth2", "websocket": True, **route},
            ],
            **config,
        }
        with Promgate(directory / "promgate", merged, port) as promgate:
            yield Site(promgate, provider, seen)
