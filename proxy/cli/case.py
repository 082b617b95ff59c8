"""A request that is put to the gate of a configuration, with no server; and what somebody would show in it."""

from __future__ import annotations

import asyncio
import math
import os
import time
from contextlib import closing
from typing import TYPE_CHECKING, NamedTuple

from proxy.clock import Clock
from proxy.gate.ask import CheckPassword, Introspect, VerifyJwt
from proxy.gate.credentials import ShownCertificate, ShownPassword, ShownToken
from proxy.gate.decide import Gate
from proxy.gate.explain import explain
from proxy.gate.memory import Memory
from proxy.login.introspection import Introspector
from proxy.login.jwt import JwtVerifier
from proxy.login.passwords import PasswordChecker
from proxy.relay.context import RelayContext
from proxy.relay.finder import AnswerFinder
from proxy.relay.judging import Judging
from proxy.stores.sqlite import open_store
from proxy.tokens.token import TokenState, state_at

if TYPE_CHECKING:
    from collections.abc import Iterable

    from proxy.config.read import Loaded
    from proxy.gate.ask import Answer, Claims, Question
    from proxy.gate.credentials import Shown
    from proxy.gate.decision import Verdict
    from proxy.relay.context import Finder
    from proxy.tokens.token import Token
    from proxy.wire.head import RequestHead


class Unable(Exception):
    """The request cannot be put to the gate; the text says why."""


class Case(NamedTuple):
    """One request. `granted`: a password is taken for the right one, as the identity was named, and `claims` for what
    the issuer of its token says.
    """

    head: RequestHead
    shown: Shown | None
    ip: str
    granted: bool = False
    claims: Claims | None = None


def read_memory(loaded: Loaded) -> Memory:
    """What a server would know that was started now: all tokens there are. Raises StoreError, OSError."""
    memory, rules = Memory(os.urandom(32)), loaded.snapshot.token_rules
    memory.book.has_store = loaded.settings.store is not None
    memory.book.configure(rules.configured, time.time(), rules.retry_grace_s)
    if loaded.settings.store is not None and loaded.settings.store.exists():
        with closing(open_store(loaded.settings.store, make=False)) as store:
            memory.book.apply(store.changes_since(0))
    return memory


def explain_case(case: Case, loaded: Loaded, memory: Memory, now: float) -> dict[str, object]:
    """What the gate does with it at the unix time `now`, and why."""
    verdict = asyncio.run(_decide(case, loaded, memory, now))
    return explain(case.head, case.shown, case.ip, verdict, memory.book.tokens.values(), now, loaded.snapshot.sources)


async def _decide(case: Case, loaded: Loaded, memory: Memory, now: float) -> Verdict:
    jwts, passwords = JwtVerifier(loaded.snapshot.jwt_issuers), PasswordChecker()
    introspector = Introspector(loaded.snapshot.introspection)
    finder: Finder = AnswerFinder(None, passwords, jwts, introspector)
    if case.granted:
        finder = _Granting(finder, case.claims)
    relay = RelayContext(Gate(loaded.snapshot, memory), finder, lambda _: None)
    relay.clock = Clock(now)
    try:
        return await Judging(relay).request(case.head, case.shown, case.ip)
    finally:
        jwts.close()
        await introspector.aclose()
        passwords.close()


class _Granting:
    """Finds every password right, and every token its issuer's: they were named, and no secret is asked for."""

    def __init__(self, finder: Finder, claims: Claims | None) -> None:
        self._finder = finder
        self._claims = claims

    async def answer(self, question: Question) -> Answer:
        if isinstance(question, VerifyJwt | Introspect) and self._claims is not None:
            return self._claims
        return question.hashes[0] if isinstance(question, CheckPassword) else await self._finder.answer(question)


def stand_in(identity: str, tokens: Iterable[Token], now: float) -> Shown | None:
    """What `identity` would show, as far as the gate looks at it; None where only its provider could tell.

    Raises Unable for a token of which there is none.
    """
    kind, _, name = identity.partition(":")
    if kind == "basic" and name:
        return ShownPassword(name, b"")
    if kind == "cert" and name.startswith(("CN=", "SAN=")):
        return ShownCertificate((identity,), math.inf)
    if kind != "token" or not name:
        return None
    named = [token for token in tokens if token.name == name]
    if not named:
        raise Unable(f"there is no token named {name!r}: `promgate token list` shows the names")
    current = next((token for token in named if state_at(token, now) is TokenState.CURRENT), named[-1])
    return ShownToken(current.digest, minted=True)
