"""All tokens the process knows, in memory: one look-up by digest on the request path."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from proxy.tokens.ports import Changes
    from proxy.tokens.token import Token


class TokenBook:
    """Digest -> facts. Changed only by `apply`, which runs between two requests on the event loop.

    `readable` turns False while the store behind it cannot be read: a token not found here may then
    exist all the same, and nobody can say so. `made_at` is when that store was made: one that is new may stand in the
    place of a lost one.
    """

    __slots__ = ("_digest_of", "find", "generation", "made_at", "readable", "tokens")

    def __init__(self) -> None:
        self.tokens: dict[bytes, Token] = {}
        self.find = self.tokens.get
        self.generation = 0
        self.made_at = 0.0
        self.readable = True
        self._digest_of: dict[str, bytes] = {}

    def __len__(self) -> int:
        return len(self.tokens)

    def apply(self, changes: Changes) -> frozenset[str]:
        """Take in what changed; the ids of tokens that were good and are revoked by it.

        Older news than what is known is ignored (a replica may lag).
        """
        if changes.generation < self.generation:
            return frozenset()
        revoked = []
        for token in changes.tokens:
            old = self._digest_of.get(token.id)
            if old is not None and token.revoked_at is not None and self.tokens[old].revoked_at is None:
                revoked.append(token.id)
            if old is not None and old != token.digest:
                del self.tokens[old]
            self._digest_of[token.id] = token.digest
            self.tokens[token.digest] = token
        self.generation = changes.generation
        self.made_at = changes.made_at
        return frozenset(revoked)
