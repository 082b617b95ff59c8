"""A rotation under way: what its journal knows of it, and what is to be done next. READ FIRST of a token's succession.

    mint -> confirm -> prove -> offer -> deliver to each target -> make current -> (overlap) -> (retired)

Each step that changes something is one transaction; the last receipt and the take-over are one. The successor is
accepted from the mint on and the old token has no deadline before the last receipt, so a process that dies between
any two steps leaves every sender with a token that works. The clear secret dies with its process: whoever resumes
mints anew and delivers to all.
"""

from __future__ import annotations

import enum
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from proxy.tokens.token import is_accepted

if TYPE_CHECKING:
    from proxy.tokens.token import Token

#: For so long a driver that says nothing is taken to be alive. It renews its lease well before.
LEASE_S = 30.0
RENEW_S = 8.0
#: Whose lease it is while the rotation waits for its sender, who drives it (`renewal`).
SENDER = "its sender"
#: How long the server waits before it takes up a rotation that failed: doubling, so that a dead target costs little.
FIRST_RETRY_S = 60.0
MAX_RETRY_S = 3600.0


@dataclass(frozen=True, slots=True)
class Rotation:
    """The facts of one rotation. Times are unix seconds; None means "not (yet)".

    `token_id` is the successor of the try under way. `offered_at`: from then on a target may have it. `predecessor`
    is who was current when it took over. A rotation is open until `current_at` or `given_up_at`; while it is open its
    name begins no other.
    """

    id: str
    name: str
    token_id: str
    started_at: float
    overlap_s: float
    tries: int = 1
    proved_at: float | None = None
    offered_at: float | None = None
    current_at: float | None = None
    predecessor: str | None = None
    failed_at: float | None = None
    failure: str = ""
    given_up_at: float | None = None
    rolled_back_at: float | None = None
    lease_owner: str = ""
    lease_until: float = 0.0

    @property
    def is_open(self) -> bool:
        return self.current_at is None and self.given_up_at is None


def is_renewal(rotation: Rotation) -> bool:
    """Whether it is for the sender to drive."""
    return rotation.lease_owner == SENDER


class Phase(enum.StrEnum):
    """Where a rotation is, in one word: for lists, logs and the console."""

    RUNNING = "running"
    HALTED = "halted"
    DONE = "done"
    GIVEN_UP = "given up"
    ROLLED_BACK = "rolled back"


def phase_at(rotation: Rotation, now: float) -> Phase:
    """The phase of `rotation` at `now`. Halted: open, and nobody drives it. Its sender is taken to drive a renewal."""
    if rotation.given_up_at is not None:
        return Phase.GIVEN_UP
    if rotation.rolled_back_at is not None:
        return Phase.ROLLED_BACK
    if rotation.current_at is not None:
        return Phase.DONE
    is_driven = now < rotation.lease_until and rotation.failed_at is None
    return Phase.RUNNING if is_driven else Phase.HALTED


def retry_at(rotation: Rotation) -> float:
    """When the server takes up an open rotation that nobody drives."""
    if rotation.failed_at is None:
        return rotation.lease_until
    return max(rotation.lease_until, rotation.failed_at + retry_wait_s(rotation.tries))


def retry_wait_s(failures: int) -> float:
    """How long to wait after so many failures in a row."""
    return min(FIRST_RETRY_S * 2.0 ** min(failures - 1, 16), MAX_RETRY_S)


@dataclass(frozen=True, slots=True)
class Plan:
    """All that decides on the next step. `targets` are those that need a receipt; `received` have given it.

    `has_secret`: the process that asks still has the clear secret of `successor`, and `confirmed`: it has heard from
    the server that the successor is accepted. `is_owner_gone`: whose lease it is has ended for sure. `must_prove`: a
    canary decides, for there is a way back (`tries.can_go_back`).
    """

    rotation: Rotation
    successor: Token | None
    owner: str
    has_secret: bool
    confirmed: bool = False
    is_owner_gone: bool = False
    must_prove: bool = False
    targets: tuple[str, ...] = ()
    received: frozenset[str] = field(default_factory=frozenset)


@dataclass(frozen=True, slots=True)
class Mint:
    """Make a (new) successor, and take the lease."""


@dataclass(frozen=True, slots=True)
class Confirm:
    """Hear from the server that it accepts the successor, before anybody has it."""


@dataclass(frozen=True, slots=True)
class Prove:
    """Send the canary."""


@dataclass(frozen=True, slots=True)
class Offer:
    """Write down that targets may have the successor from now on."""


@dataclass(frozen=True, slots=True)
class Deliver:
    """Put it there. With the last receipt the successor takes over, in one transaction."""

    target: str
    is_last: bool


@dataclass(frozen=True, slots=True)
class MakeCurrent:
    """No target is missing (any more): it takes over, and the overlap begins."""


@dataclass(frozen=True, slots=True)
class Expired:
    """The successor has come to the end of its life before all targets had it. Another one would live no longer."""


@dataclass(frozen=True, slots=True)
class Finished:
    """Nothing is left to be done but to let the overlap pass."""


@dataclass(frozen=True, slots=True)
class Halt:
    """Somebody has ended this rotation."""


@dataclass(frozen=True, slots=True)
class Leased:
    """Another process drives it, and is taken to be alive until then."""

    owner: str
    until: float


Step = Mint | Confirm | Prove | Offer | Deliver | MakeCurrent | Expired | Finished | Halt | Leased


def next_step(plan: Plan, now: float) -> Step:
    """The one thing to be done now. Asked again after each step, with what the store then says."""
    rotation, successor = plan.rotation, plan.successor
    if not rotation.is_open:
        return Halt() if rotation.given_up_at is not None else Finished()
    is_ours = rotation.lease_owner == plan.owner
    if not is_ours and now < rotation.lease_until and not plan.is_owner_gone:
        return Leased(rotation.lease_owner, rotation.lease_until)
    if not is_ours or not plan.has_secret or successor is None or successor.revoked_at is not None:
        return Mint()
    if not is_accepted(successor, now):
        return Expired()
    if not plan.confirmed:
        return Confirm()
    if plan.must_prove and rotation.proved_at is None:
        return Prove()
    if rotation.offered_at is None:
        return Offer()
    missing = [target for target in plan.targets if target not in plan.received]
    return Deliver(missing[0], is_last=len(missing) == 1) if missing else MakeCurrent()
