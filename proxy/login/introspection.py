"""Opaque tokens of others: their provider is asked about each (RFC 7662), and its word is believed for seconds.

`active` must be the JSON value true. What is no answer at all (a fault, a refusal of our own login, HTML) says nothing
of the token: that is UNREACHABLE, never REFUSED.
"""

from __future__ import annotations

import asyncio
import logging
import math
import re
from time import monotonic
from typing import TYPE_CHECKING, Any, Final

from proxy.background import begin
from proxy.gate.ask import BUSY, REFUSED, UNREACHABLE, Claims
from proxy.login.claims import granted, is_for, is_subject, seconds, writes
from proxy.login.client_secret import basic_login, read_secret
from proxy.login.flights import Flights, Missed
from proxy.login.provider import ProviderClient, ProviderError, discover, endpoint_of
from proxy.tokens.secret import digest

if TYPE_CHECKING:
    from collections.abc import Callable

    from proxy.gate.ask import Answer, Introspect
    from proxy.gate.snapshot import Introspection

_log = logging.getLogger("promgate.introspection")

MAX_WAIT_S: Final = 5.0
_MAX_FLIGHTS: Final = 256
#: After a failure nobody waits for another one: for this long the answer is known.
_PAUSE_S: Final = 1.0
#: Where a token has no `sub`, as those of client credentials: the client itself is who asks.
_CLIENT: Final = "client_id="
#: RFC 6750 2.1: b64token. What is none is not worth a question.
_is_bearer = re.compile(rb"[A-Za-z0-9._~+/-]+=*").fullmatch


class Introspector:
    """Answers Introspect by the configuration it was last told of; None: no token is believed."""

    def __init__(self, written: Introspection | None = None, clock: Callable[[], float] = monotonic) -> None:
        self._clock = clock
        self._witness: _Witness | None = None
        self._leaving: set[asyncio.Task[None]] = set()
        self.counts = {"active": 0, "refused": 0, "failed": 0}
        self.take(written)

    @property
    def is_used(self) -> bool:
        return self._witness is not None

    def take(self, written: Introspection | None) -> None:
        """Ask there from now on. Who waits for an answer of before is told that nobody can tell now."""
        before = self._witness
        if before is not None:
            if before.written == written:
                return
            leaving = begin(before.aclose())
            self._leaving.add(leaving)
            leaving.add_done_callback(self._leaving.discard)
        self._witness = None if written is None else _Witness(written, self.counts, self._clock)

    async def find(self, question: Introspect) -> Answer:
        """Claims, REFUSED, UNREACHABLE, or BUSY when too many wait already. One flight for the same token."""
        if self._witness is None or not _is_bearer(question.text):
            return REFUSED
        return await self._witness.find(question.text)

    async def aclose(self) -> None:
        if self._witness is not None:
            await self._witness.aclose()
        await asyncio.gather(*self._leaving)


class _Witness:
    """One provider, by one configuration. `counts` outlive it."""

    def __init__(self, written: Introspection, counts: dict[str, int], clock: Callable[[], float]) -> None:
        self.written = written
        self._counts, self._clock = counts, clock
        self._client = ProviderClient(written.ca_file)
        self._url, self._secret = written.url, written.client_secret
        self._flights: Flights[Answer] = Flights(_MAX_FLIGHTS)
        self._paused_until = -math.inf
        self._failed = False

    async def find(self, token: bytes) -> Answer:
        key = digest(token)
        if key not in self._flights and self._clock() < self._paused_until:
            return UNREACHABLE
        answer = await self._flights.join(key, lambda: self._ask(token), MAX_WAIT_S)
        if isinstance(answer, Missed):
            return BUSY if answer is Missed.FULL else UNREACHABLE
        return answer

    async def aclose(self) -> None:
        await self._flights.aclose()
        await self._client.aclose()

    async def _ask(self, token: bytes) -> Answer:
        try:
            told = await self._post(token.decode())
        except ProviderError as error:
            self._counts["failed"] += 1
            self._paused_until = self._clock() + _PAUSE_S
            if not self._failed:
                _log.error("introspection as %s fails, unknown tokens get 503: %s", self.written.client_id, error)
            self._failed = True
            self._url = self.written.url  # an endpoint that was discovered may have moved
            return UNREACHABLE
        if self._failed:
            _log.info("introspection as %s works again", self.written.client_id)
        self._failed = False
        claims = claims_of(told, self.written)
        self._counts["refused" if claims is None else "active"] += 1
        return claims or REFUSED

    async def _post(self, token: str) -> dict[str, Any]:
        written = self.written
        url = self._url
        if not url:
            url = self._url = endpoint_of(await discover(self._client, written.issuer), "introspection_endpoint")
        form = {"token": token, "token_type_hint": "access_token"}
        try:
            return await self._client.post(url, form, basic_login(written.client_id, self._secret))
        except ProviderError as error:
            fresh = await asyncio.to_thread(read_secret, written.client_secret_file) if error.status == 401 else ""
            if fresh in {"", self._secret}:
                raise
            self._secret = fresh  # it was replaced under us
        return await self._client.post(url, form, basic_login(written.client_id, self._secret))


def claims_of(told: dict[str, Any], written: Introspection) -> Claims | None:
    """What an introspection answer says for us; None for a token that is not good, or not for us (RFC 7662 2.2)."""
    if told.get("active") is not True:
        return None
    if written.issuer and told.get("iss", written.issuer) != written.issuer:
        return None
    if written.audience and not is_for(told, written.audience):
        return None
    kind = told.get("token_type", "Bearer")
    if not isinstance(kind, str) or kind.lower() != "bearer":  # a refresh token, or one bound to a key
        return None
    subject = told.get("sub", _CLIENT + str(told.get("client_id", "")))
    if not isinstance(subject, str) or not is_subject(subject) or subject == _CLIENT:
        return None
    if "sub" in told and subject.startswith(_CLIENT):  # a person who is called like a client
        return None
    times = [seconds(told.get(name, default)) for name, default in (("exp", 1e11), ("iat", 0), ("nbf", 0))]
    expires_at, issued_at, not_before = times
    if expires_at is None or issued_at is None or not_before is None:
        return None
    return Claims(
        written.prefix + subject,
        written.terms,
        max(issued_at, not_before),
        expires_at,
        writes(told),
        granted(told, written.prefix, written.wanted),
    )
