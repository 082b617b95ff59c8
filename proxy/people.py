"""People's logins, as far as they live in the process: their providers, their sessions, the keys that seal both.

Made only where the configuration has a way to log in: what it needs costs memory.
"""

from __future__ import annotations

import asyncio
import logging
from time import monotonic
from typing import TYPE_CHECKING

from proxy.background import begin
from proxy.login.flow import DEADLINE_S
from proxy.login.provider_kinds import make_provider
from proxy.login.seal import Seal, keys_beside
from proxy.login.sessions import SessionKeeper
from proxy.observe import metrics
from proxy.observe.metrics import Sample
from proxy.stores.sessions import SessionFile, SessionsInMemory, sessions_beside

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from proxy.gate.memory import Memory
    from proxy.gate.providers import Provider
    from proxy.gate.snapshot import Snapshot
    from proxy.login.people import PeopleProvider

_log = logging.getLogger("promgate.login")
#: A session may be looked at again by what was sealed when it was begun.
_SESSION_KEYS_S = 31 * 86400.0
#: An ID token with the groups of a person in it.
_MAX_SEALED = 64 * 1024


class People:
    """`store` is the file of the token store, beside which theirs stand; None: they end with the process."""

    def __init__(self, memory: Memory, store: Path | None, now: Callable[[], float]) -> None:
        self.seal = Seal(None if store is None else keys_beside(store))
        session_keys = None if store is None else store.with_name(f"{store.name}.session-keys")
        seal = Seal(session_keys, lives_s=_SESSION_KEYS_S, max_text=_MAX_SEALED)
        kept = SessionsInMemory()
        open_store = (lambda: kept) if store is None else (lambda: SessionFile(sessions_beside(store)))
        self.keeper = SessionKeeper(memory, open_store, seal, now, monotonic)
        self._drift_s = lambda: memory.drift_s
        self.providers: dict[str, PeopleProvider] = {}
        self._written: dict[str, Provider] = {}
        self._leaving: set[asyncio.Task[None]] = set()

    async def start(self, snapshot: Snapshot) -> None:
        self.take(snapshot)
        await self.keeper.start()

    def take(self, snapshot: Snapshot) -> None:
        """Go by this configuration. A provider that it left alone keeps its connections and what it knows."""
        providers, written = {}, {one.name: one for one in snapshot.people}
        for name, one in written.items():
            is_same = self._written.get(name) == one
            providers[name] = self.providers[name] if is_same else make_provider(one, self._drift_s)
        gone = [provider for name, provider in self.providers.items() if providers.get(name) is not provider]
        self.providers, self._written = providers, written
        for provider in gone:
            leaving = begin(provider.aclose(DEADLINE_S))
            self._leaving.add(leaving)
            leaving.add_done_callback(self._leaving.discard)
        self.keeper.take(snapshot, providers)

    def samples(self) -> Iterator[Sample]:
        for (name, result), count in self.keeper.counts.items():
            yield Sample(metrics.LOGINS, count, (name, result))
        yield Sample(metrics.SESSIONS, self.keeper.alive)
        yield Sample(metrics.SESSIONS_WRITABLE, self.keeper.trouble is None)

    async def aclose(self) -> None:
        await self.keeper.aclose()
        for leaving in self._leaving:
            leaving.cancel()
        await asyncio.gather(*(provider.aclose() for provider in self.providers.values()))
