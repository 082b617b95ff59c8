"""A login with an OpenID provider, by the threats O1 to O7, O9, O10, O18 and O19. The provider is the test's own."""

from __future__ import annotations

import asyncio
import json
from urllib.parse import parse_qs, urlsplit

import pytest

from proxy.login import flow
from proxy.login.oidc import OidcProvider
from proxy.login.people import Person, Refused
from proxy.login.provider import ProviderError
from tests.kit.http_server import Reply
from tests.login.issuer import LEFT_OUT, NOW, b64, ec_key, ed_key, jwk, rsa_key
from tests.login.people_stage import CODE, REDIRECT, at_hash, error, oidc_stage

ROLES = frozenset(
    {
        "oidc:any",
        "oidc:user:carol@example.net",
        "oidc:user:dave@example.net",
        "oidc:sub:carol-1",
        "oidc:domain:example.net",
        "oidc:group:sre",
        "oidc:group:viewer,admin",
    }
)


@pytest.fixture
def stage():
    with oidc_stage(known=ROLES) as (made, run):
        made.run = run
        yield made


def test_a_login(stage):
    person = stage.run(stage.log_in)
    assert person == Person(
        provider="oidc",
        name="oidc:user:carol@example.net",
        subject="carol-1",
        granted=("oidc:user:carol@example.net", "oidc:any", "oidc:domain:example.net", "oidc:sub:carol-1"),
        refresh_token="renewed",
        id_token=person.id_token,
        fresh_until=NOW + 300,
    )
    assert "renewed" not in repr(person)
    assert person.id_token not in repr(person)
    assert stage.form == {
        "grant_type": "authorization_code",
        "code": CODE,
        "redirect_uri": REDIRECT,
        "code_verifier": stage.form["code_verifier"],
    }
    assert stage.provider.asked == {
        "/.well-known/openid-configuration": 2, "/keys": 1, "/token": 1, "/userinfo": 1,
    }  # fmt: skip


def test_where_the_browser_is_sent(stage):
    begun = stage.run(lambda: stage.login.begin(REDIRECT))
    url = urlsplit(begun.url)
    query = {name: one for name, (one,) in parse_qs(url.query).items()}
    assert f"{url.scheme}://{url.netloc}{url.path}" == f"{stage.provider.base}/authorize"
    assert query == {
        "tenant": "a", "response_type": "code", "client_id": "promgate", "redirect_uri": REDIRECT,
        "scope": "openid email profile", "state": begun.memory["state"], "nonce": begun.memory["nonce"],
        "code_challenge": query["code_challenge"], "code_challenge_method": "S256",
    }  # fmt: skip
    assert begun.memory["provider"] == "oidc"


def test_parameters_of_the_operator_change_none_of_ours():
    with oidc_stage(authorize_params=(("prompt", "consent"), ("state", "x"))) as (stage, run):
        begun = run(lambda: stage.login.begin(REDIRECT))
        query = parse_qs(urlsplit(begun.url).query)
        assert query["prompt"] == ["consent"]
        assert query["state"] == [begun.memory["state"]]


# O1: state


def test_o1_a_state_has_enough_bits_and_is_never_the_same(stage):
    """O1, O2, O3: 256 bits each of state, nonce and verifier (43 characters of base64url)."""

    async def act():
        return [(await stage.login.begin(REDIRECT)).memory for _ in range(50)]

    for word in ("state", "nonce", "verifier"):
        words = {memory[word] for memory in stage.run(act)}
        assert len(words) == 50
        assert all(len(one) >= 43 for one in words)


@pytest.mark.parametrize(
    ("query", "memory"),
    [
        ({"state": LEFT_OUT}, {}), ({"state": ""}, {}), ({"state": "x"}, {}), ({"state": "\ud800"}, {}),
        ({}, {"state": "another browser's"}), ({}, {"state": LEFT_OUT}), ({"state": ""}, {"state": ""}),
        ({"state": LEFT_OUT}, {"state": LEFT_OUT}), ({}, {"nonce": LEFT_OUT}), ({}, {"verifier": LEFT_OUT}),
        ({}, {"provider": "github"}), ({}, {"provider": LEFT_OUT}),
        ({}, dict.fromkeys(("provider", "state", "nonce", "verifier"), LEFT_OUT)),
    ],
)  # fmt: skip
def test_o1_a_state_of_another_browser(stage, query, memory):
    """O1: missing, changed, of another browser or provider: refused, and the provider is asked nothing."""

    async def act():
        begun = await stage.login.begin(REDIRECT)
        back = stage.authorize(begun.url, **query)
        kept = {name: one for name, one in {**begun.memory, **memory}.items() if one is not LEFT_OUT}
        return await stage.login.finish(back, kept, REDIRECT, stage.now)

    assert isinstance(stage.run(act), Refused)
    assert stage.asked("/token") == 0


def test_o1_a_replay(stage):
    """O1: the same answer again is refused, even while the provider would take the code again."""

    async def act():
        begun = await stage.login.begin(REDIRECT)
        query = stage.authorize(begun.url)
        first = await stage.login.finish(query, begun.memory, REDIRECT, stage.now)
        stage.grants.add(CODE)
        return first, await stage.login.finish(query, begun.memory, REDIRECT, stage.now)

    first, second = stage.run(act)
    assert isinstance(first, Person)
    assert second == Refused("this login came to its end already: log in again")
    assert stage.asked("/token") == 1


def test_o1_a_code_of_another_login(stage):
    """A code that somebody else was given does not go with this browser's verifier (RFC 9700 4.5)."""

    async def act():
        theirs = await stage.login.begin(REDIRECT)
        ours = await stage.login.begin(REDIRECT)
        query = stage.authorize(ours.url)
        stage.authorize(theirs.url)  # what the provider has in mind with the code
        return await stage.login.finish(query, ours.memory, REDIRECT, stage.now)

    assert isinstance(stage.run(act), Refused)


# O2: nonce


@pytest.mark.parametrize("nonce", [LEFT_OUT, "", "another", 7, None, ["x"]])
def test_o2_nonce(stage, nonce):
    stage.claims = {"nonce": nonce}
    assert stage.run(stage.log_in) == Refused("the ID token is not taken: its nonce is not that of this login")


# O3: PKCE


def test_o3_pkce_s256(stage):
    """O3: the challenge is the SHA-256 of the verifier (the stage's provider checks it), and nothing else will do."""
    assert isinstance(stage.run(stage.log_in), Person)


@pytest.mark.parametrize("methods", [["plain"], []])
def test_o3_a_downgrade(stage, methods):
    stage.provider.described["code_challenge_methods_supported"] = methods
    with pytest.raises(ProviderError, match="S256"):
        stage.run(lambda: stage.login.begin(REDIRECT))


def test_o3_a_provider_that_says_nothing_of_pkce_is_sent_it(stage):
    del stage.provider.described["code_challenge_methods_supported"]
    assert "code_challenge_method=S256" in stage.run(lambda: stage.login.begin(REDIRECT)).url


# O4: iss of the answer


@pytest.mark.parametrize("iss", [LEFT_OUT, "", "https://evil", "{base}/", "HTTP://127.0.0.1"])
@pytest.mark.parametrize("more", [{}, {"error": "access_denied", "code": LEFT_OUT}])
def test_o4_a_mix_up(stage, iss, more):
    """O4: another issuer, or none where one is announced: refused before the code goes anywhere (RFC 9207 2.4)."""
    iss = iss.format(base=stage.provider.base) if isinstance(iss, str) else iss
    refused = stage.run(lambda: stage.log_in(iss=iss, **more))
    assert "(iss)" in refused.reason
    assert stage.asked("/token") == 0


@pytest.mark.parametrize(("iss", "is_good"), [(LEFT_OUT, True), ("https://evil", False)])
def test_o4_a_provider_that_announces_no_iss(stage, iss, is_good):
    del stage.provider.described["authorization_response_iss_parameter_supported"]
    assert isinstance(stage.run(lambda: stage.log_in(iss=iss)), Person) is is_good


# O5: signatures


def forged(kind, token):
    head, payload, signature = token.split(".")
    other = {"none": {"alg": "none"}, "NONE": {"alg": "NoNe"}, "HS256": {"alg": "HS256", "kid": "ec"}}.get(kind)
    if other:
        head = b64(json.dumps(other).encode()).decode()
    return {
        "none": f"{head}.{payload}.",
        "NONE": f"{head}.{payload}.{signature}",
        "HS256": f"{head}.{payload}.{signature}",
        "empty": f"{head}.{payload}.",
        "flipped": f"{head}.{payload}.{'A' if signature[0] != 'A' else 'B'}{signature[1:]}",
        "two parts": f"{head}.{payload}",
        "not base64": f"{head}.{payload}.{signature}=",
        "text": "x",
        "nothing": "",
        "surrogate": "\ud800",
    }[kind]


@pytest.mark.parametrize(
    "kind", ["none", "NONE", "HS256", "empty", "flipped", "two parts", "not base64", "text", "nothing", "surrogate"]
)
def test_o5_a_signature_that_is_none(stage, kind):
    async def act():
        begun = await stage.login.begin(REDIRECT)
        query = stage.authorize(begun.url)
        stage.tokens = {"id_token": forged(kind, stage.id_token(stage.asked_for["nonce"]))}
        return await stage.login.finish(query, begun.memory, REDIRECT, stage.now)

    assert isinstance(stage.run(act), Refused)


@pytest.mark.parametrize(
    "header",
    [
        {"crit": ["b64"], "b64": False}, {"crit": []}, {"b64": True}, {"jwk": jwk(ec_key())}, {"jku": "https://evil/keys"},
        {"x5u": "https://evil"}, {"x5c": ["a"]}, {"typ": "at+jwt"}, {"typ": "logout+jwt"}, {"typ": 7}, {"alg": "ES384"},
        {"alg": 7}, {"alg": LEFT_OUT},
    ],
)  # fmt: skip
def test_o5_a_header_that_brings_rules(stage, header):
    stage.header = header
    assert isinstance(stage.run(stage.log_in), Refused)


def test_o5_another_key(stage):
    """O5: signed by somebody else under the id of a key of the issuer's."""
    stage.key, stage.header = ec_key("other"), {"kid": "ec"}
    assert stage.run(stage.log_in) == Refused("the token is not taken: no key of the issuer has signed it")


@pytest.mark.parametrize("kid", ["unknown", "../../etc/passwd", "' OR 1=1 --"])
def test_o5_an_unknown_key(stage, kid):
    """O5, O8: it may be new, so the issuer is asked, but not twice within half a minute; until then nothing is said."""
    stage.header = {"kid": kid}
    with pytest.raises(ProviderError, match="may be new"):
        stage.run(stage.log_in)
    assert stage.asked("/keys") == 1
    stage.monotonic += 31
    stage.grants.add(CODE)
    assert isinstance(stage.run(stage.log_in), Refused)
    assert stage.asked("/keys") == 2


def test_o5_a_key_that_was_added_works_within_one_fetch(stage):
    stage.run(stage.log_in)
    stage.key, stage.header = ec_key("other"), {"kid": "new"}
    stage.provider.answers["/keys"] = {"keys": [jwk(ec_key("other"), kid="new")]}
    stage.monotonic += 31
    stage.grants.add(CODE)
    assert isinstance(stage.run(stage.log_in), Person)


@pytest.mark.parametrize(
    ("algorithms", "key", "is_good"),
    [
        (("ES256", "RS256"), rsa_key, True), (("RS256",), ec_key, False), (("ES256",), rsa_key, False),
        (("EdDSA",), ed_key, True), (("ES256",), ed_key, False),
    ],
)  # fmt: skip
def test_o5_algorithms_are_those_of_the_configuration(algorithms, key, is_good):
    with oidc_stage(algorithms=algorithms) as (stage, run):
        stage.key = key()
        kids = {"ec": ec_key(), "rsa": rsa_key(), "ed": ed_key()}
        stage.provider.answers["/keys"] = {"keys": [jwk(one, kid=kid) for kid, one in kids.items()]}
        assert isinstance(run(stage.log_in), Person) is is_good


# O6: claims


@pytest.mark.parametrize(
    "claims",
    [
        {"iss": "https://evil"}, {"iss": "{base}/"}, {"iss": LEFT_OUT}, {"iss": ["{base}"]}, {"aud": "other"},
        {"aud": LEFT_OUT}, {"aud": []}, {"aud": ["promgate", 7], "azp": "promgate"}, {"aud": ["promgate", "other"]},
        {"aud": ["promgate", "other"], "azp": "other"}, {"azp": "other"}, {"azp": 7}, {"exp": LEFT_OUT},
        {"exp": "soon"}, {"exp": True}, {"exp": NOW - 60}, {"iat": LEFT_OUT}, {"iat": "now"}, {"iat": NOW + 61},
        {"nbf": "now"},
        {"nbf": NOW + 61}, {"sub": LEFT_OUT}, {"sub": ""}, {"sub": 7}, {"sub": "a b"}, {"sub": "a,b"},
        {"sub": "a\r\nb"}, {"sub": "ä"}, {"sub": "x" * 257}, {"events": {}}, {"at_hash": "wrong"}, {"at_hash": 7},
    ],
)  # fmt: skip
def test_o6_claims(stage, claims):
    base = stage.provider.base
    stage.claims = {
        name: one.format(base=base) if isinstance(one, str) else [base] if one == ["{base}"] else one
        for name, one in claims.items()
    }
    assert isinstance(stage.run(stage.log_in), Refused)


@pytest.mark.parametrize(
    "claims",
    [
        {"aud": ["promgate"]}, {"aud": ["other", "promgate"], "azp": "promgate"}, {"exp": NOW - 59}, {"iat": NOW + 60},
        {"nbf": NOW + 60}, {"nbf": NOW}, {"at_hash": at_hash("access")},
    ],
)  # fmt: skip
def test_o6_claims_that_are_good(stage, claims):
    stage.claims = claims
    assert isinstance(stage.run(stage.log_in), Person)


# O7: userinfo


@pytest.mark.parametrize("sub", ["dave", "", None, 7, LEFT_OUT])
def test_o7_userinfo_of_somebody_else(stage, sub):
    """O7: OpenID Connect Core 5.3.2: without the same sub it must not be used."""
    stage.userinfo["sub"] = sub
    if sub is LEFT_OUT:
        del stage.userinfo["sub"]
    assert "userinfo" in stage.run(stage.log_in).reason


def test_userinfo_is_not_asked_where_the_id_token_tells_all(stage):
    stage.claims = {"email": "carol@example.net", "email_verified": True, "groups": ["sre"]}
    person = stage.run(stage.log_in)
    assert person.granted[1:] == ("oidc:any", "oidc:domain:example.net", "oidc:group:sre", "oidc:sub:carol-1")
    assert stage.asked("/userinfo") == 0


def test_without_a_userinfo_endpoint_the_id_token_is_all(stage):
    del stage.provider.described["userinfo_endpoint"]
    assert stage.run(stage.log_in).name == "oidc:sub:carol-1"


# O9: a token endpoint that is ill


@pytest.mark.parametrize(
    "reply",
    [
        Reply(500), error("invalid_grant", 500), Reply(200, b"<html>", "text/html"), Reply(200, b"[]"),
        Reply(302, headers={"Location": "https://evil"}), Reply(404), Reply(200, b"x" * (1 << 20) + b"x"),
        error("invalid_client", 401), error("unauthorized_client"), error("invalid_request", 200), Reply(200, b"{}"),
    ],
)  # fmt: skip
def test_o9_no_answer_is_no_session(stage, reply):
    """O9: whatever is no answer says nothing of the person, and is asked once: a code is spent by asking."""
    stage.provider.answers["/token"] = reply
    with pytest.raises(ProviderError) as raised:
        stage.run(stage.log_in)
    assert not raised.value.is_late
    assert stage.asked("/token") == 1
    assert "s:cret" not in str(raised.value)
    assert CODE not in str(raised.value)


@pytest.mark.parametrize("word", ["id_token", "access_token", "token_type"])
@pytest.mark.parametrize("value", [LEFT_OUT, None, 7, ""])
def test_o9_an_answer_that_lacks_a_token(stage, word, value):
    stage.tokens = {word: value}
    if word == "id_token" and value == "":
        assert isinstance(stage.run(stage.log_in), Refused)
    else:
        with pytest.raises(ProviderError):
            stage.run(stage.log_in)


@pytest.mark.parametrize("path", ["/token", "/keys", "/userinfo", "/.well-known/openid-configuration"])
def test_o9_a_provider_that_hangs(stage, path, monkeypatch):
    """O9: the whole of a login has one deadline, under the 10 s after which a person gives up."""
    assert flow.DEADLINE_S < 10
    monkeypatch.setattr(flow, "DEADLINE_S", 0.3)
    answer = stage.provider.answers[path]

    def hang(request):
        stage.provider.hold.wait(20)
        return answer(request) if callable(answer) else answer

    stage.provider.answers[path] = hang

    async def act():
        if path != "/.well-known/openid-configuration":
            begun = await stage.login.begin(REDIRECT)
            stage.provider.hold.clear()
            return await stage.login.finish(stage.authorize(begun.url), begun.memory, REDIRECT, stage.now)
        stage.provider.hold.clear()
        return await stage.login.begin(REDIRECT)

    try:
        with pytest.raises(ProviderError) as raised:
            stage.run(act)
    finally:
        stage.provider.hold.set()
    assert raised.value.is_late


def test_o9_a_connection_that_dies_is_not_asked_again(stage):
    """The code may be spent: the second time the provider would take back all tokens of the login (RFC 6749 4.1.2)."""

    def die(request):
        raise ConnectionAbortedError

    stage.provider.answers["/token"] = die
    with pytest.raises(ProviderError):
        stage.run(stage.log_in)
    assert stage.asked("/token") == 1


@pytest.mark.parametrize(("status", "name"), [(400, "invalid_grant"), (200, "bad_verification_code")])
def test_a_code_that_is_taken_no_more(stage, status, name):
    stage.provider.answers["/token"] = error(name, status)
    assert stage.run(stage.log_in) == Refused("the provider takes this login no more: log in again")


def test_a_secret_that_was_replaced_under_us(stage, tmp_path):
    file = tmp_path / "secret"
    file.write_text("s:cret\n")
    written = stage.written
    stage.login = OidcProvider(
        type(written)("oidc", "x", written.issuer, "promgate", "old", str(file)), lambda: stage.monotonic
    )
    assert isinstance(stage.run(stage.log_in), Person)
    assert stage.asked("/token") == 2


@pytest.mark.parametrize(
    ("ways", "secret", "shown"),
    [
        (["client_secret_post"], "s:cret", {"client_id": "promgate", "client_secret": "s:cret"}),
        (["none"], "", {"client_id": "promgate"}),
        (["private_key_jwt", "client_secret_basic", "client_secret_post"], "s:cret", {}),
    ],
)
def test_how_promgate_logs_in(stage, ways, secret, shown):
    stage.provider.described["token_endpoint_auth_methods_supported"] = ways
    stage.login = OidcProvider(type(stage.written)("oidc", "x", stage.provider.base, "promgate", secret))
    seen = []

    def remember(request):
        seen.append((request.headers["Authorization"], parse_qs(request.body.decode())))
        return error("invalid_grant")

    stage.provider.answers["/token"] = remember
    stage.run(stage.log_in)
    ((authorization, form),) = seen
    assert {name: [one] for name, one in shown.items()}.items() <= form.items()
    assert (authorization is None) is bool(shown)
    assert ("client_secret" in form) is ("client_secret" in shown)


def test_a_way_to_log_in_that_promgate_does_not_have(stage):
    stage.provider.described["token_endpoint_auth_methods_supported"] = ["private_key_jwt"]
    with pytest.raises(ProviderError, match="takes neither"):
        stage.run(stage.log_in)
    assert stage.asked("/token") == 0


# O10: what a provider says of an error


@pytest.mark.parametrize(
    ("query", "told"),
    [
        ({"error": "access_denied"}, "the provider said access_denied: log in again"),
        ({"error": "access_denied", "error_description": "<b>no</b>"}, "access_denied (<b>no</b>)"),
        ({"error": "access_denied", "error_description": "a\r\nb"}, "said access_denied: log in"),
        ({"error": "a\nb"}, "none of RFC 6749"),
        ({}, "sent no code"),
        ({"code": ""}, "sent no code"),
    ],
)
def test_o10_what_a_provider_says(stage, query, told):
    """O10: its words are one printable line (the page escapes them)."""
    refused = stage.run(lambda: stage.log_in(**{"code": LEFT_OUT, **query}))
    assert told in refused.reason
    assert refused.reason.isprintable()
    assert stage.asked("/token") == 0


# O18: e-mail


@pytest.mark.parametrize(
    "changes",
    [
        {"email_verified": False}, {"email_verified": "true"}, {"email_verified": 1}, {"email_verified": None},
        {"email_verified": LEFT_OUT}, {"email": LEFT_OUT}, {"email": ["carol@example.net"]}, {"email": "carol"},
        {"email": "carol@a@b"}, {"email": "ca,rol@example.net"}, {"email": "car ol@example.net"},
        {"email": "cärol@example.net"}, {"email": "carol@exämple.net"}, {"email": "carol@example.net\r\n"},
        {"email": "@example.net"}, {"email": "carol@"},
    ],
)  # fmt: skip
def test_o18_an_email_that_is_no_name(stage, changes):
    """O18: email_verified must be JSON true. Without it a person is their subject, and of no domain."""
    stage.userinfo = {name: one for name, one in {**stage.userinfo, **changes}.items() if one is not LEFT_OUT}
    person = stage.run(stage.log_in)
    assert person.name == "oidc:sub:carol-1"
    assert person.granted == ("oidc:sub:carol-1", "oidc:any")


def test_o18_each_source_vouches_for_its_own_email(stage):
    """A verified e-mail of the userinfo endpoint does not make that of the ID token a verified one, nor the reverse."""
    stage.claims = {"email": "dave@example.net"}
    assert stage.run(stage.log_in).name == "oidc:user:carol@example.net"
    stage.claims = {"email_verified": True}
    stage.userinfo = {"sub": "carol-1", "email": "dave@example.net"}
    stage.grants.add(CODE)
    assert stage.run(stage.log_in).name == "oidc:sub:carol-1"


@pytest.mark.parametrize(("email", "is_in"), [(True, True), (False, False)])
def test_o18_domains_want_a_verified_email(email, is_in):
    with oidc_stage(allowed_domains=frozenset({"example.net"})) as (stage, run):
        stage.userinfo["email_verified"] = email
        assert isinstance(run(stage.log_in), Person) is is_in


@pytest.mark.parametrize("mail", ["c@evil.net", "c@sub.example.net", "c@example.net.evil", "c@xexample.net"])
def test_another_domain_may_not_log_in(mail):
    with oidc_stage(allowed_domains=frozenset({"example.net"})) as (stage, run):
        stage.userinfo["email"] = mail
        assert "domains" in run(stage.log_in).reason


def test_an_email_that_nobody_vouches_for_is_taken_where_that_is_written():
    with oidc_stage(takes_unverified_email=True, email_claim="upn") as (stage, run):
        stage.userinfo = {"sub": "carol-1", "upn": "Carol@example.net", "email": "dave@example.net"}
        assert run(stage.log_in).name == "oidc:user:carol@example.net"


# O19: groups


@pytest.mark.parametrize(
    ("groups", "keys"),
    [
        (["sre", "other"], {"oidc:group:sre"}), ("sre", {"oidc:group:sre"}),
        ("viewer,admin", {"oidc:group:viewer,admin"}), (["viewer,admin"], {"oidc:group:viewer,admin"}),
        (["viewer", "admin"], set()), (["sre", 7], set()), ("sre dev", set()),
        ({"sre": True}, set()), ([["sre"]], set()), (None, set()), ("SRE", set()), ("sre\n", set()),
    ],
)  # fmt: skip
def test_o19_groups(stage, groups, keys):
    """O19: a list of texts, or one text; `viewer,admin` is one name."""
    stage.userinfo["groups"] = groups
    assert {key for key in stage.run(stage.log_in).granted if "group" in key} == keys


@pytest.mark.parametrize(("groups", "is_in"), [(["sre"], True), (["sre,dev"], False), ([], False), (["sre", 7], False)])
def test_who_is_in_no_allowed_group_may_not_log_in(groups, is_in):
    with oidc_stage(allowed_groups=frozenset({"sre"}), groups_claim="realm.roles") as (stage, run):
        stage.claims = {"realm": {"roles": groups}}
        found = run(stage.log_in)
        assert isinstance(found, Person) is is_in
        assert is_in or "groups" in found.reason


def test_a_group_is_never_somebody_else(stage):
    """What a provider calls a group does not become another kind of key."""
    stage.userinfo["groups"] = ["any", "../user:dave@example.net", "user:dave@example.net"]
    assert "oidc:user:dave@example.net" not in stage.run(stage.log_in).granted


# the provider's own description


def test_a_login_page_asks_the_provider_seldom(stage):
    async def act():
        await asyncio.gather(*(stage.login.begin(REDIRECT) for _ in range(50)))
        stage.monotonic += 299
        await stage.login.begin(REDIRECT)
        stage.monotonic += 2
        await stage.login.begin(REDIRECT)

    stage.run(act)
    assert stage.asked("/.well-known/openid-configuration") == 2


def test_a_provider_that_is_away_is_asked_seldom_and_its_last_word_serves_an_hour(stage):
    good = stage.provider.answers["/.well-known/openid-configuration"]

    async def act():
        stage.provider.answers["/.well-known/openid-configuration"] = Reply(503)
        for _ in range(20):
            with pytest.raises(ProviderError):
                await stage.login.begin(REDIRECT)
        assert stage.asked("/.well-known/openid-configuration") == 1
        stage.monotonic += 2
        stage.provider.answers["/.well-known/openid-configuration"] = good
        await stage.login.begin(REDIRECT)
        stage.provider.answers["/.well-known/openid-configuration"] = Reply(503)
        stage.monotonic += 3599
        await stage.login.begin(REDIRECT)
        stage.monotonic += 1
        with pytest.raises(ProviderError):
            await stage.login.begin(REDIRECT)

    stage.run(act)
