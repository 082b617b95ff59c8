"""The living parts of the process that are looked at together, and the one sweep that keeps their deadlines."""

from __future__ import annotations

import asyncio
import dataclasses
import logging
from dataclasses import dataclass
from time import monotonic
from typing import TYPE_CHECKING

from proxy.background import begin
from proxy.gate.decide import Gate
from proxy.gate.forwarded import Proxies
from proxy.gate.redirect import RedirectGate
from proxy.gate.snapshot import CONTROL
from proxy.observe.senders import Senders
from proxy.relay.listener import SWEEP_S
from proxy.stores.ledger import ledger_beside
from proxy.stores.ledger_writer import LedgerWriter
from proxy.tokens.ledger import Tally

if TYPE_CHECKING:
    import contextlib
    from collections.abc import Callable, Coroutine, Iterable
    from pathlib import Path

    from proxy.desk.serving import ServerDesk
    from proxy.gate.memory import Memory
    from proxy.gate.snapshot import Route, Snapshot
    from proxy.observe.access_log import AccessLog
    from proxy.observe.observers import Observers
    from proxy.people import People
    from proxy.pki.certificates import Certificates
    from proxy.pki.groups import ServerContext
    from proxy.relay.context import Decider, RelayContext, Upstreams
    from proxy.relay.finder import AnswerFinder
    from proxy.relay.listener import Listeners
    from proxy.relay.reach import Reach

_log = logging.getLogger("promgate.server")
_REOPEN_EACH_S = 5.0


@dataclass(frozen=True)
class Ledger:
    """Who sends with which token: as it is seen, and as it is written."""

    senders: Senders
    writer: LedgerWriter
    tally: Tally

    async def flush(self, observers: Observers) -> None:
        """Have all that was seen written. Raises StoreError."""
        observers.flush()
        await self.writer.flush()


@dataclass
class Parts:
    """The living parts that are looked at together."""

    relay: RelayContext
    listeners: Listeners
    log: AccessLog
    observers: Observers
    certificate: Certificates | None
    reach: Reach
    ledger: Ledger | None
    finder: AnswerFinder
    people: People | None = None
    listening: bool = False
    serving: bool = False
    redirect: Listeners | None = None
    desk: ServerDesk | None = None
    console: Listeners | None = None

    def use(self, context: ServerContext, trust_changed: bool) -> None:  # noqa: FBT001
        for each in (self.listeners, self.console):
            if each is not None:
                each.use(context, trust_changed)

    def leave_control(self) -> None:
        """Keep no connection to the control plane of before; the reload that needs the next one connects anew."""
        for each in self.every_listener:
            pool = each.relay.pools.pop(CONTROL, None)
            if pool is not None:
                pool.retire()

    @property
    def every_listener(self) -> list[Listeners]:
        return [each for each in (self.listeners, self.redirect, self.console) if each is not None]


    def end_everywhere(self, end: Callable[[RelayContext, frozenset[str]], None], whose: frozenset[str]) -> None:
        """Whatever these tokens or sessions have open, on each listener."""
        for each in self.every_listener:
            end(each.relay, whose)

    def prepare(self, snapshot: Snapshot, memory: Memory) -> list[tuple[RelayContext, Decider, Upstreams]]:
        """For each listener the gate that is to decide by `snapshot`, and what stands behind its routes."""
        gates: list[tuple[Listeners | None, Decider, Iterable[Route]]] = [
            (self.listeners, Gate(snapshot, memory), snapshot.routes),
            (self.redirect, RedirectGate(snapshot), ()),
            (self.console, Gate(console_only(snapshot), memory), snapshot.console),
        ]
        changes = []
        for listeners, gate, routes in gates:
            if listeners is None:
                continue
            relay = listeners.relay
            if gate.proxies is None and relay.gate.proxies is not None:
                gate.proxies = Proxies()  # trusts nobody: connections have the client of their last request in mind
            changes.append((relay, gate, relay.build_upstreams(routes)))
        return changes


def make_ledger(store: Path, clock: Callable[[], float]) -> Ledger:
    """`clock`: the one by which requests are told, for sightings are held against it."""
    tally = Tally()
    writer = LedgerWriter(ledger_beside(store), tally, clock=clock)
    return Ledger(Senders(tally, writer.wake), writer, tally)


def console_only(snapshot: Snapshot) -> Snapshot:
    """The same, with no route but promgate's own."""
    return dataclasses.replace(snapshot, routes=snapshot.console)


def in_background(stack: contextlib.AsyncExitStack, work: Coroutine[None, None, None]) -> None:
    """Until the stack ends."""
    stack.callback(begin(work).cancel)


async def sweep(parts: Parts, memory: Memory) -> None:
    """Keep deadlines, and tell the observers what there was, the gate how the machine's clock was set.

    A defect here must not end any of it: it is logged, and the next pass comes.
    """
    reopen_at = monotonic() + _REOPEN_EACH_S
    while True:
        await asyncio.sleep(SWEEP_S)
        now = monotonic()
        try:
            memory.drift_s = parts.relay.clock.drift_s()
            for each in parts.every_listener:
                each.sweep(now)
            parts.observers.flush()
            if now > reopen_at:
                reopen_at = now + _REOPEN_EACH_S
                parts.log.reopen_if_moved()
        except Exception:  # noqa: BLE001
            _log.exception("the sweep failed")
