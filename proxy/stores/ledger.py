"""The ledger of senders in a SQLite file of its own, beside the store.

It is never in the way of a token. One that cannot be read or written is an error that names the file: whoever asks it
says WAIT then.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from proxy.stores.side_file import Format, SideFile
from proxy.tokens.ledger import MAX_IN_ALL, Kind, Known, Sighting

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

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
_FORMAT = Format(
    what="ledger",
    application_id=0x7067616C,  # "pgal"
    version=1,
    schema=_SCHEMA,
    advice="move it away, and a new one is begun",
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
        begin = None if now is None else [("INSERT INTO begun VALUES (1, ?)", (now,))]
        self._file = SideFile(path, _FORMAT, begin=begin)
        self.close = self._file.close
        try:
            self.since = self._begun()
        except BaseException:
            self.close()
            raise

    def known(self, name: str) -> Known:
        """Who was seen with the tokens of `name`."""
        with self._file.transaction("BEGIN") as db:
            rows = db.execute(f"{_SELECT} WHERE name = ?", (name,)).fetchall()
        return Known(tuple(self._sighting(row) for row in rows), self.since)

    def load(self) -> list[Sighting]:
        """All of it, who was seen last first, as much of it as a process keeps."""
        with self._file.transaction("BEGIN") as db:
            rows = db.execute(f"{_SELECT} ORDER BY last_seen DESC LIMIT ?", (MAX_IN_ALL,)).fetchall()
        return [self._sighting(row) for row in rows]

    def record(self, sightings: Iterable[Sighting]) -> None:
        """Add them, in one transaction. `count` is what was added since the last time."""
        with self._file.transaction("BEGIN IMMEDIATE") as db:
            db.executemany(
                _RECORD,
                (
                    (s.name, s.token_id, s.sender, s.address, s.agent, s.first_seen, s.last_seen, s.count, s.kind.value)
                    for s in sightings
                ),
            )

    def forget(self, before: float) -> None:
        """Let go of all that was seen last before that time."""
        with self._file.transaction("BEGIN IMMEDIATE") as db:
            db.execute("DELETE FROM sighting WHERE last_seen < ?", (before,))

    def _begun(self) -> float:
        with self._file.transaction("BEGIN") as db:
            begun = db.execute("SELECT at FROM begun").fetchone()
        if begun is None:
            raise self._file.damaged("it does not say when it was begun")
        return float(begun[0])

    def _sighting(self, row: tuple[object, ...]) -> Sighting:
        *facts, kind = row
        if kind not in Kind._value2member_map_:
            raise self._file.damaged(f"{kind!r} is no kind")
        return Sighting(*facts, Kind(kind))  # type: ignore[call-arg,arg-type]
