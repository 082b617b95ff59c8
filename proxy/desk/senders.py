"""Who sends with the tokens of a name, and whether its overlap may end: ledger and receipts tell, verdict judges."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from proxy.desk.configured import story_of
from proxy.desk.desk import Report
from proxy.desk.holding import holders
from proxy.desk.words import when
from proxy.tokens.ledger import describe
from proxy.tokens.lifecycle import unknown
from proxy.tokens.ports import StoreError
from proxy.tokens.verdict import Judgement, ago, judge

if TYPE_CHECKING:
    from proxy.desk.desk import Desk
    from proxy.tokens.ledger import Known
    from proxy.tokens.lifecycle import Refusal
    from proxy.tokens.ports import Story
    from proxy.tokens.verdict import Straggler

_SHOWN = 20


def judge_name(desk: Desk, story: Story, now: float) -> tuple[Judgement, tuple[str, ...]]:
    """The verdict on the overlap of a name, and what must be said of how well it is founded."""
    known, trouble = _ask_ledger(desk, story.name)
    judgement = judge(story.name, story.tokens, known, now, held=holders(desk, story), trouble=trouble)
    if known is None or known.is_fresh:
        return judgement, ()
    newest = max((one.last_seen for one in known.sightings), default=None)
    seen = "nobody was seen" if newest is None else f"its newest entry is of {when(newest)}"
    return judgement, (f"no server is running on this store: what the ledger tells may be old, {seen}",)


def list_senders(desk: Desk, name: str) -> Report | Refusal:
    """Who was seen with which token of a name, the last one first, in `senders`; `trouble`: why that is not all."""
    if not story_of(desk, name).tokens:
        return unknown(name)
    known, trouble = _ask_ledger(desk, name)
    seen = sorted(known.sightings if known is not None else (), key=lambda one: one.last_seen, reverse=True)
    rows = [
        {
            "sender": one.sender,
            "address": one.address,
            "agent": one.agent or None,
            "token": one.token_id,
            "kind": one.kind.value,
            "first_seen": when(one.first_seen),
            "last_seen": when(one.last_seen),
            "requests": one.count,
        }
        for one in seen
    ]
    return Report(facts={"senders": rows, "trouble": trouble or None})


def judgement_row(judgement: Judgement, now: float) -> dict[str, Any]:
    """A verdict, for a program."""
    return {
        "verdict": judgement.verdict.value,
        "reason": judgement.reason,
        "senders": judgement.senders,
        "moved": judgement.moved,
        "stragglers": [_straggler_row(one, now) for one in judgement.stragglers],
    }


def straggler_lines(name: str, judgement: Judgement, now: float) -> list[str]:
    """One line for each that keeps the verdict from SAFE; the JSON has all of them."""
    lines = [
        f"{name}: {describe(one.seen)} shows token {one.seen.token_id} ({one.why}): {one.seen.count} requests from "
        f"{when(one.seen.first_seen)} to {ago(now - one.seen.last_seen)} ago"
        for one in judgement.stragglers[:_SHOWN]
    ]
    more = len(judgement.stragglers) - _SHOWN
    return [*lines, f"{name}: and {more} more"] if more > 0 else lines


def _straggler_row(straggler: Straggler, now: float) -> dict[str, Any]:
    one = straggler.seen
    return {
        "address": one.address,
        "agent": one.agent or None,
        "token": one.token_id,
        "why": straggler.why.name.lower(),
        "first_seen": when(one.first_seen),
        "last_seen": when(one.last_seen),
        "seconds_ago": round(max(now - one.last_seen, 0.0), 1),
        "requests": one.count,
    }


def _ask_ledger(desk: Desk, name: str) -> tuple[Known | None, str]:
    """What the ledger knows, and why that is not the whole."""
    if desk.sightings is None:
        return None, "nobody keeps one"
    try:
        known = desk.sightings.known(name)
    except StoreError as error:
        return None, str(error)
    return known, known.trouble
