"""The contract of a token store, in a dict: for tests and for playing rules through. Nothing outlives the process."""

from __future__ import annotations

import os
import threading
from typing import TYPE_CHECKING

from proxy.stores.admit import MARK_BYTES, RECENT, admit, clash, taken
from proxy.tokens.ports import Changes, Story

if TYPE_CHECKING:
    from proxy.tokens.ports import Change, Receipt
    from proxy.tokens.rotation import Rotation
    from proxy.tokens.token import Token


class MemoryStore:
    """A TokenStore that forgets. Safe to use from several threads, as the other stores are."""

    def __init__(self, made_at: float = 0.0) -> None:
        self._made_at = made_at
        self._lock = threading.Lock()
        self._marks = [os.urandom(MARK_BYTES)]
        self._rows: dict[str, tuple[int, Token]] = {}
        self._rotations: dict[str, Rotation] = {}
        self._receipts: list[Receipt] = []

    def changes_since(self, generation: int, mark: bytes = b"") -> Changes:
        with self._lock:
            went_back = mark not in (b"", *self._marks[generation : generation + 1]) or generation > self._generation
            changed = tuple(token for at, token in self._rows.values() if went_back or at > generation)
            return Changes(self._generation, changed, self._made_at, self._marks[-1], went_back)

    def named(self, name: str) -> tuple[Token, ...]:
        with self._lock:
            return self._named(name)

    def names(self) -> list[str]:
        with self._lock:
            return sorted({token.name for _, token in self._rows.values()})

    def find(self, digest: bytes) -> Token | None:
        with self._lock:
            return next((token for _, token in self._rows.values() if token.digest == digest), None)

    def story(self, name: str) -> Story:
        with self._lock:
            return Story(name, self._named(name), self._rotations_of(name))

    def rotation(self, rotation_id: str) -> Rotation | None:
        with self._lock:
            return self._rotations.get(rotation_id)

    def recent_rotations(self, limit: int) -> list[Rotation]:
        with self._lock:
            newest = list(reversed(self._rotations.values()))
        return [rotation for place, rotation in enumerate(newest) if place < limit or rotation.is_open]

    def receipts(self, rotation_id: str) -> list[Receipt]:
        with self._lock:
            return [receipt for receipt in self._receipts if receipt.rotation == rotation_id]

    def commit(self, change: Change) -> int:
        with self._lock:
            there = self._named(change.name)
            admit(change, there, self._rotations_of(change.name), self._recent)
            entry = change.entry
            if entry is not None and entry.expect is None and entry.put.id in self._rotations:
                raise taken(change.name, entry.put.id)
            known = {token.id for token in there}
            added = [token for token in change.put if token.id not in known]
            digests = {token.digest for _, token in self._rows.values()}
            if any(token.id in self._rows or token.digest in digests for token in added):
                raise clash(change.name)
            if entry is not None:
                self._rotations[entry.put.id] = entry.put
                self._receipts += entry.receipts
            if change.put:
                self._marks.append(os.urandom(MARK_BYTES))
            for token in change.put:
                self._rows[token.id] = (self._generation, token)
            return self._generation

    def count_as_new(self, at: float) -> None:
        with self._lock:
            self._made_at = max(self._made_at, at)

    def close(self) -> None:
        """Nothing is held."""

    @property
    def _generation(self) -> int:
        return len(self._marks) - 1

    def _named(self, name: str) -> tuple[Token, ...]:
        return tuple(token for _, token in self._rows.values() if token.name == name)

    def _recent(self) -> list[Rotation]:
        return list(self._rotations.values())[-RECENT:]

    def _rotations_of(self, name: str) -> tuple[Rotation, ...]:
        return tuple(rotation for rotation in self._rotations.values() if rotation.name == name)
