"""What every store asks of a change before it writes: no store can be talked out of the rules of a token's life.

`Conflict` is the world's fault (another process was faster), ValueError is ours (a rule made an unlawful change).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from proxy.tokens.ports import Conflict
from proxy.tokens.schedule import find_too_near

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from proxy.tokens.ports import Change
    from proxy.tokens.rotation import Rotation
    from proxy.tokens.token import Token

#: Of what tells a transaction from the one of the same number in another copy of the store.
MARK_BYTES = 8


#: Of all names, enough to see who began in the last minute.
RECENT = 100


def admit(
    change: Change,
    there: tuple[Token, ...],
    rotations: tuple[Rotation, ...],
    recent: Callable[[], Iterable[Rotation]],
) -> None:
    """Return if `change` may be written over what is `there` under its name; raise otherwise.

    `recent`: the RECENT rotations of all names that began last; asked only where it matters.
    """
    if there != change.expect:
        raise Conflict(
            f"another process changed {change.name} at the same moment; nothing was done: look at "
            f"`promgate token show {change.name}` and run the command again if it is still wanted"
        )
    _admit_entry(change, rotations)
    if change.entry is not None and change.entry.keeps_apart:
        _admit_beginning(change.name, change.entry.put, recent())
    after = {token.id: token for token in there}
    for token in change.put:
        old = after.get(token.id)
        if token.name != change.name:
            raise ValueError(f"a change of {change.name} cannot touch {token.name}")
        if old is not None and old.revoked_at is not None and token.revoked_at != old.revoked_at:
            raise ValueError(f"token {token.id} of {change.name} is revoked for good")
        if old is not None and (old.digest, old.kind, old.minted_at) != (token.digest, token.kind, token.minted_at):
            raise ValueError(f"token {token.id} of {change.name} cannot become another one")
        if old is not None and _is_prolonged(old, token):
            raise ValueError(f"the overlap of token {token.id} of {change.name} cannot be prolonged")
        after[token.id] = token
    current = [t for t in after.values() if t.current_from is not None and t.accepted_until is None]
    if sum(token.revoked_at is None for token in current) > 1:
        raise ValueError(f"{change.name} would have two current tokens")


def _admit_entry(change: Change, rotations: tuple[Rotation, ...]) -> None:
    """The journal: one open rotation for a name, whose lease is still the writer's."""
    entry = change.entry
    if entry is None:
        return
    if entry.put.name != change.name or any(receipt.rotation != entry.put.id for receipt in entry.receipts):
        raise ValueError(f"a change of {change.name} cannot write into the journal of another")
    there = next((rotation for rotation in rotations if rotation.id == entry.put.id), None)
    others = any(rotation.is_open for rotation in rotations if rotation.id != entry.put.id)
    if there != entry.expect or (others and entry.put.is_open):
        raise Conflict(
            f"another process drives the rotation of {change.name}; nothing was done: `promgate token status "
            f"{change.name}` tells how far it is"
        )


def _admit_beginning(name: str, rotation: Rotation, recent: Iterable[Rotation]) -> None:
    """By the calendar no two names begin in one minute: what goes wrong with the first must not meet the second."""
    other = find_too_near(name, recent, rotation.started_at)
    if other is not None:
        raise Conflict(f"a rotation of {other.name} began less than a minute ago; {name} waits, and nothing was done")


def _is_prolonged(old: Token, new: Token) -> bool:
    """Past the bound that was fixed when it stepped down. A roll back, which ends the overlap, sets no new bound."""
    if old.accepted_until is None or new.accepted_until is None:
        return False
    bound = old.accepted_until if old.max_until is None else max(old.accepted_until, old.max_until)
    return new.accepted_until > bound or (new.max_until is not None and new.max_until > bound)


def clash(name: str) -> Conflict:
    """An id or digest that exists elsewhere: by chance (2**-47 for an id), or a secret taken in twice."""
    return Conflict(f"a token with this id or secret exists already; nothing was done to {name}: run the command again")


def taken(name: str, rotation_id: str) -> Conflict:
    """A rotation with this id exists already, of another name."""
    return Conflict(f"rotation {rotation_id} is one of another name; nothing was done to {name}: choose another --id")
