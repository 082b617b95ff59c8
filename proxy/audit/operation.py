"""One thing that somebody asked for, on the record: put around a store, it writes down each change before it is made.

    intended -> the change is committed -> done

What cannot be written down is not committed, but for one kind of change: an overlap that a sender needs is prolonged,
for a sender that is refused loses its samples, and nobody is let in who was not. It is recorded late (`Trail.owe`). A
process that dies in between leaves a record `intended` with nothing after it: the store tells whether it was done. The
change stands, whatever becomes of the record that it is done.
"""

from __future__ import annotations

import logging
import os
import pwd
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

from proxy.audit.lock import PATIENCE_S
from proxy.audit.record import time_text
from proxy.audit.trail import Trail, head_beside
from proxy.tokens.overlap import only_prolongs
from proxy.tokens.ports import BY_SCHEDULE, Asked, Conflict, StoreError
from proxy.tokens.told import tell_change

if TYPE_CHECKING:
    from proxy.tokens.ports import Change, TokenStore
    from proxy.tokens.told import Fact

_log = logging.getLogger("promgate.audit")

_NOBODY = 0xFFFFFFFF


def open_trail(file: Path | None, store: Path | None) -> Trail | None:
    """The trail of a store, where one is configured. Nothing is opened before the first record."""
    return None if file is None or store is None else Trail(file, head_beside(store))


def asked_here(action: str) -> Asked:
    """By whoever runs this command: the user, and who logged in to become that user, as the kernel has it."""
    login = ""
    with suppress(OSError, ValueError):
        session = int(Path("/proc/self/loginuid").read_text(encoding="ascii"))
        login = _user(session) if session != _NOBODY else ""
    return Asked(f"local:{_user(os.geteuid())}", "cli", f"login:{login}" if login else "", action)


def _user(uid: int) -> str:
    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return str(uid)


class Operation:
    """An `Audit` (tokens.ports) for one `Asked`."""

    def __init__(self, trail: Trail, asked: Asked) -> None:
        self._trail = trail
        self._about = {"op": os.urandom(8).hex(), **asked._asdict()}
        self._by_schedule = asked.way == BY_SCHEDULE.way

    def watch(self, store: TokenStore) -> TokenStore:
        return _Watched(store, self)

    def tell(self, outcome: str, name: str, text: str) -> None:
        with suppress(StoreError):  # the trail has logged it
            self.write(outcome, name, text=text)

    def record(self, outcome: str, name: str, text: str) -> None:
        self.write(outcome, name, text=text)

    def newest(self, limit: int) -> list[dict[str, Any]]:
        return self._trail.newest(limit)

    def check(self) -> None:
        self._trail.check()

    def write(self, outcome: str, name: str, **more: object) -> int:
        """The number of the record. Raises StoreError."""
        # What comes again by itself waits for a process that was stopped once, and not each time.
        patience_s = 0.0 if self._by_schedule and self._trail.trouble else PATIENCE_S
        return self._trail.append({**self._about, "name": name, "outcome": outcome, **more}, patience_s)

    def owe(self, name: str, rows: list[dict[str, str]]) -> None:
        """Tell of what was done without a record: in the log now, and in the record as soon as that can be."""
        for row in rows:
            text = f"token {row['token']} is accepted until {row['until']}"
            _log.error("%s: %s, which cannot be recorded now: %s", name, text, self._trail.trouble)
        self._trail.owe({**self._about, "name": name, "changes": rows})


class _Watched:
    """The same store; its changes are on the record."""

    def __init__(self, store: TokenStore, operation: Operation) -> None:
        self._store = store
        self._operation = operation
        self.changes_since = store.changes_since
        self.named = store.named
        self.names = store.names
        self.find = store.find
        self.story = store.story
        self.rotation = store.rotation
        self.recent_rotations = store.recent_rotations
        self.receipts = store.receipts
        self.count_as_new = store.count_as_new
        self.close = store.close

    def commit(self, change: Change) -> int:
        told = tell_change(change)
        if not told:  # a lease alone
            return self._store.commit(change)
        write, rows = self._operation.write, list(map(_row, told))
        try:
            intended = write("intended", change.name, changes=rows)
        except StoreError:
            if not only_prolongs(change):
                raise
            generation = self._store.commit(change)
            self._operation.owe(change.name, rows)
            return generation
        try:
            generation = self._store.commit(change)
        except StoreError as error:
            outcome = "conflict" if isinstance(error, Conflict) else "failed"
            with suppress(StoreError):
                write(outcome, change.name, of=intended, text=str(error))
            raise
        with suppress(StoreError):
            write("done", change.name, of=intended, generation=generation)
        return generation


def _row(fact: Fact) -> dict[str, str]:
    """What there is to say of it."""
    row = {key: value for key, value in fact._asdict().items() if isinstance(value, str) and value}
    return row if fact.until is None else {**row, "until": time_text(fact.until)}
