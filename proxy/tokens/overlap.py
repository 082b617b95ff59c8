"""The overlap that follows its senders: prolonged while one of them is late, ended once all of them have moved.

Facts, sightings and time go in, the change to commit comes out. What holds whatever the order of events
(tests/tokens/test_overlap.py plays it at random):
- no deadline is moved past `max_until`, which was fixed when the token stepped down, and what has ended stays so;
- only a sender that had the token before its successor was there prolongs it, and only while it goes on using it: a
  leaked token does not prolong itself, and a rotation prolongs nothing;
- an early end is asked for (`tokens.finish_when_quiet`), and needs a ledger that is whole and every sender it knows.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from proxy.tokens.ledger import Kind
from proxy.tokens.lifecycle import Refusal, unknown
from proxy.tokens.ports import Change
from proxy.tokens.token import Token, TokenState, state_at
from proxy.tokens.verdict import (
    Verdict,
    handed_over_at,
    has_left,
    judge,
    last_elsewhere,
    of_senders,
    patience_s,
)

if TYPE_CHECKING:
    from collections.abc import Sequence

    from proxy.tokens.ledger import Known, Sighting
    from proxy.tokens.verdict import Judgement

#: A prolonging is a part of what the overlap lasted so far, within these bounds, and made when as much is left. A look
#: at the ledger and a commit are two waits for the disk: a busy machine takes most of a second for them.
_PART = 8
_STEP_S = (1.5, 300.0)
#: Requests that were begun with the old token may come in after the first one with the new.
_UNDER_WAY_S = 5.0


def adapt(
    name: str, seen: tuple[Token, ...], known: Known, now: float, *, quiet_s: float | None = None
) -> Change | None:
    """What the sightings change of the deadlines of a name's previous tokens; None: nothing, for now.

    `quiet_s`: an overlap ends early once no known sender is left in it and it was silent for so long; None: never.
    """
    ended = () if quiet_s is None else _quiet(name, seen, known, now, quiet_s)
    late = [] if ended else _late(seen, known, now)
    put = (*(replace(token, accepted_until=now) for token in ended), *late)
    return Change(name, seen, put) if put else None


def next_look(seen: tuple[Token, ...], now: float) -> float | None:
    """In how many seconds `adapt` may have something to prolong; None: not before the next rotation."""
    waits = [
        max((token.accepted_until or now) - now - _step_s(token, seen), 0.0)
        for token in _previous(seen, now)
        if _may_be_prolonged(token)
    ]
    return min(waits, default=None)


def finish(
    name: str, seen: tuple[Token, ...], judgement: Judgement, now: float, *, force: bool = False
) -> Change | Refusal:
    """End the overlap now. Refused when the judgement says WAIT, unless it is forced."""
    if not seen:
        return unknown(name)
    previous = _previous(seen, now)
    if not previous:
        return Refusal(f"nothing to do: {name} has no previous token; `promgate token show {name}` lists what it has")
    if judgement.verdict is Verdict.WAIT and not force:
        return Refusal(
            f"WAIT: {judgement.reason}. `promgate token finish {name} --force` ends the overlap all the same: who "
            "still shows the old token is held with 503 for tokens.retry_grace, and gets 401 then"
        )
    return Change(name, seen, tuple(replace(token, accepted_until=now) for token in previous))


def only_prolongs(change: Change) -> bool:
    """Whether all that `change` does is to take tokens for longer that are taken now: nobody is refused by it."""
    before = {token.id: token for token in change.expect}
    return change.entry is None and all(
        (old := before.get(token.id)) is not None
        and None not in (old.accepted_until, token.accepted_until)
        and replace(old, accepted_until=token.accepted_until) == token
        and (token.accepted_until or 0.0) >= (old.accepted_until or 0.0)
        for token in change.put
    )


def _quiet(name: str, seen: tuple[Token, ...], known: Known, now: float, quiet_s: float) -> Sequence[Token]:
    """The previous tokens, when all of them may end: no sender in them, and as long as it was asked for."""
    previous = _previous(seen, now)
    if not previous or judge(name, seen, known, now).verdict is Verdict.WAIT:
        return ()
    ids = {token.id for token in previous}
    of_them = [one for one in known.sightings if one.token_id in ids and one.kind is Kind.USED]
    handed = [handed_over_at(token, seen) for token in previous]
    # With nobody seen in it, nobody was seen to leave it either: the calendar ends such an overlap.
    if not of_them or None in handed:
        return ()
    last = max(*(one.last_seen for one in of_them), *(at for at in handed if at is not None))
    return previous if now - last >= quiet_s else ()


def _late(seen: tuple[Token, ...], known: Known, now: float) -> list[Token]:
    """The previous tokens that are about to end while a sender of theirs needs them, with their new deadlines."""
    late = []
    by_sender = of_senders(known.sightings)
    for token in _previous(seen, now):
        end, bound = token.accepted_until, token.max_until
        if end is None or bound is None or not _may_be_prolonged(token):
            continue
        step_s = _step_s(token, seen)
        if end - now <= step_s and _is_needed(token, seen, by_sender, now):
            late.append(replace(token, accepted_until=min(end + step_s, bound)))
    return late


def _is_needed(token: Token, seen: tuple[Token, ...], by_sender: dict[str, list[Sighting]], now: float) -> bool:
    handed_at = handed_over_at(token, seen)
    if handed_at is None:
        return False
    return any(
        one.first_seen < handed_at <= one.last_seen
        and now - one.last_seen < patience_s(one)
        and not _has_moved(one, others, now)
        for others in by_sender.values()
        for one in others
        if one.token_id == token.id and one.kind is Kind.USED
    )


def _has_moved(one: Sighting, others: Sequence[Sighting], now: float) -> bool:
    """As `has_left`, and at once where it went over in one step, as a single sender does."""
    if last_elsewhere(one, others) <= one.last_seen:
        return False
    return has_left(one, others, now) or any(
        other.kind is Kind.USED and other.token_id != one.token_id and other.first_seen >= one.last_seen - _UNDER_WAY_S
        for other in others
    )


def _previous(seen: tuple[Token, ...], now: float) -> list[Token]:
    return [token for token in seen if state_at(token, now) is TokenState.PREVIOUS]


def _may_be_prolonged(token: Token) -> bool:
    return token.max_until is not None and token.accepted_until is not None and token.accepted_until < token.max_until


def _step_s(token: Token, seen: tuple[Token, ...]) -> float:
    handed_at = handed_over_at(token, seen)
    lasted = 0.0 if handed_at is None or token.accepted_until is None else token.accepted_until - handed_at
    return min(max(lasted / _PART, _STEP_S[0]), _STEP_S[1])
