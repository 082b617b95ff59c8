"""What every SQLite file of ours has in common: how it is opened, and what its errors mean for an operator."""

from __future__ import annotations

import sqlite3
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING

from proxy.tokens.ports import StoreError

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

_BUSY_TIMEOUT_S = 3.0

#: Primary result code -> what it means for the operator (https://www.sqlite.org/rescode.html).
ADVICE = {
    sqlite3.SQLITE_BUSY: f"another process has kept it locked for {_BUSY_TIMEOUT_S:.0f} s: find it with `fuser FILE`",
    sqlite3.SQLITE_READONLY: "this user may not write it, or its file system is read-only: check owner and mount",
    sqlite3.SQLITE_IOERR: "the disk failed: see the kernel's log; `promgate token list` shows what was done",
    sqlite3.SQLITE_CORRUPT: "the file is damaged: stop the server, move the file away and restore it from a backup",
    sqlite3.SQLITE_FULL: "the disk is full: nothing was changed; make room and run the command again",
    sqlite3.SQLITE_CANTOPEN: "it cannot be opened: check owner, mode and free space of the file and its directory",
    sqlite3.SQLITE_NOTADB: "the file is damaged or no token store: check tokens.store, or restore it from a backup",
}


def connect(path: Path, *, synchronous: str) -> sqlite3.Connection:
    """A connection to a file that is there (a file that went away is an error, not a new empty one)."""
    db = sqlite3.connect(
        f"{path.as_uri()}?mode=rw", uri=True, isolation_level=None, timeout=_BUSY_TIMEOUT_S, check_same_thread=False
    )
    try:
        db.execute("PRAGMA trusted_schema = OFF")
        db.execute("PRAGMA temp_store = MEMORY")
        db.execute(f"PRAGMA synchronous = {synchronous}")
    except BaseException:
        db.close()
        raise
    return db


def identity(path: Path) -> tuple[int, int] | None:
    """Which file it is; None if there is none."""
    try:
        found = path.stat()
    except FileNotFoundError:
        return None
    return found.st_dev, found.st_ino


@contextmanager
def transaction(db: sqlite3.Connection, begin: str) -> Iterator[None]:
    """One consistent view, written whole or not at all."""
    _end(db)
    db.execute(begin)
    try:
        yield
        db.execute("COMMIT")
    except BaseException:
        with suppress(sqlite3.Error):  # a disk that fails here too: the next transaction begins with it
            _end(db)
        raise


def _end(db: sqlite3.Connection) -> None:
    """Roll back what is open; after some errors SQLite has done so by itself."""
    if db.in_transaction:
        db.execute("ROLLBACK")


@contextmanager
def told(path: Path) -> Iterator[None]:
    """Turn what SQLite and the system say into a StoreError that names the file and says what to do."""
    try:
        yield
    except sqlite3.Error as error:
        code = getattr(error, "sqlite_errorcode", sqlite3.SQLITE_ERROR) & 0xFF
        advice = ADVICE.get(code)
        raise StoreError(f"{path}: {advice} ({error})" if advice else f"{path}: {error}") from error
    except OSError as error:
        advice = "check owner, mode and free space of the file and its directory"
        raise StoreError(f"{path}: {error.strerror}: {advice}") from error
