"""People, from the page that asks who they are to the end of their session, with a real provider (oidc-provider)."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING
from urllib.parse import parse_qs, quote, urlsplit

import pytest

from tests.kit.people_site import COOKIE, FORM, OPENS, STATE, Person, asked_for, links_of, people_site

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.kit.fetch import Answer
    from tests.kit.people_site import Site

pytestmark = pytest.mark.real


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    with people_site(tmp_path_factory.mktemp("people"), console={}) as made:
        yield made


@pytest.fixture
def person(site: Site) -> Person:
    return Person(site)


def _is_no_session(answer: Answer, person: Person) -> bool:
    return COOKIE not in person.cookies and not any(
        line.startswith(f"{COOKIE}=") and "Max-Age=0" not in line for line in answer.headers.get_all("Set-Cookie", [])
    )


def test_somebody_is_sent_to_log_in_and_comes_back(site: Site, person: Person) -> None:
    sent = person.open("/app/graph?g0.expr=up&x=%2F")
    assert sent.status == 302
    assert sent.headers["Location"].startswith(f"{site.base}/-/login?rd=")
    assert asked_for(sent) == "/app/graph?g0.expr=up&x=%2F"
    page = person.open("/-/login?rd=" + quote(asked_for(sent), safe=""))
    assert page.status == 200
    assert b"Corp &amp; Co" in page.body
    assert b'type="password"' in page.body, "there are users, too"
    assert b"<script" not in page.body
    done = person.log_in("sre+dev.carol", asked_for(sent))
    assert (done.status, done.headers["Location"]) == (302, "/app/graph?g0.expr=up&x=%2F")
    assert person.open("/app/graph?g0.expr=up").body == b"the page"
    assert not any("promgate" in str(request.headers["Cookie"]) for request in site.seen)
    line = site.promgate.wait_request(lambda one: one["path"] == "/app/graph" and one["status"] == 200, "the page")
    assert line["identity"] == "oidc:user:carol@example.net"


def test_o12_the_cookie_is_for_this_host_alone_and_new_each_time(person: Person) -> None:
    person.cookies[COOKIE] = "A" * 43  # that somebody else chose
    done = person.log_in("x.carol")
    first = person.cookies[COOKIE]
    assert first != "A" * 43
    (line,) = [one for one in done.headers.get_all("Set-Cookie", []) if one.startswith(f"{COOKIE}=")]
    assert set(line.split("; ")[1:]) == {"Path=/", "Max-Age=43200", "HttpOnly", "SameSite=Lax", "Secure"}
    assert len(line) < 4096
    assert STATE not in person.cookies, "the login is over"
    person.log_in("x.carol")
    assert person.cookies[COOKIE] != first
    left = Person(person.site)
    left.cookies[COOKIE] = first
    assert left.open("/app/x").status == 302, "the session of before has ended"


@pytest.mark.parametrize("change", ["", "A" * 43, "no id at all", "A" * 5000, "\\\"'<>%00", "x; " + COOKIE + "=y"])
def test_o12_a_tampered_cookie_is_to_log_in_again(person: Person, change: str) -> None:
    person.cookies[COOKIE] = change
    assert person.open("/app/x").status == 302
    assert person.ask("/app/x").status == 401
    assert person.open("/-/login").status == 200


def test_o12_one_changed_letter_is_another_session(person: Person) -> None:
    person.log_in("x.carol")
    good = person.cookies[COOKIE]
    for at in (0, 21, 42):
        person.cookies[COOKIE] = good[:at] + ("A" if good[at] != "A" else "B") + good[at + 1 :]
        assert person.open("/app/x").status == 302
    person.cookies[COOKIE] = good
    assert person.open("/app/x").status == 200


def test_o1_a_login_that_this_browser_did_not_begin_is_none(site: Site, person: Person) -> None:
    back = person.come_back("x.carol")
    other = Person(site)
    answer = other.open(back)
    assert answer.status == 403
    assert _is_no_session(answer, other)
    other.go_to_provider()  # it has begun one, but not this
    answer = other.open(back)
    assert answer.status == 403
    assert _is_no_session(answer, other)
    assert person.open(back).status == 302, "whose it is"


@pytest.mark.parametrize("state", ["", "x", "A" * 43, None])
def test_o1_a_state_that_was_changed_is_refused(person: Person, state: str | None) -> None:
    where = urlsplit(person.come_back("x.carol"))
    query = {name: values[0] for name, values in parse_qs(where.query).items()}
    del query["state"]
    if state is not None:
        query["state"] = state
    answer = person.open(where.path + "?" + "&".join(f"{name}={quote(value)}" for name, value in query.items()))
    assert answer.status == 403
    assert _is_no_session(answer, person)


def test_o1_a_login_is_good_once(site: Site, person: Person) -> None:
    back = person.come_back("x.carol")
    state = person.cookies[STATE]
    assert person.open(back).status == 302
    for tab in (person, Person(site)):
        tab.cookies.pop(COOKIE, None)
        tab.cookies[STATE] = state
        answer = tab.open(back)
        assert answer.status == 403
        assert _is_no_session(answer, tab)


@pytest.mark.parametrize("change", ["x{}", "x", ""])
def test_o1_a_state_cookie_that_was_changed_is_none(person: Person, change: str) -> None:
    back = person.come_back("x.carol")
    person.cookies[STATE] = change.format(person.cookies[STATE])
    answer = person.open(back)
    assert answer.status == 403
    assert _is_no_session(answer, person)


def test_o10_what_a_provider_says_is_text(person: Person) -> None:
    state = parse_qs(urlsplit(person.go_to_provider()).query)["state"][0]
    said = quote("<script>alert(1)</script>\"'&")
    answer = person.open(f"/-/callback/corp?error=access_denied&error_description={said}&state={state}")
    assert answer.status == 403
    assert b"<script" not in answer.body
    assert answer.headers["Content-Security-Policy"].startswith("default-src 'none'")
    assert _is_no_session(answer, person)


@pytest.mark.parametrize(
    "rd",
    ["https://evil.example", "//evil.example", "/\\evil.example", "/%5cevil.example", "/%09/evil.example", "/a//b", ""],
)
def test_o11_nobody_is_sent_elsewhere(person: Person, rd: str) -> None:
    assert person.log_in("x.carol", rd).headers["Location"] == "/-/login"
    page = person.open("/-/login?rd=" + quote(rd, safe=""))
    assert page.status == 200
    assert not [link for link in links_of(page.body) if "evil" in link]
    assert b"evil" not in page.body
    assert person.submit("/-/login", user="ann", password="ann", rd=rd).headers["Location"] == "/-/login"


@pytest.mark.parametrize(
    "headers",
    [
        {},
        {"Accept": "*/*"},
        {"Accept": "application/json"},
        {"Accept": "text/html", "Authorization": "Bearer x"},
        {"Accept": "text/html", "X-Requested-With": "XMLHttpRequest"},
        {"Accept": "text/html", "Sec-Fetch-Mode": "cors", "Sec-Fetch-Site": "same-origin"},
    ],
)
def test_o15_a_program_is_told_and_not_sent(person: Person, headers: dict[str, str]) -> None:
    for path in ("/app/api/v1/query?query=up", "/people/x"):
        answer = person.ask(path, headers=headers)
        assert answer.status == 401
        assert answer.headers["Location"] is None
        assert answer.headers["Content-Type"] == "text/plain; charset=utf-8"
    assert person.ask("/app/x", "POST", b"", OPENS).status == 401


def test_o14_a_logout_ends_the_session_here_and_at_the_provider(site: Site, person: Person) -> None:
    person.log_in("x.carol")
    kept = dict(person.cookies)
    assert b"oidc:user:carol@example.net" in person.open("/-/logout").body
    answer = person.submit("/-/logout")
    assert answer.status == 200
    assert COOKIE not in person.cookies
    further = answer.headers["Refresh"].removeprefix("0; url=")
    asked = parse_qs(urlsplit(further).query)
    assert further.startswith(site.provider.base)
    assert "id_token_hint" in asked
    assert asked["post_logout_redirect_uri"] == [f"{site.base}/-/logout"]
    assert person.at_provider.log_out(further, site.base) == f"{site.base}/-/logout"
    assert b"logged out" in person.open("/-/logout").body
    person.cookies = kept
    assert person.open("/app/x").status == 302, "whatever the browser kept"


def test_a_logout_is_asked_by_our_own_page(person: Person) -> None:
    person.log_in("x.carol")
    for headers in ({}, {"Origin": "https://evil.example"}, {"Sec-Fetch-Site": "cross-site"}, {"Origin": "null"}):
        assert person.ask("/-/logout", "POST", b"", {**FORM, "Sec-Fetch-Site": "none", **headers}).status == 403
    assert person.open("/app/x").status == 200
    assert person.ask("/-/logout", "GET", headers={"Sec-Fetch-Site": "cross-site", **OPENS}).status == 200
    assert person.open("/app/x").status == 200, "a link ends nothing"


def test_no_upstream_sees_a_cookie_of_promgate_s(site: Site, person: Person) -> None:
    person.log_in("x.carol")
    person.cookies.update({STATE: "under-way", "other": "1"})
    assert person.open("/app/x").status == 200
    assert site.seen[-1].headers["Cookie"] == "other=1"


@pytest.mark.parametrize("method", ["POST", "DELETE"])
def test_a_page_of_another_site_changes_nothing(site: Site, person: Person, method: str) -> None:
    person.log_in("sre.carol")
    before = len(site.seen)
    for origin in ("https://evil.example", "null", f"http://{urlsplit(site.base).netloc}.evil.example"):
        answer = person.ask("/app/x", method, b"", {"Origin": origin})
        assert answer.status == 403
    assert person.ask("/app/x", method, b"").status == 403
    assert len(site.seen) == before
    person.ask("/app/x", method, b"", {"Origin": site.base})
    assert len(site.seen) == before + 1


def test_roles_come_from_the_provider(person: Person) -> None:
    person.log_in("dev.carol")
    own = {"Origin": person.site.base}
    assert person.ask("/app/x", "POST", b"", own).status == 403
    assert person.open("/-/console").status == 200
    assert person.ask("/-/api/v1/tokens", headers=own).status == 403
    person = Person(person.site)
    person.log_in("sre.carol")
    assert person.ask("/app/x", "POST", b"", own).status == 200
    assert person.ask("/-/api/v1/tokens", headers=own).status == 200


def test_a_password_by_the_form(person: Person) -> None:
    answer = person.submit("/-/login", user="ann", password="ann", rd="/app/y?z=1")
    assert (answer.status, answer.headers["Location"]) == (303, "/app/y?z=1")
    assert person.open("/app/y").status == 200
    assert person.open("/people/x").status == 302, "where no password is taken, none by a form is"
    assert person.submit("/-/logout").headers["Refresh"] is None
    assert person.open("/app/y").status == 302


def test_every_wrong_password_looks_alike(site: Site) -> None:
    tried = [("ann", "wrong"), ("nobody", "ann"), ("ann", "x" * 100), ("ann", "a\0b"), ("ann\r\n", "ann"), ("", "")]
    pages = set()
    for user, password in tried:
        person = Person(site)
        answer = person.submit("/-/login", user=user, password=password, rd="/app/y")
        assert answer.status == 401
        assert answer.headers["WWW-Authenticate"] == 'Bearer realm="promgate"'
        assert _is_no_session(answer, person)
        pages.add(answer.body)
    assert len(pages) == 1


def test_a_form_of_another_site_logs_nobody_in(person: Person) -> None:
    body = b"user=ann&password=ann"
    for headers in (
        {},
        {"Origin": "https://evil.example"},
        {"Sec-Fetch-Site": "cross-site"},
        {"Sec-Fetch-Site": "same-site"},
        {"Sec-Fetch-Site": "same-origin", "Origin": "https://evil.example"},
    ):
        fields = {"Content-Type": "application/x-www-form-urlencoded", **headers}
        answer = person.ask("/-/login", "POST", body, fields)
        assert answer.status == 403
        assert _is_no_session(answer, person)
    fields = {"Content-Type": "application/json", "Origin": person.site.base}
    assert person.ask("/-/login", "POST", json.dumps({"user": "ann", "password": "ann"}).encode(), fields).status == 415


@pytest.mark.parametrize(
    ("charset", "body"),
    [
        ("; charset=bogus", b"user=ann&password=ann"),
        ("; charset=utf-16", "user=ann&password=ann".encode("utf-16")),
        ("; charset=utf-7", b"user=ann&password=+2AA-"),
        ("; charset=iso-8859-1", b"user=ann&password=ann"),
        ("", b"user=ann&password=%ED%A0%80"),
        ("", b"user=%ff&password=ann"),
        ("", b"user=\xff&password=ann"),
        ("", b"&".join([b"user=ann"] * 1000)),
    ],
)
@pytest.mark.parametrize("path", ["/-/login", "/-/logout/backchannel/corp"])
def test_a_form_that_is_not_in_utf_8_is_a_bad_one(site: Site, path: str, charset: str, body: bytes) -> None:
    fields = {"Content-Type": f"{FORM['Content-Type']}{charset}", "Origin": site.base}
    person = Person(site)
    answer = person.ask(path, "POST", body, fields)
    assert answer.status == 400
    assert _is_no_session(answer, person)
    assert "Traceback" not in site.promgate.log


def test_a_form_may_say_that_it_is_in_utf_8(person: Person) -> None:
    fields = {"Content-Type": f"{FORM['Content-Type']}; charset=UTF-8", "Origin": person.site.base}
    assert person.ask("/-/login", "POST", b"user=ann&password=ann", fields).status == 303


@pytest.mark.parametrize("path", ["/-/login/none", "/-/callback/none", "/-/login/corp/x", "/-/logout/backchannel/none"])
def test_there_is_no_other_way(person: Person, path: str) -> None:
    method = "POST" if "backchannel" in path else "GET"
    assert person.ask(path, method, b"logout_token=x" if method == "POST" else None, FORM).status == 404


@pytest.mark.parametrize("token", ["", "x", "eyJhbGciOiJub25lIn0.e30.", "a" * 20_000])
def test_o14_a_logout_token_that_is_none_is_refused(person: Person, token: str) -> None:
    person.log_in("x.carol")
    fields = {"Content-Type": "application/x-www-form-urlencoded"}
    answer = Person(person.site).ask("/-/logout/backchannel/corp", "POST", f"logout_token={token}".encode(), fields)
    assert answer.status == 400
    assert json.loads(answer.body)["error"] == "invalid_request"
    assert answer.headers["Cache-Control"] == "no-store"
    assert person.open("/app/x").status == 200


def test_every_page_is_sealed(person: Person) -> None:
    pages = [person.open(path) for path in ("/-/login", "/-/logout", "/-/callback/corp", "/-/login/none")]
    for page in pages:
        assert page.headers["Cache-Control"] == "no-store"
        assert "frame-ancestors 'none'" in page.headers["Content-Security-Policy"]
        assert "script" not in page.headers["Content-Security-Policy"]
        assert page.headers["Server"] is None


def test_no_secret_is_logged(site: Site, person: Person) -> None:
    back = person.come_back("x.carol")
    state = person.cookies[STATE]
    person.open(back)
    person.submit("/-/login", user="ann", password="a-wrong-one")
    code = parse_qs(urlsplit(back).query)["code"][0]
    told = site.promgate.log + json.dumps(site.promgate.requests())
    assert "carol@example.net" in told
    for secret in (person.cookies[COOKIE], state, code, "a-wrong-one", "promgate-secret"):
        assert secret not in told
