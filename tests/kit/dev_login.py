"""A person at oidc-provider's development login page, by plain HTTP: names themselves, consents, comes back."""

from __future__ import annotations

import re
from http.cookies import SimpleCookie
from typing import TYPE_CHECKING
from urllib.parse import urlencode, urljoin, urlsplit

from tests.kit.fetch import fetch

if TYPE_CHECKING:
    from tests.kit.fetch import Answer

_MAX_STEPS = 20
_FORM = {"Content-Type": "application/x-www-form-urlencoded"}


class DevBrowser:
    """Follows redirects and keeps cookies, of one host."""

    def __init__(self) -> None:
        self._cookies: dict[str, str] = {}

    def log_in(self, url: str, name: str, back: str) -> str:
        """The URL below `back` where the provider sends the browser after `name` logged in and consented."""
        answer = self._get(url)
        for _ in range(_MAX_STEPS):
            location = answer.headers["Location"]
            if location is None:
                url, form = self._form_of(url, answer.body.decode())
                answer = self._get(url, {**form, "login": name, "password": "any"})
                continue
            url = urljoin(url, location)
            if url.startswith(back):
                return url
            answer = self._get(url)
        raise ConnectionError(f"the login never came to its end: {url}")

    def abort(self, url: str, back: str) -> str:
        """Where the provider sends the browser when somebody turns back at its login page."""
        answer = self._get(url)
        for _ in range(_MAX_STEPS):
            location = answer.headers["Location"]
            if location is None:
                found = re.search(r'href="([^"]*/abort)"', answer.body.decode())
                if found is None:
                    raise ConnectionError(f"no way back at {url}")
                answer = self._get(url := urljoin(url, found[1]))
                continue
            url = urljoin(url, location)
            if url.startswith(back):
                return url
            answer = self._get(url)
        raise ConnectionError(f"the login never came to its end: {url}")

    def log_out(self, url: str, back: str) -> str:
        """Where the provider sends the browser after it was asked whether it wants to log out, and did."""
        answer = self._get(url)
        url, form = self._form_of(url, answer.body.decode())
        answer = self._get(url, {**form, "logout": "yes"})
        where: str = urljoin(url, answer.headers["Location"] or "")
        if not where.startswith(back):
            raise ConnectionError(f"the logout leads to {where}: {answer.status}")
        return where

    def _form_of(self, url: str, page: str) -> tuple[str, dict[str, str]]:
        action = re.search(r'<form[^>]* action="([^"]*)"', page)
        if action is None:
            raise ConnectionError(f"no form at {url}: {page[:2000]}")
        return urljoin(url, action[1]), dict(re.findall(r'name="(\w+)" value="([^"]*)"', page))

    def _get(self, url: str, form: dict[str, str] | None = None) -> Answer:
        headers = {"Cookie": "; ".join(f"{name}={value}" for name, value in self._cookies.items())}
        if form is None:
            answer = fetch(url, headers=headers)
        else:
            answer = fetch(url, method="POST", body=urlencode(form).encode(), headers={**headers, **_FORM})
        if answer.status >= 400:
            raise ConnectionError(f"{urlsplit(url).path}: {answer.status} {answer.body[:2000]!r}")
        for line in answer.headers.get_all("Set-Cookie", []):
            for name, morsel in SimpleCookie(line).items():
                self._cookies[name] = morsel.value
        return answer
