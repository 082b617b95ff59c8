"""The desk of a running server: for its keeper and its admin API. What they change is in use when they are told so."""

from __future__ import annotations

import asyncio
import concurrent.futures
import os
from typing import TYPE_CHECKING, NamedTuple, TypeVar

from proxy.delivery.sinks import prover_of, sinks_of
from proxy.desk.auditing import look_at_audit
from proxy.desk.desk import Desk
from proxy.desk.keeper import Keeper
from proxy.desk.ledger_of import LedgerOf
from proxy.desk.overlaps import Overlaps
from proxy.desk.owner import is_gone, name_of_this_process
from proxy.desk.renew_reply import Renewing
from proxy.desk.restored import Restored
from proxy.desk.rounds import Rounds
from proxy.observe import metrics
from proxy.observe.metrics import Sample
from proxy.stores.nudge import ask_for_ledger
from proxy.tokens.ports import BY_SCHEDULE, StoreError

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine, Iterator
    from typing import Any

    from proxy.gate.snapshot import TokenRules
    from proxy.stores.nudge import NudgeServer
    from proxy.stores.sqlite import SqliteStore
    from proxy.stores.watch import StoreWatch
    from proxy.tokens.ports import Asked, Audit

_T = TypeVar("_T")
_LOOP_TIMEOUT_S = 5.0


class Followed(NamedTuple):
    """The store, who follows it in this process, and where commands and other servers on it ask this one."""

    store: SqliteStore
    watch: StoreWatch
    nudges: NudgeServer


class ServerDesk:
    """Made on the event loop. `rules` is replaced by a reload; who has asked for `desk()` goes on by the old ones."""

    def __init__(
        self,
        followed: Followed,
        rules: TokenRules,
        clock: Callable[[], float],
        flushed: Callable[[], Coroutine[Any, Any, None]],
        audit: Callable[[Asked], Audit] | None = None,
    ) -> None:
        """`flushed()` has the ledger hold all that was seen; `audit` begins a record of what is asked for."""
        store, watch, self._nudges = followed
        self.rules = rules
        self._store = store
        self._clock = clock
        self._sync = watch.sync
        self._loop = asyncio.get_running_loop()
        self._owner = name_of_this_process()
        self._flushed = flushed
        self._audit = audit
        self.keeper = Keeper(self.desk, store.look)
        restored = Restored(watch.book)
        self._rounds = [
            self.keeper.rounds,
            Rounds("overlaps", self.desk, store.look, Overlaps()),
            Rounds("revocations", self.desk, restored.sign, restored),
        ]
        if audit is not None:
            self._rounds.append(Rounds("audit", self.desk, store.look, look_at_audit))
        self.renewing = Renewing(self.desk)

    def start(self) -> None:
        """Begin to keep what the calendar and the senders ask for."""
        for each in self._rounds:
            each.start()

    def end(self) -> None:
        """Begin no rotation any more. Overlaps are kept to the end."""
        self.keeper.rounds.end()

    def stop(self) -> None:
        """End it all, and wait a little."""
        for each in self._rounds:
            each.end()
        for each in self._rounds:
            each.stop()

    def desk(self, asked: Asked = BY_SCHEDULE) -> Desk:
        """Everything of it may block: never on the event loop."""
        rules = self.rules
        audit = None if self._audit is None else self._audit(asked)
        return Desk(
            store=self._store if audit is None else audit.watch(self._store),
            rules=rules,
            clock=self._clock,
            random=os.urandom,
            apply=self._apply,
            owner=self._owner,
            is_gone=is_gone,
            sinks=lambda name: sinks_of(rules, name),
            prover=lambda _: prover_of(rules),
            sightings=LedgerOf(self._store.path, self._flush),
            audit=audit,
        )

    def samples(self) -> Iterator[Sample]:
        """What a scrape is told of rotations: how they ended, how many are open, and how many are late."""
        outlook, now = self.keeper.outlook, self._clock()
        halted = len(outlook.stuck(now))
        for result in ("done", "failed"):
            yield Sample(metrics.ROTATIONS, self.keeper.ended[result], (result,))
        yield Sample(metrics.ROTATIONS_OPEN, len(outlook.open) - halted, ("running",))
        yield Sample(metrics.ROTATIONS_OPEN, halted, ("halted",))
        yield Sample(metrics.ROTATIONS_OVERDUE, len(outlook.late(now)))
        yield Sample(metrics.RENEW_STRANGERS, self.renewing.strangers)

    def _apply(self, generation: int) -> int:
        """In this process; other servers on the store follow by themselves, and look before they refuse a new token."""
        return self._on_loop(self._sync(generation), "take the change")

    def _flush(self) -> bool:
        """Whatever another server on the store has seen, too: it is asked as a command would ask it."""
        self._on_loop(self._flushed(), "write its ledger")
        ask_for_ledger(self._store.path, but=self._nudges.path)
        return True

    def _on_loop(self, work: Coroutine[Any, Any, _T], what: str) -> _T:
        asked = asyncio.run_coroutine_threadsafe(work, self._loop)
        try:
            return asked.result(_LOOP_TIMEOUT_S)
        except concurrent.futures.TimeoutError:
            asked.cancel()
            raise StoreError(f"this server did not {what} within {_LOOP_TIMEOUT_S:.0f} s") from None
