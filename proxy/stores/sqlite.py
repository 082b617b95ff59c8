"""Tokens in one SQLite file that the server and any number of commands share.

Safe against a kill or a power cut at any moment: write-ahead log, synchronous=FULL, one transaction per change,
and a new store gets its name only when it is whole. A file that is damaged, cut short, foreign or too open is an
error, never a store without tokens: "no tokens" would make every sender drop its samples.
"""

from __future__ import annotations

import os
import sqlite3
import threading
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING

from proxy.stores import place
from proxy.stores.admit import admit, clash
from proxy.tokens.ports import Changes, StoreError
from proxy.tokens.token import Token, TokenKind

if TYPE_CHECKING:
    from collections.abc import Iterator

    from proxy.tokens.ports import Change

_APPLICATION_ID = 0x70676174  # "pgat": tells `file` and us whose database it is
_SCHEMA_VERSION = 1
_BUSY_TIMEOUT_S = 3.0

# The index and the trigger repeat rules of `admit`, so that they hold for whatever else opens the file.
_SCHEMA = """
CREATE TABLE meta (one INTEGER PRIMARY KEY CHECK (one = 1), generation INTEGER NOT NULL);
INSERT INTO meta VALUES (1, 0);
CREATE TABLE token (
    seq INTEGER PRIMARY KEY AUTOINCREMENT,
    id TEXT NOT NULL UNIQUE,
    name TEXT NOT NULL,
    kind TEXT NOT NULL,
    digest BLOB NOT NULL UNIQUE CHECK (length(digest) = 32),
    scheme TEXT NOT NULL,
    minted_at REAL NOT NULL,
    current_from REAL,
    accepted_until REAL,
    expires_at REAL,
    revoked_at REAL,
    generation INTEGER NOT NULL
);
CREATE INDEX token_by_name ON token (name);
CREATE INDEX token_by_generation ON token (generation);
CREATE UNIQUE INDEX one_current ON token (name)
    WHERE current_from IS NOT NULL AND accepted_until IS NULL AND revoked_at IS NULL;
CREATE TRIGGER revoked_for_good BEFORE UPDATE ON token
    WHEN OLD.revoked_at IS NOT NULL AND NEW.revoked_at IS NOT OLD.revoked_at
    BEGIN SELECT RAISE(ABORT, 'a revocation is for good'); END;
"""

_SELECT = """
SELECT id, name, kind, digest, scheme, minted_at, current_from, accepted_until, expires_at, revoked_at FROM token
"""
_INSERT = """
INSERT INTO token (id, name, kind, digest, scheme, minted_at, current_from, accepted_until, expires_at, revoked_at,
                   generation) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)
"""
_UPDATE = """
UPDATE token SET current_from = ?, accepted_until = ?, expires_at = ?, revoked_at = ?, generation = ? WHERE id = ?
"""

#: Primary result code -> what it means for the operator (https://www.sqlite.org/rescode.html).
_ADVICE = {
    sqlite3.SQLITE_BUSY: f"another process has kept it locked for {_BUSY_TIMEOUT_S:.0f} s: find it with `fuser FILE`",
    sqlite3.SQLITE_READONLY: "this user may not write it, or its file system is read-only: check owner and mount",
    sqlite3.SQLITE_IOERR: "the disk failed: see the kernel's log; `promgate token list` shows what was done",
    sqlite3.SQLITE_CORRUPT: "the file is damaged: stop the server, move the file away and restore it from a backup",
    sqlite3.SQLITE_FULL: "the disk is full: nothing was changed; make room and run the command again",
    sqlite3.SQLITE_CANTOPEN: "it cannot be opened: check owner, mode and free space of the file and its directory",
    sqlite3.SQLITE_NOTADB: "the file is damaged or no token store: check tokens.store, or restore it from a backup",
}


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
        self._db = _connect(path)
        try:
            self._file = _identity(path)
            _check_contents(path, self._db)
        except BaseException:
            self._db.close()
            raise

    def look(self) -> object:
        """A sign that differs once something was committed: two stat calls, for a look five times a second."""
        return _size_and_time(self.path), _size_and_time(Path(f"{self.path}-wal"))

    def changes_since(self, generation: int) -> Changes:
        with self._transaction("BEGIN") as db:
            now = _generation(db)
            if now == generation:
                return Changes(now, ())
            return Changes(now, self._tokens("WHERE generation > ? ORDER BY generation, seq", generation))

    def named(self, name: str) -> tuple[Token, ...]:
        with self._transaction("BEGIN"):
            return self._tokens("WHERE name = ? ORDER BY seq", name)

    def names(self) -> list[str]:
        with self._transaction("BEGIN") as db:
            return [name for (name,) in db.execute("SELECT DISTINCT name FROM token ORDER BY name")]

    def find(self, digest: bytes) -> Token | None:
        with self._transaction("BEGIN"):
            return next(iter(self._tokens("WHERE digest = ?", digest)), None)

    def commit(self, change: Change) -> int:
        with self._transaction("BEGIN IMMEDIATE") as db:
            there = self._tokens("WHERE name = ? ORDER BY seq", change.name)
            admit(change, there)
            generation = _generation(db) + 1
            db.execute("UPDATE meta SET generation = ?", (generation,))
            known = {token.id for token in there}
            for token in sorted(change.put, key=lambda token: token.id not in known):
                times = (token.current_from, token.accepted_until, token.expires_at, token.revoked_at)
                if token.id in known:
                    db.execute(_UPDATE, (*times, generation, token.id))
                else:
                    _insert(db, token, generation)
        return generation

    def close(self) -> None:
        with self._lock, _told(self.path):
            self._db.close()

    @contextmanager
    def _transaction(self, begin: str) -> Iterator[sqlite3.Connection]:
        """One consistent view, written whole or not at all."""
        with self._lock, _told(self.path):
            if _identity(self.path) != self._file:
                raise StoreError(
                    f"{self.path}: was removed or replaced while in use: restart promgate to take in the new one"
                )
            self._end()
            self._db.execute(begin)
            try:
                yield self._db
                self._db.execute("COMMIT")
            except BaseException:
                with suppress(sqlite3.Error):  # a disk that fails here too: the next transaction begins with it
                    self._end()
                raise

    def _end(self) -> None:
        """Roll back what is open; after some errors SQLite has done so by itself."""
        if self._db.in_transaction:
            self._db.execute("ROLLBACK")

    def _tokens(self, where: str, value: object) -> tuple[Token, ...]:
        """By `seq`, they stand in the order of minting, whatever the clock said at that time."""
        rows = self._db.execute(f"{_SELECT} {where}", (value,))
        return tuple(_token(self.path, row) for row in rows)


def _token(path: Path, row: tuple[object, ...]) -> Token:
    token_id, name, kind, digest, scheme, minted_at, *times = row
    if (
        isinstance(token_id, str)
        and isinstance(name, str)
        and kind in TokenKind._value2member_map_
        and isinstance(digest, bytes)
        and isinstance(scheme, str)
        and isinstance(minted_at, float)
        and all(at is None or isinstance(at, float) for at in times)
    ):
        return Token(token_id, name, TokenKind(kind), digest, scheme, minted_at, *times)  # type: ignore[arg-type]
    raise StoreError(f"{path}: {_ADVICE[sqlite3.SQLITE_CORRUPT]} (token {token_id!r} makes no sense)")


def _insert(db: sqlite3.Connection, token: Token, generation: int) -> None:
    values = (
        token.id, token.name, token.kind.value, token.digest, token.scheme, token.minted_at,
        token.current_from, token.accepted_until, token.expires_at, token.revoked_at, generation,
    )  # fmt: skip
    try:
        db.execute(_INSERT, values)
    except sqlite3.IntegrityError as error:
        raise clash(token.name) from error


def _generation(db: sqlite3.Connection) -> int:
    (generation,) = db.execute("SELECT generation FROM meta").fetchone()
    return int(generation)


def _identity(path: Path) -> tuple[int, int]:
    try:
        found = path.stat()
    except FileNotFoundError:
        return (0, 0)
    return (found.st_dev, found.st_ino)


def _size_and_time(path: Path) -> tuple[int, int, int] | None:
    try:
        stat = path.stat()
    except OSError:
        return None
    return stat.st_ino, stat.st_size, stat.st_mtime_ns


def _connect(path: Path) -> sqlite3.Connection:
    # mode=rw: a file that went away is an error, not a new empty store.
    db = sqlite3.connect(
        f"{path.as_uri()}?mode=rw", uri=True, isolation_level=None, timeout=_BUSY_TIMEOUT_S, check_same_thread=False
    )
    try:
        db.execute("PRAGMA trusted_schema = OFF")
        db.execute("PRAGMA temp_store = MEMORY")
        db.execute("PRAGMA synchronous = FULL")
    except BaseException:
        db.close()
        raise
    return db


def _check_contents(path: Path, db: sqlite3.Connection) -> None:
    (application,) = db.execute("PRAGMA application_id").fetchone()
    (version,) = db.execute("PRAGMA user_version").fetchone()
    if application != _APPLICATION_ID or version < 1:
        raise StoreError(f"{path}: {_ADVICE[sqlite3.SQLITE_NOTADB]}")
    if version > _SCHEMA_VERSION:
        raise StoreError(
            f"{path}: was written by a newer promgate (schema {version}, this one knows {_SCHEMA_VERSION}): run that "
            "version, or restore a backup made before the upgrade"
        )
    # 30 ms for 20,000 tokens. An index that lost an entry would answer "no such token".
    (verdict,) = db.execute("PRAGMA integrity_check(1)").fetchone()
    if verdict != "ok":
        raise StoreError(f"{path}: {_ADVICE[sqlite3.SQLITE_CORRUPT]} ({verdict.splitlines()[-1]})")
    (mode,) = db.execute("PRAGMA journal_mode = WAL").fetchone()
    if mode != "wal":
        raise StoreError(f"{path}: its disk takes no write-ahead log (SQLite stays in mode {mode}): take another disk")
    if db.execute("SELECT count(*) FROM meta").fetchone() != (1,):
        raise StoreError(f"{path}: {_ADVICE[sqlite3.SQLITE_CORRUPT]} (it has lost its generation)")


def _make(path: Path) -> None:
    """Make an empty store under another name, whole and on disk, then link it to its own: nobody sees half a store."""
    left = path.with_name(path.name + "-wal")
    if left.exists():
        # SQLite would replay it into the new file (https://www.sqlite.org/howtocorrupt.html 1.4).
        raise StoreError(f"{path}: is gone but {left.name} is there: restore both from a backup, or remove {left}")
    place.make_directory(path.parent)
    place.check_file_system(path.parent)
    draft = path.with_name(f".{path.name}.new-{os.urandom(6).hex()}")
    os.close(os.open(draft, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600))
    try:
        db = _connect(draft)
        try:
            db.execute("PRAGMA journal_mode = WAL")
            db.execute(f"PRAGMA application_id = {_APPLICATION_ID}")
            db.execute(f"PRAGMA user_version = {_SCHEMA_VERSION}")
            db.executescript(f"BEGIN; {_SCHEMA} COMMIT;")
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
    """Turn what SQLite and the system say into a StoreError that names the file and says what to do."""
    try:
        yield
    except sqlite3.Error as error:
        code = getattr(error, "sqlite_errorcode", sqlite3.SQLITE_ERROR) & 0xFF
        advice = _ADVICE.get(code)
        raise StoreError(f"{path}: {advice} ({error})" if advice else f"{path}: {error}") from error
    except OSError as error:
        advice = "check owner, mode and free space of the file and its directory"
        raise StoreError(f"{path}: {error.strerror}: {advice}") from error
