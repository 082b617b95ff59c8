"""Tokens for tests: minted by the rules themselves, with randomness that is the same in every run."""

from __future__ import annotations

from random import Random
from typing import TYPE_CHECKING

from proxy.tokens import lifecycle, succession
from proxy.tokens.lifecycle import Issued, Refusal
from proxy.tokens.ports import Change, Story
from proxy.tokens.token import TokenKind

if TYPE_CHECKING:
    from proxy.tokens.ports import TokenStore

HOUR = 3600.0
DAY = 24 * HOUR


def randomness(seed=0):
    return Random(seed).randbytes


def create(name, seen=(), *, now=0.0, kind=TokenKind.WRITE, lifetime_s=None, random=None):
    return lifecycle.create(name, seen, kind=kind, now=now, random=random or randomness(name), lifetime_s=lifetime_s)


def rotate(name, seen, *, now, overlap_s=DAY, max_overlap_s=7 * DAY, random=None):
    """All steps of a rotation in one change, as a store sees them that was not looked at in between."""
    random = random or randomness((name, now, len(seen)).__repr__())
    begun = succession.begin(
        Story(name, seen), rotation_id="r", owner="test", now=now, random=random, overlap_s=overlap_s,
        max_overlap_s=max_overlap_s,
    )  # fmt: skip
    if isinstance(begun, Refusal):
        return begun
    rotation = begun.change.entry.put
    ended = succession.make_current(Story(name, after(begun)), rotation, now=now, max_overlap_s=max_overlap_s)
    return Issued(Change(name, seen, ended.put), begun.secret)


def after(change):
    """What stands under the name once `change` is committed, oldest first."""
    change = change.change if isinstance(change, Issued) else change
    assert isinstance(change, Change), change
    rows = {token.id: token for token in change.expect}
    rows.update({token.id: token for token in change.put})
    return tuple(rows.values())


def committed(store: TokenStore, name, **how):
    """Create `name` in `store`; the generation."""
    issued = create(name, store.named(name), **how)
    assert isinstance(issued, Issued), issued
    return store.commit(issued.change)
