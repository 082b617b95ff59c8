"""What is known of a token, and the state that follows from it.

The state is never stored: it is derived from the facts and the time, so that a clock, a crash or a
replica can never disagree with itself about what a row means.
"""

from __future__ import annotations

import enum
import math
from dataclasses import dataclass


class TokenKind(enum.StrEnum):
    """What a token is for; the value stands in the store and in the token's prefix table."""

    WRITE = "write"
    READER = "reader"


class TokenState(enum.StrEnum):
    """Where a token is in its life. The same word in the CLI, the log and the tests."""

    PENDING = "pending"
    CURRENT = "current"
    PREVIOUS = "previous"
    RETIRED = "retired"
    REVOKED = "revoked"


#: States in which a token opens the door.
ACCEPTED = frozenset({TokenState.PENDING, TokenState.CURRENT, TokenState.PREVIOUS})


@dataclass(frozen=True, slots=True)
class Token:
    """The facts of one token. Times are unix seconds; None means "not (yet)".

    `digest` is what the secret is looked up by (32 bytes, made as `scheme` says); the secret itself is
    nowhere here. `current_from` is None while a token is minted but not yet the name's own.
    `accepted_until` is the end of the overlap, set when a successor takes over (infinite: no calendar ends it, but
    whoever edits the configuration); `max_until` is the latest time to
    which that end may ever be moved. `held_until`: a token that was revoked because it leaked gets "not now" until
    then where senders would drop data on "never".
    """

    id: str
    name: str
    kind: TokenKind
    digest: bytes
    scheme: str
    minted_at: float
    current_from: float | None = None
    accepted_until: float | None = None
    expires_at: float | None = None
    revoked_at: float | None = None
    max_until: float | None = None
    held_until: float | None = None


def ended_at(token: Token) -> float | None:
    """When the token stops (or stopped) being accepted by the calendar: its overlap or its expiry, the earlier."""
    ends = [at for at in (token.accepted_until, token.expires_at) if at is not None and at < math.inf]
    return min(ends) if ends else None


def is_accepted(token: Token, now: float) -> bool:
    """`state_at(token, now) in ACCEPTED`, for the request path: four comparisons instead of 0.6 us."""
    return (
        token.revoked_at is None
        and (token.accepted_until is None or now < token.accepted_until)
        and (token.expires_at is None or now < token.expires_at)
    )


def state_at(token: Token, now: float) -> TokenState:
    """The state of `token` at `now` (unix seconds). A revocation stands for good, whatever the clock says."""
    if token.revoked_at is not None:
        return TokenState.REVOKED
    if token.expires_at is not None and now >= token.expires_at:
        return TokenState.RETIRED
    if token.accepted_until is not None:
        return TokenState.RETIRED if now >= token.accepted_until else TokenState.PREVIOUS
    if token.current_from is None:
        return TokenState.PENDING
    return TokenState.CURRENT
