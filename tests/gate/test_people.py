"""People with browsers: who a session is, until when, and what is done with those that are none."""

from __future__ import annotations

import hashlib
import math
from dataclasses import replace

import pytest

from proxy.gate.ask import (
    ABSENT,
    BUSY,
    FOUND,
    REFUSED,
    STANDING,
    UNREACHABLE,
    UNREADABLE,
    WAITED,
    CheckPassword,
    FindSession,
    RefreshSession,
)
from proxy.gate.authenticate import ANYONE
from proxy.gate.credentials import ShownCertificate
from proxy.gate.decide import Gate
from proxy.gate.decision import Deny, Forward, Need, Reason, Upgrade
from proxy.gate.memory import Memory
from proxy.gate.people import OUTAGE_S
from proxy.gate.providers import OidcLogin, SessionTimes
from proxy.gate.session import Session, SessionRules, Sessions, provider_terms, user_terms
from proxy.gate.snapshot import CONTROL, Route, Rule, Telling, Way
from tests.gate.play import AT, HASHES, IP, NOW, OPEN, OTHER_IP, READ, SNAPSHOT, WRITE, answered, basic, bearer
from tests.wire.play import admit
from tests.wire.test_websocket import ASKING

CORP = OidcLogin("corp", "Corp", "https://idp.example", "promgate", "secret")
TIMES = SessionTimes(absolute_s=12 * 3600.0, idle_s=3600.0)
PAGES = replace(READ, ways=frozenset({Way.BASIC, Way.BEARER, Way.OAUTH2}), websocket=True)
ONLY_PROVIDERS = replace(PAGES, name="only", path="/only", ways=frozenset({Way.OAUTH2}))
LOGIN = Route(
    "promgate:login", "/-/login", CONTROL, ways=frozenset({Way.NONE, Way.OAUTH2}), rules=(Rule("anyone"),),
    telling=Telling(identity=True, quoted=True),
)  # fmt: skip
PEOPLE = replace(
    SNAPSHOT,
    routes=(WRITE, PAGES, ONLY_PROVIDERS, OPEN, LOGIN),
    roles={**SNAPSHOT.roles, "oidc:group:sre": frozenset({"admin"}), "oidc:user:eve@x.example": frozenset({"viewer"})},
    people=(CORP,),
    session_times=TIMES,
    sessions=SessionRules(b"__Host-promgate", "https://noc.example/-/login"),
    external_url="https://noc.example",
)
ID = b"I" * 43
DIGEST = hashlib.sha256(ID).digest()
EVE = Session(
    DIGEST, "oidc:user:eve@x.example", "corp", provider_terms(CORP), NOW - 60,
    ("oidc:group:sre", "oidc:group:unknown"), "sub-eve", "sid-1",
)  # fmt: skip
COOKIE = "Cookie: a=1; __Host-promgate=" + ID.decode() + "; b=2"
BROWSER = ("Accept: text/html,application/xhtml+xml", "Sec-Fetch-Mode: navigate", "Sec-Fetch-Site: none")


def ask(path="/prometheus/graph", *fields, method="GET", host="noc.example"):
    lines = [f"{method} {path} HTTP/1.1", f"Host: {host}", *fields, "", ""]
    return admit("\r\n".join(lines).encode())


def gate(*sessions, snapshot=PEOPLE, seen_at=NOW, **changes):
    """A gate that knows these sessions."""
    memory = Memory(bytes(32))
    for session in sessions:
        memory.sessions.put(session, seen_at)
    made = Gate(replace(snapshot, **changes), memory)
    return made, memory


def decide(made, head, shown=None, *, now=NOW, at=AT, ip=IP, **facts):
    known = {}
    if "find" in facts:
        known[FindSession(DIGEST)] = facts["find"]
    if "refresh" in facts:
        known[RefreshSession(DIGEST)] = facts["refresh"]
    return made.decide(head, shown, ip, at, now, known)


def test_a_session_is_a_person_with_the_roles_of_all_that_they_were_granted():
    made, _ = gate(EVE)
    decision = decide(made, ask("/prometheus/graph", COOKIE))
    assert isinstance(decision, Forward)
    identity = decision.identity
    assert (identity.name, identity.way, identity.session) == ("oidc:user:eve@x.example", Way.OAUTH2, DIGEST.hex())
    assert identity.roles == {"admin", "viewer"}


def test_roles_are_those_of_the_configuration_and_not_of_the_login():
    made, _ = gate(EVE, roles={"oidc:user:eve@x.example": frozenset({"viewer"})})
    own_page = ("Origin: https://noc.example",)
    assert decide(made, ask("/prometheus/x", COOKIE, *own_page, method="POST")).reason is Reason.NOT_ALLOWED
    assert isinstance(decide(made, ask("/prometheus/x", COOKIE)), Forward)


def test_the_upstream_never_sees_the_session():
    head = ask("/open", COOKIE)
    assert b"Cookie: a=1; b=2\r\n" in head.fields
    assert ID not in head.fields, "on no route, whatever its ways are"


@pytest.mark.parametrize("route", ["/open", "/prometheus/api/v1/write"])
def test_only_a_route_with_the_way_looks_at_it(route):
    made, _ = gate(EVE)
    decision = decide(made, ask(route, COOKIE, method="POST" if "write" in route else "GET"))
    if route == "/open":
        assert decision.identity is ANYONE
    else:
        assert decision.reason is Reason.NO_CREDENTIAL


def test_what_is_better_goes_first_and_does_not_fall_through():
    made, _ = gate(EVE)
    head = ask("/prometheus/x", COOKIE)
    assert decide(made, head, bearer(b"pgr_wrong")).reason is Reason.BAD_CREDENTIAL
    assert isinstance(decide(made, head, basic("ann", b"x")), Need)
    certificate = ShownCertificate(("cert:CN=x",), math.inf)
    assert decide(made, head, certificate).identity.name == EVE.name, "the route takes no certificates"


@pytest.mark.parametrize("listed", [True, False])
def test_a_certificate_is_better_where_it_is_taken(listed):
    ways = PAGES.ways | {Way.CLIENT_CERT} if listed else PAGES.ways
    made, _ = gate(EVE, routes=(replace(PAGES, ways=ways),), roles={"cert:CN=x": frozenset({"admin"})} | PEOPLE.roles)
    decision = decide(made, ask("/prometheus/x", COOKIE), ShownCertificate(("cert:CN=x",), math.inf))
    assert decision.identity.name == ("cert:CN=x" if listed else EVE.name)


# what is no session


@pytest.mark.parametrize(
    "cookie",
    [
        "__Host-promgate=",
        "__Host-promgate=" + "I" * 42,
        "__Host-promgate=" + "I" * 44,
        "__Host-promgate=" + "I" * 42 + "%",
        "__Host-promgate=" + "I" * 42 + "\u00e9",
        "__Host-promgate=" + "I" * 43 + "; __Host-promgate=" + "I" * 43,
        "__Host-promgate=" + "I" * 43 + "; __Host-promgate=" + "J" * 43,
        "__Host-promgate=" + "I" * 4000,
        "__Host-promgate='; DROP TABLE session; --",
    ],
)
def test_o12_a_tampered_cookie_is_to_log_in_again(cookie):
    made, _ = gate(EVE)
    line = f"Cookie: {cookie}".encode()
    program = admit(b"GET /prometheus/x HTTP/1.1\r\nHost: noc.example\r\n" + line + b"\r\n\r\n")
    assert decide(made, program).reason is Reason.SESSION_ENDED
    browser = b"\r\n".join(field.encode() for field in BROWSER)
    page = admit(b"GET /prometheus/x HTTP/1.1\r\nHost: noc.example\r\n" + line + b"\r\n" + browser + b"\r\n\r\n")
    assert decide(made, page).reason is Reason.LOGIN_NEEDED


def test_another_cookie_by_the_other_name_is_nobody_s():
    made, _ = gate(EVE)
    assert decide(made, ask("/prometheus/x", f"Cookie: promgate={ID.decode()}")).reason is Reason.NO_CREDENTIAL


@pytest.mark.parametrize(
    ("answer", "reason", "status"),
    [
        (ABSENT, Reason.SESSION_ENDED, 401),
        (UNREADABLE, Reason.SESSIONS_UNREADABLE, 503),
        (BUSY, Reason.BUSY, 503),
        (FOUND, Reason.BUSY, 503),
    ],
)
def test_one_that_memory_does_not_know_is_looked_for_once(answer, reason, status):
    made, _ = gate()
    head = ask("/prometheus/x", COOKIE)
    assert decide(made, head) == Need(FindSession(DIGEST), PAGES)
    denied = decide(made, head, find=answer)
    assert denied.reason is reason
    assert answered(denied)[0] == status


def test_one_that_was_found_is_in_memory_and_passes():
    made, memory = gate()
    head = ask("/prometheus/x", COOKIE)
    assert isinstance(decide(made, head), Need)
    memory.sessions.put(EVE, NOW)
    assert isinstance(decide(made, head, find=FOUND), Forward)


def test_a_flood_of_ids_that_are_none_is_bounded_and_locks_nobody_out():
    made, _ = gate(EVE)
    made_up = [ask("/prometheus/x", f"Cookie: __Host-promgate={number:043d}") for number in range(1000)]
    asked = [decide(made, head) for head in made_up]
    assert sum(isinstance(one, Need) for one in asked) == 100
    assert {one.reason for one in asked if isinstance(one, Deny)} == {Reason.TOO_MANY_GUESSES}
    assert isinstance(decide(made, ask("/prometheus/x", COOKIE)), Forward), "who is known never waits"
    assert isinstance(decide(made, made_up[0], ip=OTHER_IP), Need)
    password = decide(made, ask("/prometheus/x"), basic("ann", b"right"))
    assert isinstance(password, Need), "it was no guess: a password may still be tried"


# how long


@pytest.mark.parametrize(
    ("began", "seen", "alive"),
    [
        (0, 0, True),
        (TIMES.absolute_s - 1, 0, True),
        (TIMES.absolute_s, 0, False),
        (100, TIMES.idle_s - 1, True),
        (100, TIMES.idle_s, False),
    ],
)
def test_it_ends_when_it_is_old_or_idle(began, seen, alive):
    made, _ = gate(replace(EVE, began_at=NOW - began), seen_at=NOW - seen)
    decision = decide(made, ask("/prometheus/x", COOKIE))
    assert isinstance(decision, Forward) is alive
    assert alive or decision.reason is Reason.SESSION_ENDED


def test_a_stream_that_stays_open_is_no_request_that_keeps_it_from_idling():
    made, memory = gate(EVE)
    head = ask("/prometheus/x", COOKIE)
    assert isinstance(made.decide(head, None, IP, AT, NOW + 600, {STANDING: True, WAITED: True}), Forward)
    assert memory.sessions.find(DIGEST).seen_at == NOW
    assert isinstance(made.decide(head, None, IP, AT, NOW + 600, {WAITED: True}), Forward)
    assert memory.sessions.find(DIGEST).seen_at == NOW + 600


def test_a_request_keeps_it_from_idling_and_not_from_ageing():
    made, _ = gate(EVE)
    for hour in range(1, 24):
        decision = decide(made, ask("/prometheus/x", COOKIE), now=NOW + hour * 3000)
        assert isinstance(decision, Forward) is (hour * 3000 + 60 < TIMES.absolute_s)


@pytest.mark.parametrize(
    "changes",
    [
        {"people": ()},
        {"people": (replace(CORP, name="other"),)},
        {"people": (replace(CORP, issuer="https://other.example"),)},
        {"people": (replace(CORP, client_id="other"),)},
        {"people": (replace(CORP, allowed_groups=frozenset({"sre"})),)},
        {"people": (replace(CORP, allowed_domains=frozenset({"x.example"})),)},
        {"sessions": None},
    ],
)
def test_what_a_reload_takes_away_ends_it(changes):
    made, _ = gate(EVE, **changes)
    assert decide(made, ask("/prometheus/x", COOKIE)).reason in {Reason.SESSION_ENDED, Reason.NO_CREDENTIAL}


@pytest.mark.parametrize(
    "changes",
    [{"client_secret": "new"}, {"title": "New"}, {"known": frozenset({"oidc:any"})}, {"refresh_s": 60.0}],
)
def test_how_a_provider_is_asked_ends_nothing(changes):
    made, _ = gate(EVE, people=(replace(CORP, **changes),))
    assert isinstance(decide(made, ask("/prometheus/x", COOKIE)), Forward)


# the provider's word


STALE = replace(EVE, fresh_until=NOW)


def test_o13_the_provider_is_asked_when_its_word_is_old():
    made, _ = gate(STALE)
    head = ask("/prometheus/x", COOKIE)
    assert isinstance(decide(made, head, now=NOW - 1), Forward)
    assert decide(made, head) == Need(RefreshSession(DIGEST), PAGES)
    assert isinstance(decide(made, head, refresh=FOUND), Forward)


def test_o13_who_is_refused_is_logged_out():
    made, memory = gate(STALE)
    memory.sessions.forget(DIGEST)  # as the keeper does before it answers
    assert decide(made, ask("/prometheus/x", COOKIE), refresh=REFUSED).reason is Reason.SESSION_ENDED
    page = decide(made, ask("/prometheus/x", COOKIE, *BROWSER), refresh=REFUSED)
    assert page.reason is Reason.LOGIN_NEEDED


@pytest.mark.parametrize(("answer", "reason"), [(UNREACHABLE, Reason.PROVIDER_UNREACHABLE), (BUSY, Reason.BUSY)])
def test_a_provider_that_is_down_costs_nobody_a_session(answer, reason):
    made, memory = gate(STALE)
    head = ask("/prometheus/x", COOKIE, *BROWSER)
    assert isinstance(decide(made, head, refresh=answer), Forward)
    memory.sessions.find(DIGEST).seen_at = NOW + OUTAGE_S - 2
    assert isinstance(decide(made, head, now=NOW + OUTAGE_S - 1, refresh=answer), Forward)
    late = decide(made, head, now=NOW + OUTAGE_S, refresh=answer)
    assert late.reason is reason
    assert answered(late)[0] == 503, "and it is not lost"
    assert isinstance(decide(made, head, now=NOW + OUTAGE_S, refresh=FOUND), Forward)


# passwords


ANN = Session(DIGEST, "basic:ann", "", user_terms("ann", HASHES[0]), NOW, ("basic:ann",))


def test_a_password_s_session_is_that_user():
    made, _ = gate(ANN)
    identity = decide(made, ask("/prometheus/x", COOKIE)).identity
    assert (identity.name, identity.roles, identity.way) == ("basic:ann", {"admin"}, Way.OAUTH2)


def test_it_lets_in_where_passwords_do_and_nowhere_else():
    made, _ = gate(ANN)
    assert decide(made, ask("/only/x", COOKIE)).reason is Reason.SESSION_ENDED
    assert decide(made, ask("/only/x", COOKIE, *BROWSER)).reason is Reason.LOGIN_NEEDED
    assert isinstance(decide(gate(EVE)[0], ask("/only/x", COOKIE)), Forward)


@pytest.mark.parametrize("hashes", [HASHES[:1], HASHES[::-1], (*HASHES, b"$2b$12$new")])
def test_another_hash_beside_that_of_its_password_ends_nothing(hashes):
    """As in a rotation of passwords: the new one comes, and then the old one goes."""
    made, _ = gate(ANN, users={"ann": hashes})
    assert decide(made, ask("/prometheus/x", COOKIE)).identity.name == "basic:ann"


@pytest.mark.parametrize("users", [{}, {"ann": HASHES[1:]}, {"ann": (b"$2b$12$new",)}, {"bob": HASHES}])
def test_with_the_password_it_ends(users):
    made, _ = gate(ANN, users=users)
    assert decide(made, ask("/prometheus/x", COOKIE)).reason is Reason.SESSION_ENDED


def test_a_password_in_a_form_is_judged_as_everywhere():
    made, _ = gate()
    shown = basic("ann", b"right")
    need = made.check_password(shown, IP, AT, NOW, {})
    assert need.question == CheckPassword(HASHES, b"right")


@pytest.mark.parametrize("found", HASHES)
def test_a_session_by_a_form_is_of_the_hash_that_the_password_has(found):
    made, _ = gate()
    shown = basic("ann", b"right")
    terms = made.check_password(shown, IP, AT, NOW, {CheckPassword(HASHES, b"right"): found}).terms
    assert terms == user_terms("ann", found)
    assert made.check_password(shown, IP, AT + 1, NOW, {}).terms == terms, "by memory, too"
    assert decide(gate(replace(ANN, terms=terms))[0], ask("/prometheus/x", COOKIE)).identity.name == "basic:ann"


# who is sent to log in


@pytest.mark.parametrize(
    "fields",
    [
        ("Accept: text/html",),
        ("Accept: text/html,application/xhtml+xml,*/*;q=0.8", "Sec-Fetch-Mode: navigate"),
        (COOKIE, "Accept: text/html"),
    ],
)
@pytest.mark.parametrize("method", ["GET", "HEAD"])
def test_a_browser_that_opens_a_page_is_sent_to_log_in(fields, method):
    made, _ = gate()
    denied = decide(made, ask("/prometheus/graph?g0.expr=up&x=%2F", *fields, method=method), find=ABSENT)
    assert denied.location == "https://noc.example/-/login?rd=%2Fprometheus%2Fgraph%3Fg0.expr=up%26x=%252F"
    status, told, _ = answered(denied)
    assert (status, told["Cache-Control"]) == (302, "no-store")
    assert "Set-Cookie" not in told


@pytest.mark.parametrize(
    ("method", "fields", "shown"),
    [
        ("GET", (), None),
        ("GET", ("Accept: */*",), None),
        ("GET", ("Accept: application/json",), None),
        ("GET", ("Accept: text/html", "Sec-Fetch-Mode: cors"), None),
        ("GET", ("Accept: text/html", "Sec-Fetch-Mode: same-origin"), None),
        ("GET", ("Accept: text/html", "Sec-Fetch-Mode: websocket"), None),
        ("GET", ("Accept: text/html", "X-Requested-With: XMLHttpRequest"), None),
        ("GET", ("Accept: text/html", "Authorization: Bearer x"), bearer(b"x")),
        ("POST", ("Accept: text/html", "Sec-Fetch-Mode: navigate"), None),
        ("DELETE", ("Accept: text/html",), None),
        ("OPTIONS", ("Accept: text/html",), None),
    ],
)
def test_o15_a_program_gets_401_and_no_page(method, fields, shown):
    made, _ = gate()
    denied = decide(made, ask("/prometheus/x", *fields, method=method), shown)
    status, told, body = answered(denied)
    assert status == 401
    assert not {"Location", "Set-Cookie"} & set(told)
    assert told["Content-Type"].startswith("text/plain")
    assert told["WWW-Authenticate"] == 'Bearer realm="promgate"', "a script's 401 opens no question for a password"
    assert "<" not in body


def test_a_path_that_is_too_long_to_be_kept_loses_its_query():
    made, _ = gate()
    denied = decide(made, ask("/prometheus/x?" + "q" * 5000, "Accept: text/html"))
    assert denied.location == "https://noc.example/-/login?rd=%2Fprometheus%2Fx"
    denied = decide(made, ask("/prometheus/" + "x" * 5000, "Accept: text/html"))
    assert len(denied.location) < 2200


# whose page asks


@pytest.mark.parametrize(
    ("fields", "passes"),
    [
        (("Origin: https://noc.example",), True),
        (("Origin: https://noc.example", "Sec-Fetch-Site: same-origin"), True),
        (("Origin: https://noc.example", "Sec-Fetch-Site: none"), True),
        (("Sec-Fetch-Site: same-origin",), True),
        (("Origin: https://NOC.example:443",), True),
        ((), False),
        (("Sec-Fetch-Site: none",), False),
        (("Sec-Fetch-Site: cross-site",), False),
        (("Sec-Fetch-Site: same-site",), False),
        (("Origin: https://noc.example", "Sec-Fetch-Site: cross-site"), False),
        (("Origin: https://noc.example", "Sec-Fetch-Site: same-site"), False),
        (("Origin: https://evil.example", "Sec-Fetch-Site: same-origin"), False),
        (("Origin: https://evil.example",), False),
        (("Origin: https://noc.example.evil.example",), False),
        (("Origin: https://sub.noc.example",), False),
        (("Origin: null",), False),
        (("Origin: https://noc.example", "Origin: https://noc.example"), False),
        (("Origin: https://noc.example", "Origin: https://evil.example"), False),
        (("Sec-Fetch-Site: same-origin", "Sec-Fetch-Site: cross-site"), False),
    ],
)
@pytest.mark.parametrize("method", ["POST", "PUT", "PATCH", "DELETE"])
def test_what_changes_something_comes_from_our_own_page(fields, passes, method):
    made, _ = gate(EVE)
    decision = decide(made, ask("/prometheus/x", COOKIE, *fields, method=method))
    assert isinstance(decision, Forward) is passes
    assert passes or (decision.reason, answered(decision)[0]) == (Reason.FOREIGN_ORIGIN, 403)


@pytest.mark.parametrize("method", ["GET", "HEAD", "OPTIONS"])
def test_what_only_reads_may_be_asked_by_a_link(method):
    made, _ = gate(EVE)
    head = ask("/prometheus/x", COOKIE, "Sec-Fetch-Site: cross-site", method=method)
    assert isinstance(decide(made, head), Forward)


def test_who_shows_a_password_beside_it_may_be_a_program():
    made, _ = gate(EVE)
    head = ask("/prometheus/x", COOKIE, method="POST")
    need = decide(made, head, basic("ann", b"right"))
    assert isinstance(need, Need)
    decision = made.decide(head, basic("ann", b"right"), IP, AT, NOW, {need.question: HASHES[0]})
    assert isinstance(decision, Forward)


@pytest.mark.parametrize(
    ("fields", "passes"),
    [(("Origin: https://noc.example",), True), ((), False), (("Origin: https://evil.example",), False)],
)
def test_a_session_s_websocket_comes_from_our_own_page(fields, passes):
    made, _ = gate(EVE)
    asking = [f"{name}: {value.decode()}" for name, value in ASKING.items() if name != "Origin"]
    decision = decide(made, ask("/prometheus/ws", COOKIE, *asking, *fields))
    assert isinstance(decision, Upgrade) is passes
    assert passes or decision.reason is Reason.FOREIGN_ORIGIN


# the login page itself


def test_whoever_comes_to_the_login_page_is_known_or_anyone():
    made, _ = gate(STALE)
    known = decide(made, ask("/-/login", COOKIE, *BROWSER), now=NOW + OUTAGE_S - 1)
    assert known.identity.name == EVE.name, "the provider is not asked for that"
    assert f"X-Promgate-Session: {DIGEST.hex()}".encode() in known.told
    nobody = decide(made, ask("/-/login", *BROWSER))
    assert nobody.identity is ANYONE
    assert b"X-Promgate-Session" not in nobody.told
    assert decide(made, ask("/-/login", COOKIE), now=NOW + TIMES.absolute_s).identity is ANYONE
    assert b"x-promgate" not in ask("/-/login", "X-Promgate-Session: 00").fields.lower()


def test_a_shown_password_is_not_looked_at_there():
    made, _ = gate()
    assert decide(made, ask("/-/login"), basic("ann", b"x")).identity is ANYONE


# memory


def test_memory_is_bounded_and_what_is_known_again_keeps_its_last_sight():
    known = Sessions(most=2)
    for number in range(3):
        known.put(replace(EVE, digest=bytes([number])), NOW)
    assert len(known) == 2
    assert known.find(b"\0") is None
    known.put(replace(EVE, digest=b"\2", name="x"), NOW - 10)
    assert (known.find(b"\2").session.name, known.find(b"\2").seen_at) == ("x", NOW)


def test_terms_do_not_depend_on_the_process():
    """Sets of texts have another order in each process, and sessions outlive one."""
    groups = frozenset(f"g{number}" for number in range(20))
    assert provider_terms(replace(CORP, allowed_groups=groups)) == "330de83016a89f71e1758c8bbbbd472d"
