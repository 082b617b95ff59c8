"""People of real providers: oidc-provider with its own login page, and oauth2-mock-server, which forges ID tokens."""

from __future__ import annotations

import asyncio
import json
import time
from collections import Counter
from contextlib import aclosing
from urllib.parse import parse_qs, parse_qsl, quote, urlsplit

import pytest

from proxy.gate.ask import REFUSED, VerifyJwt
from proxy.gate.providers import OidcLogin
from proxy.gate.snapshot import JwtIssuer
from proxy.login.jwt import JwtVerifier
from proxy.login.oidc import OidcProvider
from proxy.login.people import LoggedOut, Person, Refused
from proxy.login.provider import ProviderError
from tests.kit.dev_login import DevBrowser
from tests.kit.fetch import fetch
from tests.kit.http_server import HttpServer, Reply
from tests.kit.providers import Forger, PeopleProvider
from tests.kit.wait import wait_for

pytestmark = pytest.mark.real

BACK = "http://127.0.0.1:9443/-/callback/oidc"
OUT = "http://127.0.0.1:9443/-/logout"


class LogoutInbox:
    """Where the provider sends its logout tokens."""

    def __init__(self):
        self.tokens = []

    def __call__(self, request):
        self.tokens.append(dict(parse_qsl(request.body.decode()))["logout_token"])
        return Reply(200)


@pytest.fixture(scope="module")
def inbox():
    taken = LogoutInbox()
    with HttpServer(taken) as server:
        taken.url = f"{server.base}/backchannel"
        yield taken


@pytest.fixture(scope="module")
def people(tmp_path_factory, inbox):
    client = {
        "redirect_uris": [BACK],
        "post_logout_redirect_uris": [OUT],
        "backchannel_logout_uri": inbox.url,
        "backchannel_logout_session_required": True,
    }
    with PeopleProvider(tmp_path_factory.mktemp("people"), **client) as made:
        yield made


@pytest.fixture(scope="module")
def forger(tmp_path_factory):
    with Forger(tmp_path_factory.mktemp("forger")) as made:
        yield made


def written(provider, **more):
    return OidcLogin(
        "oidc", "Example", provider.base, "promgate", "promgate-secret", scopes=("openid", "email", "groups"), **more
    )


def play(login, act):
    async def whole():
        async with aclosing(login):
            return await act()

    return asyncio.run(whole())


async def come_back(login, name, browser=None):
    """The query and the memory with which the browser of `name` comes back."""
    begun = await login.begin(BACK)
    url = await asyncio.to_thread((browser or DevBrowser()).log_in, begun.url, name, BACK)
    return dict(parse_qsl(urlsplit(url).query)), begun.memory


async def log_in(login, name, browser=None):
    return await login.finish(*await come_back(login, name, browser), BACK, time.time())


def test_o1_to_o7_a_login(people):
    """The whole flow as a real provider has it, PKCE required: who it is, in which groups, and with what to go on."""
    known = frozenset({"oidc:any", "oidc:group:sre", "oidc:group:ops", "oidc:domain:example.net"})
    login = OidcProvider(written(people, known=known))
    person = play(login, lambda: log_in(login, "sre+dev.carol"))
    assert person.name == "oidc:user:carol@example.net"
    assert person.subject == "sre+dev.carol"
    assert person.granted == (person.name, "oidc:any", "oidc:domain:example.net", "oidc:group:sre")
    assert person.refresh_token
    assert person.provider_session
    assert 290 < person.fresh_until - time.time() < 310


def test_o18_an_email_that_is_not_verified(people):
    login = OidcProvider(written(people))
    assert play(login, lambda: log_in(login, "unverified-carol")).name == "oidc:sub:unverified-carol"


def test_who_turns_back(people):
    login = OidcProvider(written(people))

    async def act():
        begun = await login.begin(BACK)
        url = await asyncio.to_thread(DevBrowser().abort, begun.url, BACK)
        return await login.finish(dict(parse_qsl(urlsplit(url).query)), begun.memory, BACK, time.time())

    refused = play(login, act)
    assert refused.reason.startswith("the provider said access_denied (End-User aborted interaction)")


def test_o3_a_code_without_its_verifier_is_worth_nothing(people):
    login = OidcProvider(written(people))

    async def act():
        query, memory = await come_back(login, "carol")
        return await login.finish(query, {**memory, "verifier": "x" * 43}, BACK, time.time())

    assert play(login, act) == Refused("the provider takes this login no more: log in again")


def test_o1_a_code_that_was_used(people):
    """Another promgate, which did not see the first use, is refused by the provider."""
    one, other = OidcProvider(written(people)), OidcProvider(written(people))

    async def act():
        query, memory = await come_back(one, "carol")
        async with aclosing(other):
            first = await one.finish(query, memory, BACK, time.time())
            return first, await other.finish(query, memory, BACK, time.time())

    first, second = play(one, act)
    assert isinstance(first, Person)
    assert isinstance(second, Refused)


def test_a_wrong_secret(people):
    login = OidcProvider(OidcLogin("oidc", "x", people.base, "promgate", "wrong", scopes=("openid",)))
    with pytest.raises(ProviderError, match="invalid_client: check client_id and its secret"):
        play(login, lambda: log_in(login, "carol"))


def test_o13_refresh(people):
    """O13: the refresh token rotates; ten who ask at once ask once; the old one again is reuse, and ends the login."""
    known = frozenset({"oidc:group:sre"})
    login = OidcProvider(written(people, known=known, refresh_s=60.0))

    async def act():
        first = await log_in(login, "sre.carol")
        fresh = await asyncio.gather(*(login.refresh(first, time.time()) for _ in range(10)))
        (second,) = set(fresh)
        assert second.refresh_token != first.refresh_token
        assert (second.name, second.subject, second.granted) == (first.name, first.subject, first.granted)
        assert second.provider_session == first.provider_session
        third = await login.refresh(second, time.time())
        assert isinstance(third, Person)
        async with aclosing(OidcProvider(written(people))) as thief:
            stolen = await thief.refresh(first, time.time())
        return stolen, await login.refresh(third, time.time())

    stolen, after = play(login, act)
    assert stolen == Refused("the provider takes this login no more: log in again")
    assert after == stolen, "the provider has seen a refresh token twice: the whole login is over"


def test_o14_logout_there_and_from_there(people, inbox):
    """O14: RP-initiated with id_token_hint, and the logout token that the provider then sends, taken once."""
    login = OidcProvider(written(people))
    browser = DevBrowser()
    before = len(inbox.tokens)

    async def act():
        person = await log_in(login, "carol", browser)
        url = await login.logout_url(person, OUT, "a-state")
        query = parse_qs(urlsplit(url).query)
        assert query["id_token_hint"] == [person.id_token]
        landed = await asyncio.to_thread(browser.log_out, url, OUT)
        assert parse_qs(urlsplit(landed).query) == {"state": ["a-state"]}
        await asyncio.to_thread(wait_for, lambda: len(inbox.tokens) > before, "a logout token")
        token = inbox.tokens[-1]
        found = await login.read_logout_token(token, time.time())
        return person, found, await login.read_logout_token(token, time.time())

    person, found, again = play(login, act)
    assert found == LoggedOut(person.subject, person.provider_session)
    assert again == Refused("the logout token came before: its jti is known")


def test_o14_an_id_token_logs_nobody_out(people):
    login = OidcProvider(written(people))

    async def act():
        person = await log_in(login, "carol")
        return await login.read_logout_token(person.id_token, time.time())

    assert isinstance(play(login, act), Refused)


@pytest.mark.parametrize("audience", ["promgate", "urn:promgate"])
def test_o16_an_id_token_is_no_bearer_token(people, audience):
    """O16: of the login or of a refresh, also where an operator took the client_id for the API's audience."""
    login = OidcProvider(written(people))

    async def act():
        first = await log_in(login, "carol")
        second = await login.refresh(first, time.time())
        assert second.id_token != first.id_token
        verifier = JwtVerifier([JwtIssuer(people.base, audience)])
        try:
            return [await verifier.verify(VerifyJwt(one.id_token.encode())) for one in (first, second)]
        finally:
            verifier.close()

    assert play(login, act) == [REFUSED, REFUSED]


# oauth2-mock-server: a public client, and ID tokens as they are asked for

FORGED = [
    {"payload": {"nonce": "another"}}, {"payload": {"nonce": None}}, {"payload": {"iss": "https://evil"}},
    {"payload": {"aud": "other"}}, {"payload": {"aud": ["promgate", "other"]}}, {"payload": {"azp": "other"}},
    {"payload": {"exp": 1}}, {"payload": {"exp": "soon"}}, {"payload": {"exp": None}}, {"payload": {"iat": None}},
    {"payload": {"iat": 99999999999}}, {"payload": {"nbf": 99999999999}}, {"payload": {"sub": ""}},
    {"payload": {"sub": 7}}, {"payload": {"at_hash": "x"}}, {"payload": {"events": {}}}, {"header": {"typ": "at+jwt"}},
    {"header": {"jku": "https://evil"}}, {"header": {"x5u": "https://evil"}}, {"header": {"kid": "../x"}},
]  # fmt: skip


async def forge(login, **forged):
    back = f"{BACK}?forge={quote(json.dumps(forged))}"
    begun = await login.begin(back)
    answer = await asyncio.to_thread(fetch, begun.url)
    query = dict(parse_qsl(urlsplit(answer.headers["Location"]).query))
    return await login.finish(query, begun.memory, back, time.time())


def test_o2_o5_o6_forged_id_tokens(forger):
    """O2, O5, O6: signed by the provider's own key, and wrong in one thing each."""
    login = OidcProvider(OidcLogin("oidc", "x", forger.base, "promgate", algorithms=("RS256",)))

    async def act():
        good = await forge(login, payload={"email": "carol@example.net", "email_verified": True})
        found = []
        for one in FORGED:
            try:
                found.append(await forge(login, **one))
            except ProviderError as error:
                found.append(error)
        return good, found

    good, found = play(login, act)
    assert good.name == "oidc:user:carol@example.net"
    assert [each for each in found if isinstance(each, Person)] == []
    kinds = Counter(type(each).__name__ for each in found)
    assert kinds == {"Refused": len(FORGED) - 1, "ProviderError": 1}, "the key id alone may be a new one"


def test_o5_an_algorithm_that_is_not_configured(forger):
    login = OidcProvider(OidcLogin("oidc", "x", forger.base, "promgate", algorithms=("ES256",)))
    assert "alg" in play(login, lambda: forge(login)).reason
