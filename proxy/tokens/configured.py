"""Tokens whose digests stand in the configuration (`write_tokens`): no store knows them, and no command changes them.

They live as long as the file lists them. Of several of one name the first is current; the others are previous, with no
end but that somebody takes them away. One that a reload took away retires at that moment, and is held as any other.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from proxy.tokens.secret import SCHEME
from proxy.tokens.token import Token, TokenKind

if TYPE_CHECKING:
    from collections.abc import Iterable

#: No id that is minted has a colon, so that logs, ledger and commands tell the two apart by it.
_MARK = f"{SCHEME}:"
_ID_DIGITS = 12


def build_configured(name: str, digests: Iterable[bytes]) -> tuple[Token, ...]:
    """The tokens of `name`, in the order of the file. When they were minted nobody wrote down: 0."""
    return tuple(
        Token(
            id=f"{_MARK}{digest.hex()[:_ID_DIGITS]}",
            name=name,
            kind=TokenKind.WRITE,
            digest=digest,
            scheme=SCHEME,
            minted_at=0.0,
            current_from=0.0,
            accepted_until=math.inf if place else None,
        )
        for place, digest in enumerate(digests)
    )


def is_configured(token_id: str) -> bool:
    """Whether this is the id of a token that stands, or stood, in the configuration."""
    return token_id.startswith(_MARK)


def find_in_both(configured: Iterable[Token], known: Iterable[Token]) -> list[str]:
    """What is to be said of names and digests that the store has, too. Its tokens are among those in `known`."""
    stored = [token for token in known if not is_configured(token.id)]
    names = {token.name for token in stored if token.revoked_at is None}
    by_digest = {token.digest: token for token in stored}
    told = [
        f"{name} has tokens in the store too: a rotation or revocation there does not end what is listed here"
        for name in dict.fromkeys(token.name for token in configured)
        if name in names
    ]
    told += [
        f"{token.id} of {token.name} is token {twin.id} of {twin.name} in the store, and what stands there counts"
        for token in configured
        if (twin := by_digest.get(token.digest)) is not None
    ]
    return told
