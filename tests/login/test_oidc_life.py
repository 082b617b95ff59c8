"""After the login, by the threats O13 and O14: refresh, logout there, and from there. The provider is the test's."""

from __future__ import annotations

import asyncio
import logging
from dataclasses import replace
from urllib.parse import parse_qs, urlsplit

import pytest

from proxy.login import once
from proxy.login.oidc import OidcProvider
from proxy.login.once import Once
from proxy.login.people import LoggedOut, Person, Refused
from proxy.login.provider import ProviderError
from tests.kit.http_server import Reply
from tests.kit.wait import wait_for
from tests.login.issuer import LEFT_OUT, NOW, ec_key
from tests.login.people_stage import CODE, error, oidc_stage

KNOWN = frozenset({"oidc:any", "oidc:group:sre"})
EVENT = "http://schemas.openid.net/event/backchannel-logout"


@pytest.fixture
def stage():
    with oidc_stage(known=KNOWN) as (made, run):
        made.run = run
        yield made


async def log_in_with_groups(stage, groups):
    stage.userinfo["groups"] = groups
    return await stage.log_in()


# O13: refresh


def test_o13_the_persons_groups_are_those_of_now(stage):
    async def act():
        before = await log_in_with_groups(stage, ["sre"])
        stage.userinfo["groups"] = []
        stage.tokens = {"refresh_token": "third"}
        return before, await stage.login.refresh(before, stage.now + 300)

    before, after = stage.run(act)
    assert before.granted == (before.name, "oidc:any", "oidc:group:sre")
    assert after.granted == (before.name, "oidc:any")
    assert (after.refresh_token, after.fresh_until) == ("third", NOW + 600)
    assert (after.provider_session, after.subject) == (before.provider_session, before.subject)


def test_o13_a_provider_that_does_not_rotate(stage):
    async def act():
        before = await stage.log_in()
        stage.tokens = {"refresh_token": LEFT_OUT, "id_token": LEFT_OUT}
        return before, await stage.login.refresh(before, stage.now)

    before, after = stage.run(act)
    assert after == before


def test_o13_without_an_id_token_and_userinfo_what_was_known_stays(stage):
    async def act():
        stage.claims = {"email": "carol@example.net", "email_verified": True, "groups": "sre", "sid": "s1"}
        before = await stage.log_in()
        stage.tokens = {"id_token": LEFT_OUT}
        del stage.provider.described["userinfo_endpoint"]
        stage.monotonic += 301
        return before, await stage.login.refresh(before, stage.now)

    before, after = stage.run(act)
    assert after == before
    assert after.provider_session == "s1"


@pytest.mark.parametrize("name", ["invalid_grant", "bad_refresh_token"])
def test_o13_revoked_is_logged_out(stage, name):
    async def act():
        before = await stage.log_in()
        stage.provider.answers["/token"] = error(name)
        return await stage.login.refresh(before, stage.now)

    assert stage.run(act) == Refused("the provider takes this login no more: log in again")


@pytest.mark.parametrize("reply", [Reply(500), Reply(503), error("slow_down"), error("invalid_client", 401)])
def test_o13_a_provider_that_cannot_tell_logs_nobody_out(stage, reply):
    """Sessions go on while the provider is down (invariant 10); the next who asks is not answered with the failure."""

    async def act():
        before = await stage.log_in()
        good = stage.provider.answers["/token"]
        stage.provider.answers["/token"] = reply
        with pytest.raises(ProviderError):
            await stage.login.refresh(before, stage.now)
        stage.provider.answers["/token"] = good
        return await stage.login.refresh(before, stage.now)

    assert isinstance(stage.run(act), Person)


def test_o13_at_once_and_shortly_after_it_is_asked_once(stage):
    """A refresh token that rotates is good once: the second to use it would look like a thief, and end the login."""

    async def act():
        before = await stage.log_in()
        stage.tokens = {"refresh_token": "third"}
        found = await asyncio.gather(*(stage.login.refresh(before, stage.now) for _ in range(20)))
        return {*found, await stage.login.refresh(before, stage.now)}

    (after,) = stage.run(act)
    assert after.refresh_token == "third"
    assert stage.asked("/token") == 2


def test_o13_one_who_leaves_does_not_end_it_for_the_others(stage):
    async def act():
        before = await stage.log_in()
        stage.provider.hold.clear()
        leaving = asyncio.create_task(stage.login.refresh(before, stage.now))
        staying = asyncio.create_task(stage.login.refresh(before, stage.now))
        await asyncio.sleep(0)
        leaving.cancel()
        await asyncio.gather(leaving, return_exceptions=True)
        stage.provider.hold.set()
        return await staying

    assert isinstance(stage.run(act), Person)


@pytest.mark.parametrize(
    "changes",
    [
        {"sub": "dave"}, {"sub": ""}, {"iss": "https://evil"}, {"aud": "other"}, {"exp": NOW - 60}, {"iat": LEFT_OUT},
        {"nonce": "another"},
    ],
)  # fmt: skip
def test_o13_an_id_token_of_somebody_else(stage, changes):
    """OpenID Connect Core 12.2: the same iss, sub and aud; a nonce only if it is that of the login."""

    async def act():
        before = await stage.log_in()
        stage.claims = changes
        return await stage.login.refresh(before, stage.now)

    assert isinstance(stage.run(act), Refused)


def test_o13_an_id_token_with_the_nonce_of_the_login(stage):
    async def act():
        before = await stage.log_in()
        stage.claims = {"nonce": stage.asked_for["nonce"]}
        return await stage.login.refresh(before, stage.now)

    assert isinstance(stage.run(act), Person)


def test_o13_userinfo_of_somebody_else(stage):
    async def act():
        before = await stage.log_in()
        stage.userinfo["sub"] = "dave"
        return await stage.login.refresh(before, stage.now)

    assert "userinfo" in stage.run(act).reason


def test_o13_who_may_log_in_no_more(stage):
    with oidc_stage(allowed_groups=frozenset({"sre"})) as (other, run):

        async def act():
            before = await log_in_with_groups(other, ["sre"])
            other.userinfo["groups"] = []
            return await other.login.refresh(before, other.now)

        assert "groups" in run(act).reason


def test_without_a_refresh_token_there_is_nothing_to_ask(stage):
    stage.tokens = {"refresh_token": LEFT_OUT}

    async def act():
        person = await stage.log_in()
        return person, await stage.login.refresh(person, stage.now)

    person, after = stage.run(act)
    assert after == person
    assert person.fresh_until == float("inf")


# O14: logout


def test_o14_rp_initiated(stage):
    """O14: OpenID Connect RP-Initiated Logout 1.0 2."""

    async def act():
        person = await stage.log_in()
        stage.provider.described["end_session_endpoint"] += "?a=b"
        stage.monotonic += 301
        return person, await stage.login.logout_url(person, "https://noc.example.net/-/logout", "x y")

    person, url = stage.run(act)
    assert parse_qs(urlsplit(url).query) == {
        "a": ["b"],
        "client_id": ["promgate"],
        "id_token_hint": [person.id_token],
        "post_logout_redirect_uri": ["https://noc.example.net/-/logout"],
        "state": ["x y"],
    }


def test_a_provider_s_tokens_are_judged_by_the_machine_s_time(stage):
    """The clock was set an hour on since promgate started; its own times go on as they were."""
    stage.now -= 3600.0
    assert "from the future" in stage.run(stage.log_in).reason
    stage.grants.add(CODE)
    stage.login = OidcProvider(stage.written, lambda: stage.monotonic, lambda: 3600.0)
    person = stage.run(stage.log_in)
    assert isinstance(person, Person)
    assert person.fresh_until == stage.now + stage.written.refresh_s
    assert isinstance(stage.run(lambda: stage.login.read_logout_token(logout_token(stage), stage.now)), LoggedOut)


def test_o14_a_provider_without_a_logout(stage):
    del stage.provider.described["end_session_endpoint"]

    async def act():
        return await stage.login.logout_url(await stage.log_in(), "https://noc.example.net/")

    assert stage.run(act) is None


def test_o14_a_logout_that_leads_into_the_clear(stage):
    stage.provider.described["end_session_endpoint"] = "http://id.example.net/end"

    async def act():
        await stage.login.logout_url(await stage.log_in(), "https://noc.example.net/")

    with pytest.raises(ProviderError, match="an https URL is wanted"):
        stage.run(act)


def logout_token(stage, **changes):
    claims = {"jti": "j1", "sid": "s1", "events": {EVENT: {}}, "exp": NOW + 120, **changes}
    return stage.id_token(**claims)


@pytest.mark.parametrize("typ", ["logout+jwt", "application/logout+jwt", "Logout+JWT", "JWT", LEFT_OUT])
def test_o14_back_channel(stage, typ):
    stage.header = {"typ": typ}
    read = stage.run(lambda: stage.login.read_logout_token(logout_token(stage), stage.now))
    assert read == LoggedOut("carol-1", "s1")


@pytest.mark.parametrize(
    ("changes", "named"),
    [({"sid": LEFT_OUT}, LoggedOut("carol-1", "")), ({"sub": LEFT_OUT}, LoggedOut("", "s1"))],
)
def test_o14_back_channel_by_subject_or_session(stage, changes, named):
    assert stage.run(lambda: stage.login.read_logout_token(logout_token(stage, **changes), stage.now)) == named


@pytest.mark.parametrize(
    "changes",
    [
        {"jti": LEFT_OUT}, {"jti": ""}, {"jti": 7}, {"events": LEFT_OUT}, {"events": {}}, {"events": [EVENT]},
        {"events": {EVENT: True}}, {"events": {"other": {}}}, {"nonce": "n"}, {"nonce": None}, {"iss": "https://evil"},
        {"aud": "other"}, {"aud": ["promgate", "other"]}, {"iat": LEFT_OUT}, {"iat": NOW + 61}, {"iat": NOW - 601},
        {"exp": LEFT_OUT}, {"exp": NOW - 60}, {"sub": LEFT_OUT, "sid": LEFT_OUT}, {"sub": 7}, {"sub": "a b"},
        {"sub": LEFT_OUT, "sid": 7}, {"sub": LEFT_OUT, "sid": "a\nb"},
    ],
)  # fmt: skip
def test_o14_a_logout_token_that_is_none(stage, changes):
    """O14: Back-Channel Logout 1.0 2.6: typ, events, jti, times, and no nonce."""
    stage.header = {"typ": "logout+jwt"}
    text = logout_token(stage, **changes)
    assert isinstance(stage.run(lambda: stage.login.read_logout_token(text, stage.now)), Refused)


@pytest.mark.parametrize("header", [{"typ": "at+jwt"}, {"typ": "dpop+jwt"}, {"crit": ["x"]}, {"alg": "none"}])
def test_o14_a_logout_token_of_another_type(stage, header):
    stage.header = header
    assert isinstance(stage.run(lambda: stage.login.read_logout_token(logout_token(stage), stage.now)), Refused)


@pytest.mark.parametrize("text", ["", "x", "a.b.c", "\ud800", "." * 1000])
def test_o14_what_is_no_token_is_not_asked_about(stage, text):
    assert isinstance(stage.run(lambda: stage.login.read_logout_token(text, stage.now)), Refused)
    assert stage.provider.asked == {}


def test_o14_signed_by_somebody_else(stage):
    stage.key, stage.header = ec_key("other"), {"kid": "ec", "typ": "logout+jwt"}
    assert isinstance(stage.run(lambda: stage.login.read_logout_token(logout_token(stage), stage.now)), Refused)


def test_o14_a_replay(stage):
    async def act():
        first, other = logout_token(stage), logout_token(stage, jti="j2")
        return [await stage.login.read_logout_token(text, stage.now) for text in (first, first, other)]

    first, again, other = stage.run(act)
    assert (type(first), type(again), type(other)) == (LoggedOut, Refused, LoggedOut)


def test_o14_a_token_that_is_refused_does_not_use_up_a_jti(stage):
    async def act():
        await stage.login.read_logout_token(logout_token(stage, aud="other"), stage.now)
        return await stage.login.read_logout_token(logout_token(stage), stage.now)

    assert isinstance(stage.run(act), LoggedOut)


def test_o14_a_flood_of_forged_tokens_costs_the_provider_little(stage):
    """Anybody may post here: keys that are not known are asked for twice a minute, whoever makes up their ids."""

    async def act():
        for number in range(50):
            stage.header = {"kid": f"made-up-{number}"}
            with pytest.raises(ProviderError):
                await stage.login.read_logout_token(logout_token(stage), stage.now)

    stage.run(act)
    assert stage.asked("/keys") == 1


# what both are made of


@pytest.mark.parametrize(("grace_s", "is_kept"), [(60.0, True), (0.0, False)])
def test_o13_a_refresh_under_way_outlives_a_reload_that_replaces_its_provider(stage, grace_s, is_kept):
    """The provider has taken the old token back: an answer that got lost would be a logout."""

    async def act():
        person = await stage.log_in()
        asked = len(stage.provider.requests)
        stage.provider.hold.clear()
        asking = asyncio.create_task(stage.login.refresh(person, stage.now))
        try:
            await asyncio.to_thread(wait_for, lambda: len(stage.provider.requests) > asked, "the question")
            closing = asyncio.create_task(stage.login.aclose(grace_s))
            await asyncio.sleep(0)
        finally:
            stage.provider.hold.set()
        await closing
        return (await asyncio.gather(asking, return_exceptions=True))[0]

    answer = stage.run(act)
    assert isinstance(answer, Person) == is_kept
    assert isinstance(answer, ProviderError) == (not is_kept)


def test_once_is_bounded_and_forgets_the_oldest(monkeypatch):
    monkeypatch.setattr(once, "_MAX_SEEN", 3)
    seen = Once(10.0)
    assert [seen.is_first(text, 0.0) for text in "abcabc"] == [True, True, True, False, False, False]
    assert seen.is_first("d", 1.0)
    assert not seen.is_first("c", 2.0)
    assert seen.is_first("a", 2.0), "it was pushed out"
    assert seen.is_first("c", 20.0), "its time is over"


def test_no_secret_is_logged_or_shown(stage, caplog):
    async def act():
        person = await stage.log_in()
        stage.provider.answers["/token"] = error("server_error", 500)
        with pytest.raises(ProviderError) as raised:
            await stage.login.refresh(replace(person, refresh_token="tell-nobody"), stage.now)
        return person, str(raised.value)

    with caplog.at_level(logging.DEBUG):
        person, text = stage.run(act)
    shown = repr(person) + repr(stage.written) + text + caplog.text
    for secret in ("s:cret", "s%3Acret", "tell-nobody", "renewed", person.id_token, "a-code"):
        assert secret not in shown
