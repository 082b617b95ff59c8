"""Forward auth: which request a proxy asks about, who may ask, and what it is told."""

from __future__ import annotations

from dataclasses import replace
from ipaddress import ip_network

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.gate.addresses import Addresses
from proxy.gate.authenticate import ANYONE
from proxy.gate.credentials import ShownCertificate, ShownPassword, ShownToken
from proxy.gate.decide import Gate
from proxy.gate.decision import Deny, Forward, Inquire, Inquiry, Local, Reason
from proxy.gate.exempt import Exemption
from proxy.gate.forwarded import Proxies
from proxy.gate.inquiry import read_inquiry, rule
from proxy.gate.memory import Memory
from proxy.gate.snapshot import CONTROL, Route, Telling, Way
from proxy.gate.tenants import Tenants
from tests.gate.play import AT, IP, NOW, READ, SNAPSHOT, WRITE, answered, decide, gate, memory
from tests.gate.test_people import BROWSER, COOKIE, EVE, PEOPLE
from tests.wire.play import admit
from tests.wire.play import memo as new_memo

ASKING = Route("promgate:auth", "/-/auth", CONTROL, ways=frozenset({Way.NONE}), inquires=True)
PROXIES = Proxies((ip_network("10.0.0.0/8"),))
PROXY, STRANGER = "10.0.0.1", "198.51.100.1"
FOR = b"X-Forwarded-For: 198.51.100.9"
URL = b"X-Original-URL: https://noc.example.net/prometheus/graph?g0=1"
GET, POST = b"X-Original-Method: GET", b"X-Original-Method: POST"
URI, URI_GET = b"X-Forwarded-Uri: /prometheus/graph?g0=1", b"X-Forwarded-Method: GET"
AT_HOST = b"X-Forwarded-Host: noc.example.net"


def inquiry(*fields, line=b"GET /-/auth HTTP/1.1", peer=PROXY, proxies=PROXIES, host=b"Host: promgate:9443"):
    raw = b"\r\n".join([line, *([host] if host else []), *fields])
    return read_inquiry(Inquire(ASKING), raw, admit(raw + b"\r\n\r\n"), proxies, peer, new_memo())


@pytest.mark.parametrize(
    ("fields", "method", "path", "query", "host"),
    [
        # nginx, with a URL and with $request_uri alone
        ([FOR, URL, GET], b"GET", b"/prometheus/graph", b"?g0=1", b"noc.example.net"),
        ([FOR, URL, GET, AT_HOST], b"GET", b"/prometheus/graph", b"?g0=1", b"noc.example.net"),
        ([FOR, b"x-original-url: /a", b"X-ORIGINAL-METHOD: PUT"], b"PUT", b"/a", b"", b"promgate:9443"),
        ([FOR, b"X-Original-URL: /a", GET, AT_HOST], b"GET", b"/a", b"", b"noc.example.net"),
        ([FOR, b"X-Original-URL: HTTP://H", GET], b"GET", b"/", b"", b"H"),
        ([FOR, b"X-Original-URL: http://h:81?x", GET], b"GET", b"/", b"?x", b"h:81"),
        # Traefik and Caddy
        ([FOR, URI, URI_GET, AT_HOST], b"GET", b"/prometheus/graph", b"?g0=1", b"noc.example.net"),
        ([FOR, URI, URI_GET], b"GET", b"/prometheus/graph", b"?g0=1", b"promgate:9443"),
        ([FOR, URI, b"X-Forwarded-Method: DELETE"], b"DELETE", b"/prometheus/graph", b"?g0=1", b"promgate:9443"),
        # the one canonical spelling, by which it is judged
        ([FOR, b"X-Forwarded-Uri: /%70rometheus", URI_GET], b"GET", b"/prometheus", b"", b"promgate:9443"),
        ([FOR, b"X-Forwarded-Uri: /a?x=/../%2e%2e//", URI_GET], b"GET", b"/a", b"?x=/../%2e%2e//", b"promgate:9443"),
    ],
)
def test_the_request_that_is_asked_about(fields, method, path, query, host):
    read = inquiry(*fields)
    assert isinstance(read, Inquiry)
    assert read.route is ASKING
    assert (read.head.method, read.head.path, read.head.line.query, read.head.host) == (method, path, query, host)
    assert not read.head.has_body


def test_a_path_behind_ours_is_the_requests_own():
    """As Envoy's ext_authz asks, with `path_prefix`: the method and Host are those of the request itself."""
    read = inquiry(FOR, b"Content-Length: 0", line=b"POST /-/auth/prometheus/api/v1/query?query=up HTTP/1.1")
    assert isinstance(read, Inquiry)
    assert (read.head.method, read.head.path) == (b"POST", b"/prometheus/api/v1/query")
    assert (read.head.line.query, read.head.host) == (b"?query=up", b"promgate:9443")


@pytest.mark.parametrize(
    "fields",
    [
        [],
        [FOR],
        [URL, GET],
        [b"X-Forwarded-For:", URL, GET],
        [FOR, URL],
        [FOR, GET],
        [FOR, URI],
        [FOR, URI_GET],
        [FOR, URL, URI_GET],
        [FOR, URI, GET],
        # said twice, or in two ways
        [FOR, URL, URL, GET],
        [FOR, URL, b"x-original-url: /other", GET],
        [FOR, URL, GET, POST],
        [FOR, URI, URI, URI_GET],
        [FOR, URI, URI_GET, URI_GET],
        [FOR, URL, GET, URI],
        [FOR, URL, GET, URI_GET],
        [FOR, URL, GET, URI, URI_GET],
        [FOR, URI, URI_GET, GET],
        [FOR, URL, GET, AT_HOST, AT_HOST],
        [FOR, URL, GET, b"X-Forwarded-Host: other"],
        [FOR, URI, URI_GET, AT_HOST, b"X-Forwarded-Host: other"],
        [FOR, b"X-Forwarded-Uri: https://noc.example.net/a", URI_GET],
        [FOR, b"X-Forwarded-Uri:", URI_GET],
        [FOR, b"X-Original-URL:", GET],
        [FOR, b"X-Original-URL: //noc.example.net/a/..", b"X-Original-Url: /"],
        [FOR, b"X-Original-URL: file:///etc/passwd", GET],
        [FOR, b"X-Original-URL: prometheus/graph", GET],
        # names that only look like those
        [FOR, b"X_Original_URL: /a", b"X_Original_Method: GET"],
        [FOR, b"X-Original-URI: /a", b"X-Original-Method: GET"],
        [FOR, b"X-Rewrite-URL: /a"],
    ],
)
def test_what_cannot_be_told_for_sure_is_refused(fields):
    assert inquiry(*fields) == Deny(Reason.NO_INQUIRY, ASKING)


@pytest.mark.parametrize(
    ("chain", "names"),
    [
        ("198.51.100.9", True),
        ("unknown, 198.51.100.9", True),  # what stands to the left of the client is not read
        ("198.51.100.9, 10.1.1.1", True),
        ("198.51.100.9, unknown", False),
        ("unix:", False),
        ("unknown", False),
        ("", False),
        (", ".join(["10.1.1.1"] * 40), False),
    ],
)
def test_who_it_is_for_must_be_an_address(chain, names):
    """Else the proxy itself would be judged, and all its clients with what is for neighbours alone."""
    read = inquiry(b"X-Forwarded-For: " + chain.encode(), URL, GET)
    assert isinstance(read, Inquiry) if names else read == Deny(Reason.NO_INQUIRY, ASKING)


def test_what_is_exempt_for_neighbours_is_not_for_those_whom_a_proxy_asks_about():
    exempt = Exemption(b"/prometheus/-/reload", frozenset({b"POST"}), Addresses((ip_network("10.0.0.0/8"),)))
    made = gate(routes=(replace(READ, exempt=(exempt,), unblocked=(b"/-/reload",)),))
    read = inquiry(b"X-Forwarded-For: 10.1.1.1", b"X-Original-URL: /prometheus/-/reload", POST)
    assert read.head.is_passed_on
    assert decide(made, read.head, ip="10.1.1.1").reason is Reason.NO_CREDENTIAL
    direct = admit(b"POST /prometheus/-/reload HTTP/1.1\r\nHost: x\r\n\r\n")
    assert isinstance(decide(made, direct, ip="10.1.1.1"), Forward)


@pytest.mark.parametrize("field", [URL, URI, GET, URI_GET])
def test_a_path_behind_ours_stands_beside_no_field(field):
    assert inquiry(FOR, field, line=b"GET /-/auth/prometheus HTTP/1.1") == Deny(Reason.NO_INQUIRY, ASKING)


@pytest.mark.parametrize(
    "target",
    [
        b"/prometheus/../secret",
        b"/prometheus/%2e%2e/secret",
        b"/prometheus/..;/secret",
        b"/prometheus%2fgraph",
        b"/prometheus%5cgraph",
        b"/prometheus\\graph",
        b"//prometheus",
        b"/prometheus//graph",
        b"/a b",
        b"/a\tb",
        b"/a#b",
        b"/%00",
        b"/%zz",
        b"/\xc3\xa4",
        b"/x HTTP/1.1",
        b"https://user@noc.example.net/a",
        b"https://noc example/a",
        b"https:///a",
        b"/" + b"a" * 16_400,
    ],
)
def test_a_target_is_judged_by_the_grammar(target):
    if len(target) < 16_000:  # else the inquiry itself is refused
        assert inquiry(FOR, b"X-Original-URL: " + target, GET) == Deny(Reason.UNLAWFUL, ASKING)
    if target.startswith(b"/"):
        read = inquiry(FOR, b"X-Forwarded-Uri: " + target[:16_000], URI_GET)
        assert read == Deny(Reason.UNLAWFUL, ASKING) or len(target) > 16_000


@pytest.mark.parametrize("method", [b"", b"GET /a HTTP/1.1", b"GE(T", b"A" * 33, b"GET, POST"])
def test_a_method_is_judged_by_the_grammar(method):
    assert inquiry(FOR, URL, b"X-Original-Method: " + method) == Deny(Reason.UNLAWFUL, ASKING)


@pytest.mark.parametrize("host", [b"a b", b"a@b", b"", b"a, b", b"a/b"])
def test_a_host_is_judged_by_the_grammar(host):
    assert inquiry(FOR, URI, URI_GET, b"X-Forwarded-Host: " + host) == Deny(Reason.UNLAWFUL, ASKING)


@pytest.mark.parametrize("peer", [STRANGER, "127.0.0.1", "local", "::1", "198.51.100.9"])
def test_nobody_else_may_ask(peer):
    for fields in ([FOR, URL, GET], [FOR, URI, URI_GET], []):
        assert inquiry(*fields, peer=peer) == Deny(Reason.NOT_A_PROXY, ASKING)


@pytest.mark.parametrize("proxies", [None, Proxies()])
def test_without_trusted_proxies_nobody_may_ask(proxies):
    assert inquiry(FOR, URL, GET, proxies=proxies) == Deny(Reason.NOT_A_PROXY, ASKING)


def test_the_clients_credentials_are_those_of_the_request():
    read = inquiry(FOR, URL, GET, b"Authorization: Basic YW5uOnJpZ2h0", b"Cookie: a=b", b"User-Agent: curl/8")
    assert read.shown == ShownPassword("ann", b"right")
    assert read.head.agent == b"curl/8"
    assert b"Cookie: a=b\r\n" in read.head.fields
    assert inquiry(FOR, URL, GET).shown is None
    assert isinstance(inquiry(FOR, URL, GET, b"Authorization: Bearer x").shown, ShownToken)


def test_what_belongs_to_the_inquiry_is_not_of_the_request():
    fields = (b"Content-Length: 5", b"Connection: close", b"Expect: 100-continue", b"Accept: text/html", b"Origin: https://a")
    read = inquiry(FOR, URL, POST, *fields, line=b"POST /-/auth HTTP/1.1")
    assert read.head.length == -1
    assert not read.head.expects
    assert not read.head.close
    assert b"Accept" not in read.head.fields, "nobody is sent to a login page here"
    assert b"Origin: https://a\r\n" in read.head.fields, "by which the page of another site is known"


def test_names_of_ours_do_not_pass():
    read = inquiry(FOR, URL, GET, b"X-Promgate-Identity: basic:root", b"X-Scope-OrgID: all", b"X_Promgate_Roles: admin")
    assert b"romgate" not in read.head.fields
    assert b"Scope" not in read.head.fields


# who it is


def ruled(verdict, tenants=()):
    return rule(inquiry(FOR, URL, GET), verdict, Tenants(dict(tenants)))


def test_a_request_that_may_pass_is_granted_with_what_an_upstream_is_told():
    a_gate = gate()
    verdict = Forward(READ, decide(a_gate, admit(b"GET /open HTTP/1.1\r\nHost: a\r\n\r\n")).identity)
    said = ruled(verdict)
    assert (said.reason, said.deny, said.route) == (Reason.GRANTED, None, READ)
    assert said.told == b"X-Promgate-Identity: anyone\r\nX-Promgate-Roles: anyone\r\n"


def test_the_tenant_of_a_route_is_told_too():
    tenants = {"anyone": "team-a"}
    for telling, line in (
        (Telling(tenant_header="X-Scope-OrgID"), b"X-Scope-OrgID: team-a\r\n"),
        (Telling(tenant_header="THANOS-TENANT", tenant="all"), b"THANOS-TENANT: all\r\n"),
    ):
        said = ruled(Forward(replace(READ, telling=telling), ANYONE), tenants)
        assert said.told.endswith(line)
    said = ruled(Forward(replace(READ, telling=Telling(tenant_header="X-Scope-OrgID")), ANYONE))
    assert said.deny.reason is Reason.NO_TENANT


def test_who_cannot_be_told_may_not_pass():
    """A proxy that copies a field that is not there would let an unknown one in as nobody."""
    said = ruled(Forward(READ, replace(ANYONE, name="basic:Jörg")))
    assert said.deny == Deny(Reason.IDENTITY_UNFIT, READ, identity=replace(ANYONE, name="basic:Jörg"))


def test_a_refusal_is_the_gates_own():
    deny = Deny(Reason.TOKEN_RETIRED, WRITE, 7.0)
    said = ruled(deny)
    assert said.deny is deny
    assert said.route is WRITE
    assert said.reason is Reason.TOKEN_RETIRED


def test_promgates_own_pages_are_for_no_upstream():
    """A login page is for anybody: the same path of somebody's upstream is not."""
    page = Route("promgate:login", "/-/login", CONTROL, ways=frozenset({Way.NONE}))
    assert ruled(Forward(page, ANYONE)).deny == Deny(Reason.NO_ROUTE)


def of_a_browser(*fields, method=b"GET", sessions=()):
    """What becomes of a page that a browser opens through the proxy."""
    memory_of_people = Memory(bytes(32))
    for session in sessions:
        memory_of_people.sessions.put(session, NOW)
    url = b"X-Original-URL: https://noc.example/prometheus/api/v1/status"
    read = inquiry(FOR, url, b"X-Original-Method: " + method, *(field.encode() for field in (*BROWSER, *fields)))
    return rule(read, Gate(PEOPLE, memory_of_people).decide(read.head, read.shown, IP, AT, NOW), {})


def test_a_session_is_that_of_the_browser_and_nobody_is_sent_to_log_in():
    assert of_a_browser(COOKIE, sessions=[EVE]).identity.name == EVE.name
    for said in (of_a_browser(), of_a_browser("Cookie: __Host-promgate=bad")):
        status, fields, _ = answered(said.deny)
        assert status == 401
        assert "Location" not in fields


def test_a_page_of_another_site_acts_through_no_proxy_either():
    for fields, reason in (
        (["Origin: https://noc.example"], Reason.GRANTED),
        (["Origin: https://evil.example"], Reason.FOREIGN_ORIGIN),
        ([], Reason.FOREIGN_ORIGIN),
    ):
        assert of_a_browser(COOKIE, *fields, method=b"POST", sessions=[EVE]).reason is reason


@pytest.mark.parametrize("reason", [Reason.HEALTH, Reason.OPTIONS])
def test_what_promgate_answers_itself_is_for_no_upstream(reason):
    assert ruled(Local(reason)).deny == Deny(Reason.NO_ROUTE)


# the gate's part


ASKED = replace(SNAPSHOT, routes=(*SNAPSHOT.routes, ASKING), trusted_proxies=PROXIES)


def answer_to(line, host=b"a"):
    return Gate(ASKED, memory()).decide(admit(line + b" HTTP/1.1\r\nHost: " + host + b"\r\n\r\n"), None, IP, AT, NOW)


def test_the_gate_says_what_is_an_inquiry():
    for line in (b"GET /-/auth", b"HEAD /-/auth?x=y", b"POST /-/auth/prometheus"):
        assert answer_to(line) == Inquire(ASKING)
    assert answer_to(b"CONNECT /-/auth") == Deny(Reason.METHOD_NOT_TAKEN, ASKING)
    assert answer_to(b"BREW /-/auth") == Deny(Reason.METHOD_UNKNOWN, ASKING)
    assert answer_to(b"GET /-/authx") == Deny(Reason.NO_ROUTE)


def test_without_the_section_there_is_no_such_route():
    head = admit(b"GET /-/auth HTTP/1.1\r\nHost: a\r\n\r\n")
    assert decide(gate(), head) == Deny(Reason.NO_ROUTE)


def test_proxies_may_call_us_by_any_name():
    """And no other name than its own leads to a route of a host."""
    routes = (replace(READ, hosts=frozenset({b"noc"})), ASKING, replace(ASKING, hosts=frozenset({b"noc"})))
    a_gate = Gate(replace(ASKED, routes=routes), memory())
    for host in (b"noc", b"promgate:9443", b"127.0.0.1"):
        head = admit(b"GET /-/auth HTTP/1.1\r\nHost: " + host + b"\r\n\r\n")
        assert isinstance(a_gate.decide(head, None, IP, AT, NOW), Inquire)
    for host, reason in ((b"noc", Reason.NO_CREDENTIAL), (b"other", Reason.WRONG_HOST)):
        head = admit(b"GET /prometheus HTTP/1.1\r\nHost: " + host + b"\r\n\r\n")
        assert a_gate.decide(head, None, IP, AT, NOW).reason is reason


def test_the_certificate_of_the_connection_is_the_proxys():
    """It is shown by no request that the proxy asks about: only the fields of the client are read."""
    assert not isinstance(inquiry(FOR, URL, GET).shown, ShownCertificate)


_FIELD = st.sampled_from(
    [FOR, URL, GET, POST, URI, URI_GET, AT_HOST, b"X-Forwarded-Host: b", b"Authorization: Bearer x"]
)


@given(st.lists(_FIELD, max_size=8))
def test_whatever_is_said_is_one_request_or_none(fields):
    names = [field.partition(b":")[0] for field in fields]
    if names.count(b"Authorization") > 1:
        return  # the inquiry itself is refused
    read = inquiry(*fields)
    if isinstance(read, Inquiry):
        told = [name for name in names if name != b"X-Forwarded-For"]
        assert len(told) == len(set(told)), "nothing that counts was said twice"
        assert FOR in fields
        assert (URL in fields) is not (URI in fields)
