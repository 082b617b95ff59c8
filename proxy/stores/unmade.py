"""A store that is not there yet: empty, and made by its first change. So what is refused leaves nothing behind."""

from __future__ import annotations

from typing import TYPE_CHECKING

from proxy.stores.memory import MemoryStore
from proxy.stores.sqlite import open_store

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from proxy.stores.sqlite import SqliteStore
    from proxy.tokens.ports import Change, Changes, Receipt, Story
    from proxy.tokens.rotation import Rotation
    from proxy.tokens.token import Token


class UnmadeStore:
    """A TokenStore. Raises StoreError from the change on that finds that it cannot be made."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._store: MemoryStore | SqliteStore = MemoryStore()

    def commit(self, change: Change) -> int:
        if isinstance(self._store, MemoryStore):
            self._store = open_store(self.path)
        return self._store.commit(change)

    def changes_since(self, generation: int, mark: bytes = b"") -> Changes:
        return self._store.changes_since(generation, mark)

    def named(self, name: str) -> tuple[Token, ...]:
        return self._store.named(name)

    def names(self) -> Sequence[str]:
        return self._store.names()

    def find(self, digest: bytes) -> Token | None:
        return self._store.find(digest)

    def story(self, name: str) -> Story:
        return self._store.story(name)

    def rotation(self, rotation_id: str) -> Rotation | None:
        return self._store.rotation(rotation_id)

    def recent_rotations(self, limit: int) -> Sequence[Rotation]:
        return self._store.recent_rotations(limit)

    def receipts(self, rotation_id: str) -> Sequence[Receipt]:
        return self._store.receipts(rotation_id)

    def count_as_new(self, at: float) -> None:
        self._store.count_as_new(at)

    def close(self) -> None:
        self._store.close()
