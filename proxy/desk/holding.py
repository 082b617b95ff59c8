"""Which target holds which token, as far as receipts and senders tell: what must not end while that is so."""

from __future__ import annotations

from typing import TYPE_CHECKING

from proxy.tokens import tries
from proxy.tokens.ledger import Kind
from proxy.tokens.ports import StoreError
from proxy.tokens.token import TokenState, state_at

if TYPE_CHECKING:
    from proxy.desk.desk import Desk
    from proxy.tokens.ports import Story

_OVER = frozenset({TokenState.RETIRED, TokenState.REVOKED})
#: Who was seen with a token in this time may come with it again.
_SEEN_S = 8 * 86400.0


def holders(desk: Desk, story: Story) -> dict[str, str]:
    """Target -> the token that it took last. Raises StoreError.

    The last rotation that came to its end gave all of them the same one: nothing before it counts.
    """
    held: dict[str, str] = {}
    for rotation in reversed(story.rotations):
        for receipt in reversed(desk.store.receipts(rotation.id)):
            held.setdefault(receipt.target, receipt.token_id)
        if rotation.current_at is not None:
            break
    return held


def left_behind(desk: Desk, story: Story) -> dict[str, str]:
    """Of those, the targets with a token of a try that never became current. Raises StoreError."""
    odd = {token.id for token in tries.left_over(story, desk.clock())}
    held = holders(desk, story) if odd else {}
    return {target: token_id for target, token_id in sorted(held.items()) if token_id in odd}


def left_lines(desk: Desk, story: Story) -> tuple[str, ...]:
    """The same, for a person. Raises StoreError."""
    return tuple(
        f"{target} holds token {token_id} of a rotation that did not end: it is accepted until "
        f"`promgate token rotate {story.name}` has replaced it"
        for target, token_id in left_behind(desk, story).items()
    )


def outdated(desk: Desk, story: Story) -> dict[str, str]:
    """Of the holders, those with a token that is not accepted any more. Raises StoreError."""
    now = desk.clock()
    over = {token.id for token in story.tokens if state_at(token, now) in _OVER}
    return {target: token_id for target, token_id in sorted(holders(desk, story).items()) if token_id in over}


def outdated_lines(desk: Desk, story: Story) -> tuple[str, ...]:
    """The same, for a person. Raises StoreError."""
    return tuple(
        f"{target} holds token {token_id}, which is over: `promgate token rotate {story.name}` delivers another one"
        for target, token_id in outdated(desk, story).items()
    )


def kept(desk: Desk, story: Story) -> frozenset[str]:
    """Ids of tokens that must not make room for another try. Raises StoreError."""
    now = desk.clock()
    if not tries.are_crowded(story, now):
        return frozenset()
    ids = frozenset(holders(desk, story).values())
    if desk.sightings is None:
        return ids
    try:
        seen = desk.sightings.of(story.name)
    except StoreError:  # a ledger that cannot be read keeps nobody from a new token
        return ids
    return ids | {one.token_id for one in seen if one.kind is Kind.USED and now - one.last_seen < _SEEN_S}
