"""People of GitHub: who they are, what they are in, and what is no answer (the stand-in does as GitHub does)."""

from __future__ import annotations

import asyncio
import json
from contextlib import aclosing
from urllib.parse import parse_qs, parse_qsl, urlsplit

import pytest

from proxy.gate.providers import GithubLogin
from proxy.login.github import GithubProvider
from proxy.login.people import Person, Refused
from proxy.login.provider import ProviderError
from tests.kit.github import CLIENT, SECRET, Github, User
from tests.kit.http_server import Reply

BACK = "https://noc.example.net/-/callback/github"
NOW = 1_700_000_000.0
KNOWN = frozenset(
    {
        "github:any",
        "github:id:7",
        "github:user:dave",
        "github:org:example",
        "github:org:fifth",
        "github:team:example/sre",
    }
)


@pytest.fixture
def github():
    carol = User(
        "Carol",
        7,
        organizations=["First", "Second", "Third", "Fourth", "Fifth", "Example"],
        teams=["Example/dev", "example/ops", "Example/SRE"],
        emails=[("carol@private.net", False, True), ("Carol@Example.net", True, True)],
    )
    with Github(carol, User("dave", 8)) as made:
        yield made


def written(github, **more):
    values = {"client_id": CLIENT, "client_secret": SECRET, "base_url": github.base, "api_url": github.api, **more}
    return GithubLogin("github", "GitHub", **values)


async def come_back(login, github, user="Carol"):
    begun = await login.begin(BACK)
    return dict(parse_qsl(urlsplit(github.authorize(begun.url, user)).query)), begun.memory


def play(github, act=None, user="Carol", **more):
    """What `act` answers, an async function of the login; by default a whole login of `user`."""
    login = GithubProvider(written(github, **more))

    async def whole():
        async with aclosing(login):
            if act is not None:
                return await act(login)
            return await login.finish(*await come_back(login, github, user), BACK, NOW)

    return asyncio.run(whole())


def told(value, status=200, **headers):
    return Reply(status, json.dumps(value).encode(), "application/json", headers)


def test_where_the_browser_is_sent(github):
    begun = play(github, lambda login: login.begin(BACK))
    url = urlsplit(begun.url)
    query = {name: one for name, (one,) in parse_qs(url.query).items()}
    assert f"{url.scheme}://{url.netloc}{url.path}" == f"{github.base}/login/oauth/authorize"
    assert query == {
        "client_id": CLIENT,
        "redirect_uri": BACK,
        "scope": "read:user user:email",
        "state": begun.memory["state"],
        "code_challenge": query["code_challenge"],
        "code_challenge_method": "S256",
        "allow_signup": "false",
    }


def test_a_login(github):
    """Names are compared in lower case, as GitHub does; lists are read to their last page."""
    person = play(github, known=KNOWN)
    (token,) = github.tokens
    assert person == Person(
        provider="github",
        name="github:user:carol",
        subject="7",
        granted=(
            "github:user:carol", "github:any", "github:id:7", "github:org:example", "github:org:fifth",
            "github:team:example/sre",
        ),
        refresh_token=token,
        fresh_until=NOW + 300,
    )  # fmt: skip
    assert token not in repr(person)
    assert github.asked["/api/v3/user/orgs"] == 3
    assert github.asked["/api/v3/user/teams"] == 2
    assert github.asked["/api/v3/user/emails"] == 0


def test_what_matters_to_nobody_is_not_asked(github):
    assert play(github, user="dave", known=frozenset({"github:any"})).granted == ("github:user:dave", "github:any")
    assert set(github.asked) == {"/login/oauth/access_token", "/api/v3/user"}


@pytest.mark.parametrize(
    ("allowed", "is_in"),
    [
        ({"organizations": frozenset({"example"})}, True), ({"organizations": frozenset({"other"})}, False),
        ({"teams": frozenset({"example/sre"})}, True), ({"teams": frozenset({"other/sre"})}, False),
        ({"organizations": frozenset({"other"}), "teams": frozenset({"example/ops"})}, True), ({}, True),
    ],
)  # fmt: skip
def test_who_may_log_in(github, allowed, is_in):
    found = play(github, **allowed)
    assert isinstance(found, Person) is is_in
    assert is_in or "organizations" in found.reason
    assert isinstance(play(github, user="dave", **allowed), Person) is not bool(allowed)


@pytest.mark.parametrize(
    ("emails", "is_in"),
    [
        ([("carol@example.net", True, True)], True), ([("CAROL@EXAMPLE.NET", True, True)], True),
        ([("carol@example.net", True, False)], False), ([("carol@example.net", False, True)], False),
        ([("carol@example.net", False, True), ("carol@other.net", True, True)], False), ([], False),
        ([("carol@example.net.evil", True, True)], False), ([("carol@example.net", True, "true")], False),
    ],
)  # fmt: skip
def test_o18_domains_want_the_verified_primary_email(github, emails, is_in):
    """O18: what `/user` shows is what somebody likes to show, and never asked."""
    github.users["Carol"].emails = emails
    github.users["Carol"].email = "carol@example.net"
    assert isinstance(play(github, allowed_domains=frozenset({"example.net"})), Person) is is_in


def test_any_domain_is_anybody(github):
    """oauth2-proxy's `provider=github, email-domain=*`."""
    assert isinstance(play(github, user="dave", allowed_domains=frozenset()), Person)


# what is no answer


@pytest.mark.parametrize(
    ("change", "found"),
    [
        ({"client_secret": "wrong"}, ProviderError), ({"client_id": CLIENT, "verifier": "x" * 43}, Refused),
        ({"redirect": f"{BACK}x"}, ProviderError),
    ],
)  # fmt: skip
def test_errors_come_with_200(github, change, found):
    change = dict(change)
    verifier, redirect = change.pop("verifier", ""), change.pop("redirect", BACK)

    async def act(login):
        query, memory = await come_back(login, github)
        return await login.finish(query, {**memory, **({"verifier": verifier} if verifier else {})}, redirect, NOW)

    if found is Refused:
        assert isinstance(play(github, act, **change), Refused)
    else:
        with pytest.raises(ProviderError, match="check client_id and its secret"):
            play(github, act, **change)


def test_a_token_that_comes_as_a_form(github):
    """As it does from a proxy that takes Accept away."""
    github.tokens["gho_x"] = "Carol"
    body = b"access_token=gho_x&scope=&token_type=bearer"
    github.answers["/login/oauth/access_token"] = Reply(200, body, "application/x-www-form-urlencoded; charset=utf-8")
    assert play(github).refresh_token == "gho_x"


@pytest.mark.parametrize(
    "body", [b"", b"error=bad_verification_code", b"access_token=&token_type=bearer", b"access_token=x", b"\xff\xfe"]
)
def test_a_form_that_holds_no_token(github, body):
    github.answers["/login/oauth/access_token"] = Reply(200, body, "application/x-www-form-urlencoded")
    if b"error" in body:
        assert isinstance(play(github), Refused)
    else:
        with pytest.raises(ProviderError):
            play(github)


@pytest.mark.parametrize(
    "path", ["/login/oauth/access_token", "/api/v3/user", "/api/v3/user/orgs", "/api/v3/user/teams"]
)
@pytest.mark.parametrize("reply", [Reply(500), Reply(403), Reply(404), Reply(200, b"<html>"), Reply(200, b'"x"')])
def test_o9_no_answer_is_no_session(github, path, reply):
    github.answers[path] = reply
    with pytest.raises(ProviderError):
        play(github, known=KNOWN)
    assert github.asked[path] == 1


@pytest.mark.parametrize(
    "user",
    [
        {}, {"id": 7}, {"login": "carol"}, {"id": "7", "login": "carol"}, {"id": True, "login": "carol"},
        {"id": 7, "login": ""}, {"id": 7, "login": "ca,rol"}, {"id": 7, "login": "cärol"}, {"id": 7, "login": "a\r\nb"},
        {"id": 7, "login": ["x"]},
    ],
)  # fmt: skip
def test_somebody_without_a_name(github, user):
    github.answers["/api/v3/user"] = told(user)
    with pytest.raises(ProviderError, match="nobody"):
        play(github)


@pytest.mark.parametrize(
    ("listed", "keys"),
    [
        ([None, 7, "example", {}, {"login": None}, {"login": ["example"]}], set()),
        ([{"login": "example"}], {"github:org:example"}),
        ([{"login": "example/sre"}, {"login": "ex\u212ample"}], set()),
    ],
)
def test_organizations_that_are_none(github, listed, keys):
    github.answers["/api/v3/user/orgs"] = told(listed)
    assert {key for key in play(github, known=KNOWN).granted if ":org:" in key} == keys


def test_a_list_that_goes_on_elsewhere(github):
    """The token goes to the API alone, whatever a Link says."""
    for url in ("https://evil.example/user/orgs", f"{github.base}/other", f"{github.api}.evil/x", "//x", "/api/v3/x"):
        github.answers["/api/v3/user/orgs"] = told([], Link=f'<{url}>; rel="next"')
        with pytest.raises(ProviderError, match="another place"):
            play(github, known=KNOWN)


def test_a_list_that_never_ends(github):
    github.answers["/api/v3/user/orgs"] = told([{"login": "x"}], Link=f'<{github.api}/user/orgs?page=2>; rel="next"')
    with pytest.raises(ProviderError, match="more than 10 pages"):
        play(github, known=KNOWN)
    assert github.asked["/api/v3/user/orgs"] == 10


def test_o1_state_and_replay(github):
    async def act(login):
        query, memory = await come_back(login, github)
        strange = await login.finish({**query, "state": "x"}, memory, BACK, NOW)
        other = await login.finish(query, {**memory, "provider": "oidc"}, BACK, NOW)
        denied = await login.finish({"state": query["state"], "error": "access_denied"}, memory, BACK, NOW)
        return strange, other, denied, await login.finish(query, memory, BACK, NOW)

    found = play(github, act)
    assert all(isinstance(each, Refused) for each in found)
    assert "access_denied" in found[2].reason
    assert github.asked == {}


# O13, O14


def test_o13_what_they_are_in_now(github):
    async def act(login):
        before = await login.finish(*await come_back(login, github), BACK, NOW)
        github.users["Carol"].organizations = []
        return before, await asyncio.gather(*(login.refresh(before, NOW + 300) for _ in range(5)))

    before, found = play(github, act, known=KNOWN)
    (after,) = set(found)
    assert "github:org:example" in before.granted
    assert "github:org:example" not in after.granted
    assert after.fresh_until == NOW + 600
    assert github.asked["/api/v3/user"] == 2


@pytest.mark.parametrize("change", ["revoked", "another person", "left the organization", "renamed"])
def test_o13_who_is_logged_out(github, change):
    async def act(login):
        before = await login.finish(*await come_back(login, github), BACK, NOW)
        if change == "revoked":
            github.tokens.clear()
        elif change == "another person":
            github.users["Carol"].number = 9
        elif change == "left the organization":
            github.users["Carol"].organizations = ["Other"]
        else:
            github.users["Carol"].login = "Caroline"
        return await login.refresh(before, NOW + 300)

    found = play(github, act, organizations=frozenset({"example"}))
    assert isinstance(found, Person) is (change == "renamed")
    assert change != "renamed" or (found.name, found.subject) == ("github:user:caroline", "7")


@pytest.mark.parametrize("reply", [Reply(500), Reply(403), Reply(429)])
def test_o13_github_down_logs_nobody_out(github, reply):
    async def act(login):
        before = await login.finish(*await come_back(login, github), BACK, NOW)
        github.answers["/api/v3/user"] = reply
        with pytest.raises(ProviderError):
            await login.refresh(before, NOW + 300)
        github.answers.clear()
        return await login.refresh(before, NOW + 300)

    assert isinstance(play(github, act), Person)


def test_o14_github_logs_nobody_out(github):
    async def act(login):
        person = await login.finish(*await come_back(login, github), BACK, NOW)
        return await login.logout_url(person, "https://noc.example.net/"), await login.read_logout_token("x", NOW)

    url, refused = play(github, act)
    assert url is None
    assert isinstance(refused, Refused)
