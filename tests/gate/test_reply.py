from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.gate.decision import Deny, Reason
from proxy.gate.reply import build_denial, build_local, build_refusal, status_of
from proxy.gate.snapshot import Way
from tests.gate.play import OPEN, READ, WRITE, answered, parse

#: Never told to anybody: it went well, or there is nobody left.
NEVER_TOLD = {Reason.OK, Reason.GRANTED, Reason.CLIENT_GONE, Reason.CLIENT_LATE, Reason.TUNNEL_IDLE}
#: Answered by promgate itself, and no refusal.
LOCAL = {Reason.HEALTH, Reason.OPTIONS, Reason.REDIRECTED}
DENIALS = sorted(set(Reason) - NEVER_TOLD - LOCAL - {Reason.LOGIN_NEEDED})

#: What a sender does with these: it keeps the data and tries again, or it drops the data for good.
KEPT, DROPPED = {502, 503, 504}, {400, 401, 403, 404, 405, 413, 421, 501}


@pytest.mark.parametrize("reason", DENIALS)
@pytest.mark.parametrize("route", [WRITE, READ, OPEN, None])
def test_every_reason_has_its_answer(reason, route):
    status, fields, body = answered(Deny(reason, route))
    assert 400 <= status < 600
    assert status == status_of(reason, route)
    assert body.startswith("promgate: ")
    assert body.endswith("\n")
    assert body.count("\n") == 1
    assert body.isascii()
    assert "<" not in body
    assert int(fields["Content-Length"]) == len(body)
    assert fields["Content-Type"] == "text/plain; charset=utf-8"
    assert set(fields) <= {"Content-Type", "Content-Length", "WWW-Authenticate", "Retry-After", "Allow"}
    assert ("WWW-Authenticate" in fields) == (status == 401)
    assert ("Retry-After" in fields) == (status in {429, 502, 503, 504})
    assert ("Allow" in fields) == (status == 405 and route is not None)


def test_a_browser_is_sent_to_log_in_and_a_sender_never():
    status, fields, body = answered(Deny(Reason.LOGIN_NEEDED, READ, location="https://noc.example/-/login?rd=%2F"))
    assert (status, fields["Location"]) == (302, "https://noc.example/-/login?rd=%2F")
    assert fields["Cache-Control"] == "no-store"
    assert body == "promgate: log in at this location\n"
    status, fields, _ = answered(Deny(Reason.LOGIN_NEEDED, WRITE, location="https://noc.example/-/login"))
    assert status == 401
    assert "Location" not in fields


@pytest.mark.parametrize("reason", sorted(NEVER_TOLD))
def test_what_is_never_told_has_no_entry(reason):
    with pytest.raises(KeyError):
        status_of(reason, None)


@pytest.mark.parametrize("reason", DENIALS)
def test_no_sender_drops_its_data_by_accident(reason):
    """3-senders: "not now" is 5xx, "never" is one of a few; 3xx loses data in silence, 408 and 429 in Prometheus."""
    status = status_of(reason, WRITE)
    assert status in KEPT | DROPPED
    not_now = {
        Reason.TOKEN_RETIRED, Reason.TOKEN_LEAKED, Reason.JWT_EXPIRED, Reason.JWT_EARLY, Reason.KEY_LATE,
        Reason.PROVIDER_UNREACHABLE, Reason.STORE_EMPTY, Reason.STORE_NEW, Reason.STORE_UNREADABLE, Reason.OVER_RATE,
        Reason.TOO_MANY_GUESSES, Reason.BUSY, Reason.DRAINING, Reason.UPSTREAM_BROKE, Reason.UPSTREAM_LATE,
        Reason.UPSTREAM_REDIRECTS, Reason.UPSTREAM_REFUSED, Reason.CERTIFICATE_ENDED, Reason.PLAIN_WRITE,
        Reason.TOO_MANY_AT_ONCE, Reason.SESSIONS_UNREADABLE, Reason.SOURCE_NOT_ALLOWED,
        Reason.UPSTREAM_LOGIN,
    }  # fmt: skip
    assert (status in KEPT) is (reason in not_now)


@given(st.sampled_from(DENIALS), st.floats(0, 1e6), st.floats(0, 1))
def test_a_sender_is_told_a_time_it_can_live_with(reason, wait_s, jitter):
    status, answer = build_denial(Deny(reason, WRITE, wait_s), jitter=jitter, close=False, head_only=False)
    retry_after = parse(status, answer)[1].get("Retry-After")
    assert retry_after is None or 5 <= int(retry_after) <= 30


@given(st.floats(0, 1e6), st.floats(0, 1))
def test_a_person_is_told_how_long_it_takes(wait_s, jitter):
    status, answer = build_denial(Deny(Reason.OVER_RATE, READ, wait_s), jitter=jitter, close=False, head_only=False)
    retry_after = int(parse(status, answer)[1]["Retry-After"])
    assert max(5, wait_s) <= retry_after <= max(30, wait_s + 1)


def test_jitter_spreads_the_senders():
    times = {answered(Deny(Reason.TOKEN_RETIRED, WRITE), jitter=jitter / 10)[1]["Retry-After"] for jitter in range(11)}
    assert len(times) == 11


@pytest.mark.parametrize(
    ("route", "challenge"),
    [
        (READ, 'Basic realm="promgate", charset="UTF-8"'),
        (WRITE, 'Bearer realm="promgate"'),
        (replace(READ, ways=READ.ways | {Way.OAUTH2}), 'Bearer realm="promgate"'),
        (None, 'Bearer realm="promgate"'),
    ],
)
def test_a_browser_asks_for_a_password_only_where_one_is_taken(route, challenge):
    assert answered(Deny(Reason.NO_CREDENTIAL, route))[1]["WWW-Authenticate"] == challenge


@pytest.mark.parametrize("close", [True, False])
@pytest.mark.parametrize("head_only", [True, False])
def test_how_an_answer_ends(close, head_only):
    for status, answer in (
        build_denial(Deny(Reason.NOT_ALLOWED, READ), jitter=0, close=close, head_only=head_only),
        build_local(Reason.HEALTH, close=close, head_only=head_only),
    ):
        _, fields, body = parse(status, answer)
        assert (fields.get("Connection") == "close") is close
        assert len(body) == (0 if head_only else int(fields["Content-Length"]))


def test_local_answers():
    status, fields, body = parse(*build_local(Reason.HEALTH, close=False, head_only=False))
    assert (status, body) == (200, "ok\n")
    status, fields, body = parse(*build_local(Reason.OPTIONS, close=False, head_only=False))
    assert (status, body) == (204, "")
    assert "GET" in fields["Allow"]
    assert "Content-Length" not in fields  # RFC 9110 8.6
    assert parse(*build_local(Reason.DRAINING, close=True, head_only=False))[0] == 503


@pytest.mark.parametrize("status", [400, 411, 413, 414, 417, 431, 501, 505])
def test_what_is_no_request_is_told_so_and_then_it_ends(status):
    _, fields, body = parse(status, build_refusal(status, "malformed request line"))
    assert fields["Connection"] == "close"
    assert body == "promgate: malformed request line\n"
