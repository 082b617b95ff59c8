"""Rows of the token store <-> facts. A row that makes no sense is a damaged file, never a guess."""

from __future__ import annotations

from dataclasses import astuple, fields
from typing import TYPE_CHECKING, Any

from proxy.tokens.ports import Receipt
from proxy.tokens.rotation import Rotation
from proxy.tokens.token import Token, TokenKind

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Iterable

# The columns have the names and the order of the fields.
_TOKEN = tuple(field.name for field in fields(Token))
_ROTATION = tuple(field.name for field in fields(Rotation))
_RECEIPT = tuple(field.name for field in fields(Receipt))
#: What of a token may change; the rest is what it is.
_TIMES = ("current_from", "accepted_until", "expires_at", "revoked_at", "max_until", "held_until")

_SELECT_TOKEN = f"SELECT {', '.join(_TOKEN)} FROM token"
_INSERT_TOKEN = f"INSERT INTO token ({', '.join(_TOKEN)}, generation) VALUES ({', '.join('?' * (len(_TOKEN) + 1))})"
_UPDATE_TOKEN = f"UPDATE token SET {', '.join(f'{name} = ?' for name in _TIMES)}, generation = ? WHERE id = ?"
_SELECT_ROTATION = f"SELECT {', '.join(_ROTATION)} FROM rotation"
_INSERT_ROTATION = f"INSERT INTO rotation ({', '.join(_ROTATION)}) VALUES ({', '.join('?' * len(_ROTATION))})"
_UPDATE_ROTATION = f"UPDATE rotation SET {', '.join(f'{name} = ?' for name in _ROTATION)} WHERE id = ?"
_SELECT_RECEIPT = f"SELECT {', '.join(_RECEIPT)} FROM receipt WHERE rotation = ? ORDER BY rowid"
_INSERT_RECEIPT = f"INSERT OR REPLACE INTO receipt ({', '.join(_RECEIPT)}) VALUES (?, ?, ?, ?)"


class Senseless(Exception):
    """A row that no promgate wrote."""


def tokens(db: sqlite3.Connection, where: str, value: object) -> tuple[Token, ...]:
    return tuple(_token(row) for row in db.execute(f"{_SELECT_TOKEN} {where}", (value,)))


def insert_token(db: sqlite3.Connection, token: Token, generation: int) -> None:
    values = {name: getattr(token, name) for name in _TOKEN} | {"kind": token.kind.value}
    db.execute(_INSERT_TOKEN, (*values.values(), generation))


def update_token(db: sqlite3.Connection, token: Token, generation: int) -> None:
    db.execute(_UPDATE_TOKEN, (*(getattr(token, name) for name in _TIMES), generation, token.id))


def rotations_of(db: sqlite3.Connection, name: str) -> tuple[Rotation, ...]:
    """Oldest first, whatever the clock said."""
    return tuple(_rotation(row) for row in db.execute(f"{_SELECT_ROTATION} WHERE name = ? ORDER BY seq", (name,)))


def rotation(db: sqlite3.Connection, rotation_id: str) -> Rotation | None:
    return next((_rotation(row) for row in db.execute(f"{_SELECT_ROTATION} WHERE id = ?", (rotation_id,))), None)


def recent_rotations(db: sqlite3.Connection, limit: int) -> list[Rotation]:
    recent = "seq > (SELECT ifnull(max(seq), 0) FROM rotation) - ? OR (current_at IS NULL AND given_up_at IS NULL)"
    return [_rotation(row) for row in db.execute(f"{_SELECT_ROTATION} WHERE {recent} ORDER BY seq DESC", (limit,))]


def insert_rotation(db: sqlite3.Connection, written: Rotation) -> None:
    db.execute(_INSERT_ROTATION, astuple(written))


def update_rotation(db: sqlite3.Connection, written: Rotation) -> None:
    db.execute(_UPDATE_ROTATION, (*astuple(written), written.id))


def receipts(db: sqlite3.Connection, rotation_id: str) -> list[Receipt]:
    return [Receipt(*row) for row in db.execute(_SELECT_RECEIPT, (rotation_id,))]


def insert_receipts(db: sqlite3.Connection, written: Iterable[Receipt]) -> None:
    db.executemany(_INSERT_RECEIPT, [astuple(receipt) for receipt in written])


def _token(row: tuple[Any, ...]) -> Token:
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
        return Token(token_id, name, TokenKind(kind), digest, scheme, minted_at, *times)
    raise Senseless(f"token {token_id!r} makes no sense")


def _rotation(row: tuple[Any, ...]) -> Rotation:
    found = Rotation(*row)
    texts = (found.id, found.name, found.token_id, found.failure, found.lease_owner)
    times = (
        found.proved_at,
        found.offered_at,
        found.current_at,
        found.failed_at,
        found.given_up_at,
        found.rolled_back_at,
    )
    if (
        all(isinstance(text, str) for text in (*texts, found.predecessor or ""))
        and all(isinstance(at, float) for at in (found.started_at, found.overlap_s, found.lease_until))
        and all(at is None or isinstance(at, float) for at in times)
        and isinstance(found.tries, int)
    ):
        return found
    raise Senseless(f"rotation {found.id!r} makes no sense")
