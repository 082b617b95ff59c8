"""What the tries of a rotation leave behind: tokens that never became current, and may stand in a sender's file.

A try that nobody was given ends with its rotation, or when that is taken up. Any other goes on without a deadline,
however its rotation ends, until the next successor is everywhere: then it steps down with the rest. They are bounded:
beyond MAX_TRIES the oldest retire (and are held, not refused), but none that a target or a sender is known to have.
"""

from __future__ import annotations

import math
from dataclasses import replace
from typing import TYPE_CHECKING

from proxy.tokens.token import TokenState, ended_at, is_accepted, state_at

if TYPE_CHECKING:
    from collections.abc import Collection

    from proxy.tokens.ports import Story
    from proxy.tokens.rotation import Rotation
    from proxy.tokens.token import Token

#: As many as there may be previous tokens: with a target that is down, half a day of the server's own tries.
MAX_TRIES = 16


def ungiven(story: Story, rotation: Rotation, now: float) -> tuple[Token, ...]:
    """The successor of the try under way, ended, if nobody was ever given it."""
    if rotation.offered_at is not None:
        return ()
    return tuple(
        replace(token, revoked_at=now)
        for token in story.tokens
        if token.id == rotation.token_id and token.revoked_at is None
    )


def left_over(story: Story, now: float) -> list[Token]:
    """Accepted tokens that never became current, oldest first."""
    return [token for token in story.tokens if token.current_from is None and is_accepted(token, now)]


def are_crowded(story: Story, now: float) -> bool:
    """Whether one more is one too many."""
    return len(left_over(story, now)) >= MAX_TRIES


def surplus(story: Story, now: float, kept: Collection[str], ended: tuple[Token, ...] = ()) -> tuple[Token, ...]:
    """Retired, to leave room for one more. `ended` are ending anyway; of `kept` somebody is known to have them."""
    gone = {token.id for token in ended}
    there = [token for token in left_over(story, now) if token.id not in gone]
    free = [token for token in there if token.id not in kept]
    return tuple(replace(token, accepted_until=now) for token in free[: max(len(there) - MAX_TRIES + 1, 0)])


def can_go_back(story: Story, rotation: Rotation, now: float) -> bool:
    """Whether every sender has a token to go on with if this rotation's canary dies: else a proof decides nothing.

    None has after the leak of one that was accepted: its holders are held until they get another one.
    """
    if not any(state_at(token, now) is TokenState.CURRENT for token in story.tokens):
        return False
    return not any(
        token.held_until is not None
        and token.revoked_at is not None
        and rotation.started_at <= token.revoked_at < (ended_at(token) or math.inf)
        for token in story.tokens
    )
