"""May the overlap of a name end now? SAFE or WAIT, with the reason, from what the ledger knows.

SAFE needs every sender that was seen with a previous token to have been seen with another one since, and to have been
silent with the previous one for five of its usual gaps (two senders behind one address look like one), and no target
that took a previous token last, as after a roll back. Whatever cannot be told says WAIT. A sender that the ledger never
saw, because it is silent for longer than the ledger is old, is not known to anybody: SAFE says what it rests on.
"""

from __future__ import annotations

import enum
from dataclasses import dataclass
from typing import TYPE_CHECKING

from proxy.tokens.ledger import Kind, describe
from proxy.tokens.token import TokenState, state_at

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from proxy.tokens.ledger import Known, Sighting
    from proxy.tokens.token import Token

#: Who was not seen for so long, with whatever token, is gone: a week, and a day for a job that runs once in it.
GONE_S = 8 * 86400.0
_PATIENCE_S = (10.0, 900.0)
_UNKNOWN_GAP_S = 60.0
_NAMED = 5


class Verdict(enum.StrEnum):
    SAFE = "SAFE"
    WAIT = "WAIT"


class Why(enum.StrEnum):
    """What keeps a sender from having moved."""

    STILL = "still on the previous token"
    UNSEEN = "not seen since the rotation"
    SETTLING = "moved just now"
    HELD = "held with a retired token"


@dataclass(frozen=True, slots=True)
class Straggler:
    """A sender that has not moved, by its last sighting with the token that it should leave."""

    seen: Sighting
    why: Why


@dataclass(frozen=True, slots=True)
class Judgement:
    """`senders` are those that are known of the name, `moved` those of them that keep nobody waiting."""

    verdict: Verdict
    reason: str
    senders: int = 0
    moved: int = 0
    stragglers: tuple[Straggler, ...] = ()


def judge(
    name: str,
    seen: tuple[Token, ...],
    known: Known | None,
    now: float,
    *,
    held: Mapping[str, str] | None = None,
    trouble: str = "",
) -> Judgement:
    """`seen` are the tokens of the name, oldest first; `held` tells the id of the token that each target took last.

    `known` None: the ledger cannot tell, and `trouble` says why.
    """
    previous = [token for token in seen if state_at(token, now) is TokenState.PREVIOUS]
    if known is None:
        return Judgement(Verdict.WAIT, f"the ledger cannot tell who uses what: {trouble}")
    stragglers = tuple(find_stragglers(seen, previous, known, now))
    senders = {one.sender for one in known.sightings if _counts(one, now)}
    moved = len(senders - {one.seen.sender for one in stragglers})

    def verdict(said: Verdict, reason: str) -> Judgement:
        return Judgement(said, reason, len(senders), moved, stragglers)

    if reason := _unknowable(name, seen, previous, known, now) or trouble:
        return verdict(Verdict.WAIT, reason)
    if stragglers:
        return verdict(Verdict.WAIT, _told(stragglers, len(senders), now))
    if not previous:
        return verdict(Verdict.SAFE, f"no previous token of {name} is accepted")
    if holding := _still_hold(held or {}, previous, known, now):
        others = f"; `promgate token rotate {name}` delivers another one"
        return verdict(Verdict.WAIT, f"{', '.join(holding)} took the previous token last{others}")
    return verdict(Verdict.SAFE, _rests_on(previous, known, len(senders), now))


def find_stragglers(seen: tuple[Token, ...], previous: Iterable[Token], known: Known, now: float) -> list[Straggler]:
    """Who has not left one of `previous`, and who is held; each sender once, who was seen last first."""
    found: dict[str, Straggler] = {}
    by_sender = of_senders(known.sightings)
    handed = {token.id: handed_over_at(token, seen) for token in previous}
    for one in sorted(known.sightings, key=lambda one: one.last_seen):
        if not _counts(one, now):
            continue
        others = by_sender[one.sender]
        if one.kind is Kind.HELD:
            if last_elsewhere(one, others) <= one.last_seen:
                found[one.sender] = Straggler(one, Why.HELD)
        elif one.token_id in handed and not has_left(one, others, now):
            found[one.sender] = Straggler(one, _why(one, others, handed[one.token_id]))
    return sorted(found.values(), key=lambda one: -one.seen.last_seen)


def of_senders(sightings: Iterable[Sighting]) -> dict[str, list[Sighting]]:
    """What is known of each sender."""
    found: dict[str, list[Sighting]] = {}
    for one in sightings:
        if one.kind is not Kind.DROPPED:
            found.setdefault(one.sender, []).append(one)
    return found


def handed_over_at(token: Token, seen: tuple[Token, ...]) -> float | None:
    """When a token minted after it became current; None for one that stepped down by a roll back."""
    later = seen[[one.id for one in seen].index(token.id) + 1 :]
    return min((one.current_from for one in later if one.current_from is not None), default=None)


def last_elsewhere(one: Sighting, others: Iterable[Sighting]) -> float:
    """When its sender was let in last with another token."""
    return max((o.last_seen for o in others if o.token_id != one.token_id and o.kind is Kind.USED), default=0.0)


def patience_s(one: Sighting) -> float:
    """How long a sender must be silent with a token before it can be said to have left it: five of its usual gaps."""
    gap = (one.last_seen - one.first_seen) / (one.count - 1) if one.count > 1 else _UNKNOWN_GAP_S
    return min(max(5 * gap, _PATIENCE_S[0]), _PATIENCE_S[1])


def has_left(one: Sighting, others: Iterable[Sighting], now: float) -> bool:
    """It uses another token since, and this one no more."""
    return last_elsewhere(one, others) > one.last_seen and now - one.last_seen >= patience_s(one)


def ago(seconds: float) -> str:
    """A length of time in the largest unit that it fills twice: `12 s`, `3 min`."""
    for unit, size in (("d", 86400.0), ("h", 3600.0), ("min", 60.0)):
        if seconds >= 2 * size:
            return f"{seconds / size:.0f} {unit}"
    return f"{max(seconds, 0.0):.0f} s"


def _counts(one: Sighting, now: float) -> bool:
    return one.kind in {Kind.USED, Kind.HELD} and now - one.last_seen < GONE_S


def _why(one: Sighting, others: Iterable[Sighting], handed_at: float | None) -> Why:
    if last_elsewhere(one, others) > one.last_seen:
        return Why.SETTLING
    return Why.STILL if handed_at is None or one.last_seen >= handed_at else Why.UNSEEN


def _unknowable(name: str, seen: tuple[Token, ...], previous: Sequence[Token], known: Known, now: float) -> str | None:
    """Why nothing can be concluded from who was seen."""
    states = [state_at(token, now) for token in seen]
    if TokenState.PENDING in states:
        return f"a token of {name} is not handed out everywhere: a rotation has not ended, or has to be begun again"
    if TokenState.CURRENT not in states:
        return f"{name} has no current token to move to: `promgate token rotate {name}`"
    ids = {token.id for token in previous}
    dropped = sum(one.count for one in known.sightings if one.kind is Kind.DROPPED and one.token_id in ids)
    if dropped:
        return f"the ledger is full: it had no room for the senders of {dropped} requests, who may be anybody"
    handed = [at for token in previous if (at := handed_over_at(token, seen)) is not None]
    if handed and known.since > min(handed):
        return f"the ledger was begun {ago(now - known.since)} ago, after the rotation: who sent before is not known"
    return None


def _still_hold(held: Mapping[str, str], previous: Iterable[Token], known: Known, now: float) -> list[str]:
    """Targets that took a previous token last. Where a sender has left it, somebody has put another one there."""
    by_sender = of_senders(known.sightings)
    left = {one.token_id for one in known.sightings if has_left(one, by_sender.get(one.sender, ()), now)}
    ids = {token.id for token in previous} - left
    return sorted(target for target, token_id in held.items() if token_id in ids)


def _told(stragglers: Sequence[Straggler], senders: int, now: float) -> str:
    parts = []
    for why in Why:
        group = [one.seen for one in stragglers if one.why is why]
        if not group:
            continue
        named = "; ".join(f"{describe(one)}, {ago(now - one.last_seen)} ago" for one in group[:_NAMED])
        more = f" and {len(group) - _NAMED} more" if len(group) > _NAMED else ""
        parts.append(f"{len(group)} of {senders} senders {why}: {named}{more}")
    return "; ".join(parts)


def _rests_on(previous: Sequence[Token], known: Known, senders: int, now: float) -> str:
    ids = {token.id for token in previous}
    last = max((one.last_seen for one in known.sightings if one.token_id in ids), default=None)
    used = "was shown by nobody" if last is None else f"was last shown {ago(now - last)} ago"
    who = f"all {senders} senders that were seen in the last" if senders else "no sender was seen in the last"
    moved = " have moved" if senders else ""
    return (
        f"{who} {ago(min(now - known.since, GONE_S))}{moved}, and the previous token {used}; a sender that was silent "
        "all this time is not known"
    )
