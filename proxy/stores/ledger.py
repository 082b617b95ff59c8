"""The ledger of senders in a SQLite file of its own, beside the store.

A power cut costs a minute of last sights, so it is written with synchronous=NORMAL, and never in the way of a token. A
ledger that cannot be read or written is an error that names the file: whoever asks it says WAIT then.
"""

from __future__ import annotations

import threading
from contextlib import contextmanager
from typing import TYPE_CHECKING

from proxy.stores import place
from proxy.stores.sqlite_file import connect, identity, told, transaction
from proxy.tokens.ledger import MAX_IN_ALL, Kind, Known, Sighting
from proxy.tokens.ports import StoreError

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Iterable, Iterator
    from pathlib import Path

_APPLICATION_ID = 0x7067616C  # "pgal"
_SCHEMA_VERSION = 1
_ADVICE = "move it away, and a new one is begun"

_SCHEMA = (
    "CREATE TABLE begun (one INTEGER PRIMARY KEY CHECK (one = 1), at REAL NOT NULL)",
    """CREATE TABLE sighting (
        token_id TEXT NOT NULL,
        kind TEXT NOT NULL,
        sender TEXT NOT NULL,
        name TEXT NOT NULL,
        address TEXT NOT NULL,
        agent TEXT NOT NULL,
        first_seen REAL NOT NULL,
        last_seen REAL NOT NULL,
        count INTEGER NOT NULL,
        PRIMARY KEY (token_id, kind, sender)
    ) WITHOUT ROWID""",
    "CREATE INDEX sighting_by_name ON sighting (name)",
)
_SELECT = "SELECT name, token_id, sender, address, agent, first_seen, last_seen, count, kind FROM sighting"
# Two servers on one store write into one ledger: what each saw is added to what is there.
_RECORD = """
INSERT INTO sighting (name, token_id, sender, address, agent, first_seen, last_seen, count, kind)
VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)
ON CONFLICT (token_id, kind, sender) DO UPDATE SET
    first_seen = min(first_seen, excluded.first_seen),
    address = iif(excluded.last_seen >= last_seen, excluded.address, address),
    agent = iif(excluded.last_seen >= last_seen, excluded.agent, agent),
    last_seen = max(last_seen, excluded.last_seen),
    count = count + excluded.count
"""


def ledger_beside(store: Path) -> Path:
    """Where the ledger of a store is."""
    return store.with_name(store.name + "-ledger")


class LedgerFile:
    """Open until `close`. Every method may block on a disk and raises StoreError. Safe to use from several threads."""

    def __init__(self, path: Path, now: float | None = None) -> None:
        """`now`: begin a ledger if there is none; None: then there is nothing to open."""
        self.path = path
        self._lock = threading.Lock()
        with told(path):
            if now is None and not path.exists():
                raise StoreError(f"{path}: no ledger is there yet: promgate begins it when it serves")
            if now is not None:
                place.make_file(path)
            place.check_modes(path)
            self._db = connect(path, synchronous="NORMAL")
            try:
                self._file = identity(path)
                self.since = self._check(now)
            except BaseException:
                self._db.close()
                raise

    def known(self, name: str) -> Known:
        """Who was seen with the tokens of `name`."""
        with self._transaction("BEGIN") as db:
            rows = db.execute(f"{_SELECT} WHERE name = ?", (name,)).fetchall()
        return Known(tuple(self._sighting(row) for row in rows), self.since)

    def load(self) -> list[Sighting]:
        """All of it, who was seen last first, as much of it as a process keeps."""
        with self._transaction("BEGIN") as db:
            rows = db.execute(f"{_SELECT} ORDER BY last_seen DESC LIMIT ?", (MAX_IN_ALL,)).fetchall()
        return [self._sighting(row) for row in rows]

    def record(self, sightings: Iterable[Sighting]) -> None:
        """Add them, in one transaction. `count` is what was added since the last time."""
        with self._transaction("BEGIN IMMEDIATE") as db:
            db.executemany(
                _RECORD,
                (
                    (s.name, s.token_id, s.sender, s.address, s.agent, s.first_seen, s.last_seen, s.count, s.kind.value)
                    for s in sightings
                ),
            )

    def forget(self, before: float) -> None:
        """Let go of all that was seen last before that time."""
        with self._transaction("BEGIN IMMEDIATE") as db:
            db.execute("DELETE FROM sighting WHERE last_seen < ?", (before,))

    def close(self) -> None:
        with self._lock, told(self.path):
            self._db.close()

    def _check(self, now: float | None) -> float:
        """Begin an empty file, refuse one that is no whole ledger; when it was begun."""
        with self._transaction("BEGIN" if now is None else "BEGIN IMMEDIATE") as db:
            (tables,) = db.execute("SELECT count(*) FROM sqlite_schema").fetchone()
            if not tables and now is not None:
                db.execute(f"PRAGMA application_id = {_APPLICATION_ID}")
                db.execute(f"PRAGMA user_version = {_SCHEMA_VERSION}")
                for statement in _SCHEMA:
                    db.execute(statement)
                db.execute("INSERT INTO begun VALUES (1, ?)", (now,))
            (application,) = db.execute("PRAGMA application_id").fetchone()
            (version,) = db.execute("PRAGMA user_version").fetchone()
            (verdict,) = db.execute("PRAGMA quick_check(1)").fetchone()
            is_ours = (application, version, verdict) == (_APPLICATION_ID, _SCHEMA_VERSION, "ok")
            begun = db.execute("SELECT at FROM begun").fetchone() if is_ours else None
        if begun is None:
            raise StoreError(f"{self.path}: is damaged, or no ledger of this promgate: {_ADVICE}")
        self._db.execute("PRAGMA journal_mode = WAL")
        return float(begun[0])

    def _sighting(self, row: tuple[object, ...]) -> Sighting:
        *facts, kind = row
        if kind not in Kind._value2member_map_:
            raise StoreError(f"{self.path}: is damaged ({kind!r} is no kind): {_ADVICE}")
        return Sighting(*facts, Kind(kind))  # type: ignore[call-arg,arg-type]

    @contextmanager
    def _transaction(self, begin: str) -> Iterator[sqlite3.Connection]:
        with self._lock, told(self.path):
            if identity(self.path) != self._file:
                raise StoreError(f"{self.path}: was removed or replaced while in use")
            with transaction(self._db, begin):
                yield self._db

