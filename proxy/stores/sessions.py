"""People's sessions in a SQLite file of their own, beside the token store, so that a restart logs nobody out.

It holds no id that would let anybody in (digests alone) and nothing of a provider that could be read (sealed).
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from proxy.gate.session import Session, SessionRecord
from proxy.stores.side_file import Format, SideFile

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from pathlib import Path

#: Whoever logs in has shown a password or was let in by a provider; even so there is an end to it.
MAX_IN_ALL = 100_000
#: Of those that have ended, as many are known: a server that did not ask for so long was not there.
_MAX_ENDED = 20_000

_COLUMNS = (
    "digest, name, login, terms, began_at, granted, subject, provider_session, fresh_until, seen_at, sealed"
)
_SCHEMA = (
    """CREATE TABLE session (
        digest BLOB PRIMARY KEY,
        name TEXT NOT NULL,
        login TEXT NOT NULL,
        terms TEXT NOT NULL,
        began_at REAL NOT NULL,
        granted TEXT NOT NULL,
        subject TEXT NOT NULL,
        provider_session TEXT NOT NULL,
        fresh_until REAL NOT NULL,
        seen_at REAL NOT NULL,
        sealed TEXT NOT NULL
    ) WITHOUT ROWID""",
    "CREATE INDEX session_by_subject ON session (login, subject)",
    "CREATE INDEX session_by_seen ON session (seen_at)",
)
#: Not in the files of the first promgate.
_ADDED = (
    "CREATE TABLE IF NOT EXISTS ended (number INTEGER PRIMARY KEY AUTOINCREMENT, digest BLOB NOT NULL UNIQUE)",
    "CREATE TABLE IF NOT EXISTS claim (digest BLOB PRIMARY KEY, owner TEXT NOT NULL, until REAL NOT NULL)",
)
_FORMAT = Format(
    what="file of sessions",
    application_id=0x70677365,  # "pgse"
    version=1,
    schema=(*_SCHEMA, *_ADDED),
    advice="move it away: people log in again",
)
_CLAIM = """INSERT INTO claim (digest, owner, until) VALUES (?, ?, ?)
    ON CONFLICT (digest) DO UPDATE SET owner = excluded.owner, until = excluded.until
    WHERE claim.until <= ? OR claim.owner = excluded.owner"""
_SELECT = f"SELECT {_COLUMNS} FROM session"  # noqa: S608 - constants
_PUT = (
    f"INSERT OR REPLACE INTO session ({_COLUMNS}) SELECT ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ? "  # noqa: S608 - constants
    "WHERE NOT EXISTS (SELECT 1 FROM ended WHERE digest = ?)"
)
_FORGET_ENDED = "DELETE FROM ended WHERE number <= (SELECT max(number) FROM ended) - ?"
_DROP_OLDEST = (
    "DELETE FROM session WHERE digest IN (SELECT digest FROM session ORDER BY seen_at DESC LIMIT -1 OFFSET ?)"
)


def sessions_beside(store: Path) -> Path:
    """Where the sessions are, for a store of tokens."""
    return store.with_name(store.name + "-sessions")


class SessionFile:
    """A SessionStore, open until `close`. Safe to use from several threads."""

    def __init__(self, path: Path) -> None:
        """Begin one if there is none. StoreError: it cannot be opened, or is something else."""
        self._file = SideFile(path, _FORMAT)
        self.close = self._file.close
        self._told = 0
        try:
            with self._file.transaction("BEGIN IMMEDIATE") as db:
                for statement in _ADDED:
                    db.execute(statement)
        except BaseException:
            self.close()
            raise

    def load(self, most: int) -> list[SessionRecord]:
        """Those that were seen last."""
        with self._file.transaction("BEGIN") as db:
            rows = db.execute(f"{_SELECT} ORDER BY seen_at DESC LIMIT ?", (most,)).fetchall()
        return [self._record(row) for row in rows]

    def find(self, digest: bytes) -> SessionRecord | None:
        with self._file.transaction("BEGIN") as db:
            row = db.execute(f"{_SELECT} WHERE digest = ?", (digest,)).fetchone()
        return None if row is None else self._record(row)

    def put(self, record: SessionRecord) -> None:
        """Keep it, in the place of one of the same digest. One that has ended stays away."""
        s = record.session
        row = (
            s.digest, s.name, s.login, s.terms, s.began_at, json.dumps(s.granted), s.subject, s.provider_session,
            s.fresh_until, record.seen_at, record.sealed,
        )  # fmt: skip
        with self._file.transaction("BEGIN IMMEDIATE") as db:
            db.execute(_PUT, (*row, s.digest))
            db.execute("DELETE FROM claim WHERE digest = ?", (s.digest,))

    def touch(self, seen: Mapping[bytes, float]) -> None:
        """When each was seen last; of one that has ended nothing is kept."""
        with self._file.transaction("BEGIN IMMEDIATE") as db:
            db.executemany(
                "UPDATE session SET seen_at = max(seen_at, ?) WHERE digest = ?",
                [(at, digest) for digest, at in seen.items()],
            )

    def end(self, digests: Iterable[bytes]) -> None:
        with self._file.transaction("BEGIN IMMEDIATE") as db:
            rows = [(digest,) for digest in digests]
            db.executemany("DELETE FROM session WHERE digest = ?", rows)
            db.executemany("INSERT OR IGNORE INTO ended (digest) VALUES (?)", rows)

    def claim(self, digest: bytes, owner: str, now: float, until: float) -> bool:
        """Whether `owner` may ask the provider about it: nobody else does now, nor shall before `until` or a `put`."""
        with self._file.transaction("BEGIN IMMEDIATE") as db:
            return db.execute(_CLAIM, (digest, owner, until, now)).rowcount > 0

    def ended(self) -> list[bytes]:
        """Those that `end` was told of, here or by another process, and that this did not tell before."""
        with self._file.transaction("BEGIN") as db:
            rows = db.execute("SELECT number, digest FROM ended WHERE number > ? ORDER BY number", (self._told,))
            found = rows.fetchall()
        if found:
            self._told = found[-1][0]
        return [digest for _, digest in found]

    def find_by(self, login: str, subject: str, provider_session: str) -> list[bytes]:
        """Digests of a provider's sessions with this subject and this session of its own; one of these may be empty."""
        with self._file.transaction("BEGIN") as db:
            where = "login = ? AND (? = '' OR subject = ?)"
            rows = db.execute(f"{_SELECT} WHERE {where}", (login, subject, subject)).fetchall()
        found = [self._record(row).session for row in rows]
        return [session.digest for session in found if session.is_of(login, subject, provider_session)]

    def sweep(self, began_before: float, seen_before: float) -> None:
        """Let go of what began, or was seen last, before these times, and of the oldest of too many."""
        with self._file.transaction("BEGIN IMMEDIATE") as db:
            db.execute("DELETE FROM session WHERE began_at < ? OR seen_at < ?", (began_before, seen_before))
            db.execute(_DROP_OLDEST, (MAX_IN_ALL,))
            db.execute(_FORGET_ENDED, (_MAX_ENDED,))
            db.execute("DELETE FROM claim WHERE digest NOT IN (SELECT digest FROM session)")

    def _record(self, row: tuple[Any, ...]) -> SessionRecord:
        digest, name, login, terms, began_at, granted, subject, provider_session, fresh_until, seen_at, sealed = row
        try:
            keys = tuple(map(str, json.loads(granted)))
        except (TypeError, ValueError):
            raise self._file.damaged("what somebody was granted") from None
        session = Session(digest, name, login, terms, began_at, keys, subject, provider_session, fresh_until)
        return SessionRecord(session, seen_at, sealed)


class SessionsInMemory:
    """A SessionStore of this process, where no store is configured: with it sessions end."""

    def __init__(self) -> None:
        self._kept: dict[bytes, SessionRecord] = {}
        self._ended: dict[bytes, bool] = {}  # whether `ended` has told it

    def load(self, most: int) -> list[SessionRecord]:
        return sorted(self._kept.values(), key=lambda record: -record.seen_at)[:most]

    def find(self, digest: bytes) -> SessionRecord | None:
        return self._kept.get(digest)

    def put(self, record: SessionRecord) -> None:
        if record.session.digest not in self._ended:
            self._kept[record.session.digest] = record

    def touch(self, seen: Mapping[bytes, float]) -> None:
        for digest, at in seen.items():
            record = self._kept.get(digest)
            if record is not None:
                self._kept[digest] = SessionRecord(record.session, max(record.seen_at, at), record.sealed)

    def end(self, digests: Iterable[bytes]) -> None:
        for digest in digests:
            self._kept.pop(digest, None)
            self._ended.setdefault(digest, False)

    def claim(self, digest: bytes, owner: str, now: float, until: float) -> bool:  # noqa: ARG002 - nobody else is here
        return True

    def ended(self) -> list[bytes]:
        fresh = [digest for digest, is_told in self._ended.items() if not is_told]
        self._ended.update(dict.fromkeys(fresh, True))
        return fresh

    def find_by(self, login: str, subject: str, provider_session: str) -> list[bytes]:
        kept = self._kept.items()
        return [digest for digest, record in kept if record.session.is_of(login, subject, provider_session)]

    def sweep(self, began_before: float, seen_before: float) -> None:
        alive = [
            record
            for record in self._kept.values()
            if record.session.began_at >= began_before and record.seen_at >= seen_before
        ]
        alive.sort(key=lambda record: -record.seen_at)
        self._kept = {record.session.digest: record for record in alive[:MAX_IN_ALL]}
        for digest in list(self._ended)[: max(0, len(self._ended) - _MAX_ENDED)]:
            del self._ended[digest]

    def close(self) -> None:
        """Nothing is open."""
