from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from proxy.gate.edits import IDENTITY_FIELDS
from proxy.wire.head import MAX_FIELDS, MAX_SECTION_BYTES, MAX_TARGET_BYTES, admit_request, find_head_end
from proxy.wire.unlawful import Unlawful
from tests.wire.play import admit, memo, refusal, request, verdict


def test_a_head_goes_on_in_its_order_and_its_own_case():
    head = admit(
        request(
            b"user-agent:  Prometheus/2.53 ",
            b"X-B: 2",
            b"Content-Length: 010",
            b"x-a: 1",
            b"Authorization: Bearer t",
            line=b"POST /%61?b=%zz HTTP/1.1",
        )
    )
    assert head.line.sent == b"POST /a?b=%zz HTTP/1.1\r\n"
    assert head.fields == b"Host: a\r\nuser-agent: Prometheus/2.53\r\nX-B: 2\r\nx-a: 1\r\n"
    assert (head.method, head.path, head.minor, head.host) == (b"POST", b"/a", 1, b"a")
    assert (head.length, head.chunked, head.has_body) == (10, False, True)
    assert (head.authorization, head.agent) == (b"Bearer t", b"Prometheus/2.53")
    assert head.authorization_line == b"\r\nAuthorization: Bearer t\r\n"


@pytest.mark.parametrize(
    "line",
    [
        b"", b"GET", b"GET /", b"GET  / HTTP/1.1", b"GET /  HTTP/1.1", b"GET / HTTP/1.1 ", b" GET / HTTP/1.1",  # H26
        b"GET\t/ HTTP/1.1", b"GET /\x0bHTTP/1.1", b"GET / HTTP/1.1 x", b"GET / HTTP/1.1 HTTP/1.1", b"GET /\tHTTP/1.1",
        b"GET / http/1.1", b"GET / HTTP/1.10", b"GET / HTTP/11", b"GET / HTTP/1", b"GET / HTTP/2", b"GET / HTTP/x.y",
        b"GET / HTTP/1.1\x00", b"GET / HTTP/1.1\n", b"GET / HTTP/1.1\rX: y", b"G@T / HTTP/1.1", b"\xc3\xa9 / HTTP/1.1",
        b"G" * 33 + b" / HTTP/1.1", b"GET x HTTP/1.1", b"GET * HTTP/1.1", b"CONNECT a:80 HTTP/1.1",  # H32
        b"OPTIONS a HTTP/1.1", b"GET /a#b HTTP/1.1", b"GET http://b/ HTTP/1.1", b"\x16\x03\x01\x02",  # H28
    ],
)  # fmt: skip
def test_a_request_line_is_three_words(line):
    assert refusal(admit, request(line=line)) == 400


@pytest.mark.parametrize("version", [b"HTTP/0.9", b"HTTP/1.2", b"HTTP/2.0", b"HTTP/9.9"])
def test_another_version_is_told_so(version):
    assert refusal(admit, request(line=b"GET / " + version)) == 505


def test_the_preface_of_http2_is_no_request():
    assert refusal(find_head_end, b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n") is None
    assert refusal(admit, b"PRI * HTTP/2.0\r\n\r\n") == 505


@pytest.mark.parametrize(
    ("line", "path"),
    [
        (b"GET /x HTTP/1.1", b"/x"),
        (b"get / HTTP/1.1", b"/"),  # whether the method is taken is the route's business
        (b"G" * 32 + b" / HTTP/1.1", b"/"),
        (b"OPTIONS * HTTP/1.1", b"*"),
        (b"GET http://a/x HTTP/1.1", b"/x"),
    ],
)
def test_lawful_request_lines(line, path):
    assert admit(request(line=line)).path == path


@pytest.mark.parametrize(
    ("fields", "status"),
    [
        ([b"Content-Length: 5", b"Transfer-Encoding: chunked"], 400),  # H1
        ([b"Transfer-Encoding: chunked", b"Content-Length: 5"], 400),
        ([b"Transfer-Encoding: chunked", b"Content-Length: 0"], 400),
        ([b"Transfer-Encoding: chunked", b"Transfer-Encoding: chunked"], 400),  # H2
        ([b"Transfer-Encoding: chunked", b"Transfer-Encoding: identity"], 501),
        ([b"Transfer-Encoding : chunked"], 400),
        ([b"Transfer-Encoding:\x0bchunked"], 400),
        ([b"Transfer-Encoding: chunked\nX: y"], 400),  # H5
        ([b"X: y\rTransfer-Encoding: chunked"], 400),
        ([b"X: y", b" Transfer-Encoding: chunked"], 400),
        ([b"Content-Length: 5", b"Content-Length: 5"], 400),  # H8
        ([b"Content-Length: 5", b"Content-Length: 6"], 400),  # H9
        ([b"Content-Length:", b"Content-Length: 6"], 400),
        ([b"Host: a"], 400),  # H30
        ([b"host: b"], 400),
        ([b"Authorization: Basic eDp5", b"authorization: Bearer x"], 400),  # A1
        ([b"Authorization: Basic eDp5", b"Authorization: Basic eDp5"], 400),
        ([b"Expect: 100-continue, x"], 417),  # H36
        ([b"Expect: 200-ok"], 417),
        ([b"X: 1"] * MAX_FIELDS, 431),  # H29
        ([b"X: " + b"a" * 8000] * 5, 431),
        ([b"X: " + b"a" * 16382], 431),
    ],
)
def test_ambiguous_heads_are_refused(fields, status):
    assert refusal(admit, request(*fields)) == status


def test_a_host_is_needed_where_http_has_one():
    assert refusal(admit, request(host=b"")) == 400
    assert admit(request(host=b"", line=b"GET / HTTP/1.0")).host is None
    assert refusal(admit, request(b"Transfer-Encoding: chunked", line=b"POST / HTTP/1.0")) == 400  # H6


def test_bounds_are_where_they_are_said_to_be():
    assert refusal(admit, request(line=b"GET /" + b"a" * (MAX_TARGET_BYTES - 1) + b" HTTP/1.1")) is None
    assert refusal(admit, request(line=b"GET /" + b"a" * MAX_TARGET_BYTES + b" HTTP/1.1")) == 414
    assert refusal(admit, request(*[b"X: 1"] * (MAX_FIELDS - 1))) is None


@pytest.mark.parametrize(
    ("connection", "gone"),
    [
        (b"X-A", {b"X-A"}),
        (b"x-a, close", {b"X-A"}),
        (b"keep-alive,X-A,X-B", {b"X-A", b"X-B"}),
        # H38: naming what belongs to the message changes nothing
        (b"Host, Content-Length, Transfer-Encoding, User-Agent, Authorization", set()),
        (b"X-Forwarded-User", set()),
    ],
)
def test_fields_named_in_connection_go(connection, gone):
    fields = [b"X-A: 1", b"User-Agent: u", b"X-B: 2", b"Content-Length: 3", b"X-Forwarded-User: admin"]
    for lines in ([*fields, b"Connection: " + connection], [b"Connection: " + connection, *fields]):
        head = admit(request(*lines))
        names = {line.partition(b":")[0] for line in head.fields.splitlines()}
        assert names == {b"Host", b"X-A", b"User-Agent", b"X-B"} - gone
        assert head.length == 3


@pytest.mark.parametrize(
    ("line", "fields", "close"),
    [
        (b"GET / HTTP/1.1", [], False),
        (b"GET / HTTP/1.1", [b"Connection: keep-alive"], False),
        (b"GET / HTTP/1.1", [b"Connection: CLOSE"], True),
        (b"GET / HTTP/1.1", [b"Connection: x, close"], True),
        (b"GET / HTTP/1.0", [], True),
        (b"GET / HTTP/1.0", [b"Connection: keep-alive"], True),
    ],
)
def test_who_wants_the_connection_closed(line, fields, close):
    assert admit(request(*fields, line=line)).close is close


def test_continue_is_for_those_who_know_it():
    assert admit(request(b"Expect: 100-Continue")).expects
    assert not admit(request(b"Expect: 100-continue", line=b"POST / HTTP/1.0")).expects


@pytest.mark.parametrize("name", sorted(IDENTITY_FIELDS))
def test_no_client_says_who_it_is(name):
    """S1, S2: whatever its case, however often, and however it is spelled."""
    told = [name, name.title(), name.upper(), name.replace(b"-", b"_"), name.title().replace(b"-", b"_", 1)]
    head = admit(request(*(each + b": admin" for each in told)))
    assert (head.line.sent, head.fields) == (b"GET / HTTP/1.1\r\n", b"Host: a\r\n")


def test_there_are_enough_of_these_names():
    names = b"""
    forwarded x-forwarded x-forwarded-for x-forwarded-host x-forwarded-user x-forwarded-groups x-forwarded-client-cert
    x-real-ip x-scope-orgid x-original-url x-rewrite-url x-forwarded-uri x-http-method-override x-promgate-roles
    remote-user remote-groups remote-name remote-email x-remote-user x-remote-group x-remote-extra-x x-user x-user-id
    x-auth-request-user x-auth-request-preferred-username x-auth-request-access-token x-authenticated-user
    x-authenticated-userid x-webauth-user x-webauth-role x-webauth-groups x-webauth-name x-authentik-username
    x-authentik-groups x-amzn-oidc-identity x-amzn-oidc-data x-goog-authenticated-user-email x-goog-iap-jwt-assertion
    x-ms-client-principal-name cf-access-authenticated-user-email x-pomerium-claim-email x-vouch-user
    x-consumer-username tailscale-user-login x-ssl-client-cert x-ssl-client-s-dn x-client-cert client-cert-chain
    """.split()
    head = admit(request(*(b"%b: admin" % name for name in names)))
    assert head.fields == b"Host: a\r\n"
    assert all(name == name.lower() for name in IDENTITY_FIELDS)


HOP_BY_HOP = [
    b"Keep-Alive: timeout=5", b"TE: trailers", b"Trailer: X", b"Proxy-Connection: close", b"Upgrade: websocket",
    b"Proxy-Authorization: Basic x", b"Proxy-Authenticate: Basic", b"HTTP2-Settings: x", b"Connection: close",
    b"Authorization: Bearer x", b"Expect: 100-continue", b"Authorization_: Bearer x",
]  # fmt: skip


@pytest.mark.parametrize("field", HOP_BY_HOP)
def test_what_is_between_the_client_and_us_stays_there(field):
    for line in (field, field.swapcase()):
        assert admit(request(line)).fields == b"Host: a\r\n"


FIELDS = st.sampled_from(
    [
        b"Host: a", b"Host: b", b"host: a", b"Accept: */*", b"X-A: 1", b"x-a:  1 ", b"Connection: close", b"X-A: \xff",
        b"Connection: X-A", b"Connection: keep-alive, x-a", b"Content-Length: 5", b"Content-Length: 6", b"X_A: 1",
        b"content-length: 5", b"Transfer-Encoding: chunked", b"Transfer-Encoding: gzip", b"Expect: 100-continue",
        b"Authorization: Bearer t", b"authorization: Bearer t", b"User-Agent: u", b"Upgrade: h2c",
        b"X-Forwarded-For: 1", b"Cookie: c=d", b" folded", b"bad", b"X: \x00", b"Keep-Alive: 5", b"Expect: x",
        b"Content-Length: x",
    ]
)  # fmt: skip
LINES = st.sampled_from(
    [
        b"GET / HTTP/1.1", b"POST /%61?q HTTP/1.1", b"GET / HTTP/1.0", b"OPTIONS * HTTP/1.1", b"GET http://a/ HTTP/1.1",
        b"GET http://b/ HTTP/1.1", b"GET /../ HTTP/1.1", b"GET / HTTP/1.2", b"GET /api/v1/label/a%2fb/values HTTP/1.1",
    ]
)  # fmt: skip
HEADS = st.builds(lambda line, fields: request(*fields, line=line, host=b""), LINES, st.lists(FIELDS, max_size=6))


KNOWN_LINE = b"\r\nAuthorization: Bearer t\r\n"


@given(st.lists(HEADS, min_size=1, max_size=6), st.sampled_from([None, KNOWN_LINE]))
def test_memory_never_changes_a_verdict(heads, known_line):
    """A head is judged alike by who has seen its lines before, its section as a whole, or neither."""
    warm = memo()
    for data in [*heads, *heads, *heads]:
        known = verdict(admit, data, with_memo=warm, known_line=known_line)
        assert known == verdict(admit, data, known_line=known_line)
        if isinstance(known, dict):
            warm.keep()


def test_a_section_is_known_once_all_its_lines_were_and_holds_neither_credential_nor_length():
    warm = memo()
    for length in range(3):
        data = request(b"Content-Length: %d" % length, b"Authorization: Bearer t", b"X-A: 1")
        admit(data, with_memo=warm, known_line=KNOWN_LINE)
        assert not warm.sections
        if length:
            warm.keep()
    assert list(warm.sections) == [b"\r\nHost: a\r\nX-A: 1\r\n"]
    head = admit(request(b"X-A: 1"), with_memo=warm)
    assert (head.fields, head.length, head.authorization_line) == (b"Host: a\r\nX-A: 1\r\n", -1, None)


@pytest.mark.parametrize(
    "field",
    [
        b"Content-Length: 5", b"content-length: 5", b"Authorization: Bearer t", b"Authorization: Bearer tt",
        b"authorization: Bearer t", b"Transfer-Encoding: chunked", b" Content-Length: 5", b"Content-Length: 5 ",
    ],
)  # fmt: skip
def test_what_was_taken_out_of_a_known_section_is_not_taken_twice(field):
    """H8, H9, A1: a second length or credential beside the first is refused by who knows all other lines too."""
    warm, both = memo(), (b"Content-Length: 5", b"Authorization: Bearer t")
    for _ in range(3):
        assert admit(request(*both), with_memo=warm, known_line=KNOWN_LINE).length == 5
        warm.keep()
    assert warm.sections
    for fields in ((field, *both), (both[0], field, both[1]), (*both, field)):
        assert refusal(admit, request(*fields), with_memo=warm, known_line=KNOWN_LINE) == 400


def test_a_longer_credential_that_begins_as_the_known_one_is_another_one():
    head = admit(request(b"Authorization: Bearer tt"), known_line=KNOWN_LINE)
    assert head.authorization == b"Bearer tt"


def test_the_memory_of_sections_is_bounded():
    warm = memo()
    for first in range(40):
        for second in range(40):
            for _ in range(2):
                admit(request(b"A: %d" % first, b"B: %d" % second), with_memo=warm)
                warm.keep()
    assert 0 < len(warm.sections) <= 512
    admit(request(*(b"X-%d: 1" % n for n in range(65))), with_memo=warm)
    warm.keep()
    sections = len(warm.sections)
    admit(request(*(b"X-%d: 1" % n for n in range(65))), with_memo=warm)  # of many lines: judged one by one each time
    warm.keep()
    assert len(warm.sections) == sections


@given(HEADS)
def test_a_known_authorization_line_changes_nothing_else(data):
    cold = verdict(admit, data)
    known = verdict(admit, data, known_line=KNOWN_LINE)
    if isinstance(cold, dict) and cold["authorization_line"] == KNOWN_LINE:
        cold["authorization"] = None
    # Of two faults another one may be told first.
    assert known == cold or not (isinstance(known, dict) or isinstance(cold, dict))


@given(HEADS)
def test_no_credential_is_remembered(data):
    warm = memo()
    verdict(admit, data, with_memo=warm)
    warm.keep()
    admit_again = verdict(admit, data, with_memo=warm)
    warm.keep()
    remembered = (*warm.sections.fields, *warm.sections, *warm.lines)
    assert not any(b"Bearer" in line or b"Cookie" in line for line in remembered), admit_again


def test_a_refused_head_leaves_nothing_behind():
    """What was judged before the fault was found waits in `fresh`, and the next head begins anew."""
    warm = memo()
    assert refusal(admit, request(b"Accept: 1", b"bad", line=b"GET /first HTTP/1.1"), with_memo=warm) == 400
    admit(request(b"Origin: 1", b"X-Api-Key: 1", b"Private-Token: 1"), with_memo=warm)
    warm.keep()
    assert set(warm.sections.fields) == {b"Host: a", b"Origin: 1"}  # a name that may hold a credential is never kept
    assert set(warm.lines) == {b"GET / HTTP/1.1"}


def test_an_absolute_form_is_held_against_its_host_each_time():
    warm = memo()
    assert admit(request(line=b"GET http://a/x HTTP/1.1"), with_memo=warm).path == b"/x"
    warm.keep()
    assert refusal(admit, request(line=b"GET http://a/x HTTP/1.1", host=b"Host: b"), with_memo=warm) == 400


def test_the_memory_of_lines_is_bounded():
    warm = memo()
    for number in range(5000):
        admit(request(line=b"GET /%d HTTP/1.1" % number), with_memo=warm)
        warm.keep()
    assert 0 < len(warm.lines) <= 1024


def arriving(pieces):
    """What a connection does with its reads: the end of the head, or -1; Unlawful passes through."""
    data = b""
    for piece in pieces:
        searched = len(data)
        data += piece
        end = find_head_end(data, searched)
        if end >= 0:
            return admit_request(data, end, memo())
    return -1


@given(HEADS | st.binary(max_size=80).map(lambda junk: junk + b"\r\n\r\n"), st.lists(st.integers(1, 300), max_size=8))
@example(b"GET / HTTP/1.1\nHost: a\r\n\r\n", [])
@example(b"\nGET / HTTP/1.1\r\nHost: a\r\n\r\n", [1])
@example(b"\x16\x03\x01\x00\xa5\x01\x00\x00\r\n\r\n", [1])
def test_how_a_head_is_cut_into_reads_changes_nothing(data, cuts):
    places = sorted({cut for cut in cuts if cut < len(data)} | {0, len(data)})
    pieces = [data[start:end] for start, end in pairwise(places)]
    whole = verdict(arriving, [data])
    assert verdict(arriving, pieces) == whole or refused_alike(whole, verdict(arriving, pieces))
    bytewise = verdict(arriving, [data[at : at + 1] for at in range(len(data))])
    assert bytewise == whole or refused_alike(whole, bytewise)


def refused_alike(one, other):
    """Both are refusals; the one that came early may give another reason."""
    return isinstance(one, tuple) and isinstance(other, tuple)


@pytest.mark.parametrize("size", range(MAX_SECTION_BYTES - 6, MAX_SECTION_BYTES + 6))
def test_the_bound_of_a_section_is_the_same_in_pieces(size):
    lines = b"X: " + b"a" * 8000 + b"\r\n"
    head = b"GET / HTTP/1.0\r\n" + lines * 4
    head += b"Y: " + b"b" * (size - len(lines) * 4 - 5) + b"\r\n\r\n"
    whole = verdict(arriving, [head])
    for cut in range(1, 6):
        assert verdict(arriving, [head[:-cut], head[-cut:]]) == whole


@pytest.mark.parametrize(
    "start",
    [
        b"\n", b"GET / HTTP/1.1\n", b"\x16\x03\x01", b"\x00", b"PROXY" * 7, b"a" * 33, b"{", b"GET /" + b"a" * 17_000,
        b"GET / HTTP/1.1\r\nX: " + b"a" * 33_000, b"SSH-2.0-OpenSSH_9.2p1 Debian-2+deb12u7\r\n\n",
    ],
)  # fmt: skip
def test_what_can_never_be_a_head_is_not_waited_for(start):
    assert refusal(find_head_end, start) in {400, 414, 431}


@pytest.mark.parametrize("start", [b"G", b"GET", b"GET ", b"GET / HTTP/1.1\r", b"GET / HTTP/1.1\r\nHost: a\r\n", b"\r"])
def test_a_beginning_is_waited_for(start):
    assert find_head_end(start) == -1


def test_the_end_is_found_across_reads():
    data = request()
    assert find_head_end(data) == len(data) - 4
    for searched in range(len(data)):
        assert find_head_end(data, searched) == len(data) - 4
    assert find_head_end(data + b"\r\n\r\n") == len(data) - 4


def test_an_unlawful_word_is_not_repeated():
    """What was sent may be a secret, or markup: the text says what was wrong and does not quote it."""
    with pytest.raises(Unlawful) as wrong:
        admit(request(b"X-Secret hunter2"))
    assert "hunter2" not in wrong.value.text
