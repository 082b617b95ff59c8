"""A SQLite file of ours beside the store: begun where there is none, ours alone, and refused if it is anything else.

What it holds can be begun anew, so a power cut may cost its last minute (synchronous=NORMAL), and never a token.
"""

from __future__ import annotations

import threading
from contextlib import contextmanager
from typing import TYPE_CHECKING, NamedTuple

from proxy.stores import place
from proxy.stores.sqlite_file import connect, identity, told, transaction
from proxy.tokens.ports import StoreError

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Iterator, Sequence
    from pathlib import Path


class Format(NamedTuple):
    """What kind of file it is: `application_id` and `version` in its header, the tables, `what` it is called.

    `advice`: what to do with one that is damaged.
    """

    what: str
    application_id: int
    version: int
    schema: Sequence[str]
    advice: str


class SideFile:
    """Open until `close`. `transaction` raises StoreError, which names the file. Safe to use from several threads."""

    def __init__(self, path: Path, form: Format, *, begin: Sequence[tuple[str, Sequence[object]]] | None = ()) -> None:
        """`begin`: what is written into one that is begun; None: if there is none, that is an error."""
        self.path = path
        self._form = form
        self._lock = threading.Lock()
        with told(path):
            if begin is None and not path.exists():
                raise StoreError(f"{path}: no {form.what} is there yet: promgate begins it when it serves")
            if begin is not None:
                place.make_file(path)
            place.check_modes(path)
            self._db = connect(path, synchronous="NORMAL")
            try:
                self._file = identity(path)
                self._check(begin)
            except BaseException:
                self._db.close()
                raise

    def damaged(self, what: str) -> StoreError:
        """The error for something in it that no promgate wrote."""
        return StoreError(f"{self.path}: is damaged ({what}): {self._form.advice}")

    def close(self) -> None:
        with self._lock, told(self.path):
            self._db.close()

    @contextmanager
    def transaction(self, begin: str) -> Iterator[sqlite3.Connection]:
        """One consistent view, written whole or not at all."""
        with self._lock, told(self.path):
            if identity(self.path) != self._file:
                raise StoreError(f"{self.path}: was removed or replaced while in use")
            with transaction(self._db, begin):
                yield self._db

    def _check(self, begin: Sequence[tuple[str, Sequence[object]]] | None) -> None:
        """Begin an empty file, refuse one that is something else."""
        form = self._form
        with self.transaction("BEGIN" if begin is None else "BEGIN IMMEDIATE") as db:
            (tables,) = db.execute("SELECT count(*) FROM sqlite_schema").fetchone()
            if not tables and begin is not None:
                db.execute(f"PRAGMA application_id = {form.application_id}")
                db.execute(f"PRAGMA user_version = {form.version}")
                for statement in form.schema:
                    db.execute(statement)
                for sql, values in begin:
                    db.execute(sql, tuple(values))
            (application,) = db.execute("PRAGMA application_id").fetchone()
            (version,) = db.execute("PRAGMA user_version").fetchone()
            (verdict,) = db.execute("PRAGMA quick_check(1)").fetchone()
        if (application, version, verdict) != (form.application_id, form.version, "ok"):
            raise StoreError(f"{self.path}: is damaged, or no {form.what} of this promgate: {form.advice}")
        self._db.execute("PRAGMA journal_mode = WAL")
