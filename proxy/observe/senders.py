"""Who sends with which token: outcomes -> the tally of the ledger. One look-up a request, off its way."""

from __future__ import annotations

import logging
from collections import Counter
from operator import attrgetter
from typing import TYPE_CHECKING

from proxy.gate.decision import Reason
from proxy.observe.agents import parse_agent
from proxy.observe.metrics import (
    LEDGER_DROPPED,
    LEDGER_SIGHTINGS,
    LEDGER_WRITABLE,
    SENDERS,
    Sample,
)
from proxy.tokens.ledger import Kind, Mark, Tally, describe
from proxy.tokens.token import TokenState, state_at

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from proxy.observe.outcome import Outcome
    from proxy.tokens.book import TokenBook

_log = logging.getLogger("promgate.senders")

_KIND = {
    Reason.TOKEN_RETIRED: Kind.HELD,
    Reason.TOKEN_LEAKED: Kind.HELD,
    Reason.TOKEN_ENDED: Kind.REFUSED,
    Reason.TOKEN_REVOKED: Kind.REFUSED,
}
_MEMO_SENDERS = 4096
#: Requests that agree in these are of one sender with one token, and went the same way.
_alike = attrgetter("token_id", "ip", "agent", "reason", "certificate")
#: Who sent within this time is one of those who send now.
RECENT_S = 300.0


class Senders:
    """One observer of `Observers`. `wake` is called when somebody was seen for the first time."""

    def __init__(self, tally: Tally, wake: Callable[[], None]) -> None:
        self._tally = tally
        self._wake = wake
        # What tells a sender apart takes a microsecond to work out; requests of one sender look alike.
        self._memo: dict[tuple[object, ...], Mark] = {}
        self._epoch = tally.epoch

    def add(self, outcomes: list[Outcome]) -> None:
        if self._epoch != self._tally.epoch:
            self._memo.clear()
            self._epoch = self._tally.epoch
        find = self._memo.get
        for outcome in outcomes:
            if outcome.token_id:
                mark = find(_alike(outcome)) or self._mark(outcome)
                if outcome.at > mark.last_seen:  # noqa: PLR1730 - max() costs a third of all that is done here
                    mark.last_seen = outcome.at
                mark.count += 1
                mark.fresh += 1
        if self._tally.new:
            self._wake()

    def samples(self, book: TokenBook, now: float, *, is_writable: bool) -> Iterator[Sample]:
        """How many senders are where in a rotation; `now` in unix seconds."""
        state_of = {token.id: state_at(token, now) for token in book.tokens.values()}
        latest: dict[tuple[str, str], Mark] = {}
        dropped = 0
        for mark in self._tally:
            if mark.kind is Kind.DROPPED:
                dropped += mark.count
            elif mark.last_seen >= now - RECENT_S:
                other = latest.setdefault((mark.name, mark.sender), mark)
                if mark.last_seen > other.last_seen:
                    latest[mark.name, mark.sender] = mark
        counts = Counter(state_of.get(mark.token_id, TokenState.REVOKED) for mark in latest.values())
        for state in TokenState:
            yield Sample(SENDERS, counts[state], (state,))
        yield Sample(LEDGER_SIGHTINGS, len(self._tally))
        yield Sample(LEDGER_DROPPED, dropped)
        yield Sample(LEDGER_WRITABLE, is_writable)

    def _mark(self, outcome: Outcome) -> Mark:
        agent = parse_agent(outcome.agent)
        name = outcome.identity.partition(":")[2]
        kind = _KIND.get(outcome.reason, Kind.USED)  # type: ignore[call-overload]  # a Reason is a str
        sender = outcome.certificate or f"{outcome.ip} {agent.family}".rstrip()
        mark = self._tally.find(name, outcome.token_id, kind, sender, outcome.ip, str(agent), outcome.at)
        if kind is Kind.HELD and not mark.count:
            _log.warning(
                "%s shows token %s of %s, which was replaced: it is told 503 until it has the new one, and 401 once "
                "tokens.retry_grace is over",
                describe(mark), outcome.token_id, name,
            )  # fmt: skip
        if len(self._memo) >= _MEMO_SENDERS:
            self._memo.clear()
        self._memo[_alike(outcome)] = mark
        return mark
