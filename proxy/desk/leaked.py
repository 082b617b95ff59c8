"""A token that strangers know: find whose it is, end it at once, replace it, and tell who has used it."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from proxy.desk.configured import find_configured
from proxy.desk.desk import Report, try_to_tell
from proxy.desk.ending import insist
from proxy.desk.holding import outdated_lines
from proxy.desk.rotating import NO_OUTLETS, Outlets, drive_of, new_id
from proxy.desk.words import when
from proxy.tokens import succession
from proxy.tokens.lifecycle import Issued, Refusal, Why
from proxy.tokens.ports import StoreError
from proxy.tokens.secret import digest, parse
from proxy.tokens.token import TokenState, state_at

if TYPE_CHECKING:
    from proxy.desk.desk import Desk
    from proxy.desk.driving import Drive
    from proxy.tokens.ledger import Sighting
    from proxy.tokens.ports import Change, Story
    from proxy.tokens.token import Token


def revoke_shown(desk: Desk, shown: bytes, outlets: Outlets = NO_OUTLETS) -> Report | Refusal:
    """`revoke_leaked` by the leaked string itself, which is kept nowhere and repeated to nobody."""
    shown = shown.strip()
    marks = parse(shown)
    hint = f", though it looks like one, of id {marks.id}" if marks else "; is it whole?"
    return revoke_leaked(desk, digest(shown), outlets, hint=hint)


def revoke_leaked(desk: Desk, leaked: bytes, outlets: Outlets = NO_OUTLETS, *, hint: str = "") -> Report | Refusal:
    """End the token with this digest. If it was accepted a successor is minted in the same transaction and delivered.

    The successor goes out without a canary, for nobody could go back (`tries.can_go_back`). Raises StoreError.
    """
    token = desk.store.find(leaked)
    if token is None:
        return _not_stored(desk, leaked, hint)
    drive = drive_of(desk, token.name, new_id(desk), outlets)
    if isinstance(drive, Refusal):
        return drive
    used_by, notes = _who_used(desk, token)
    issued: list[Issued] = []

    def decide(story: Story) -> Change | Refusal:
        decided = _decide(desk, story, token, drive)
        issued[:] = [decided] if isinstance(decided, Issued) else []
        return decided.change if isinstance(decided, Issued) else decided

    decided = insist(desk, token.name, decide)
    if isinstance(decided, Refusal):
        return replace(decided, text=" ".join([decided.text, *(f"({line})" for line in notes)]))
    change, generation = decided
    if issued:
        drive.adopt(issued[0], generation)
    told, failure = try_to_tell(desk, generation)
    with_it = [one.id for one in change.put if one.revoked_at is not None and one.id != token.id]
    picked_up = f"; so is {', '.join(with_it)}, which was picked up with it" if with_it else ""
    notes = (f"{token.name}: token {token.id} leaked and is revoked{picked_up}", *told, *notes)
    facts = {"name": token.name, "leaked": token.id, "used_by": used_by}
    ended = Report(notes, facts, failure)
    return _hand_out(ended, drive) if issued else _go_on(desk, ended, outlets)


def _not_stored(desk: Desk, leaked: bytes, hint: str) -> Refusal:
    token = find_configured(desk, leaked)
    if token is None:
        return Refusal(f"that is no token of this store{hint}: nothing was done", Why.UNKNOWN)
    text = (
        f"it is {token.id} of {token.name}, in write_tokens of the configuration, and accepted: take the digest away "
        "there, write that of the next one, and reload"
    )
    return Refusal(" ".join([text, *(f"({line})" for line in _who_used(desk, token)[1])]))


def _decide(desk: Desk, story: Story, token: Token, drive: Drive) -> Issued | Change | Refusal:
    now_known = next(one for one in story.tokens if one.id == token.id)
    return succession.leak(
        story,
        now_known,
        rotation_id=drive.id,
        owner=drive.owner,
        now=desk.clock(),
        random=desk.random,
        overlap_s=desk.rules.overlap_s,
        grace_s=desk.rules.retry_grace_s,
    )


def _go_on(desk: Desk, ended: Report, outlets: Outlets) -> Report:
    """No rotation began: take up the one that was under way, whose token it may have been.

    One that waits for its sender waits for nobody any more: what the sender could show is revoked.
    """
    name = ended.facts["name"]
    rotation = succession.open_rotation(desk.store.story(name))
    if rotation is None:
        return replace(ended, notes=(*ended.notes, *_nothing_new(desk, name)))
    drive = drive_of(desk, name, rotation.id, outlets)
    assert not isinstance(drive, Refusal)
    return _hand_out(ended, drive)


def _hand_out(ended: Report, drive: Drive) -> Report:
    """Deliver the successor. The leaked token is revoked whatever comes of it."""
    handed_out = drive.run()
    if isinstance(handed_out, Refusal):
        return replace(ended, failure="; ".join(filter(None, [ended.failure, handed_out.text])))
    return Report(
        (*ended.notes, *handed_out.notes),
        {**handed_out.facts, **ended.facts},
        "; ".join(filter(None, [ended.failure, handed_out.failure])),
    )


def _nothing_new(desk: Desk, name: str) -> tuple[str, ...]:
    now, story = desk.clock(), desk.store.story(name)
    current = [token.id for token in story.tokens if state_at(token, now) is TokenState.CURRENT]
    if not current:
        return (f"{name} has no current token: `promgate token rotate {name}` or `create {name}` makes one",)
    stays = f"{name}: token {current[0]} stays current; the leaked one was not accepted any more"
    return (stays, *outdated_lines(desk, story))


def _who_used(desk: Desk, token: Token) -> tuple[list[dict[str, object]], tuple[str, ...]]:
    """From where it was used, newest first, as rows and as lines."""
    if desk.sightings is None:
        return [], ("who used it is not known: no ledger of senders is kept; the access log has its id",)
    try:
        seen = [one for one in desk.sightings.of(token.name) if one.token_id == token.id]
    except StoreError as error:
        return [], (f"who used it cannot be told: {error}",)
    seen.sort(key=lambda one: one.last_seen, reverse=True)
    if not seen:
        return [], (f"token {token.id} was never seen in use",)
    return [_row(one) for one in seen], tuple(
        f"{one.kind} by {one.address} ({one.agent or 'no User-Agent'}): {one.count} requests, "
        f"{when(one.first_seen)} to {when(one.last_seen)}"
        for one in seen
    )


def _row(one: Sighting) -> dict[str, object]:
    return {
        "sender": one.sender,
        "what": one.kind.value,
        "address": one.address,
        "agent": one.agent,
        "first_seen": when(one.first_seen),
        "last_seen": when(one.last_seen),
        "count": one.count,
    }
