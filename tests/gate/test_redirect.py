"""Who is sent from http to https, who is told to go there, and where it leads."""

from __future__ import annotations

import pytest

from proxy.gate.decision import Deny, Local, Reason
from proxy.gate.navigation import is_navigation
from proxy.gate.redirect import RedirectGate
from proxy.gate.reply import build_local, status_of
from proxy.gate.snapshot import Snapshot
from tests.gate.play import AT, IP, NOW, parse
from tests.wire.play import admit

PAGE = b"Accept: text/html,application/xhtml+xml;q=0.9,*/*;q=0.8\r\n"


def asked(target=b"/prometheus/graph?g0.expr=up%7B%7D", fields=PAGE, method=b"GET", host=b"evil.example.org"):
    return admit(b"%b %b HTTP/1.1\r\nHost: %b\r\n%b\r\n" % (method, target, host, fields))


def decide(head):
    return RedirectGate(Snapshot((), external_url="https://noc.example.net")).decide(head, None, IP, AT, NOW)


@pytest.mark.parametrize(
    ("fields", "method", "is_page"),
    [
        (PAGE, b"GET", True),
        (PAGE, b"HEAD", True),
        (PAGE + b"Sec-Fetch-Mode: navigate\r\n", b"GET", True),
        (b"accept: TEXT/HTML\r\n", b"GET", True),
        (b"", b"GET", False),
        (b"Accept: */*\r\n", b"GET", False),
        (b"Accept: application/json\r\n", b"GET", False),
        (PAGE, b"POST", False),
        (PAGE + b"Sec-Fetch-Mode: cors\r\n", b"GET", False),
        (PAGE + b"X-Requested-With: XMLHttpRequest\r\n", b"GET", False),
        (PAGE + b"Authorization: Bearer x\r\n", b"GET", False),
    ],
)
def test_who_opens_a_page(fields, method, is_page):
    assert is_navigation(asked(fields=fields, method=method)) is is_page


def test_people_are_sent_to_the_url_that_is_configured_with_path_and_query_as_they_were():
    decision = decide(asked())
    assert isinstance(decision, Local)
    answer = build_local(decision.reason, close=False, head_only=False, location=decision.location)
    status, fields, _ = parse(*answer)
    assert (status, fields["Location"]) == (308, "https://noc.example.net/prometheus/graph?g0.expr=up%7B%7D")


@pytest.mark.parametrize("target", [b"/.evil.example.org", b"/@evil.example.org"])
def test_no_path_leads_elsewhere(target):
    decision = decide(asked(target))
    assert decision.location.startswith("https://noc.example.net/")
    assert decision.location.isprintable()


@pytest.mark.parametrize(
    ("head", "reason", "status"),
    [
        (asked(method=b"POST"), Reason.PLAIN_WRITE, 503),
        (asked(b"/prometheus/api/v1/write", b"Authorization: Bearer x\r\n", b"POST"), Reason.PLAIN_WRITE, 503),
        (asked(fields=b"Accept: */*\r\n"), Reason.PLAIN_HTTP, 403),
        (asked(fields=PAGE + b"Authorization: Bearer x\r\n"), Reason.PLAIN_HTTP, 403),
    ],
)
def test_programs_are_told_to_go_there_and_no_sender_loses_data(head, reason, status):
    decision = decide(head)
    assert (type(decision), decision.reason) == (Deny, reason)
    assert status_of(reason, None) == status


@pytest.mark.parametrize("path", [b"/-/healthy", b"/-/ready"])
def test_health_is_answered_here_too(path):
    assert decide(asked(path, b"")) == Local(Reason.HEALTH)
