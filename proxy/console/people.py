"""The pages for people who log in and out. Text of others (a provider's reason, a name) is escaped by being text."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple
from urllib.parse import quote

from proxy.console.html import logout_form, page, tag

if TYPE_CHECKING:
    from collections.abc import Sequence

    from proxy.console.html import Content, Markup


class Choice(NamedTuple):
    """A provider to log in by: its word in paths, and what people call it."""

    name: str
    title: str


class Places(NamedTuple):
    """Where things are, as paths."""

    login: str
    logout: str
    style: str


def render_login(
    places: Places, choices: Sequence[Choice], asked: str, who: str, *, takes_passwords: bool, wrong: str = ""
) -> str:
    """The login page. `asked` is where to go then, `who` is logged in already (empty: nobody), `wrong` what failed."""
    parts: list[Content] = []
    if who:
        parts += [tag("p", "You are logged in as ", tag("strong", who), "."), logout_form(places.logout)]
    if wrong:
        parts.append(tag("p", wrong, class_="state unwell", role="alert"))
    if choices:
        links = [tag("li", _choice(places, choice, asked)) for choice in choices]
        parts.append(tag("section", tag("h2", "Log in by"), tag("ul", *links, class_="choices")))
    if takes_passwords:
        parts.append(tag("section", tag("h2", "Log in with a password"), _password_form(places, asked)))
    return _page("Log in", places, *parts)


def render_logout(places: Places, who: str) -> str:
    """Who is about to leave, and the button; `who` empty: nobody is logged in."""
    if not who:
        return render_left(places)
    told = tag("p", "You are logged in as ", tag("strong", who), ".")
    return _page("Log out", places, told, logout_form(places.logout))


def render_left(places: Places, further: str = "", title: str = "") -> str:
    """Logged out. `further` is where the provider called `title` logs out, too."""
    parts: list[Content] = [tag("p", "You are logged out of promgate.")]
    if further:
        parts.append(tag("p", tag("a", f"Log out of {title}, too", href=further)))
    return _page("Logged out", places, *parts, tag("p", tag("a", "Log in", href=places.login)))


def render_refusal(places: Places, text: str) -> str:
    """What did not work, and the way back."""
    sign = tag("p", text, class_="state unwell", role="alert")
    return _page("Not logged in", places, sign, tag("p", tag("a", "Log in", href=places.login)))


def _choice(places: Places, choice: Choice, asked: str) -> Markup:
    return tag("a", choice.title, href=f"{places.login}/{choice.name}?rd={quote(asked, safe='')}", class_="button")


def _password_form(places: Places, asked: str) -> Markup:
    return tag(
        "form",
        tag("input", type="hidden", name="rd", value=asked),
        tag("label", "Name", tag("input", name="user", autocomplete="username", autocapitalize="none", required="")),
        tag(
            "label",
            "Password",
            tag("input", type="password", name="password", autocomplete="current-password", required=""),
        ),
        tag("button", "Log in", type="submit"),
        method="post",
        action=places.login,
        class_="login",
    )


def _page(title: str, places: Places, *content: Content) -> str:
    header = tag("header", tag("h1", "promgate"), tag("p", title, class_="quiet"))
    return page(f"{title} - promgate", places.style, header, tag("main", *content, class_="narrow"))
