"""Verify: does the token that a sender has do its work? Asked at any time, by the same canary that a rotation sends.

The clear token is not kept, so it is the sender's own that is tried: what is proven is what its file holds. Nothing is
minted and nothing is written.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from proxy.desk.configured import find_configured
from proxy.desk.desk import Report
from proxy.desk.words import when
from proxy.tokens.lifecycle import Refusal, Why
from proxy.tokens.ports import CanaryError
from proxy.tokens.secret import Secret, digest
from proxy.tokens.targets import FileTarget
from proxy.tokens.token import ACCEPTED, TokenState, ended_at, state_at

if TYPE_CHECKING:
    from proxy.desk.desk import Desk


#: A token of ours has 61 characters.
MAX_CREDENTIAL = 4096


def verify_delivered(desk: Desk, name: str) -> Report | Refusal:
    """`verify` what stands in the first file that the token of `name` is delivered to. Raises StoreError."""
    file = next((each.path for each in desk.rules.deliver.get(name, ()) if isinstance(each, FileTarget)), None)
    if file is None:
        text = f"{name[:80]} has no file in tokens.deliver, and no clear token is kept: show the one to be proven"
        return Refusal(text, Why.INVALID)
    try:
        with Path(file).open("rb") as opened:
            shown = opened.read(MAX_CREDENTIAL)
    except OSError as error:
        return Refusal(f"{file} cannot be read: {error.strerror}", Why.FAILED)
    return verify_shown(desk, name, shown)


def verify_shown(desk: Desk, name: str, shown: bytes) -> Report | Refusal:
    """`verify` what a sender's file holds."""
    return verify(desk, name, Secret(shown.strip().decode(errors="replace")))


def verify(desk: Desk, name: str, secret: Secret) -> Report | Refusal:
    """Prove `secret`, which must be a token of `name` that is accepted. Raises StoreError."""
    prover = desk.prover(name)
    if prover is None:
        return Refusal("there is no canary to send: configure tokens.canary", Why.INVALID)
    shown = digest(secret.reveal().encode())
    token = desk.store.find(shown) or find_configured(desk, shown)
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
        end = when(ended_at(token))
        notes += ("warning: it is not the current one any more" + (f", and ends at {end}" if end else ""),)
    return Report(notes, facts)
