"""Renew: a sender trades the token that it has for its successor. The rules are in tokens/renewal.py.

The gate has let the caller in by its token; what is asked here is whether there is something for it, and whether it
is the sender. Without a ledger that can be read nobody can tell, and nobody is given anything.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from proxy.desk.by_calendar import not_due
from proxy.desk.desk import TRIES, Report, tell_server, try_to_tell
from proxy.desk.holding import kept
from proxy.desk.words import how_it_ended, when
from proxy.tokens import renewal, succession
from proxy.tokens.configured import is_configured
from proxy.tokens.lifecycle import Refusal, Why
from proxy.tokens.ports import CanaryError, Conflict
from proxy.tokens.rotation import is_renewal
from proxy.tokens.token import ACCEPTED, state_at

if TYPE_CHECKING:
    from collections.abc import Sequence

    from proxy.desk.by_calendar import Calendar
    from proxy.desk.desk import Desk
    from proxy.tokens.ledger import Sighting
    from proxy.tokens.ports import Story
    from proxy.tokens.renewal import Caller
    from proxy.tokens.rotation import Rotation
    from proxy.tokens.secret import Secret
    from proxy.tokens.token import Token


@dataclass(frozen=True, slots=True)
class Renewed:
    """The successor, for the sender alone. It is accepted already."""

    name: str
    token_id: str
    rotation: str
    secret: Secret


@dataclass(frozen=True, slots=True)
class Stranger:
    """Somebody else than the sender came with its token: to be told to everybody who watches."""

    name: str
    rotation: str
    text: str


def begin(
    desk: Desk, name: str, *, rotation_id: str, overlap_s: float, calendar: Calendar | None = None
) -> Report | Refusal:
    """Open the rotation that the sender of `name` waits for. The same id again does no harm. Raises StoreError."""
    known = desk.store.rotation(rotation_id)
    if known is not None and known.name == name and not known.is_open:
        ended = how_it_ended(known)
        return ended if isinstance(ended, Refusal) else Report((ended,), _facts(name, known.id))
    if known is None or known.name != name:
        story = desk.store.story(name)
        if calendar is not None and not calendar.is_due(story):
            return not_due(name)
        change = renewal.begin(
            story,
            rotation_id=rotation_id,
            now=desk.clock(),
            overlap_s=overlap_s,
            max_overlap_s=desk.rules.max_overlap_s,
        )
        if isinstance(change, Refusal):
            return change
        try:
            desk.store.commit(change if calendar is None else calendar.mark(change))
        except Conflict as error:
            return Refusal(str(error))
    elif known.failed_at is not None:
        return _stopped(known)
    line = f"rotation {rotation_id} of {name} waits for its sender, who runs `promgate token renew`"
    return Report((line,), _facts(name, rotation_id))


def renew(desk: Desk, name: str, token_id: str, caller: Caller) -> Renewed | Report | Refusal | Stranger:
    """What there is for a caller that the gate knows by this token of `name`. A Report: nothing. Raises StoreError."""
    if name not in desk.rules.renewing:
        return Refusal(f"{name} does not renew itself: write `tokens: {{senders: {{{name}: one}}}}`", Why.INVALID)
    if is_configured(token_id):
        return Refusal(f"token {token_id} of {name} stands in write_tokens of the configuration, which nobody renews")
    for _ in range(TRIES):
        try:
            return _renew(desk, desk.store.story(name), token_id, caller)
        except Conflict:  # the same sender at the same moment, or an operator: look again
            continue
    raise Conflict(f"{name} is changed all the time: ask again")


def _renew(desk: Desk, story: Story, token_id: str, caller: Caller) -> Renewed | Report | Refusal | Stranger:
    now = desk.clock()
    shown = next((token for token in story.tokens if token.id == token_id), None)
    if shown is None or state_at(shown, now) not in ACCEPTED:
        return Refusal(f"token {token_id} of {story.name} is not accepted any more", Why.UNKNOWN)
    rotation = succession.open_rotation(story)
    if rotation is None or not is_renewal(rotation):
        return _nothing(story, shown)
    if rotation.failed_at is not None:
        return _stopped(rotation)
    if desk.sightings is None:
        return Refusal(f"nobody keeps a ledger, so nobody can tell the sender of {story.name} from others", Why.FAILED)
    sightings = desk.sightings.of(story.name)
    stranger = renewal.find_stranger(caller, sightings, desk.store.receipts(rotation.id), now)
    if stranger is not None:
        desk.store.commit(renewal.stop(story, rotation, now=now, failure=stranger))
        return Stranger(story.name, rotation.id, f"rotation {rotation.id} of {story.name} was stopped: {stranger}")
    if shown.id == rotation.token_id:
        return _take_over(desk, story, rotation, caller)
    return _pick_up(desk, story, rotation, caller, sightings)


def _pick_up(
    desk: Desk, story: Story, rotation: Rotation, caller: Caller, sightings: Sequence[Sighting]
) -> Renewed | Refusal:
    if renewal.is_in_use(rotation.token_id, sightings):
        return Refusal(f"{story.name} sends with token {rotation.token_id} already: show that one")
    issued = renewal.pick_up(
        story,
        rotation,
        caller,
        now=desk.clock(),
        random=desk.random,
        grace_s=desk.rules.retry_grace_s,
        kept=kept(desk, story),
    )
    tell_server(desk, desk.store.commit(issued.change))
    fresh = issued.change.put[-1]
    prover = desk.prover(story.name)
    if prover is not None:
        try:
            prover.prove(story.name, fresh.kind, issued.secret)
        except CanaryError as error:
            return _refute(desk, story.name, rotation.id, fresh.id, f"the canary failed at step {error.step}: {error}")
    return Renewed(story.name, fresh.id, rotation.id, issued.secret)


def _take_over(desk: Desk, story: Story, rotation: Rotation, caller: Caller) -> Report:
    change = renewal.take_over(story, rotation, caller, now=desk.clock(), max_overlap_s=desk.rules.max_overlap_s)
    notes, failure = try_to_tell(desk, desk.store.commit(change))
    line = f"{story.name}: token {rotation.token_id} is current, {caller} has it in place"
    return Report((*notes, line), _facts(story.name, rotation.id), failure)


def _refute(desk: Desk, name: str, rotation_id: str, token_id: str, failure: str) -> Refusal:
    """The successor ends before anybody had it, and the rotation with it."""
    story = desk.store.story(name)
    rotation = next(one for one in story.rotations if one.id == rotation_id)
    if rotation.token_id == token_id and rotation.is_open:
        change = succession.refute(story, rotation, now=desk.clock(), failure=failure)
        try_to_tell(desk, desk.store.commit(change))
    return Refusal(f"rotation {rotation_id} of {name} ended: {failure}; the old token stays current", Why.FAILED)


def _nothing(story: Story, shown: Token) -> Report | Refusal:
    if shown.accepted_until is None:
        return Report((f"{story.name}: token {shown.id} is current, and no rotation is open",), {"name": story.name})
    return Refusal(
        f"token {shown.id} of {story.name} ends at {when(shown.accepted_until)}, and its successor was handed out: "
        f"`promgate token rotate {story.name}` makes another one"
    )


def _stopped(rotation: Rotation) -> Refusal:
    return Refusal(
        f"rotation {rotation.id} of {rotation.name} was stopped ({rotation.failure}): find out who that was, then "
        f"`promgate token rollback {rotation.name}`, or `promgate token revoke --leaked` if a token has leaked",
        Why.FAILED,
    )


def _facts(name: str, rotation_id: str) -> dict[str, object]:
    return {"name": name, "rotation": rotation_id}
