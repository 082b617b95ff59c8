"""A gate with the usual routes, and requests that are put to it. No clock, no socket: `AT` and `NOW` are arguments."""

from __future__ import annotations

import base64
from dataclasses import replace

from proxy.gate.ask import Claims
from proxy.gate.credentials import read_credential
from proxy.gate.decide import Gate
from proxy.gate.decision import Need
from proxy.gate.memory import Memory
from proxy.gate.reply import build_denial
from proxy.gate.snapshot import (
    Bounds,
    JwtIssuer,
    RateLimit,
    Route,
    RouteKind,
    Rule,
    Snapshot,
    TokenRules,
    Upstream,
    Way,
)
from proxy.tokens.ports import Changes
from proxy.tokens.secret import SCHEME, mint
from proxy.tokens.token import Token, TokenKind
from tests.tokens.play import randomness
from tests.wire.play import admit

AT, NOW = 1_000.0, 1_700_000_000.0
IP, OTHER_IP = "10.0.0.1", "10.0.0.2"
GRACE_S = 3600.0
UP = Upstream("127.0.0.1", 9090)
HASHES = (b"$2b$12$one", b"$2b$12$two")

WRITE = Route(
    "write",
    "/prometheus/api/v1/write",
    UP,
    kind=RouteKind.REMOTE_WRITE,
    ways=frozenset({Way.WRITE_TOKEN, Way.JWT}),
    rules=(Rule("write"),),
    methods=frozenset({b"POST"}),
    max_body_bytes=1000,
)
READ = Route(
    "read",
    "/prometheus",
    UP,
    ways=frozenset({Way.BASIC, Way.BEARER, Way.JWT}),
    rules=(Rule("viewer", frozenset({b"GET", b"HEAD"})), Rule("admin")),
)
OPEN = Route("open", "/open", UP, ways=frozenset({Way.NONE}), rules=(Rule("anyone"),))
ISSUER = JwtIssuer("https://idp", "promgate", '{"keys": []}')
SNAPSHOT = Snapshot(
    (WRITE, READ, OPEN),
    users={"ann": HASHES, "bob": (b"$2b$12$bob",)},
    roles={
        "basic:ann": frozenset({"admin"}),
        "basic:bob": frozenset({"viewer"}),
        "token:grafana": frozenset({"viewer"}),
        "jwt:carol": frozenset({"viewer"}),
    },
    token_rules=TokenRules(retry_grace_s=GRACE_S),
    bounds=Bounds(guesses=RateLimit(rate=1, interval_s=1.0, burst=4, by_identity=False)),
    jwt_issuers=(ISSUER,),
)


def minted(name, kind=TokenKind.WRITE, **facts):
    """(the facts of a token, the clear secret)."""
    one = mint(kind, randomness(f"{name}{facts}"))
    token = Token(one.id, name, kind, one.digest, SCHEME, minted_at=NOW - 10_000, current_from=NOW - 10_000)
    return replace(token, **facts), one.secret.reveal().encode()


SENDER, SENDER_SECRET = minted("sender")
GRAFANA, GRAFANA_SECRET = minted("grafana", TokenKind.READER)
_, STRANGE_SECRET = minted("nobody")


def memory(*tokens, readable=True, made_at=0.0):
    made = Memory(bytes(32))
    made.book.apply(Changes(1, tokens, made_at))
    made.book.readable = readable
    return made


def gate(*, tokens=(SENDER, GRAFANA), snapshot=SNAPSHOT, readable=True, made_at=0.0, **changes):
    return Gate(replace(snapshot, **changes), memory(*tokens, readable=readable, made_at=made_at))


def bearer(secret):
    return read_credential(b"Bearer " + secret)


def basic(user, password):
    return read_credential(b"Basic " + base64.b64encode(user.encode() + b":" + password))


def jwt(name="x"):
    return read_credential(b"Bearer eyJhbGciOiJFUzI1NiJ9." + name.encode() + b".c2ln")


def claims(**changes):
    return replace(Claims("jwt:carol", ISSUER.terms, NOW - 60, NOW + 300), **changes)


def head(path="/prometheus/api/v1/write", method="POST", length=None):
    fields = [] if length is None else [b"Content-Length: %d" % length]
    lines = [f"{method} {path} HTTP/1.1".encode(), b"Host: a", *fields, b"", b""]
    return admit(b"\r\n".join(lines))


def write(length=None):
    return head(length=length)


def read(method="GET"):
    return head("/prometheus/api/v1/query", method)


def ask(a_gate, request, shown=None, *, ip=IP, at=AT, now=NOW, answers=()):
    """(the decision, the questions that led to it). `answers` are given in turn; the last decision may be a Need."""
    facts = {}
    questions = []
    waiting = list(answers)
    decision = a_gate.decide(request, shown, ip, at, now, facts)
    while isinstance(decision, Need):
        questions.append(decision.question)
        if not waiting:
            break
        facts[decision.question] = waiting.pop(0)
        decision = a_gate.decide(request, shown, ip, at, now, facts)
    assert not waiting, f"nobody asked for {waiting}"
    return decision, questions


def guess(a_gate, request, shown, answer, *, ip=IP, at=AT):
    """(the decision, the questions) where the gate may ask or not; each question gets the same answer."""
    decision, questions = ask(a_gate, request, shown, ip=ip, at=at)
    if questions:
        decision = a_gate.decide(request, shown, ip, at, NOW, dict.fromkeys(questions, answer))
    return decision, questions


def decide(*args, **kwargs):
    return ask(*args, **kwargs)[0]


def answered(deny, *, jitter=0.5, close=False, head_only=False):
    """(status, fields, body) of what a client is told."""
    status, answer = build_denial(deny, jitter=jitter, close=close, head_only=head_only)
    return parse(status, answer)


def parse(status, answer):
    top, _, body = answer.partition(b"\r\n\r\n")
    first, *lines = top.decode().split("\r\n")
    assert first.startswith(f"HTTP/1.1 {status} ")
    pairs = [line.partition(": ") for line in lines]
    fields = {name: value for name, _, value in pairs}
    assert len(fields) == len(pairs)
    return status, fields, body.decode()
