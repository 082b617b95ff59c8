"""What the life of a token needs from the world. Stores, sinks and the ledger implement these; rules only see these."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

if TYPE_CHECKING:
    from collections.abc import Sequence

    from proxy.tokens.ledger import Known, Sighting
    from proxy.tokens.rotation import Rotation
    from proxy.tokens.secret import Secret
    from proxy.tokens.token import Token, TokenKind


@dataclass(frozen=True, slots=True)
class Changes:
    """The tokens changed since a generation.

    `generation` rises by one with each committed transaction; `tokens` are whole new facts, not differences.
    `made_at` is when the store was made, in unix seconds; 0.0: before anybody wrote that down. `mark` names the
    transaction that made `generation`, and no other. `went_back`: the store does not hold the transaction that the
    reader saw last; an older copy, or another store, was put in its place, and `tokens` are all that it holds.
    """

    generation: int
    tokens: tuple[Token, ...]
    made_at: float = 0.0
    mark: bytes = b""
    went_back: bool = False


@dataclass(frozen=True, slots=True)
class Story:
    """All that a store holds of a name, as of one moment, oldest first."""

    name: str
    tokens: tuple[Token, ...] = ()
    rotations: tuple[Rotation, ...] = ()


@dataclass(frozen=True, slots=True)
class Receipt:
    """A target took the token `token_id` of a rotation."""

    rotation: str
    token_id: str
    target: str
    at: float


@dataclass(frozen=True, slots=True)
class Entry:
    """What a change writes into the journal: a rotation as it is from now on, and receipts that came in.

    `expect` is the rotation as the rule saw it, its lease included: who lost the lease writes nothing any more.
    `keeps_apart`: it may not begin within a minute of another name's (`schedule.find_too_near`).
    """

    expect: Rotation | None
    put: Rotation
    receipts: tuple[Receipt, ...] = ()
    keeps_apart: bool = False


@dataclass(frozen=True, slots=True)
class Change:
    """One transition of one name, committed whole or not at all.

    `put` replaces rows by id (new ids are added). `expect` is what the rule saw of the name before it
    decided: the store refuses with `Conflict` when another process was faster.
    """

    name: str
    expect: tuple[Token, ...]
    put: tuple[Token, ...]
    entry: Entry | None = None


class StoreError(Exception):
    """The store cannot be read or written; the text names the file and says what to do. The old state stands."""


class Conflict(StoreError):
    """Another process changed the name between reading and writing."""


class TokenStore(Protocol):
    """Where tokens are kept. Every method may block on a disk: never call one on the event loop."""

    def changes_since(self, generation: int, mark: bytes = b"") -> Changes:
        """All tokens whose facts changed after `generation` (0: all tokens), which had this `mark` when it was read."""

    def named(self, name: str) -> tuple[Token, ...]:
        """Every token ever minted for `name`, oldest first."""

    def names(self) -> Sequence[str]:
        """All names, sorted."""

    def find(self, digest: bytes) -> Token | None:
        """The token with this digest, or None."""

    def story(self, name: str) -> Story:
        """Tokens and rotations of a name, as of one moment."""

    def rotation(self, rotation_id: str) -> Rotation | None:
        """The rotation with this id, or None."""

    def recent_rotations(self, limit: int) -> Sequence[Rotation]:
        """The rotations of all names that began last, newest first, and all that are open."""

    def receipts(self, rotation_id: str) -> Sequence[Receipt]:
        """What the targets of a rotation took, oldest first."""

    def commit(self, change: Change) -> int:
        """Write a change in one transaction; the generation, which is a new one if a token changed."""

    def count_as_new(self, at: float) -> None:
        """From now on it counts as made `at`, or later: tokens of an older copy's future may be in use out there."""

    def close(self) -> None:
        """Let go of the files."""


@dataclass(frozen=True, slots=True)
class Parcel:
    """A minted token on its way to where its sender reads it. `rotation` is the id of the rotation that minted it."""

    name: str
    kind: TokenKind
    token_id: str
    rotation: str
    secret: Secret


class DeliveryError(Exception):
    """A parcel did not arrive, as far as can be told; the text names the target and what to do, never the secret."""


class Sink(Protocol):
    """One place where a token is put. `target` is its stable name in receipts and logs: `file:/etc/agent.token`."""

    @property
    def target(self) -> str: ...

    def deliver(self, parcel: Parcel) -> None:
        """Put it there, whole and lasting, or raise DeliveryError. Blocks; delivering twice does no harm."""


class CanaryError(Exception):
    """A new token does not do its work. `step` is what failed: `tls`, `route`, `push`, `query` ..."""

    def __init__(self, step: str, text: str) -> None:
        super().__init__(text)
        self.step = step


class Prover(Protocol):
    """Tries a minted token by way of the public listener, before anybody has it."""

    def prove(self, name: str, kind: TokenKind, secret: Secret) -> None:
        """Return if it works, or raise CanaryError. Blocks."""


class Sightings(Protocol):
    """The ledger of senders, as the desk reads it."""

    def known(self, name: str) -> Known:
        """All that it can tell of `name`, and how fresh that is. Raises StoreError when it can tell nothing."""

    def of(self, name: str) -> Sequence[Sighting]:
        """Who was seen with the tokens of `name`. Raises StoreError when it cannot tell: nobody has moved, then."""


class Asked(NamedTuple):
    """Who asked for what: `basic:ann`, by `basic`, from an address, for `revokeToken`."""

    identity: str
    way: str
    address: str
    action: str


#: What nobody asked for: the calendar, and the deadlines that follow the senders.
BY_SCHEDULE = Asked("promgate", "schedule", "", "schedule")


class Audit(Protocol):
    """The record of one `Asked`."""

    def watch(self, store: TokenStore) -> TokenStore:
        """The same store, which commits nothing that could not be recorded before: StoreError says so."""

    def tell(self, outcome: str, name: str, text: str) -> None:
        """Record what changes nothing: `refused`, `failed`, `alarm`. As well as can be."""

    def record(self, outcome: str, name: str, text: str) -> None:
        """The same for good, before something is done that is no change of the store. StoreError: it must not be."""

    def newest(self, limit: int) -> list[dict[str, Any]]:
        """The last records of everybody, the newest first. Raises StoreError."""

    def check(self) -> None:
        """Raises StoreError if nothing could be recorded now."""
