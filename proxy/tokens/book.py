"""All tokens the process knows, in memory: one look-up by digest on the request path."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable

    from proxy.tokens.ports import Changes
    from proxy.tokens.token import Token


class TokenBook:
    """Digest -> facts. Changed only by `apply` and `configure`, which run between two requests on the event loop.

    `tokens` are those of the store and those of the configuration; of a digest that both have, the store's facts.
    `has_store` False: there is none, so that no token can be missing because one was lost.

    A revocation that was seen is never taken back, whatever becomes of the store. `readable` turns False while the
    store behind it cannot be read: a token not found here may then exist all the same, and nobody can say so. `made_at`
    is when that store was made: one that is new may stand in the place of a lost one. `undone`: None, or, while an
    older copy is in the place of the store, what is revoked here and not in that copy.
    """

    __slots__ = (
        "_configured", "_digest_of", "find", "generation", "has_store", "made_at", "mark", "readable", "tokens",
        "undone",
    )  # fmt: skip

    def __init__(self) -> None:
        self.tokens: dict[bytes, Token] = {}
        self.find = self.tokens.get
        self.generation = 0
        self.mark = b""
        self.made_at = 0.0
        self.readable = True
        self.has_store = True
        self.undone: tuple[Token, ...] | None = None
        self._digest_of: dict[str, bytes] = {}  # of the store's
        self._configured: dict[bytes, Token] = {}  # and those that were taken away a moment ago

    def __len__(self) -> int:
        """How many tokens the store has."""
        return len(self._digest_of)

    def configure(self, tokens: Iterable[Token], now: float, grace_s: float) -> frozenset[str]:
        """Take in what the configuration lists; the ids of what it listed before and does not any more.

        Those retire now. They are remembered while they are held, and at least until the next reload.
        """
        listed = {token.digest: token for token in tokens}
        before = [token for token in self._configured.values() if token.digest not in listed]
        gone = [token for token in before if _is_listed(token)]
        held = [token for token in before if not _is_listed(token) and now < (token.accepted_until or 0.0) + grace_s]
        for digest, token in self._configured.items():
            if self.tokens.get(digest) is token:
                del self.tokens[digest]
        retired = (replace(token, accepted_until=now) for token in gone)
        self._configured = {**{token.digest: token for token in (*held, *retired)}, **listed}
        for digest, token in self._configured.items():
            self.tokens.setdefault(digest, token)
        return frozenset(token.id for token in gone)

    def apply(self, changes: Changes) -> frozenset[str]:
        """Take in what changed; the ids of tokens that were good and are revoked by it.

        Older news than what is known is ignored (a replica may lag). Of a store that went back nothing is believed but
        that a token is revoked.
        """
        if changes.went_back:
            return self._take_revocations(changes.tokens)
        if changes.generation < self.generation:
            return frozenset()
        revoked = []
        for token in changes.tokens:
            old = self._known(token.id)
            if old is not None:
                if old.revoked_at is None and token.revoked_at is not None:
                    revoked.append(token.id)
                elif old.revoked_at is not None and token.revoked_at is None:
                    token = _revoked_as(old, token)  # noqa: PLW2901
                if old.digest != token.digest:
                    del self.tokens[old.digest]
            self._digest_of[token.id] = token.digest
            self.tokens[token.digest] = token
        self.generation, self.mark = changes.generation, changes.mark
        self.made_at = changes.made_at
        self.undone = None
        return frozenset(revoked)

    def _take_revocations(self, tokens: Iterable[Token]) -> frozenset[str]:
        revoked, undone = [], []
        for token in tokens:
            old = self._known(token.id)
            if old is None or (old.revoked_at is None) is (token.revoked_at is None):
                continue
            if old.revoked_at is not None:
                undone.append(old)
            else:
                self.tokens[old.digest] = _revoked_as(token, old)
                revoked.append(old.id)
        self.undone = tuple(undone)
        return frozenset(revoked)

    def _known(self, token_id: str) -> Token | None:
        digest = self._digest_of.get(token_id)
        return None if digest is None else self.tokens[digest]


def _is_listed(token: Token) -> bool:
    return token.accepted_until is None or token.accepted_until == math.inf


def _revoked_as(one: Token, token: Token) -> Token:
    return replace(token, revoked_at=one.revoked_at, held_until=one.held_until)
