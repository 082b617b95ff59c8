"""The contract of a token store, in a dict: for tests and for playing rules through. Nothing outlives the process."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING

from proxy.stores.admit import admit, clash
from proxy.tokens.ports import Changes

if TYPE_CHECKING:
    from proxy.tokens.ports import Change
    from proxy.tokens.token import Token


class MemoryStore:
    """A TokenStore that forgets. Safe to use from several threads, as the other stores are."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._generation = 0
        self._rows: dict[str, tuple[int, Token]] = {}

    def changes_since(self, generation: int) -> Changes:
        with self._lock:
            changed = tuple(token for at, token in self._rows.values() if at > generation)
            return Changes(self._generation, changed)

    def named(self, name: str) -> tuple[Token, ...]:
        with self._lock:
            return self._named(name)

    def names(self) -> list[str]:
        with self._lock:
            return sorted({token.name for _, token in self._rows.values()})

    def find(self, digest: bytes) -> Token | None:
        with self._lock:
            return next((token for _, token in self._rows.values() if token.digest == digest), None)

    def commit(self, change: Change) -> int:
        with self._lock:
            there = self._named(change.name)
            admit(change, there)
            known = {token.id for token in there}
            added = [token for token in change.put if token.id not in known]
            digests = {token.digest for _, token in self._rows.values()}
            if any(token.id in self._rows or token.digest in digests for token in added):
                raise clash(change.name)
            self._generation += 1
            for token in change.put:
                self._rows[token.id] = (self._generation, token)
            return self._generation

    def close(self) -> None:
        """Nothing is held."""

    def _named(self, name: str) -> tuple[Token, ...]:
        return tuple(token for _, token in self._rows.values() if token.name == name)
