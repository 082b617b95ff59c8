"""The tables of a token store, and how those of an older promgate become them.

Version 1 had tokens alone; version 2 has the journal of rotations beside them. Version 3 knows when the store was
made, which is not known of an older one: it counts as made long ago. Version 4 marks its transactions, so that
whoever follows a store sees that an older copy was put in its place, however many changes it has got since. A
migration is one transaction, the version's number included: a process killed in it leaves the old store, whole.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import sqlite3

_APPLICATION_ID = 0x70676174  # "pgat": tells `file` and us whose database it is
VERSION = 4

# The index and the trigger repeat rules of `admit`, so that they hold for whatever else opens the file.
_TOKENS = """
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
    generation INTEGER NOT NULL,
    max_until REAL,
    held_until REAL
);
CREATE INDEX token_by_name ON token (name);
CREATE INDEX token_by_generation ON token (generation);
CREATE UNIQUE INDEX one_current ON token (name)
    WHERE current_from IS NOT NULL AND accepted_until IS NULL AND revoked_at IS NULL;
CREATE TRIGGER revoked_for_good BEFORE UPDATE ON token
    WHEN OLD.revoked_at IS NOT NULL AND NEW.revoked_at IS NOT OLD.revoked_at
    BEGIN SELECT RAISE(ABORT, 'a revocation is for good'); END;
"""

# One open rotation for a name: the index repeats that rule of `admit`, too.
_JOURNAL = """
CREATE TABLE rotation (
    seq INTEGER PRIMARY KEY AUTOINCREMENT,
    id TEXT NOT NULL UNIQUE,
    name TEXT NOT NULL,
    token_id TEXT NOT NULL,
    started_at REAL NOT NULL,
    overlap_s REAL NOT NULL,
    tries INTEGER NOT NULL,
    proved_at REAL,
    offered_at REAL,
    current_at REAL,
    predecessor TEXT,
    failed_at REAL,
    failure TEXT NOT NULL,
    given_up_at REAL,
    rolled_back_at REAL,
    lease_owner TEXT NOT NULL,
    lease_until REAL NOT NULL
);
CREATE INDEX rotation_by_name ON rotation (name);
CREATE UNIQUE INDEX one_open ON rotation (name) WHERE current_at IS NULL AND given_up_at IS NULL;
CREATE TABLE receipt (
    rotation TEXT NOT NULL,
    token_id TEXT NOT NULL,
    target TEXT NOT NULL,
    at REAL NOT NULL,
    PRIMARY KEY (rotation, token_id, target)
);
"""

_MADE_AT = "ALTER TABLE meta ADD COLUMN made_at REAL NOT NULL DEFAULT 0.0;"

_STEPS_MARKED = """
CREATE TABLE step (generation INTEGER PRIMARY KEY, mark BLOB NOT NULL);
INSERT INTO step SELECT generation, randomblob(8) FROM meta;
"""

#: Version -> what makes the next one of it. An overlap that is open keeps its end as its bound: `max_until` is empty.
_STEPS = {
    1: "ALTER TABLE token ADD COLUMN max_until REAL; ALTER TABLE token ADD COLUMN held_until REAL;" + _JOURNAL,
    2: _MADE_AT,
    3: _STEPS_MARKED,
}


class Newer(Exception):
    """The store was written by a later promgate, whose facts this one could not keep."""


def version_of(db: sqlite3.Connection) -> int | None:
    """The version of the tables; None if they are not ours. Raises Newer."""
    (application,) = db.execute("PRAGMA application_id").fetchone()
    (version,) = db.execute("PRAGMA user_version").fetchone()
    if application != _APPLICATION_ID or version < 1:
        return None
    if version > VERSION:
        raise Newer(
            f"was written by a newer promgate (schema {version}, this one knows {VERSION}): run that version, or "
            "restore a backup made before the upgrade"
        )
    return int(version)


def make(db: sqlite3.Connection, now: float) -> None:
    """The tables, in an empty file of which nobody else knows."""
    db.execute(f"PRAGMA application_id = {_APPLICATION_ID}")
    db.execute(f"PRAGMA user_version = {VERSION}")
    db.executescript(f"BEGIN; {_TOKENS} {_JOURNAL} {_MADE_AT} {_STEPS_MARKED} COMMIT;")
    db.execute("UPDATE meta SET made_at = ?", (now,))


def migrate(db: sqlite3.Connection) -> None:
    """Bring the tables up to date, inside the caller's transaction: another process may have done it meanwhile."""
    version = version_of(db) or VERSION
    while version < VERSION:
        for statement in _statements(_STEPS[version]):
            db.execute(statement)
        version += 1
    db.execute(f"PRAGMA user_version = {VERSION}")


def _statements(script: str) -> list[str]:
    """One by one: `executescript` would commit first."""
    return [statement for statement in map(str.strip, script.split(";")) if statement]
