"""Logging in and out: what a browser asks of promgate, between a provider that knows the person and their session.

Nothing is judged here: a provider says who it is, the gate whose password it is. What a browser keeps meanwhile is
sealed, bound to it by a cookie of this host alone, good for ten minutes and for one login.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from aiohttp import web

from proxy.console.asker import read_asker
from proxy.console.form import read_form
from proxy.console.people import Choice, Places, render_left, render_login, render_logout, render_refusal
from proxy.console.problems import answer_problem
from proxy.gate.credentials import ShownPassword
from proxy.gate.decision import Deny, Reason
from proxy.gate.returning import return_path
from proxy.login.flow import LOGIN_TTL_S
from proxy.login.people import LoggedOut, Refused
from proxy.login.provider import ProviderError
from proxy.login.seal import SealError
from proxy.tokens.ports import StoreError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from proxy.gate.snapshot import Snapshot
    from proxy.login.people import PeopleProvider
    from proxy.login.seal import Seal
    from proxy.login.sessions import SessionKeeper
    from proxy.relay.judging import Judging

_log = logging.getLogger("promgate.login")

#: Where the login leads; beside what the provider is to be shown again.
_RETURN: Final = "rd"
_FORM: Final = "application/x-www-form-urlencoded"
_MAX_NAME: Final = 256
#: What does not say from which page it comes is no browser of today's (see proxy.gate.origin).
_PAGE_FIELDS: Final = ("Sec-Fetch-Site", "Origin")
_WRONG: Final = "Name or password is wrong."
_TOO_MANY: Final = "Too many attempts just now; wait a while."
_DOWN: Final = "The provider does not answer just now; try again, or log in another way."
_STORE_DOWN: Final = "You cannot be logged in just now: sessions cannot be written. promgate's log says why."


@dataclass(frozen=True, slots=True)
class Door:
    """What these pages see of the process, each looked at when it is needed. `judging` says whose a password is."""

    snapshot: Callable[[], Snapshot]
    providers: Callable[[], Mapping[str, PeopleProvider]]
    keeper: SessionKeeper
    seal: Seal
    judging: Judging
    now: Callable[[], float]


class LoginPages:
    """`prefix` is that of promgate's own paths, `/-` as a rule."""

    def __init__(self, door: Door, prefix: str, style: str) -> None:
        self._door = door
        self._prefix = prefix
        self._places = Places(f"{prefix}/login", f"{prefix}/logout", f"{prefix}/logout/style.css")
        self._style = style

    def add_to(self, router: web.UrlDispatcher) -> None:
        login, logout, style = self._places
        router.add_get(login, self._show)
        router.add_post(login, self._take_password)
        router.add_get(login + "/{name}", self._begin, allow_head=False)
        router.add_get(f"{self._prefix}/callback/{{name}}", self._finish, allow_head=False)
        router.add_get(style, self._sheet)
        router.add_get(logout, self._show_logout)
        router.add_post(logout, self._leave)
        router.add_post(logout + "/backchannel/{name}", self._told_to_end)

    async def _sheet(self, _: web.Request) -> web.Response:
        return web.Response(text=self._style, content_type="text/css")

    async def _show(self, request: web.Request) -> web.Response:
        return self._login_page(request, request.query.get("rd", ""))

    def _login_page(self, request: web.Request, asked: str, status: int = 200, wrong: str = "") -> web.Response:
        asker = read_asker(request.headers)
        choices = [Choice(one.name, one.title) for one in self._door.providers().values()]
        text = render_login(
            self._places,
            choices,
            return_path(asked, self._places.login),
            asker.identity if asker.session else "",
            takes_passwords=bool(self._door.snapshot().users),
            wrong=wrong,
        )
        return _html(text, status)

    # by a provider

    async def _begin(self, request: web.Request) -> web.Response:
        provider = self._door.providers().get(request.match_info["name"])
        if provider is None:
            return self._refuse(404, "There is no such way to log in.")
        try:
            begun = await provider.begin(self._redirect_uri(provider.name))
        except ProviderError as error:
            return self._failed(provider, error, 503)
        asked = return_path(request.query.get("rd", ""), self._places.login)
        try:
            sealed = self._door.seal.seal({**begun.memory, _RETURN: asked}, self._door.now())
        except SealError as error:
            _log.error("%s", error)
            return self._refuse(503, _STORE_DOWN)
        return self._go(begun.url, self._state_cookie(sealed, LOGIN_TTL_S))

    async def _finish(self, request: web.Request) -> web.Response:
        provider = self._door.providers().get(request.match_info["name"])
        if provider is None:
            return self._refuse(404, "There is no such way to log in.")
        answer = await self._finished(request, provider)
        answer.headers.add("Set-Cookie", self._state_cookie("", 0))
        return answer

    async def _finished(self, request: web.Request, provider: PeopleProvider) -> web.Response:
        door, asker = self._door, read_asker(request.headers)
        memory = self._read_state(request)
        if memory.get("provider") != provider.name:
            memory = {}
        asked = memory.pop(_RETURN, self._places.login)
        query = dict(request.query)
        if len(query) != len(request.query):
            return self._refused(provider, asker.address, "the provider's answer says something twice")
        try:
            said = await provider.finish(query, memory, self._redirect_uri(provider.name), door.now())
        except ProviderError as error:
            return self._failed(provider, error, 502)
        if isinstance(said, Refused):
            return self._refused(provider, asker.address, said.reason)
        if not memory:
            return self._refused(provider, asker.address, "this browser has not begun this login")
        try:
            secret = await door.keeper.begin(said, asker.session)
        except (StoreError, SealError):
            door.keeper.count(provider.name, "failed")
            return self._refuse(503, _STORE_DOWN)
        door.keeper.count(provider.name, "ok")
        _log.info("%s logged in by %s from %s", ascii(said.name), provider.name, asker.address)
        return self._go(asked, self._session_cookie(secret))

    def _refused(self, provider: PeopleProvider, address: str, reason: str) -> web.Response:
        self._door.keeper.count(provider.name, "refused")
        _log.warning("a login by %s from %s is refused: %s", provider.name, address, ascii(reason))
        return self._refuse(403, f"You are not logged in: {reason}")

    def _failed(self, provider: PeopleProvider, error: ProviderError, status: int) -> web.Response:
        self._door.keeper.count(provider.name, "failed")
        _log.error("a login by %s fails: %s", provider.name, ascii(str(error)))
        return self._refuse(status, _DOWN)

    # with a password

    async def _take_password(self, request: web.Request) -> web.Response:
        door, asker = self._door, read_asker(request.headers)
        if not any(name in request.headers for name in _PAGE_FIELDS):
            return self._refuse(403, "Log in by the page of this site.")
        if request.content_type != _FORM or not door.snapshot().users:
            return self._refuse(415, "Log in by the page of this site.")
        form = await read_form(request)
        if form is None:
            return self._refuse(400, "This form is not in UTF-8.")
        user, password, asked = (form.get(name, "") for name in ("user", "password", "rd"))
        if not user or len(user) > _MAX_NAME or set(user + password) & {"\0", "\r", "\n"}:
            said = None
        else:
            said = await door.judging.password(ShownPassword(user, password.encode()), asker.address)
        if said is None or isinstance(said, Deny):
            return self._wrong_password(request, said, asked)
        try:
            secret = await door.keeper.begin_with_password(said, asker.session)
        except StoreError:
            door.keeper.count("", "failed")
            return self._refuse(503, _STORE_DOWN)
        door.keeper.count("", "ok")
        _log.info("%s logged in with a password from %s", ascii(said.name), asker.address)
        return self._go(return_path(asked, self._places.login), self._session_cookie(secret), 303)

    def _wrong_password(self, request: web.Request, said: Deny | None, asked: str) -> web.Response:
        """The same for every kind of wrong."""
        if said is not None and said.reason in {Reason.TOO_MANY_GUESSES, Reason.BUSY}:
            is_flood = said.reason is Reason.TOO_MANY_GUESSES
            self._door.keeper.count("", "refused" if is_flood else "failed")
            answer = self._login_page(request, asked, 429 if is_flood else 503, _TOO_MANY)
            answer.headers["Retry-After"] = str(max(5, round(said.retry_after_s + 0.5)))
            return answer
        self._door.keeper.count("", "refused")
        answer = self._login_page(request, asked, 401, _WRONG)
        answer.headers["WWW-Authenticate"] = 'Bearer realm="promgate"'  # no browser asks for a password because of it
        return answer

    # logging out

    async def _show_logout(self, request: web.Request) -> web.Response:
        asker = read_asker(request.headers)
        return _html(render_logout(self._places, asker.identity if asker.session else ""))

    async def _leave(self, request: web.Request) -> web.Response:
        asker = read_asker(request.headers)
        further, title = "", ""
        if asker.session:
            person = await self._door.keeper.end(asker.session)
            provider = self._door.providers().get(person.provider) if person is not None else None
            if provider is not None and person is not None:
                title = provider.title
                try:
                    further = await provider.logout_url(person, self._own_url(self._places.logout)) or ""
                except ProviderError as error:
                    _log.warning("%s cannot be told of a logout: %s", provider.name, ascii(str(error)))
            _log.info("%s logged out from %s", ascii(asker.identity), asker.address)
        answer = _html(render_left(self._places, further, title))
        if further:
            # Not a redirect: it would follow a form, and where forms may lead is promgate alone (CSP form-action).
            answer.headers["Refresh"] = f"0; url={further}"
        answer.headers.add("Set-Cookie", self._session_cookie(""))
        return answer

    async def _told_to_end(self, request: web.Request) -> web.Response:
        """OpenID Connect Back-Channel Logout 1.0 2.5 to 2.8."""
        provider = self._door.providers().get(request.match_info["name"])
        if provider is None:
            return answer_problem(404, "there is no such provider")
        if request.content_type != _FORM:
            return answer_problem(400, "a form is wanted", error="invalid_request")
        form = await read_form(request)
        if form is None:
            return answer_problem(400, "the form is not in UTF-8", error="invalid_request")
        try:
            said = await provider.read_logout_token(form.get("logout_token", ""), self._door.now())
            if not isinstance(said, LoggedOut):
                _log.warning("a logout by %s is refused: %s", provider.name, ascii(said.reason))
                return answer_problem(400, said.reason, error="invalid_request", error_description=said.reason)
            ended = await self._door.keeper.end_by(provider.name, said)
        except ProviderError as error:
            return answer_problem(503, str(error))
        except StoreError:
            return answer_problem(503, "sessions cannot be read; ask again")
        _log.info("%s has ended %d sessions", provider.name, ended)
        return web.Response()

    # inside

    def _redirect_uri(self, name: str) -> str:
        return self._own_url(f"{self._prefix}/callback/{name}")

    def _own_url(self, path: str) -> str:
        return self._door.snapshot().external_url + path

    def _refuse(self, status: int, text: str) -> web.Response:
        answer = _html(render_refusal(self._places, text), status)
        if status == 503:
            answer.headers["Retry-After"] = "5"
        return answer

    def _go(self, location: str, cookie: str, status: int = 302) -> web.Response:
        answer = web.Response(status=status)
        answer.headers["Location"] = location
        answer.headers.add("Set-Cookie", cookie)
        return answer

    @property
    def _cookie(self) -> str:
        sessions = self._door.snapshot().sessions
        assert sessions is not None
        return sessions.cookie.decode()

    def _session_cookie(self, secret: str) -> str:
        """Empty: take it away."""
        life_s = self._door.snapshot().session_times.absolute_s if secret else 0.0
        return _write_cookie(self._cookie, secret, life_s)

    def _state_cookie(self, sealed: str, life_s: float) -> str:
        return _write_cookie(f"{self._cookie}-login", sealed, life_s)

    def _read_state(self, request: web.Request) -> dict[str, str]:
        """What this browser began; nothing where it began none, too long ago, or somebody changed it."""
        name = f"{self._cookie}-login"
        pairs = (part.strip().partition("=") for part in ";".join(request.headers.getall("Cookie", ())).split(";"))
        values = [value for key, _, value in pairs if key == name]
        return dict(self._door.seal.open(values[0], self._door.now())) if len(values) == 1 else {}


def _write_cookie(name: str, value: str, life_s: float) -> str:
    """RFC 6265bis 4.1: for this host, out of the reach of scripts, and not sent along by other sites' forms."""
    secure = "; Secure" if name.startswith("__Host-") else ""
    return f"{name}={value}; Path=/; Max-Age={round(life_s)}; HttpOnly; SameSite=Lax{secure}"


def _html(text: str, status: int = 200) -> web.Response:
    return web.Response(status=status, text=text, content_type="text/html")
