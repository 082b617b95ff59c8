"""The transitions of a rotation: one function for each step of `rotation`, and those that end one early.

Facts and time go in, the change to commit comes out, tokens and journal in one. What holds whatever the order, and
whatever process dies where (tests/desk/test_life.py plays it at random):
- the old token has no deadline before every target has given its receipt for the successor;
- whoever may have been handed a token can use it until all targets have a newer one, and an overlap longer, unless
  it is revoked (or one of too many tries: `tries`);
- a deadline is never moved later, but by a roll back, which ends it, and within `max_until` while the token is in use;
- of all the tries of a rotation exactly one makes its token current.
"""

from __future__ import annotations

import math
import re
from dataclasses import replace
from typing import TYPE_CHECKING

from proxy.tokens import lifecycle, tries
from proxy.tokens.lifecycle import MAX_PREVIOUS, Issued, Refusal, Why
from proxy.tokens.ports import Change, Entry, Receipt
from proxy.tokens.rotation import LEASE_S, Rotation, is_renewal
from proxy.tokens.token import ACCEPTED, Token, TokenKind, TokenState, ended_at, is_accepted, state_at

if TYPE_CHECKING:
    from collections.abc import Callable, Collection

    from proxy.tokens.ports import Story

_ID = re.compile(r"[A-Za-z0-9._:@-]{1,64}", re.ASCII)


def open_rotation(story: Story) -> Rotation | None:
    """The rotation that keeps a name from beginning another one."""
    return next((rotation for rotation in story.rotations if rotation.is_open), None)


def begin(
    story: Story,
    *,
    rotation_id: str,
    owner: str,
    now: float,
    random: Callable[[int], bytes],
    overlap_s: float,
    max_overlap_s: float,
    kept: Collection[str] = (),
) -> Issued | Refusal:
    """Mint the successor of a name, accepted at once, and open its journal.

    The successor lives as long as its forerunner was meant to (`--expires 90d` renews itself with each rotation). An
    expired current token may be rotated: the name then has a way in again, and the expired one stays out. `kept` are
    ids of tokens that somebody is known to have, and that make room for no other.
    """
    refusal = cannot_begin(story, rotation_id) or cannot_overlap(overlap_s, max_overlap_s)
    if refusal := refusal or _too_many(story, now):
        return refusal
    rotation = Rotation(rotation_id, story.name, "", now, overlap_s, lease_owner=owner, lease_until=now + LEASE_S)
    return _issue(story, rotation, tries.surplus(story, now, kept), now, random)


def begin_first(
    story: Story,
    *,
    rotation_id: str,
    owner: str,
    now: float,
    random: Callable[[int], bytes],
    kind: TokenKind,
    lifetime_s: float | None,
    overlap_s: float,
) -> Issued | Refusal:
    """The first token of a name, handed out by the same steps.

    Nothing steps down when it becomes current, but what an earlier try may have handed out: hence the overlap.
    """
    rotation = open_rotation(story)
    if rotation is not None:
        return _not_ended(story.name, rotation)
    issued = lifecycle.create(
        story.name, story.tokens, kind=kind, now=now, random=random, lifetime_s=lifetime_s, in_use=False
    )
    if isinstance(issued, Refusal):
        return issued
    if _ID.fullmatch(rotation_id) is None:
        return _bad_id(rotation_id)
    (token,) = issued.change.put
    rotation = Rotation(
        rotation_id, story.name, token.id, now, overlap_s, lease_owner=owner, lease_until=now + LEASE_S
    )
    return Issued(replace(issued.change, entry=Entry(None, rotation)), issued.secret)


def mint_again(
    story: Story,
    rotation: Rotation,
    *,
    owner: str,
    now: float,
    random: Callable[[int], bytes],
    kept: Collection[str] = (),
) -> Issued:
    """Take up an open rotation: its secret is gone, so there is a new one, for all targets.

    The token of the try before ends at once if it was never offered, and with the overlap if somebody may have it.
    """
    spent = tries.ungiven(story, rotation, now)
    spent += tries.surplus(story, now, kept, spent)
    taken = replace(
        rotation,
        tries=rotation.tries + 1,
        proved_at=None,
        offered_at=None,
        failed_at=None,
        failure="",
        lease_owner=owner,
        lease_until=now + LEASE_S,
    )
    return _issue(story, taken, spent, now, random, expect=rotation)


def note(
    story: Story, rotation: Rotation, *, now: float, receipts: tuple[Receipt, ...] = (), **facts: object
) -> Change:
    """Write down a step that changes no token (`proved_at`, `offered_at`, receipts), and renew the lease."""
    put = replace(rotation, lease_until=now + LEASE_S, **facts)  # type: ignore[arg-type]
    return Change(story.name, story.tokens, (), Entry(rotation, put, receipts))


def halt(story: Story, rotation: Rotation, *, now: float, failure: str) -> Change:
    """A step failed: all stays as it is, and anybody may take the rotation up."""
    put = replace(rotation, failed_at=now, failure=failure, lease_until=now)
    return Change(story.name, story.tokens, (), Entry(rotation, put))


def refute(story: Story, rotation: Rotation, *, now: float, failure: str) -> Change:
    """The canary died: the successor ends before anybody had it, and the rotation with it.

    What an earlier try has handed out goes on as it is, until the next rotation replaces it.
    """
    put = replace(rotation, failed_at=now, failure=failure, given_up_at=now, lease_until=now)
    successor = _token(story, rotation.token_id)
    spent = () if successor is None or successor.revoked_at is not None else (replace(successor, revoked_at=now),)
    return Change(story.name, story.tokens, spent, Entry(rotation, put))


def make_current(
    story: Story, rotation: Rotation, *, now: float, max_overlap_s: float, receipts: tuple[Receipt, ...] = ()
) -> Change:
    """The last receipt is in: the successor takes over, and the overlap of all that lived without a deadline begins.

    One that has ended meanwhile (leaked, say) takes nothing over: the receipts are kept, and the rotation stays open.
    """
    successor = _token(story, rotation.token_id)
    if successor is None or not is_accepted(successor, now):
        return note(story, rotation, now=now, receipts=receipts)
    others = [token for token in _endless(story) if token.id != successor.id]
    stepped_down = [_step_down(token, rotation.overlap_s, max_overlap_s, now) for token in others]
    predecessor = next((token.id for token in others if token.current_from is not None), None)
    put = replace(rotation, current_at=now, predecessor=predecessor, lease_until=now)
    took_over = replace(successor, current_from=now)
    return Change(story.name, story.tokens, (*stepped_down, took_over), Entry(rotation, put, receipts))


def roll_back(story: Story, *, now: float, max_overlap_s: float) -> Change | Refusal:
    """Make the token before current again, or give up a rotation that has not come so far.

    Who has the new token already goes on with it: for an overlap from now, or, of a rotation that did not come so far,
    until the next one replaces it.
    """
    if not story.tokens:
        return lifecycle.unknown(story.name)
    rotation = open_rotation(story)
    if rotation is not None:
        return _give_up(story, rotation, now)
    if refusal := _given_up_already(story, now):
        return refusal
    current = next((token for token in _endless(story) if token.current_from is not None), None)
    if current is None:
        return Refusal(f"{story.name} has no current token: `promgate token show {story.name}` lists what it has")
    made = next((one for one in reversed(story.rotations) if one.token_id == current.id and one.current_at), None)
    before = _before(story, current, made)
    if before is None:
        return Refusal(
            f"{story.name} has no token to go back to: {current.id} was the first, or the one before is revoked"
        )
    if state_at(before, now) is not TokenState.PREVIOUS:
        return Refusal(
            f"{story.name} cannot go back to {before.id}: its overlap is over, and its senders have moved; "
            f"`promgate token rotate {story.name}` makes a new one"
        )
    overlap_s = made.overlap_s if made is not None else (before.accepted_until or now) - now
    stepped_down = _step_down(current, overlap_s, max_overlap_s, now)
    restored = replace(before, accepted_until=None, max_until=None)
    entry = None if made is None else Entry(made, replace(made, rolled_back_at=now))
    return Change(story.name, story.tokens, (stepped_down, restored), entry)


def leak(
    story: Story,
    token: Token,
    *,
    rotation_id: str,
    owner: str,
    now: float,
    random: Callable[[int], bytes],
    overlap_s: float,
    grace_s: float,
) -> Issued | Change | Refusal:
    """End a token that strangers know, at once and for good; if it was accepted, mint a successor in the same breath.

    Its own sender is told "not now" for `grace_s`, so that it keeps its data until it has the successor; where it was
    told so already, for a token that is over, that goes on to its end. A previous token is replaced too: whoever still
    holds it (after a roll back, its targets) can be given the current one no more. What was picked up in an open
    renewal by somebody who showed the leaked token ends as that does.
    """
    if token.revoked_at is not None:
        return Refusal(f"token {token.id} of {token.name} is revoked already: it opens nothing")
    was_accepted = state_at(token, now) in ACCEPTED
    held_until = (now if was_accepted else ended_at(token) or now) + grace_s
    dead = replace(token, revoked_at=now, held_until=held_until if now < held_until else None)
    under_way = open_rotation(story)
    if under_way is not None and was_accepted and is_renewal(under_way):
        picked_up = [one for one in story.tokens if one.id == under_way.token_id and one.revoked_at is None]
        ended = (replace(one, revoked_at=now, held_until=now + grace_s) for one in picked_up if one.id != token.id)
        return Change(story.name, story.tokens, (dead, *ended))
    if under_way is not None or not was_accepted:
        return Change(story.name, story.tokens, (dead,))
    rotation = Rotation(rotation_id, story.name, "", now, overlap_s, lease_owner=owner, lease_until=now + LEASE_S)
    return _issue(story, rotation, (dead,), now, random)


def revoke(story: Story, *, now: float, token_id: str | None = None) -> Change | Refusal:
    """`lifecycle.revoke`, which also ends the rotation whose successor it ends."""
    change = lifecycle.revoke(story.name, story.tokens, now=now, token_id=token_id)
    rotation = open_rotation(story)
    if isinstance(change, Refusal) or rotation is None:
        return change
    if token_id is not None and rotation.token_id not in {token.id for token in change.put}:
        return change
    ended = replace(rotation, given_up_at=now, failure="revoked", lease_until=now)
    return replace(change, entry=Entry(rotation, ended))


def cannot_overlap(overlap_s: float, max_overlap_s: float) -> Refusal | None:
    """Why an overlap is none that may be asked for."""
    if 0 <= overlap_s <= max_overlap_s:
        return None
    return Refusal(
        f"an overlap of {overlap_s:.0f} s is over tokens.max_overlap ({max_overlap_s:.0f} s), the longest time that an "
        "old token may stay in use: take a shorter one, or raise max_overlap in the config",
        Why.INVALID,
    )


def _give_up(story: Story, rotation: Rotation, now: float) -> Change | Refusal:
    """Nobody is given anything any more. Who has a token of it goes on with that, until the next rotation replaces it.

    A deadline would end it in a file that promgate has no token for: the secrets of all tokens before are gone.
    """
    if not any(token.current_from is not None and state_at(token, now) in ACCEPTED for token in story.tokens):
        return Refusal(
            f"{story.name} has nothing to go back to: take rotation {rotation.id} up with `promgate token rotate "
            f"{story.name} --id {rotation.id}` (`promgate token revoke {story.name}` would refuse every sender it has)"
        )
    put = replace(rotation, given_up_at=now, failure=rotation.failure or "rolled back", lease_until=now)
    return Change(story.name, story.tokens, tries.ungiven(story, rotation, now), Entry(rotation, put))


def _given_up_already(story: Story, now: float) -> Refusal | None:
    """Whoever rolls back a rotation that a dead canary has ended must not go back one more: its files hold no older."""
    last = story.rotations[-1] if story.rotations else None
    left = [token.id for token in tries.left_over(story, now) if token.accepted_until is None]
    if last is None or last.given_up_at is None or not left:
        return None
    return Refusal(
        f"rotation {last.id} of {story.name} is given up already; {', '.join(left)}, which it left behind, stays "
        f"accepted until `promgate token rotate {story.name}` has replaced it"
    )


def _before(story: Story, current: Token, made: Rotation | None) -> Token | None:
    """Who was current before `current`: what the journal says, or, from before there was one, the one minted before."""
    if made is not None:
        token = _token(story, made.predecessor or "")
        return None if token is None or token.revoked_at is not None else token
    older = story.tokens[: story.tokens.index(current)]
    living = [token for token in older if token.revoked_at is None and token.current_from is not None]
    return living[-1] if living else None


def _issue(
    story: Story,
    rotation: Rotation,
    ended: tuple[Token, ...],
    now: float,
    random: Callable[[int], bytes],
    *,
    expect: Rotation | None = None,
) -> Issued:
    newest = story.tokens[-1]
    lifetime_s = None if newest.expires_at is None else newest.expires_at - newest.minted_at
    fresh, secret = lifecycle.mint_token(story.name, newest.kind, now, random, lifetime_s)
    entry = Entry(expect, replace(rotation, token_id=fresh.id))
    return Issued(Change(story.name, story.tokens, (*ended, fresh), entry), secret)


def _step_down(token: Token, overlap_s: float, max_overlap_s: float, now: float) -> Token:
    return replace(token, accepted_until=now + overlap_s, max_until=now + max(overlap_s, max_overlap_s))


def _endless(story: Story) -> list[Token]:
    """Living tokens without a deadline: the current one, and those that were handed out, perhaps, before."""
    return [token for token in story.tokens if token.revoked_at is None and token.accepted_until is None]


def _token(story: Story, token_id: str) -> Token | None:
    return next((token for token in story.tokens if token.id == token_id), None)


def cannot_begin(story: Story, rotation_id: str) -> Refusal | None:
    """Why a name may not begin a rotation, whatever the overlap."""
    name = story.name
    if not story.tokens:
        return lifecycle.unknown(name)
    if _ID.fullmatch(rotation_id) is None:
        return _bad_id(rotation_id)
    rotation = open_rotation(story)
    if rotation is not None:
        return _not_ended(name, rotation)
    living = [token for token in story.tokens if token.revoked_at is None]
    if not living:
        return Refusal(f"every token of {name} is revoked: `promgate token create {name}` begins anew")
    return None


def _not_ended(name: str, rotation: Rotation) -> Refusal:
    return Refusal(
        f"rotation {rotation.id} of {name} has not ended: `promgate token rotate {name} --id {rotation.id}` takes it "
        f"up, `promgate token rollback {name}` gives it up"
    )


def _bad_id(rotation_id: str) -> Refusal:
    return Refusal(
        f"{rotation_id[:80]!r} is no id for a rotation: take 1 to 64 of the characters A-Z a-z 0-9 . _ : @ -",
        Why.INVALID,
    )


def _too_many(story: Story, now: float) -> Refusal | None:
    """Counted with the one that is about to step down. What tries left behind makes room itself (`tries.surplus`)."""
    accepted = [token for token in story.tokens if token.current_from is not None and is_accepted(token, now)]
    if len(accepted) <= MAX_PREVIOUS:
        return None
    name = story.name
    end, first = min((ended_at(token) or math.inf, token.id) for token in accepted)
    return Refusal(
        f"{name} would have more than {MAX_PREVIOUS} previous tokens: wait {end - now:.0f} s until {first} ends, or "
        f"run `promgate token finish {name}` once no sender needs them (`promgate token show {name}` lists them)"
    )
