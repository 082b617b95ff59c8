"""How times are written, to people and to programs alike, and what is said of a rotation that has ended."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, overload

from proxy.tokens.lifecycle import Refusal

if TYPE_CHECKING:
    from proxy.tokens.rotation import Rotation


@overload
def when(at: float) -> str: ...
@overload
def when(at: None) -> None: ...
@overload
def when(at: float | None) -> str | None: ...
def when(at: float | None) -> str | None:
    """RFC 3339 in UTC, to the second."""
    return None if at is None else time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(at))


def how_it_ended(rotation: Rotation) -> str | Refusal:
    """What whoever asks for a rotation of this id again is told: that it is done, or why it will never be."""
    name = rotation.name
    if rotation.given_up_at is None and rotation.rolled_back_at is None:
        return f"rotation {rotation.id} of {name} is done: nothing was left to do"
    if rotation.given_up_at is None:
        what = f"was rolled back at {when(rotation.rolled_back_at)}"
    else:
        what = f"ended at {when(rotation.given_up_at)} without a new token ({rotation.failure or 'given up'})"
    return Refusal(
        f"rotation {rotation.id} of {name} {what}, and its id begins no other: `promgate token rotate {name}`, without "
        "--id or with another one, tries again"
    )
