"""Roll back and revoke: the ways in which a token ends before its time."""

from __future__ import annotations

from typing import TYPE_CHECKING

from proxy.desk.configured import left_in_file, refuse_configured
from proxy.desk.desk import TRIES, Report, try_to_tell
from proxy.desk.holding import left_behind, left_lines
from proxy.desk.words import when
from proxy.tokens import succession
from proxy.tokens.lifecycle import Refusal
from proxy.tokens.ports import Conflict
from proxy.tokens.token import TokenState, ended_at, state_at

if TYPE_CHECKING:
    from collections.abc import Callable

    from proxy.desk.desk import Desk
    from proxy.tokens.ports import Change, Story


def roll_back(desk: Desk, name: str) -> Report | Refusal:
    """Make the token before current again, or give up an open rotation. Raises StoreError."""

    def decide(story: Story) -> Change | Refusal:
        return succession.roll_back(story, now=desk.clock(), max_overlap_s=desk.rules.max_overlap_s)

    decided = insist(desk, name, decide)
    if isinstance(decided, Refusal):
        return decided
    change, generation = decided
    notes, failure = try_to_tell(desk, generation)
    now = desk.clock()
    if change.entry is not None and change.entry.put.given_up_at is not None:
        notes += (f"{name}: rotation {change.entry.put.id} is given up, and the token before it stays current",)
    for token in change.put:
        match state_at(token, now):
            case TokenState.CURRENT:
                notes += (f"{name}: token {token.id} is current again",)
            case TokenState.REVOKED:
                notes += (f"{name}: token {token.id} is revoked, nobody had it",)
            case _:
                notes += (
                    f"{name}: token {token.id} is accepted until {when(ended_at(token))}, for who has it already",
                )
    held = _who_holds(desk, change)
    if held:
        hold = "holds" if len(held) == 1 else "hold"
        notes += (f"warning: {', '.join(held)} still {hold} the new token: rotate again before it ends",)
    story = desk.store.story(name)
    left = left_behind(desk, story)
    notes += left_lines(desk, story)
    held = sorted({*held, *left})
    facts = {"name": name, "tokens": {token.id: state_at(token, now).value for token in change.put}, "holders": held}
    return Report(notes, facts, failure)


def revoke(desk: Desk, name: str, *, token_id: str | None = None) -> Report | Refusal:
    """End all tokens of a name, or one, at once and for good. It wins over whoever changes the name meanwhile."""
    decided = insist(desk, name, lambda story: succession.revoke(story, now=desk.clock(), token_id=token_id))
    if isinstance(decided, Refusal):
        return decided
    change, generation = decided
    ids = [token.id for token in change.put]
    notes, failure = try_to_tell(desk, generation)
    if change.entry is not None:
        notes = (f"{name}: rotation {change.entry.put.id} is given up", *notes)
    left = left_in_file(desk, name) if token_id is None else ""
    failure = "; ".join(filter(None, [failure, left]))
    return Report((f"{name}: revoked {', '.join(ids)}", *notes), {"name": name, "revoked": ids}, failure)


def insist(desk: Desk, name: str, decide: Callable[[Story], Change | Refusal]) -> tuple[Change, int] | Refusal:
    """Commit what the rule decides, decided anew each time that another process was faster."""
    if refused := refuse_configured(desk, name):
        return refused
    for tries_left in reversed(range(TRIES)):
        change = decide(desk.store.story(name))
        if isinstance(change, Refusal):
            return change
        try:
            return change, desk.store.commit(change)
        except Conflict:
            if not tries_left:
                raise
    raise AssertionError


def _who_holds(desk: Desk, change: Change) -> list[str]:
    """Targets that were given a token which now has a deadline."""
    if change.entry is None:
        return []
    ending = {token.id for token in change.put if token.accepted_until is not None}
    return sorted({one.target for one in desk.store.receipts(change.entry.put.id) if one.token_id in ending})
