"""An older copy was put in the place of the store: what was revoked since is good in it, what was minted since is lost.

A running server has seen those revocations: it makes them in the copy, too, so that they outlive a restart. One
that starts on a copy has the ledger, which knows tokens that were in use: it cannot tell more, and says so. Either way
the copy counts as new: writers that show what is lost are held.
"""

from __future__ import annotations

import logging
from contextlib import suppress
from dataclasses import replace
from typing import TYPE_CHECKING

from proxy.tokens.configured import is_configured
from proxy.tokens.ledger import Kind
from proxy.tokens.ports import Change, Conflict, StoreError
from proxy.tokens.token import is_accepted

if TYPE_CHECKING:
    from collections.abc import Iterable

    from proxy.desk.desk import Desk
    from proxy.tokens.book import TokenBook
    from proxy.tokens.ledger import Mark
    from proxy.tokens.ports import TokenStore
    from proxy.tokens.token import Token

_log = logging.getLogger("promgate.store")
_AGAIN_S = 1.0
_NAMED = 5


def look_back(store: TokenStore, book: TokenBook, ledger: Iterable[Mark], now: float, grace_s: float) -> None:
    """At the start: hold the ledger against the store, and say what only an older copy explains. May block."""
    known = {token.id: token for token in book.tokens.values()}
    lost, doubtful, last_seen = set(), set(), 0.0
    for mark in ledger:
        token = known.get(mark.token_id)
        if token is None and is_configured(mark.token_id):
            continue  # it was taken out of the configuration, of which no copy knows
        if token is None:
            lost.add(f"{mark.token_id} of {mark.name}")
            last_seen = max(last_seen, mark.last_seen)
        elif mark.kind is Kind.REFUSED and is_accepted(token, now):
            doubtful.add(f"{mark.token_id} of {mark.name}")
    made_at = book.made_at
    if last_seen > made_at:
        made_at = now
        with suppress(StoreError):  # whatever ails it will be told when it is read or written next
            store.count_as_new(now)
    if now < made_at + grace_s:
        _log.warning(
            "the token store counts as new since %.0f s: for %.0f s more, writers whose token it does not know are "
            "told 503; restore a backup if one was lost",
            max(now - made_at, 0.0), made_at + grace_s - now,
        )  # fmt: skip
    if lost:
        _log.error(
            "the token store is not the one of before: the ledger knows tokens that it does not hold (%s). If it is an "
            "older copy, revocations made since are undone: revoke again what was revoked (an audit tells what)",
            _few(lost),
        )
    if doubtful:
        _log.error(
            "tokens were refused before and are accepted now (%s): did an older copy of the store take their "
            "revocation back? Then revoke them again",
            _few(doubtful),
        )


def _few(those: set[str]) -> str:
    return ", ".join(sorted(those)[:_NAMED]) + (f" and {len(those) - _NAMED} more" if len(those) > _NAMED else "")


class Restored:
    """Called in rounds; says when it wants to be called again."""

    def __init__(self, book: TokenBook) -> None:
        self._book = book
        self._is_told = False

    def sign(self) -> object:
        """What differs once there is something to do. Safe from any thread."""
        return self._book.undone

    def __call__(self, desk: Desk) -> float | None:
        undone = self._book.undone
        if undone is None:
            self._is_told = False
            return None
        if not self._is_told:
            desk.store.count_as_new(desk.clock())
            self._is_told = True
        for name in {token.name for token in undone}:
            self._revoke_again(desk, name, [token for token in undone if token.name == name])
        return desk.clock() + _AGAIN_S if undone else None

    def _revoke_again(self, desk: Desk, name: str, lost: Iterable[Token]) -> None:
        seen = desk.store.named(name)
        as_known = {token.id: token for token in lost}
        put = tuple(
            replace(token, revoked_at=as_known[token.id].revoked_at, held_until=as_known[token.id].held_until)
            for token in seen
            if token.id in as_known and token.revoked_at is None
        )
        if not put:
            return
        try:
            desk.store.commit(Change(name, seen, put))
        except Conflict:
            return  # another process was faster: the next look tells
        _log.error(
            "%s: an older copy of the store did not know that %s had been revoked: revoked there again",
            name, ", ".join(f"token {token.id}" for token in put),
        )  # fmt: skip
