"""From outcomes to senders: who is one, what is written of them, and that a request costs one look-up."""

from __future__ import annotations

import logging
from dataclasses import replace

import pytest

from proxy.gate.decision import Reason
from proxy.observe import metrics
from proxy.observe.agents import NONE, OTHER, Agent, parse_agent
from proxy.observe.senders import RECENT_S, Senders
from proxy.tokens.book import TokenBook
from proxy.tokens.ledger import Kind, Tally
from proxy.tokens.ports import Changes
from proxy.tokens.token import Token, TokenKind
from tests.observe.test_access_log import HOSTILE, PLAIN

OK = replace(PLAIN, reason=Reason.OK)
HELD = replace(PLAIN, reason=Reason.TOKEN_RETIRED, status=503)


@pytest.mark.parametrize(
    ("value", "family", "version"),
    [
        (b"Prometheus/2.53.0", "Prometheus", "2.53.0"),
        (b"Prometheus/2.42.0+ds", "Prometheus", "2.42.0+ds"),
        (b"vmagent", "vmagent", ""),
        (b"vmagent/1.126", "vmagent", "1.126"),
        (b"vmagent-20240311-tags-v1.99.0", "vmagent", "20240311-tags-v1.99.0"),
        (b"OpenTelemetry Collector Contrib/0.96.0 (linux/amd64)", "OpenTelemetry Collector Contrib", "0.96.0"),
        (b"Grafana Agent/v0.40.0", "Grafana Agent", "0.40.0"),
        (b"GrafanaAlloy/v1.5.0 (linux; binary)", "GrafanaAlloy", "1.5.0"),
        (b"Alloy/v1.5.0", "Alloy", "1.5.0"),
        (b"fluent-bit", "fluent-bit", ""),
        (b"Go-http-client/1.1", "Go-http-client", "1.1"),
        (b"promgate-renew/0.1", "promgate-renew", "0.1"),
        (b"Vector/0.37.1 (x86_64-unknown-linux-gnu 2024)", "Vector", "0.37.1"),
        (b"Telegraf/1.30.0 Go/1.22", "Telegraf", "1.30.0"),
    ],
)
def test_an_agent_has_a_family_that_outlives_its_version(value, family, version):
    assert parse_agent(value) == (family, version)


@pytest.mark.parametrize("value", [*HOSTILE, b"/1.0", b"1.0", b"(compatible)", b"a\tb", b"\xff"])
def test_what_names_no_program_is_other(value):
    assert parse_agent(value) in {OTHER, Agent("a")}
    assert str(parse_agent(value)).isascii()
    assert str(parse_agent(value)).isprintable()


def test_no_agent_is_long():
    assert parse_agent(b"") is NONE
    assert len(str(parse_agent(b"x" * 9000 + b"/" + b"1" * 9000))) < 80
    assert len(str(parse_agent(b"a b " * 100))) < 80


class Seen:
    """Senders with their tally, and how often the writer was woken."""

    def __init__(self, **bounds):
        self.tally = Tally(**bounds)
        self.woken = 0
        self.senders = Senders(self.tally, self.wake)

    def wake(self):
        self.woken += 1

    def add(self, *outcomes):
        self.senders.add(list(outcomes))

    def taken(self):
        return [sighting for _, sighting in self.tally.take(1e9, all_of_it=True)]


def test_a_request_with_a_token_is_a_sighting_of_its_sender():
    seen = Seen()
    seen.add(OK, replace(OK, at=OK.at + 5))
    (one,) = seen.taken()
    assert (one.name, one.token_id, one.address, one.agent) == ("agent-1", "abcd1234", "192.0.2.7", "Prometheus/2.53.0")
    assert (one.first_seen, one.last_seen, one.count, one.kind) == (OK.at, OK.at + 5, 2, Kind.USED)


def test_a_new_version_is_the_same_sender_and_another_program_is_not():
    seen = Seen()
    seen.add(OK, replace(OK, agent=b"Prometheus/3.0.1"), replace(OK, agent=b"vmagent"), replace(OK, ip="192.0.2.8"))
    found = {one.sender: (one.count, one.agent) for one in seen.taken()}
    assert found == {
        "192.0.2.7 Prometheus": (2, "Prometheus/3.0.1"),
        "192.0.2.7 vmagent": (1, "vmagent"),
        "192.0.2.8 Prometheus": (1, "Prometheus/2.53.0"),
    }


def test_who_has_a_certificate_is_known_by_it_wherever_it_comes_from():
    seen = Seen()
    known = replace(OK, certificate="cert:CN=agent-7")
    seen.add(known, replace(known, ip="192.0.2.99", agent=b"vmagent"), replace(known, certificate="cert:CN=agent-8"))
    assert {one.sender: (one.count, one.address) for one in seen.taken()} == {
        "cert:CN=agent-7": (2, "192.0.2.99"),
        "cert:CN=agent-8": (1, "192.0.2.7"),
    }


@pytest.mark.parametrize(
    ("reason", "kind"),
    [
        (Reason.OK, Kind.USED),
        (Reason.OVER_RATE, Kind.USED),
        (Reason.NOT_ALLOWED, Kind.USED),
        (Reason.UPSTREAM_REFUSED, Kind.USED),
        (Reason.TOKEN_RETIRED, Kind.HELD),
        (Reason.TOKEN_ENDED, Kind.REFUSED),
        (Reason.TOKEN_REVOKED, Kind.REFUSED),
    ],
)
def test_what_became_of_a_token_is_kept_apart(reason, kind):
    seen = Seen()
    seen.add(replace(OK, reason=reason))
    assert [one.kind for one in seen.taken()] == [kind]


def test_who_shows_no_token_is_nobodys_sender():
    seen = Seen()
    seen.add(replace(OK, token_id="", identity="basic:ann"), replace(OK, token_id="", identity=""))
    assert seen.taken() == []
    assert seen.woken == 0


def test_the_writer_is_woken_by_a_first_sight_alone():
    seen = Seen()
    seen.add(OK)
    seen.taken()
    seen.add(OK, OK)
    assert seen.woken == 1
    seen.add(replace(OK, agent=b"vmagent"))
    assert seen.woken == 2


def test_requests_that_ended_out_of_order_do_not_turn_the_time_back():
    seen = Seen()
    seen.add(OK, replace(OK, at=OK.at - 30))
    assert [one.last_seen for one in seen.taken()] == [OK.at]


def test_who_was_forgotten_and_comes_back_is_seen_anew():
    seen = Seen()
    seen.add(OK)
    seen.tally.forget(OK.at + 1)
    seen.add(replace(OK, at=OK.at + 2))
    assert [(one.first_seen, one.count) for one in seen.taken()] == [(OK.at + 2, 1)]


def test_agents_without_end_do_not_grow_the_memory():
    seen = Seen(per_token=100)
    seen.add(*(replace(OK, agent=b"agent-%c%c" % (97 + n % 26, 97 + n // 26)) for n in range(500)))
    assert len(seen.tally) == 101
    assert sum(one.count for one in seen.taken()) == 500


def test_a_held_sender_has_one_line_in_the_log(caplog):
    seen = Seen()
    with caplog.at_level(logging.WARNING):
        seen.add(HELD, HELD)
        seen.add(HELD, replace(HELD, ip="192.0.2.8", agent=b"\x1b[31m"))
        seen.add(OK, replace(HELD, ip="192.0.2.9", agent=b""), replace(HELD, certificate="cert:CN=a"))
    assert len(caplog.messages) == 4
    assert caplog.messages[2].startswith("192.0.2.9 without a User-Agent shows token")
    assert caplog.messages[3].startswith("cert:CN=a (192.0.2.7 Prometheus/2.53.0) shows token")
    assert caplog.messages[0].startswith("192.0.2.7 Prometheus/2.53.0 shows token abcd1234 of agent-1, which was")
    assert caplog.messages[1].startswith("192.0.2.8 other shows token")


def test_a_scrape_tells_how_many_senders_are_where_in_a_rotation():
    seen = Seen(per_token=3)
    now = OK.at + 10
    old = Token("old", "prom", TokenKind.WRITE, b"1" * 32, "sha256", 0.0, 0.0, now - 1)
    previous = Token("prev", "prom", TokenKind.WRITE, b"2" * 32, "sha256", 1.0, 1.0, now + 9)
    current = Token("cur", "prom", TokenKind.WRITE, b"3" * 32, "sha256", 2.0, 2.0)
    book = TokenBook()
    book.apply(Changes(1, (old, previous, current)))

    def shows(ip, token, at=0.0, reason=Reason.OK):
        return replace(OK, ip=ip, token_id=token, at=OK.at + at, reason=reason)

    seen.add(
        shows("a", "prev"),
        shows("b", "prev"),
        shows("b", "cur", 1.0),
        shows("c", "old", reason=Reason.TOKEN_RETIRED),
        shows("d", "cur"),
        shows("e", "cur", -RECENT_S - 20),  # has not sent for long
        shows("f", "cur"),
    )
    found = {(m, labels): v for m, v, labels in seen.senders.samples(book, now, is_writable=False)}
    by_state = {labels[0]: v for (m, labels), v in found.items() if m is metrics.SENDERS}
    assert by_state == {"pending": 0, "current": 2, "previous": 1, "retired": 1, "revoked": 0}
    assert found[metrics.LEDGER_SIGHTINGS, ()] == 7
    assert found[metrics.LEDGER_DROPPED, ()] == 1
    assert found[metrics.LEDGER_WRITABLE, ()] == 0
