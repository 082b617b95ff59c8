"""A change of a token's life, told as facts: for the audit. Derived from what is committed, so it cannot say less."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Iterator

    from proxy.tokens.ports import Change, Entry
    from proxy.tokens.token import Token


class Fact(NamedTuple):
    """`what` happened, to a token or a rotation; `until`: a deadline that it got, in unix seconds."""

    what: str
    token: str = ""
    rotation: str = ""
    target: str = ""
    until: float | None = None
    text: str = ""


def tell_change(change: Change) -> tuple[Fact, ...]:
    """All that `change` changes, but for leases; nothing if it changes no more than that."""
    before = {token.id: token for token in change.expect}
    tokens = [fact for token in change.put for fact in _tell_token(before.get(token.id), token)]
    return (*tokens, *(_tell_entry(change.entry) if change.entry is not None else ()))


def _tell_token(before: Token | None, token: Token) -> Iterator[Fact]:
    def fact(what: str, until: float | None = None, text: str = "") -> Fact:
        return Fact(what, token.id, until=until, text=text)

    if before is None:
        yield fact("minted", token.expires_at, token.kind.value)
        before = replace(token, current_from=None, accepted_until=None, revoked_at=None)
    if before.revoked_at is None and token.revoked_at is not None:
        yield fact("revoked", token.held_until)
    if before.current_from is None and token.current_from is not None:
        yield fact("made current")
    if before.accepted_until is not None and token.accepted_until is None:
        yield fact("made current again")
    elif before.accepted_until is None and token.accepted_until is not None:
        yield fact("stepped down", token.accepted_until)
    elif (before.accepted_until, before.max_until) != (token.accepted_until, token.max_until):
        yield fact("deadline moved", token.accepted_until)
    known = replace(
        before, revoked_at=token.revoked_at, held_until=token.held_until, current_from=token.current_from,
        accepted_until=token.accepted_until, max_until=token.max_until,
    )  # fmt: skip
    if known != token:
        yield fact("changed")


def _tell_entry(entry: Entry) -> Iterator[Fact]:
    put, before = entry.put, entry.expect

    def fact(what: str, text: str = "") -> Fact:
        return Fact(what, put.token_id, put.id, text=text)

    if before is None:
        yield fact("rotation begun")
        return
    if put.proved_at is not None and before.proved_at is None:
        yield fact("proven")
    if put.offered_at is not None and before.offered_at is None:
        yield fact("about to be handed out")
    yield from (Fact("handed out", one.token_id, put.id, target=one.target) for one in entry.receipts)
    if put.current_at is not None and before.current_at is None:
        yield fact("rotation done")
    if put.failed_at is not None and put.failed_at != before.failed_at:
        yield fact("rotation halted", put.failure)
    if put.given_up_at is not None and before.given_up_at is None:
        yield fact("rotation given up", put.failure)
    if put.rolled_back_at is not None and before.rolled_back_at is None:
        yield fact("rotation rolled back")
    if put.tries != before.tries:
        yield fact("rotation taken up", f"try {put.tries}")
