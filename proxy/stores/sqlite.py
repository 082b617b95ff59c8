"""Tokens in one SQLite file that the server and any number of commands share.

Safe against a kill or a power cut at any moment: write-ahead log, synchronous=FULL, one transaction per change,
and a new store gets its name only when it is whole. A file that is damaged, cut short, foreign or too open is an
error, never a store without tokens: "no tokens" would make every sender drop its samples.
"""

from __future__ import annotations

import os
import sqlite3
import threading
import time
from contextlib import contextmanager, suppress
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from proxy.stores import place, sqlite_rows, sqlite_schema
from proxy.stores.admit import MARK_BYTES, RECENT, admit, clash, taken
from proxy.stores.sqlite_file import ADVICE, connect, identity, told, transaction
from proxy.stores.sqlite_rows import Senseless
from proxy.stores.sqlite_schema import Newer
from proxy.tokens.ports import Changes, StoreError, Story

if TYPE_CHECKING:
    from collections.abc import Iterator

    from proxy.tokens.ports import Change, Receipt
    from proxy.tokens.rotation import Rotation
    from proxy.tokens.token import Token


def open_store(path: Path, *, make: bool = True) -> SqliteStore:
    """The store in the file `path` (absolute); made if there is none, unless `make` is False. Raises StoreError."""
    with _told(path):
        if not path.exists():
            if not make:
                raise StoreError(
                    f"{path}: no token store is there: check tokens.store, or `promgate token create NAME`"
                )
            _make(path)
        place.check_modes(path)
        place.check_file_system(path.parent)
        return SqliteStore(path)


class SqliteStore:
    """A TokenStore in the file `path`, which `open_store` made or checked. Safe to use from several threads."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._lock = threading.Lock()
        self._db = connect(path, synchronous="FULL")
        try:
            self._file = identity(path)
            self._check()
        except BaseException:
            self._db.close()
            raise

    def _check(self) -> None:
        """Refuse what is no whole store of ours, and bring an older one up to date."""
        version = sqlite_schema.version_of(self._db)
        if version is None:
            raise StoreError(f"{self.path}: {ADVICE[sqlite3.SQLITE_NOTADB]}")
        # 30 ms for 20,000 tokens. An index that lost an entry would answer "no such token".
        (verdict,) = self._db.execute("PRAGMA integrity_check(1)").fetchone()
        if verdict != "ok":
            raise StoreError(f"{self.path}: {ADVICE[sqlite3.SQLITE_CORRUPT]} ({verdict.splitlines()[-1]})")
        (mode,) = self._db.execute("PRAGMA journal_mode = WAL").fetchone()
        if mode != "wal":
            raise StoreError(
                f"{self.path}: its disk takes no write-ahead log (SQLite stays in mode {mode}): take another disk"
            )
        if self._db.execute("SELECT count(*) FROM meta").fetchone() != (1,):
            raise StoreError(f"{self.path}: {ADVICE[sqlite3.SQLITE_CORRUPT]} (it has lost its generation)")
        if version < sqlite_schema.VERSION:
            with self._transaction("BEGIN IMMEDIATE") as db:
                sqlite_schema.migrate(db)

    def look(self) -> object:
        """A sign that differs once something was committed: two stat calls, for a look five times a second."""
        return _size_and_time(self.path), _size_and_time(Path(f"{self.path}-wal"))

    def changes_since(self, generation: int, mark: bytes = b"") -> Changes:
        with self._transaction("BEGIN") as db:
            now, made_at = db.execute("SELECT generation, made_at FROM meta").fetchone()
            marks = dict(db.execute("SELECT generation, mark FROM step WHERE generation IN (?, ?)", (generation, now)))
            went_back = generation > now or (mark != b"" and marks.get(generation) != mark)
            since = 0 if went_back else generation
            changed = self._tokens("WHERE generation > ? ORDER BY generation, seq", since) if now != since else ()
            return Changes(now, changed, made_at, marks.get(now, b""), went_back)

    def named(self, name: str) -> tuple[Token, ...]:
        with self._transaction("BEGIN"):
            return self._tokens("WHERE name = ? ORDER BY seq", name)

    def names(self) -> list[str]:
        with self._transaction("BEGIN") as db:
            return [name for (name,) in db.execute("SELECT DISTINCT name FROM token ORDER BY name")]

    def find(self, digest: bytes) -> Token | None:
        with self._transaction("BEGIN"):
            return next(iter(self._tokens("WHERE digest = ?", digest)), None)

    def story(self, name: str) -> Story:
        with self._transaction("BEGIN") as db:
            return Story(name, self._tokens("WHERE name = ? ORDER BY seq", name), sqlite_rows.rotations_of(db, name))

    def rotation(self, rotation_id: str) -> Rotation | None:
        with self._transaction("BEGIN") as db:
            return sqlite_rows.rotation(db, rotation_id)

    def recent_rotations(self, limit: int) -> list[Rotation]:
        with self._transaction("BEGIN") as db:
            return sqlite_rows.recent_rotations(db, limit)

    def receipts(self, rotation_id: str) -> list[Receipt]:
        with self._transaction("BEGIN") as db:
            return sqlite_rows.receipts(db, rotation_id)

    def commit(self, change: Change) -> int:
        with self._transaction("BEGIN IMMEDIATE") as db:
            there = self._tokens("WHERE name = ? ORDER BY seq", change.name)
            recent = partial(sqlite_rows.recent_rotations, db, RECENT)
            admit(change, there, sqlite_rows.rotations_of(db, change.name), recent)
            if change.entry is not None:
                self._write(db, change)
            generation = _generation(db)
            if not change.put:
                return generation
            generation += 1
            db.execute("UPDATE meta SET generation = ?", (generation,))
            db.execute("INSERT INTO step VALUES (?, ?)", (generation, os.urandom(MARK_BYTES)))
            known = {token.id for token in there}
            for token in sorted(change.put, key=lambda token: token.id not in known):
                if token.id in known:
                    sqlite_rows.update_token(db, token, generation)
                    continue
                try:
                    sqlite_rows.insert_token(db, token, generation)
                except sqlite3.IntegrityError as error:
                    raise clash(token.name) from error
        return generation

    def count_as_new(self, at: float) -> None:
        with self._transaction("BEGIN IMMEDIATE") as db:
            db.execute("UPDATE meta SET made_at = max(made_at, ?)", (at,))

    def _write(self, db: sqlite3.Connection, change: Change) -> None:
        entry = change.entry
        assert entry is not None
        if entry.expect is not None:
            sqlite_rows.update_rotation(db, entry.put)
        elif sqlite_rows.rotation(db, entry.put.id) is not None:
            raise taken(change.name, entry.put.id)
        else:
            sqlite_rows.insert_rotation(db, entry.put)
        sqlite_rows.insert_receipts(db, entry.receipts)

    def close(self) -> None:
        with self._lock, _told(self.path):
            self._db.close()

    @contextmanager
    def _transaction(self, begin: str) -> Iterator[sqlite3.Connection]:
        """One consistent view, written whole or not at all."""
        with self._lock, _told(self.path):
            if identity(self.path) != self._file:
                raise StoreError(
                    f"{self.path}: was removed or replaced while in use: restart promgate to take in the new one"
                )
            with transaction(self._db, begin):
                yield self._db

    def _tokens(self, where: str, value: object) -> tuple[Token, ...]:
        """By `seq`, they stand in the order of minting, whatever the clock said at that time."""
        return sqlite_rows.tokens(self._db, where, value)


def _generation(db: sqlite3.Connection) -> int:
    (generation,) = db.execute("SELECT generation FROM meta").fetchone()
    return int(generation)


def _size_and_time(path: Path) -> tuple[int, int, int] | None:
    try:
        stat = path.stat()
    except OSError:
        return None
    return stat.st_ino, stat.st_size, stat.st_mtime_ns


def _make(path: Path) -> None:
    """Make an empty store under another name, whole and on disk, then link it to its own: nobody sees half a store."""
    left = path.with_name(path.name + "-wal")
    if left.exists():
        # SQLite would replay it into the new file (https://www.sqlite.org/howtocorrupt.html 1.4).
        raise StoreError(f"{path}: is gone but {left.name} is there: restore both from a backup, or remove {left}")
    place.make_directory(path.parent)
    place.check_directory(path.parent)
    place.check_file_system(path.parent)
    draft = path.with_name(f".{path.name}.new-{os.urandom(6).hex()}")
    os.close(os.open(draft, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600))
    try:
        db = connect(draft, synchronous="FULL")
        try:
            db.execute("PRAGMA journal_mode = WAL")
            sqlite_schema.make(db, time.time())
        finally:
            db.close()
        place.give_to_owner_of(path.parent, draft)
        with suppress(FileExistsError):  # another process made one meanwhile: as good
            os.link(draft, path)
    finally:
        for name in (draft.name, draft.name + "-wal", draft.name + "-shm"):
            draft.with_name(name).unlink(missing_ok=True)
    place.sync_directory(path.parent)


@contextmanager
def _told(path: Path) -> Iterator[None]:
    """`told`, and the same for what the tables hold."""
    with told(path):
        try:
            yield
        except Senseless as error:
            raise StoreError(f"{path}: {ADVICE[sqlite3.SQLITE_CORRUPT]} ({error})") from error
        except Newer as error:
            raise StoreError(f"{path}: {error}") from error
