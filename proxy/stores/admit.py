"""What every store asks of a change before it writes: no store can be talked out of the rules of a token's life.

`Conflict` is the world's fault (another process was faster), ValueError is ours (a rule made an unlawful change).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from proxy.tokens.ports import Conflict

if TYPE_CHECKING:
    from proxy.tokens.ports import Change
    from proxy.tokens.token import Token


def admit(change: Change, there: tuple[Token, ...]) -> None:
    """Return if `change` may be written over what is `there` under its name; raise otherwise."""
    if there != change.expect:
        raise Conflict(
            f"another process changed {change.name} at the same moment; nothing was done: look at "
            f"`promgate token show {change.name}` and run the command again if it is still wanted"
        )
    after = {token.id: token for token in there}
    for token in change.put:
        old = after.get(token.id)
        if token.name != change.name:
            raise ValueError(f"a change of {change.name} cannot touch {token.name}")
        if old is not None and old.revoked_at is not None and token.revoked_at != old.revoked_at:
            raise ValueError(f"token {token.id} of {change.name} is revoked for good")
        if old is not None and (old.digest, old.kind, old.minted_at) != (token.digest, token.kind, token.minted_at):
            raise ValueError(f"token {token.id} of {change.name} cannot become another one")
        after[token.id] = token
    current = [t for t in after.values() if t.current_from is not None and t.accepted_until is None]
    if sum(token.revoked_at is None for token in current) > 1:
        raise ValueError(f"{change.name} would have two current tokens")


def clash(name: str) -> Conflict:
    """An id or digest that exists elsewhere: by chance (2**-47 for an id), or a secret taken in twice."""
    return Conflict(f"a token with this id or secret exists already; nothing was done to {name}: run the command again")
