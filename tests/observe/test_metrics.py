"""What is counted, that no client can make a series, and that the page of the docs is the truth."""

import random
from collections import Counter
from dataclasses import replace
from pathlib import Path

import pytest

from proxy.gate.decision import Reason
from proxy.observe import docs, metrics
from proxy.observe.metrics import DURATION_BOUNDS_S, METRICS, Distribution, Metric, RequestCounts, token_samples
from proxy.tokens.book import TokenBook
from proxy.tokens.configured import build_configured
from proxy.tokens.ports import Changes
from proxy.tokens.token import Token, TokenKind, TokenState
from tests.observe.test_access_log import PLAIN

PAGE = Path(__file__).parents[2] / "docs" / "metrics.md"
OK = replace(PLAIN, reason=Reason.OK)


def values(samples):
    """(metric, labels) -> value, each once."""
    listed = list(samples)
    found = {(metric, labels): value for metric, value, labels in listed}
    assert len(found) == len(listed), "a series twice"
    return found


def counted(*outcomes):
    counts = RequestCounts()
    counts.add(list(outcomes))
    return values(counts.samples())


# Requests


def test_requests_are_counted_by_route_reason_and_code():
    found = counted(
        OK,
        OK,
        replace(OK, status=503),
        replace(OK, reason=Reason.BAD_CREDENTIAL, status=401),
        replace(OK, route="other"),
        replace(OK, route="", reason=Reason.UNLAWFUL, status=400),
        replace(OK, reason=Reason.CLIENT_GONE, status=0),
    )
    assert {labels: value for (metric, labels), value in found.items() if metric is metrics.REQUESTS} == {
        ("remote-write", "ok", "204"): 2,
        ("remote-write", "ok", "503"): 1,
        ("remote-write", "bad_credential", "401"): 1,
        ("remote-write", "client_gone", "0"): 1,
        ("other", "ok", "204"): 1,
        ("", "unlawful", "400"): 1,
    }


def test_sizes_are_added_up_by_route():
    found = counted(
        replace(OK, bytes_in=1, bytes_out=10),
        replace(OK, bytes_in=2, bytes_out=20),
        replace(OK, route="other", bytes_in=4, bytes_out=40),
    )
    assert found[metrics.REQUEST_BYTES, ("remote-write",)] == 3
    assert found[metrics.RESPONSE_BYTES, ("remote-write",)] == 30
    assert found[metrics.REQUEST_BYTES, ("other",)] == 4
    assert found[metrics.RESPONSE_BYTES, ("other",)] == 40


@pytest.mark.parametrize("bucket", range(len(DURATION_BOUNDS_S)))
def test_a_bound_belongs_to_its_bucket(bucket):
    """`le` is less than or equal."""
    bound = DURATION_BOUNDS_S[bucket]
    for duration, first in ((bound, bucket), (bound * 1.001, bucket + 1)):
        counts, total = counted(replace(OK, duration_s=duration))[metrics.DURATION, ("remote-write",)]
        assert counts == tuple(int(index >= first) for index in range(len(DURATION_BOUNDS_S) + 1))
        assert total == duration


def test_a_histogram_is_cumulative():
    rng = random.Random(4)
    durations = [rng.expovariate(1.0) for _ in range(500)]
    found = counted(*(replace(OK, duration_s=duration) for duration in durations))
    distribution = found[metrics.DURATION, ("remote-write",)]
    assert isinstance(distribution, Distribution)
    wanted = [sum(duration <= bound for duration in durations) for bound in DURATION_BOUNDS_S]
    assert distribution.cumulative == (*wanted, 500)
    assert distribution.total == pytest.approx(sum(durations))


def test_held_requests_are_those_of_a_token_that_was_just_replaced():
    held = replace(OK, reason=Reason.TOKEN_RETIRED, status=503)
    found = counted(OK, held, held, replace(OK, reason=Reason.TOKEN_ENDED, status=401), replace(OK, status=503))
    assert found[metrics.HELD, ("remote-write",)] == 2


def test_a_route_begins_with_zero():
    counts = RequestCounts()
    counts.know(["a"])
    counts.add([replace(OK, route="a")])
    counts.know(["a", "b"])  # a reload
    found = values(counts.samples())
    assert found[metrics.DURATION, ("a",)].cumulative[-1] == 1
    assert found[metrics.DURATION, ("b",)] == Distribution((0,) * (len(DURATION_BOUNDS_S) + 1), 0.0)
    assert found[metrics.HELD, ("b",)] == 0


def test_what_a_client_sends_makes_no_series():
    counts = RequestCounts()
    counts.add([OK])
    before = values(counts.samples()).keys()
    for n in range(10_000):
        word = f"made-up-{n}"
        strange = replace(
            OK,
            ip=f"2001:db8::{n:x}",
            method=word.encode(),
            path=f"/{word}".encode(),
            agent=word.encode(),
            identity=f"basic:{word}",
            token_id=word,
            at=float(n),
            duration_s=n / 100,
            bytes_in=n,
        )
        counts.add([strange])
    assert values(counts.samples()).keys() == before


# Tokens


def test_tokens_are_counted_by_kind_and_state():
    now = 1000.0
    facts = {
        "pending": {},
        "current": {"current_from": 1.0},
        "previous": {"current_from": 1.0, "accepted_until": now + 1},
        "retired": {"current_from": 1.0, "accepted_until": now},
        "revoked": {"current_from": 1.0, "revoked_at": 5.0},
    }
    tokens = [
        Token(f"{kind}{state}{n}", "name", kind, f"{kind}{state}{n}".encode(), "sha256", 0.0, **facts[state])
        for kind in TokenKind
        for state in TokenState
        for n in range(3 if kind is TokenKind.WRITE else 1)
    ]
    book = TokenBook()
    empty = values(token_samples(book, now))
    assert {labels for metric, labels in empty if metric is metrics.TOKENS} == {
        (kind, state) for kind in TokenKind for state in TokenState
    }
    book.apply(Changes(7, tuple(tokens)))
    book.readable = False
    found = values(token_samples(book, now))
    assert found[metrics.STORE_GENERATION, ()] == 7
    assert not found[metrics.STORE_READABLE, ()]
    assert {value for (metric, (kind, *_)), value in _labelled(found) if kind == "write"} == {3}
    assert {value for (metric, (kind, *_)), value in _labelled(found) if kind == "reader"} == {1}


def test_without_a_store_there_are_tokens_and_nothing_is_said_of_one():
    book = TokenBook()
    book.has_store = False
    book.configure(build_configured("edge", (b"1" * 32, b"2" * 32)), 10.0, 60.0)
    found = values(token_samples(book, 10.0))
    assert {metric for metric, _ in found} == {metrics.TOKENS}
    assert {state: value for (_, (_, state)), value in found.items() if value} == {
        TokenState.CURRENT: 1,
        TokenState.PREVIOUS: 1,
    }


def _labelled(found):
    return [(series, value) for series, value in found.items() if series[1]]


# Names


def test_every_metric_has_its_place():
    """One that is defined and left out of METRICS would never be shown."""
    defined = [value for value in vars(metrics).values() if isinstance(value, Metric)]
    assert Counter(metric.name for metric in defined) == Counter(metric.name for metric in METRICS)


@pytest.mark.parametrize("metric", METRICS, ids=lambda metric: metric.name)
def test_names_and_labels_follow_the_rules(metric):
    assert metric.name.startswith("promgate_")
    assert metric.kind in {"counter", "gauge", "histogram"}
    assert metric.name.endswith("_total") == (metric.kind == "counter")
    assert metric.doc.endswith(".")
    bounded = {
            "route", "reason", "code", "kind", "state", "upstream", "issuer", "provider", "option", "result", "version",
        }  # fmt: skip
    assert set(metric.labels) <= bounded, "a label that a client could fill"


def test_the_page_is_up_to_date():
    assert PAGE.read_text() == docs.render(), "run: python -m proxy.observe.docs > docs/metrics.md"


def test_every_metric_is_on_the_page():
    page = docs.render()
    for metric in (*METRICS, *docs.PROCESS):
        assert f"| `{metric.name}` | {metric.kind} |" in page
    for label in {label for metric in METRICS for label in metric.labels} - {"version"}:
        assert f"- `{label}`" in page or f"`{label}` of" in page or f"; `{label}`:" in page, label
