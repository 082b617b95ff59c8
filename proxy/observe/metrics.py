"""Every metric, once: its name, its labels, and what it says. docs/metrics.md is made from them.

A label takes its values from the configuration (route, upstream) or from a list in the code (reason, state), never
from what a client sends: a path, a method, a user or an agent would let anybody make series without end.
"""

from __future__ import annotations

from bisect import bisect_left
from collections import Counter, defaultdict
from itertools import accumulate
from typing import TYPE_CHECKING, NamedTuple

from proxy.gate.decision import Reason
from proxy.tokens.token import TokenKind, TokenState, state_at

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from proxy.observe.outcome import Outcome
    from proxy.tokens.book import TokenBook


class Metric(NamedTuple):
    """`kind` is counter, gauge or histogram."""

    name: str
    kind: str
    doc: str
    labels: tuple[str, ...] = ()


class Distribution(NamedTuple):
    """The value of a histogram: how many there are up to each bound (the last: all of them), and their sum."""

    cumulative: tuple[int, ...]
    total: float


class Sample(NamedTuple):
    """One value of one metric at the time of the scrape; `labels` in the order of the metric's."""

    metric: Metric
    value: float | Distribution
    labels: tuple[str, ...] = ()


REQUESTS = Metric(
    "promgate_requests_total",
    "counter",
    "Requests that have ended. Reason is the word of the access log; code is the status that the client was told, "
    "0 if it was told none; route is empty where no route was found.",
    ("route", "reason", "code"),
)
DURATION = Metric(
    "promgate_request_duration_seconds",
    "histogram",
    "From the end of a request's head to the end of its answer.",
    ("route",),
)
REQUEST_BYTES = Metric("promgate_request_bytes_total", "counter", "Content sent on to upstreams.", ("route",))
RESPONSE_BYTES = Metric("promgate_response_bytes_total", "counter", "Content sent on to clients.", ("route",))
HELD = Metric(
    "promgate_held_requests_total",
    "counter",
    "Writes that were told 503 for a token that was just replaced: their senders wait for the new one.",
    ("route",),
)
CONNECTIONS = Metric("promgate_connections", "gauge", "Client connections, those within a TLS handshake left out.")
TUNNELS = Metric("promgate_tunnels", "gauge", "Open websockets, each of them one of promgate_connections.")
TLS_HANDSHAKES = Metric(
    "promgate_tls_handshakes_total",
    "counter",
    "Ends of TLS handshakes: completed, failed, expired, or refused because too many were under way.",
    ("result",),
)
TLS_HANDSHAKING = Metric("promgate_tls_handshaking_connections", "gauge", "Client connections within a TLS handshake.")
UPSTREAM_CONNECTIONS = Metric(
    "promgate_upstream_connections",
    "gauge",
    "Connections to an upstream; active ones carry a request.",
    ("upstream", "state"),
)
UPSTREAM_CONNECT_FAILURES = Metric(
    "promgate_upstream_connect_failures_total",
    "counter",
    "Attempts to connect that failed; a request makes several within `timeouts.connect`.",
    ("upstream",),
)
UPSTREAM_RETRIES = Metric(
    "promgate_upstream_retries_total",
    "counter",
    "Requests sent a second time, because their reused connection had died before any answer.",
    ("upstream",),
)
UPSTREAM_REACHABLE = Metric(
    "promgate_upstream_reachable",
    "gauge",
    "1 if the last check, made every 5 s, could connect to the upstream; with `health_path`, was answered 2xx.",
    ("upstream",),
)
STORE_GENERATION = Metric("promgate_token_store_generation", "gauge", "Last change of the token store that is in use.")
STORE_READABLE = Metric("promgate_token_store_readable", "gauge", "1 if the token store could be read last time.")
TOKENS = Metric(
    "promgate_tokens", "gauge", "Tokens by what they are for and where they are in their life.", ("kind", "state")
)
SENDERS = Metric(
    "promgate_senders",
    "gauge",
    "Senders seen within the last 5 minutes, by the state of the token that they showed last: who is `previous` has "
    "not moved yet, who is `retired` is held or refused.",
    ("state",),
)
LEDGER_SIGHTINGS = Metric(
    "promgate_ledger_sightings", "gauge", "Pairs of a token and a sender that the ledger knows; 20000 at the most."
)
LEDGER_DROPPED = Metric(
    "promgate_ledger_dropped_total",
    "counter",
    "Requests of senders for which the ledger had no room: `promgate token status` says WAIT for their names.",
)
LEDGER_WRITABLE = Metric(
    "promgate_ledger_writable",
    "gauge",
    "1 if the ledger could be written last time; while it is 0, `promgate token status` says WAIT.",
)
ROTATIONS = Metric(
    "promgate_rotations_total", "counter", "Rotations that this process began or took up by itself.", ("result",)
)
ROTATIONS_OPEN = Metric(
    "promgate_rotations_open", "gauge", "Rotations that have not ended, driven by somebody or by nobody.", ("state",)
)
ROTATIONS_OVERDUE = Metric(
    "promgate_rotations_overdue", "gauge", "Names whose rotation should have begun an hour ago, or earlier."
)
GUESSERS = Metric(
    "promgate_guessers",
    "gauge",
    "Addresses, and user names (of users or not), that are refused just now for too many guesses. The console and "
    "`/-/api/v1/guessers` name them to admins.",
    ("kind",),
)
KEY_FETCHES = Metric(
    "promgate_jwks_fetches_total", "counter", "Fetches of an issuer's keys, discovery included.", ("issuer", "result")
)
KEY_AGE = Metric(
    "promgate_jwks_age_seconds",
    "gauge",
    "Since the keys of an issuer were fetched; no series before they were. About 300 at the most while the issuer "
    "answers; at 3600 they are used no more, and its tokens get 503.",
    ("issuer",),
)
INTROSPECTIONS = Metric(
    "promgate_introspections_total",
    "counter",
    "Tokens that their provider was asked about: it called them active and they are for us; it did not, or they are "
    "not; it did not answer as it should (503).",
    ("result",),
)
LOGINS = Metric(
    "promgate_logins_total",
    "counter",
    "Logins of people that have ended: with a session; refused by the provider, or by promgate; or failed, because the "
    "provider or the store did not answer. A password has the provider `password`.",
    ("provider", "result"),
)
SESSIONS = Metric("promgate_sessions", "gauge", "Sessions of people that memory holds; 10000 at the most.")
SESSIONS_WRITABLE = Metric(
    "promgate_sessions_writable",
    "gauge",
    "1 if the store of sessions worked last time; while it is 0, nobody can log in.",
)
RENEW_STRANGERS = Metric(
    "promgate_renew_strangers_total", "counter", "Times that somebody else than the sender came for a new token."
)
AUDIT_RECORDS = Metric("promgate_audit_records_total", "counter", "Records of the audit that this process wrote.")
AUDIT_FAILURES = Metric(
    "promgate_audit_failures_total", "counter", "Times that the audit could not be written, or was not as it was left."
)
AUDIT_WRITABLE = Metric(
    "promgate_audit_writable",
    "gauge",
    "1 if the audit could be written at the last look, which is made every 30 s and with each change; while it is 0, "
    "no token is changed, but overlaps that a sender needs are prolonged.",
)
AUDIT_OWED = Metric(
    "promgate_audit_owed",
    "gauge",
    "Prolonged overlaps that could not be recorded yet. They are recorded late, once the audit can be written again.",
)
RELOAD_SUCCESSFUL = Metric(
    "promgate_config_last_reload_successful", "gauge", "1 if the last configuration that was read was taken."
)
RELOAD_TIME = Metric(
    "promgate_config_last_reload_success_timestamp_seconds", "gauge", "When a configuration was taken last, unix time."
)
CERTIFICATE_END = Metric(
    "promgate_certificate_not_after_timestamp_seconds",
    "gauge",
    "When the certificates that an option names end, unix time: the first of them, where they are several. Of the "
    "listeners' own what is served, of all others the file as it is now.",
    ("option",),
)
CERTIFICATE_LOADS = Metric("promgate_certificate_loads_total", "counter", "Certificates taken, the first included.")
CERTIFICATE_FAILED = Metric(
    "promgate_certificate_reload_failed", "gauge", "1 if the certificate files as they are now could not be taken."
)
LINES_LOST = Metric(
    "promgate_access_log_lines_lost_total", "counter", "Lines that could not be written to the access log."
)
BUILD = Metric("promgate_build_info", "gauge", "Always 1; the version is in the label.", ("version",))

_HOLDS = frozenset({Reason.TOKEN_RETIRED, Reason.TOKEN_LEAKED})

#: In the order of the page.
METRICS = (
    REQUESTS, DURATION, REQUEST_BYTES, RESPONSE_BYTES, HELD, CONNECTIONS, TUNNELS, TLS_HANDSHAKES, TLS_HANDSHAKING,
    UPSTREAM_CONNECTIONS, UPSTREAM_CONNECT_FAILURES, UPSTREAM_RETRIES, UPSTREAM_REACHABLE,
    STORE_GENERATION, STORE_READABLE, TOKENS, SENDERS, LEDGER_SIGHTINGS, LEDGER_DROPPED, LEDGER_WRITABLE,
    ROTATIONS, ROTATIONS_OPEN, ROTATIONS_OVERDUE, RENEW_STRANGERS, AUDIT_RECORDS, AUDIT_FAILURES, AUDIT_WRITABLE,
    AUDIT_OWED, GUESSERS, KEY_FETCHES, KEY_AGE, INTROSPECTIONS,
    LOGINS, SESSIONS, SESSIONS_WRITABLE,
    RELOAD_SUCCESSFUL, RELOAD_TIME,
    CERTIFICATE_END, CERTIFICATE_LOADS, CERTIFICATE_FAILED, LINES_LOST, BUILD,
)  # fmt: skip

#: Upper bounds of the buckets, in seconds: a small write takes 1 ms, a query of two minutes lives.
DURATION_BOUNDS_S = (0.001, 0.005, 0.025, 0.1, 0.5, 2.5, 10.0, 60.0)


class _Route:
    """What is counted of one route."""

    __slots__ = ("answers", "buckets", "bytes_in", "bytes_out", "seconds")

    def __init__(self) -> None:
        self.answers: defaultdict[tuple[str, int], int] = defaultdict(int)
        self.buckets = [0] * (len(DURATION_BOUNDS_S) + 1)
        self.seconds = 0.0
        self.bytes_in = 0
        self.bytes_out = 0


class _Routes(dict[str, _Route]):
    def __missing__(self, name: str) -> _Route:
        route = self[name] = _Route()
        return route


class RequestCounts:
    """Adds up the outcomes of requests, by route. One observer of `Observers`."""

    def __init__(self) -> None:
        self._routes = _Routes()

    def know(self, names: Iterable[str]) -> None:
        """Let routes begin with zero, not with their first request: `rate()` cannot see a series appear."""
        for name in names:
            self._routes[name]

    def add(self, outcomes: list[Outcome]) -> None:
        routes = self._routes
        for outcome in outcomes:
            route = routes[outcome.route]
            route.answers[outcome.reason, outcome.status] += 1
            route.buckets[bisect_left(DURATION_BOUNDS_S, outcome.duration_s)] += 1
            route.seconds += outcome.duration_s
            route.bytes_in += outcome.bytes_in
            route.bytes_out += outcome.bytes_out

    def samples(self) -> Iterator[Sample]:
        for name, route in self._routes.items():
            held = 0
            for (reason, status), count in route.answers.items():
                yield Sample(REQUESTS, count, (name, reason, str(status)))
                held += count if reason in _HOLDS else 0
            yield Sample(DURATION, Distribution(tuple(accumulate(route.buckets)), route.seconds), (name,))
            yield Sample(REQUEST_BYTES, route.bytes_in, (name,))
            yield Sample(RESPONSE_BYTES, route.bytes_out, (name,))
            yield Sample(HELD, held, (name,))


def token_samples(book: TokenBook, now: float) -> Iterator[Sample]:
    """How many tokens there are, and how well they are known; `now` in unix seconds."""
    if book.has_store:
        yield Sample(STORE_GENERATION, book.generation)
        yield Sample(STORE_READABLE, book.readable)
    counts = Counter((token.kind, state_at(token, now)) for token in book.tokens.values())
    for kind in TokenKind:
        for state in TokenState:
            yield Sample(TOKENS, counts[kind, state], (kind, state))
