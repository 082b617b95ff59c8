"""What the life of a token needs from the world. Stores and clocks implement these; rules only see these."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from collections.abc import Sequence

    from proxy.tokens.token import Token


@dataclass(frozen=True, slots=True)
class Changes:
    """The tokens changed since a generation.

    `generation` rises by one with each committed transaction; `tokens` are whole new facts, not differences.
    """

    generation: int
    tokens: tuple[Token, ...]


@dataclass(frozen=True, slots=True)
class Change:
    """One transition of one name, committed whole or not at all.

    `put` replaces rows by id (new ids are added). `expect` is what the rule saw of the name before it
    decided: the store refuses with `Conflict` when another process was faster.
    """

    name: str
    expect: tuple[Token, ...]
    put: tuple[Token, ...]


class StoreError(Exception):
    """The store cannot be read or written; the text names the file and says what to do. The old state stands."""


class Conflict(StoreError):
    """Another process changed the name between reading and writing."""


class TokenStore(Protocol):
    """Where tokens are kept. Every method may block on a disk: never call one on the event loop."""

    def changes_since(self, generation: int) -> Changes:
        """All tokens whose facts changed after `generation` (0: all tokens)."""

    def named(self, name: str) -> tuple[Token, ...]:
        """Every token ever minted for `name`, oldest first."""

    def names(self) -> Sequence[str]:
        """All names, sorted."""

    def find(self, digest: bytes) -> Token | None:
        """The token with this digest, or None."""

    def commit(self, change: Change) -> int:
        """Write a change in one transaction; the new generation."""

    def close(self) -> None:
        """Let go of the files."""
