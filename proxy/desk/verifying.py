"""Verify: does the token that a sender has do its work? Asked at any time, by the same canary that a rotation sends.

The clear token is not kept, so it is the sender's own that is tried: what is proven is what its file holds. Nothing is
minted and nothing is written.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from proxy.desk.desk import Report
from proxy.desk.words import when
from proxy.tokens.lifecycle import Refusal, Why
from proxy.tokens.ports import CanaryError
from proxy.tokens.secret import digest
from proxy.tokens.token import ACCEPTED, TokenState, ended_at, state_at

if TYPE_CHECKING:
    from proxy.desk.desk import Desk
    from proxy.tokens.secret import Secret


def verify(desk: Desk, name: str, secret: Secret) -> Report | Refusal:
    """Prove `secret`, which must be a token of `name` that is accepted. Raises StoreError."""
    prover = desk.prover(name)
    if prover is None:
        return Refusal("there is no canary to send: configure tokens.canary", Why.INVALID)
    token = desk.store.find(digest(secret.reveal().encode()))
    if token is None or token.name != name:
        whose = "one that the store does not know" if token is None else f"one of {token.name}"
        return Refusal(f"what was read is no token of {name[:80]!r} but {whose}", Why.UNKNOWN)
    state = state_at(token, desk.clock())
    if state not in ACCEPTED:
        return Refusal(f"token {token.id} of {name} is {state}: its sender is refused", Why.FAILED)
    try:
        prover.prove(name, token.kind, secret)
    except CanaryError as error:
        text = f"token {token.id} of {name} does not work: the canary failed at step {error.step}: {error}"
        return Refusal(text, Why.FAILED)
    facts = {"name": name, "token": token.id, "state": state.value, "ends": when(ended_at(token))}
    notes: tuple[str, ...] = (f"{name}: token {token.id} ({state}) works",)
    if state is TokenState.PREVIOUS:
        notes += (f"warning: it is not the current one any more, and ends at {when(ended_at(token))}",)
    return Report(notes, facts)
