"""Sessions over time, with real parts: restarts, a provider that is away or forgets, reloads, streams, Chromium."""

from __future__ import annotations

import os
import signal
import socket
import sqlite3
import ssl
from concurrent.futures import ThreadPoolExecutor
from http import HTTPStatus
from pathlib import Path
from urllib.parse import parse_qsl, urlsplit

import bcrypt
import pytest
import yaml

from tests.kit.browser import tab
from tests.kit.fetch import fetch
from tests.kit.http_server import HttpServer, Reply, Request
from tests.kit.people_site import COOKIE, FORM, Person, Site, asked_for, people_site
from tests.kit.process import free_port
from tests.kit.promgate import Promgate
from tests.kit.silent_upstream import HANDSHAKE, silent_upstream
from tests.kit.styled import styled_prometheus
from tests.kit.wait import wait_for

pytestmark = pytest.mark.real

PATIENCE_MS = 60_000


def _is_in(person: Person, path: str = "/app/x") -> bool:
    """Whether the session still lets in; nothing but that and a way to log in may come."""
    status = person.open(path).status
    assert status in {200, 302}
    return status == HTTPStatus.OK


def _reload(site: Site, **changes: object) -> None:
    file = site.promgate.config_file
    config = yaml.safe_load(file.read_text()) | changes
    file.write_text(yaml.safe_dump({key: value for key, value in config.items() if value is not None}))
    before = site.promgate.log.count(" taken: ")
    os.kill(site.promgate.pid, signal.SIGHUP)
    wait_for(lambda: site.promgate.log.count(" taken: ") > before, "the new configuration")


def test_a_session_outlives_promgate_and_a_login_under_way_does_too(tmp_path: Path) -> None:
    with people_site(tmp_path) as site:
        person, slow, left = Person(site), Person(site), Person(site)
        person.log_in("x.carol")
        left.log_in("x.dave")
        kept = dict(left.cookies)
        left.submit("/-/logout")
        back = slow.come_back("x.eve")
        for end in (site.promgate.stop, site.promgate.kill):
            end()
            site.promgate.start()
            assert _is_in(person)
            left.cookies = dict(kept)
            assert not _is_in(left), "who has logged out stays out"
        assert slow.open(back).status == 302
        assert _is_in(slow)
        for file in filter(Path.is_file, (tmp_path / "promgate").glob("promgate.db*")):
            assert file.stat().st_mode & 0o077 == 0
            assert person.cookies[COOKIE].encode() not in file.read_bytes()


def test_a_store_that_cannot_be_read_costs_no_session(tmp_path: Path) -> None:
    with people_site(tmp_path) as site:
        person, other = Person(site), Person(site)
        person.log_in("x.carol")
        store = tmp_path / "promgate" / "promgate.db-sessions"
        away = store.with_suffix(".away")
        store.rename(away)
        store.write_bytes(b"no database" * 1000)
        store.chmod(0o600)
        assert _is_in(person)
        other.cookies[COOKIE] = "A" * 43
        answer = other.open("/app/x")
        assert (answer.status, answer.body.count(b"\n")) == (503, 1)
        assert int(str(answer.headers["Retry-After"])) >= 5
        back = Person(site)
        assert back.log_in("x.eve").status == 503
        assert COOKIE not in back.cookies
        for file in store.parent.glob("promgate.db-sessions*"):
            file.unlink()
        away.rename(store)
        wait_for(lambda: other.open("/app/x").status == 302, "the store to work again")
        assert _is_in(person)


def test_two_servers_share_sessions_and_a_logout_at_one_ends_them_at_the_other(tmp_path: Path) -> None:
    with people_site(tmp_path) as site:
        config = yaml.safe_load(site.promgate.config_file.read_text())
        there = site.promgate.config_file.parent
        config["tokens"]["store"] = f"sqlite:///{there / 'promgate.db'}"
        config["htpasswd_file"] = str(there / "users")
        config["oauth2"]["client_secret_file"] = str(there / "client.secret")
        for own in ("version", "listen", "tls_server_config", "access_log"):
            del config[own]
        with Promgate(tmp_path / "second", config) as second:
            person, ann = Person(site), Person(site)
            there_too, ann_too = (Person(Site(second, site.provider, site.seen)) for _ in range(2))
            person.log_in("x.carol")
            ann.submit("/-/login", user="ann", password="ann", rd="/app/x")
            there_too.cookies, ann_too.cookies = person.cookies, ann.cookies
            assert _is_in(there_too)
            assert _is_in(ann_too)
            kept = dict(person.cookies)
            person.submit("/-/logout")
            there_too.cookies = kept
            wait_for(lambda: not _is_in(there_too), "the logout to be known there", timeout_s=20)
            assert _is_in(ann_too)
            kept = dict(ann_too.cookies)
            ann_too.submit("/-/logout")
            ann.cookies = kept
            wait_for(lambda: not _is_in(ann), "the logout to be known here", timeout_s=20)


def test_o13_a_refresh_is_one_however_many_ask_and_a_provider_s_no_is_a_logout(tmp_path: Path) -> None:
    """The provider takes each refresh token once: a second use of one would end everything."""
    with people_site(tmp_path, sessions={"refresh": "1s"}) as site:
        person = Person(site)
        person.log_in("x.carol")
        refreshed = 0
        with ThreadPoolExecutor(8) as crowd:
            database = tmp_path / "promgate" / "promgate.db-sessions"
            last = _fresh_until(database)
            while refreshed < 3:
                told = set(crowd.map(lambda _: person.open("/app/x").status, range(40)))
                assert told == {200}
                fresh = _fresh_until(database)
                refreshed, last = refreshed + (fresh > last), fresh
        assert "grant.error" not in site.provider.log
        site.provider.stop()
        wait_for(lambda: "so they do for now" in _asked(site, person), "the outage to be seen")
        assert _is_in(person), "a provider that is down costs nobody a session"
        site.provider.start()  # it has forgotten everybody, and says so
        wait_for(lambda: not _is_in(person), "the provider's no")
        assert "is logged out" in site.promgate.log


def _asked(site: Site, person: Person) -> str:
    assert _is_in(person)
    return site.promgate.log


def _fresh_until(database: Path) -> float:
    with sqlite3.connect(f"file:{database}?mode=ro", uri=True) as db:
        return float(db.execute("SELECT max(fresh_until) FROM session").fetchone()[0])


def test_o9_a_provider_that_is_down_logs_nobody_in(tmp_path: Path) -> None:
    with people_site(tmp_path) as site:
        person = Person(site)
        back = person.come_back("x.carol")
        site.provider.stop()
        answer = person.open(back)
        assert answer.status == 502
        assert COOKIE not in person.cookies
        begun = Person(site).open("/-/login/corp")
        assert (begun.status, begun.headers["Retry-After"]) in {(503, "5"), (302, None)}, "it may know the way still"


def test_what_a_reload_takes_away_has_ended(tmp_path: Path) -> None:
    with people_site(tmp_path) as site:
        person, ann = Person(site), Person(site)
        person.log_in("x.carol")
        ann.submit("/-/login", user="ann", password="ann", rd="/app/x")
        _reload(site, roles={"viewer": ["basic:ann"], "admin": ["oidc:group:sre"]})
        assert person.open("/app/x").status == 403, "logged in, and nothing else"
        login = yaml.safe_load(site.promgate.config_file.read_text())["oauth2"]
        roles = {"viewer": ["oidc:domain:example.net", "basic:ann"], "admin": ["oidc:group:sre"]}
        _reload(site, roles=roles, oauth2={**login, "name": "other"})
        assert not _is_in(person)
        assert _is_in(ann)
        assert b"/-/login/other" in person.open("/-/login").body


@pytest.mark.parametrize("console", [None, {}], ids=["nothing", "console"])
def test_a_reload_may_bring_the_first_way_to_log_in(tmp_path: Path, console: dict[str, str] | None) -> None:
    """Also where promgate's own pages were there already, on connections that are kept."""
    with people_site(tmp_path) as site:
        whole = yaml.safe_load(site.promgate.config_file.read_text())
        route = {**whole["routes"][0], "auth": ["basic"], "allow": "viewer"}
        without = {"oauth2": None, "roles": {"viewer": ["basic:ann"]}, "routes": [route], "console": console}
        site.promgate.stop()
        site.promgate.config_file.write_text(
            yaml.safe_dump({key: value for key, value in (whole | without).items() if value is not None})
        )
        site.promgate.start()
        person = Person(site)
        assert person.open("/app/x").status == 401
        assert person.open("/-/login").status == 404
        ann = {"Authorization": "Basic YW5uOmFubg=="}
        if console is not None:
            assert [person.ask("/-/console", headers=ann).status for _ in range(3)] == [200] * 3
        _reload(site, **{key: whole[key] for key in ("oauth2", "roles", "routes")})
        assert "restart" not in site.promgate.log
        assert person.open("/app/x").status == 302
        assert person.log_in("x.carol").status == 302
        assert _is_in(person)
        if console is not None:
            assert person.open("/-/console").status == 200
        person.submit("/-/logout")
        assert not _is_in(person)


def test_those_with_a_password_log_in_by_a_page_without_any_provider(tmp_path: Path) -> None:
    """The form alone. A program gets a plain 401, and a route that takes no sessions still asks the browser's way."""
    with people_site(tmp_path) as site:
        whole = yaml.safe_load(site.promgate.config_file.read_text())
        page = {**whole["routes"][0], "allow": "viewer"}
        plain = {**page, "name": "plain", "path": "/plain", "auth": ["basic"]}
        _reload(site, oauth2=None, sessions={}, roles={"viewer": ["basic:ann"]}, routes=[page, plain])
        ann = Person(site)
        sent = ann.open("/app/x")
        assert (sent.status, asked_for(sent)) == (302, "/app/x")
        form = ann.open(str(sent.headers["Location"]).removeprefix(site.base)).body
        assert (b'name="password"' in form, b"Log in by" in form) == (True, False)
        assert ann.submit("/-/login", user="ann", password="wrong").status == 401
        back = ann.submit("/-/login", user="ann", password="ann", rd="/app/x")
        assert (back.status, back.headers["Location"]) == (303, "/app/x")
        assert _is_in(ann)
        program = Person(site).ask("/app/x", headers={"Accept": "*/*"})
        assert (program.status, program.body.count(b"\n")) == (401, 1)
        refused = ann.open("/plain/x")
        assert (refused.status, "Basic" in str(refused.headers["WWW-Authenticate"])) == (401, True)
        ann.submit("/-/logout")
        assert not _is_in(ann)


def test_a_password_is_rotated_and_who_was_there_stays(tmp_path: Path) -> None:
    """The new hash beside the old one ends nothing; a session goes with the hash that it began with."""
    old, new = (bcrypt.hashpw(password, bcrypt.gensalt(4)).decode() for password in (b"ann", b"new"))
    with people_site(tmp_path) as site:
        before, after = Person(site), Person(site)
        _reload(site, htpasswd_file=None, basic_auth_users={"ann": [old]})
        before.submit("/-/login", user="ann", password="ann", rd="/app/x")
        assert _is_in(before)
        _reload(site, basic_auth_users={"ann": [new, old]})
        after.submit("/-/login", user="ann", password="new", rd="/app/x")
        assert (_is_in(before), _is_in(after)) == (True, True)
        _reload(site, basic_auth_users={"ann": [new]})
        assert (_is_in(before), _is_in(after)) == (False, True)


def test_o14_the_provider_ends_a_session_by_itself(tmp_path: Path) -> None:
    tokens: list[str] = []

    def take(request: Request) -> Reply:
        tokens.append(dict(parse_qsl(request.body.decode()))["logout_token"])
        return Reply(200)

    with HttpServer(take) as inbox:
        client = {"backchannel_logout_uri": f"{inbox.base}/x", "backchannel_logout_session_required": True}
        with people_site(tmp_path, client) as site:
            person, other = Person(site), Person(site)
            person.log_in("x.carol")
            other.log_in("x.dave")
            further = person.submit("/-/logout").headers["Refresh"].removeprefix("0; url=")
            again = Person(site)
            again.at_provider = person.at_provider
            again.log_in("x.carol")
            assert _is_in(again)
            again.at_provider.log_out(further, site.base)
            wait_for(lambda: tokens, "the provider's word")
            told = Person(site)
            answers = [told.ask("/-/logout/backchannel/corp", "POST", f"logout_token={token}".encode(), {
                "Content-Type": FORM["Content-Type"]}).status for token in tokens]  # fmt: skip
            assert 200 in answers
            assert not _is_in(again)
            assert _is_in(other)
            replay = told.ask("/-/logout/backchannel/corp", "POST", f"logout_token={tokens[0]}".encode(), {
                "Content-Type": FORM["Content-Type"]})  # fmt: skip
            assert replay.status == 400


@pytest.mark.parametrize("path", ["/live/ws", "/live/events"])
def test_o14_a_logout_closes_what_the_session_holds_open(tmp_path: Path, path: str) -> None:
    listener, port = silent_upstream()
    route = {"name": "live", "path": "/live", "upstream": f"http://127.0.0.1:{port}", "websocket": True}
    with listener, people_site(tmp_path, routes=[{**route, "auth": "oauth2", "allow": "viewer"}]) as site:
        person = Person(site)
        person.log_in("x.carol")
        trust = ssl.create_default_context(cafile=site.promgate.ca_file)
        host = urlsplit(site.base).netloc
        cookie = f"{COOKIE}={person.cookies[COOKIE]}"
        head = f"GET {path} HTTP/1.1\r\nHost: {host}\r\nOrigin: {site.base}\r\nCookie: {cookie}\r\n"
        asks = HANDSHAKE if path.endswith("ws") else b""
        with (
            socket.create_connection(("127.0.0.1", site.promgate.port), 20) as plain,
            trust.wrap_socket(plain, server_hostname="localhost") as client,
        ):
            client.sendall(head.encode() + asks + b"\r\n")
            client.settimeout(20)
            assert client.recv(65536).split(b" ")[1] == (b"101" if asks else b"200")
            person.submit("/-/logout")
            try:
                while client.recv(65536):
                    pass
            except (ConnectionError, ssl.SSLError):
                pass  # it is cut: no close_notify
        line = site.promgate.wait_request(lambda one: one["path"] == path, "the end of the stream in the access log")
        assert line["reason"] == "session_ended"


def test_logins_are_counted(tmp_path: Path) -> None:
    telemetry = free_port()
    with people_site(tmp_path, telemetry={"listen": f"127.0.0.1:{telemetry}"}) as site:
        Person(site).log_in("x.carol")
        Person(site).open("/-/callback/corp?code=x&state=y")
        Person(site).submit("/-/login", user="ann", password="wrong")
        Person(site).submit("/-/login", user="ann", password="ann")
        lines = fetch(f"http://127.0.0.1:{telemetry}/metrics").body.decode().splitlines()
        for line in (
            'promgate_logins_total{provider="corp",result="ok"} 1.0',
            'promgate_logins_total{provider="corp",result="refused"} 1.0',
            'promgate_logins_total{provider="password",result="refused"} 1.0',
            'promgate_logins_total{provider="password",result="ok"} 1.0',
            "promgate_sessions 2.0",
            "promgate_sessions_writable 1.0",
        ):
            assert line in lines


def test_guesses_in_the_form_are_guesses(tmp_path: Path) -> None:
    limits = {"guesses": {"rate": 1, "interval": "1h", "burst": 6}}
    with people_site(tmp_path, limits=limits) as site:
        told = [Person(site).submit("/-/login", user="ann", password=f"wrong{n}").status for n in range(6)]
        assert told[0] == 401
        assert told[-1] == 429
        late = Person(site).submit("/-/login", user="ann", password="ann")
        assert late.status == 429
        assert int(str(late.headers["Retry-After"])) >= 5
        ann = fetch(
            f"{site.base}/app/x", headers={"Authorization": "Basic YW5uOndyb25n"}, ca_file=site.promgate.ca_file
        )
        assert ann.status == 429, "and the other way round"


def test_somebody_with_a_browser(tmp_path: Path) -> None:
    with styled_prometheus(tmp_path / "prometheus", "kept") as program:
        route = program.route(auth=["basic", "oauth2"], allow=["viewer"])
        with people_site(tmp_path, routes=[route], console={}) as site, tab() as seen:
            page, asked = seen.page, "/prometheus/classic/graph?g0.expr=up&g0.tab=1"
            page.set_default_timeout(PATIENCE_MS)
            page.goto(site.base + asked)
            assert page.url.startswith(f"{site.base}/-/login?rd=")
            seen.shoot("people-login")
            page.emulate_media(color_scheme="dark")
            page.set_viewport_size({"width": 390, "height": 700})
            seen.shoot("people-login-phone-dark")
            page.emulate_media(color_scheme="light")
            page.set_viewport_size({"width": 1200, "height": 800})
            page.click("text=Corp & Co")
            page.fill("input[name=login]", "sre.carol")
            page.fill("input[name=password]", "any")
            page.click("button[type=submit]")
            page.click("button[type=submit]")  # it asks whether promgate may
            page.wait_for_url(site.base + asked)
            assert "Prometheus" in page.title()
            page.wait_for_selector("textarea[name=expr]")
            page.goto(f"{site.base}/-/console")
            assert "oidc:user:carol@example.net" in page.inner_text("main")
            seen.shoot("people-console")
            page.click("text=Log out")
            page.wait_for_url(f"{site.provider.base}/**")  # its own question
            page.click("button[name=logout]")
            page.wait_for_url(f"{site.base}/-/logout**")
            assert "logged out" in page.inner_text("main")
            seen.shoot("people-logged-out")
            page.goto(site.base + asked)
            assert page.url.startswith(f"{site.base}/-/login?rd=")
            page.fill("input[name=user]", "ann")
            page.fill("input[name=password]", "no")
            page.click("form.login button")
            page.wait_for_selector("text=Name or password is wrong.")
            seen.shoot("people-wrong-password")
            page.fill("input[name=user]", "ann")
            page.fill("input[name=password]", "ann")
            page.click("form.login button")
            page.wait_for_url(site.base + asked)
            assert not [said for said in seen.complaints if "Content Security Policy" in said]
