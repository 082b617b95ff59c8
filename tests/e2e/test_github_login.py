"""People of a GitHub Enterprise server (the stand-in, by TLS of an authority of its own) through a real promgate."""

from __future__ import annotations

from http import HTTPStatus
from typing import TYPE_CHECKING, NamedTuple
from urllib.parse import urlsplit

import pytest

from tests.kit.browser import tab
from tests.kit.github import CLIENT, SECRET, Github, User
from tests.kit.http_server import HttpServer, Reply
from tests.kit.people_site import COOKIE, Person
from tests.kit.process import free_port
from tests.kit.promgate import Promgate, make_certificates
from tests.kit.users import write_private
from tests.kit.wait import wait_for

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

pytestmark = pytest.mark.real

PATIENCE_MS = 60_000
#: By the name of the entry: who may log in there. The first is what oauth2-proxy calls provider=github, email-domain=*.
CONDITIONS = {
    "star": {"allowed_domains": ["*"]},
    "open": {},
    "mail": {"allowed_domains": ["example.net"]},
    "org": {"organizations": ["Example"]},
    "team": {"teams": ["example/SRE"]},
    "either": {"organizations": ["other"], "teams": ["example/sre"]},
    "both": {"organizations": ["example"], "allowed_domains": ["example.net"]},
}


class Site(NamedTuple):
    promgate: Promgate
    github: Github

    @property
    def base(self) -> str:
        return self.promgate.base


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    directory = tmp_path_factory.mktemp("github")
    authority = make_certificates(directory / "github")
    pair = authority.with_name("localhost.crt"), authority.with_name("localhost.key")
    users = (
        User("Carol", 7, ["First", "Second", "Example"], ["Example/ops", "Example/SRE"],
             [("carol@private.net", False, True), ("Carol@Example.net", True, True)]),
        User("frank", 9, ["Example"], ["example/ops"], [("frank@example.net", True, False)]),
        User("grace", 10, [], [], [("grace@example.net", True, True)]),
        User("dave", 8),
    )  # fmt: skip
    with (
        HttpServer(lambda _: Reply(200, b"the page", "text/html")) as upstream,
        Github(*users, tls=pair) as github,
        _promgate(directory / "promgate", github, authority, upstream.base) as promgate,
    ):
        yield Site(promgate, github)


def _promgate(directory: Path, github: Github, authority: Path, upstream: str) -> Promgate:
    port = free_port()
    write_private(directory / "client.secret", SECRET)
    entry = {
        "provider": "github", "client_id": CLIENT, "client_secret_file": "client.secret", "base_url": github.base,
        "ca_file": str(authority),
    }  # fmt: skip
    config = {
        "external_url": f"https://127.0.0.1:{port}",
        "sessions": {"refresh": "1s"},
        "oauth2": [{"name": name, "title": f"GitHub {name}", **entry, **more} for name, more in CONDITIONS.items()],
        "roles": {
            "viewer": [f"github:{name}/any" for name in CONDITIONS],
            "admin": ["github:open/team:example/sre", "github:open/org:example", "github:open/id:10"],
            "sre": ["github:open/team:example/sre"],
        },
        "routes": [
            {"name": name, "path": f"/{name}", "upstream": upstream, "auth": "oauth2", "allow": [{"role": role}]}
            for name, role in (("app", "viewer"), ("admin", "admin"), ("sre", "sre"))
        ],
    }
    return Promgate(directory, config, port)


def _log_in(site: Site, entry: str, login: str) -> Person:
    person = Person(site)
    begun = person.open(f"/-/login/{entry}?rd=/app/x")
    assert begun.status == HTTPStatus.FOUND, begun.body
    where = urlsplit(site.github.authorize(str(begun.headers["Location"]), login))
    done = person.open(f"{where.path}?{where.query}")
    assert done.status == (HTTPStatus.FOUND if COOKIE in person.cookies else HTTPStatus.FORBIDDEN), done.body
    return person


@pytest.mark.parametrize(
    ("entry", "let_in"),
    [
        ("star", {"Carol", "frank", "grace", "dave"}),
        ("open", {"Carol", "frank", "grace", "dave"}),
        ("mail", {"Carol", "grace"}),  # that of frank is not verified, and dave has none
        ("org", {"Carol", "frank"}),
        ("team", {"Carol"}),
        ("either", {"Carol"}),
        ("both", {"Carol"}),
    ],
)
def test_who_may_log_in(site: Site, entry: str, let_in: set[str]) -> None:
    people = {login: _log_in(site, entry, login) for login in site.github.users}
    assert {login for login, person in people.items() if COOKIE in person.cookies} == let_in
    told = {login: person.open("/app/x").status for login, person in people.items()}
    assert told == {login: 200 if login in let_in else 302 for login in people}


@pytest.mark.parametrize(("login", "admin", "sre"), [("Carol", 200, 200), ("frank", 200, 403), ("dave", 403, 403)])
def test_what_they_may_do_once_they_are_in(site: Site, login: str, admin: int, sre: int) -> None:
    person = _log_in(site, "open", login)
    assert (person.open("/admin/x").status, person.open("/sre/x").status) == (admin, sre)
    name = f"github:open/user:{login.lower()}"
    line = site.promgate.wait_request(lambda one: one["path"] == "/sre/x" and one["identity"] == name, "the request")
    assert line["status"] == sre


def test_o13_who_leaves_the_team_loses_its_role_and_who_takes_the_token_back_is_logged_out(site: Site) -> None:
    person = _log_in(site, "open", "Carol")
    assert person.open("/sre/x").status == HTTPStatus.OK
    carol = site.github.users["Carol"]
    teams = list(carol.teams)
    try:
        carol.teams.clear()
        wait_for(lambda: person.open("/sre/x").status == HTTPStatus.FORBIDDEN, "the team to be forgotten")
        assert person.open("/app/x").status == HTTPStatus.OK
    finally:
        carol.teams.extend(teams)
    site.github.tokens.clear()
    wait_for(lambda: person.open("/app/x").status == HTTPStatus.FOUND, "the end of the session")


def test_somebody_with_a_browser(site: Site) -> None:
    with tab() as seen:
        page = seen.page
        page.set_default_timeout(PATIENCE_MS)
        page.goto(f"{site.base}/app/x?a=b")
        assert page.url.startswith(f"{site.base}/-/login?rd=")
        page.click("text=GitHub org")
        page.wait_for_url(f"{site.github.base}/login/oauth/authorize**")
        page.click("text=Authorize as frank")
        page.wait_for_url(f"{site.base}/app/x?a=b")
        assert page.inner_text("body") == "the page"
        page.goto(f"{site.base}/-/logout")
        page.click("text=Log out >> nth=-1")
        page.wait_for_selector("text=You are logged out of promgate.")
        page.goto(f"{site.base}/app/x")
        assert page.url.startswith(f"{site.base}/-/login?rd=")


def test_no_secret_of_github_is_told(site: Site) -> None:
    _log_in(site, "star", "dave")
    for secret in (SECRET, *site.github.tokens):
        assert secret not in site.promgate.log
