"""What every use case works with, and what it returns."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from proxy.tokens.ports import StoreError

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from proxy.gate.snapshot import TokenRules
    from proxy.tokens.ports import Audit, Prover, Sightings, Sink, TokenStore

#: A change that must be made is tried again so often when others change the name at the same time.
TRIES = 20
NO_SERVER = "no server is running on this store: it takes the change in when it starts"


def _nowhere(_: str) -> Sequence[Sink]:
    return ()


def _unproven(_: str) -> Prover | None:
    return None


def _lives(_: str) -> bool:
    return False


@dataclass(frozen=True, slots=True)
class Desk:
    """Store, rules, clock and chance, and the ways out.

    `apply` makes the running server use a generation: the one in use then, None if no server runs; StoreError if it
    cannot. `owner` names this process in leases, and `is_gone` tells whether another one is known to have ended.
    `sinks` and `prover` are what is configured for a name, `sightings` the ledger (None: nobody keeps one). `audit`:
    what `store` does is on this record already; None without one.
    """

    store: TokenStore
    rules: TokenRules
    clock: Callable[[], float]
    random: Callable[[int], bytes]
    apply: Callable[[int], int | None]
    owner: str = "here"
    is_gone: Callable[[str], bool] = _lives
    sinks: Callable[[str], Sequence[Sink]] = _nowhere
    prover: Callable[[str], Prover | None] = _unproven
    sightings: Sightings | None = None
    audit: Audit | None = None


@dataclass(frozen=True, slots=True)
class Report:
    """What was done. `notes` are lines for a person, `facts` the same for a program (JSON-able, no secret).

    `failure`: the change is made and stays, but something after it went wrong, and this says what to do.
    """

    notes: tuple[str, ...] = ()
    facts: dict[str, Any] = field(default_factory=dict)
    failure: str = ""


def tell_server(desk: Desk, generation: int) -> tuple[str, ...]:
    """Wait until the server uses a committed change; the note that none runs, if so. Raises StoreError."""
    return (NO_SERVER,) if desk.apply(generation) is None else ()


def try_to_tell(desk: Desk, generation: int) -> tuple[tuple[str, ...], str]:
    """The same for a change that stands whatever the server says: notes, and the failure."""
    try:
        return tell_server(desk, generation), ""
    except StoreError as error:
        return (), f"the change is kept, but the running server does not use it yet: {error}"
