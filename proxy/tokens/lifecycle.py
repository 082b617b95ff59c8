"""How a name begins and how it ends, and what is said of it. Facts and time go in, the change to commit comes out.

What lies between, one token after the other, is `succession`.

Rules that hold whatever the order of calls, and that tests/tokens/test_lifecycle.py plays at random:
- a name has at most one current token, and all its tokens are of one kind until the last one is revoked;
- a new token is accepted at once, before anybody has it;
- a deadline, once set, is never moved later by a second rotation or a longer overlap (by a late sender: `overlap`);
- a revocation is for good.

A refusal is a value whose text tells the operator what to do.
"""

from __future__ import annotations

import enum
import re
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from proxy.tokens.ports import Change
from proxy.tokens.secret import SCHEME, Secret, mint
from proxy.tokens.token import ACCEPTED, Token, TokenKind, TokenState, ended_at, state_at

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

#: Letters that need no quoting in a shell, a log line, a URL path or a YAML key.
_NAME = re.compile(r"[A-Za-z0-9._-]{1,64}", re.ASCII)
#: Each accepted token is one more that can leak; a name rotated faster than its overlap ends shows a mistake.
MAX_PREVIOUS = 16
#: Prometheus reads credentials_file at each request, but backs off for up to 5 s, and others restart to read theirs.
SHORT_OVERLAP_S = 30.0
#: A rotation needs its successor to live until every target has it: a canary takes 20 s, a slow target 30 s.
MIN_LIFETIME_S = 60.0
_MAX_LIFETIME_S = 100 * 365 * 86400.0


class Why(enum.StrEnum):
    """What kind of no it is, for those who answer with a status and not with a text alone."""

    INVALID = "invalid"
    UNKNOWN = "unknown"
    CONFLICT = "conflict"
    FAILED = "failed"


@dataclass(frozen=True, slots=True)
class Refusal:
    """The rules say no; the text says why and what to do."""

    text: str
    why: Why = Why.CONFLICT


@dataclass(frozen=True, slots=True)
class Issued:
    """What to commit, and the secret to deliver once it is committed."""

    change: Change
    secret: Secret


@dataclass(frozen=True, slots=True)
class Summary:
    """One name in one line. `id` and `state` are of its current token, or of the newest where none is current."""

    name: str
    kind: TokenKind
    id: str
    state: TokenState
    minted_at: float
    expires_at: float | None
    #: How many older tokens are still accepted, and when the last of them ends.
    previous: int
    previous_until: float | None


def create(
    name: str,
    seen: tuple[Token, ...],
    *,
    kind: TokenKind,
    now: float,
    random: Callable[[int], bytes],
    lifetime_s: float | None = None,
    in_use: bool = True,
) -> Issued | Refusal:
    """The first token of a name, or a new beginning for one whose tokens are all revoked.

    It is current at once, or, with `in_use` False, accepted at once and made current later.
    """
    if _NAME.fullmatch(name) is None:
        return Refusal(
            f"{name[:80]!r} is not a name for a token: take 1 to 64 of the characters A-Z a-z 0-9 . _ -", Why.INVALID
        )
    if _living(seen):
        return Refusal(f"{name} has a token already: `promgate token rotate {name}` mints its successor")
    if lifetime_s is not None and not MIN_LIFETIME_S <= lifetime_s <= _MAX_LIFETIME_S:
        return Refusal(
            "a token lives for at least 1m, for its successor must reach all targets in that time, and for at most 100 "
            "years: give a longer --expires, or leave it out for a token without end",
            Why.INVALID,
        )
    fresh, secret = mint_token(name, kind, now, random, lifetime_s)
    if in_use:
        fresh = replace(fresh, current_from=now)
    return Issued(Change(name, seen, (fresh,)), secret)


def revoke(name: str, seen: tuple[Token, ...], *, now: float, token_id: str | None = None) -> Change | Refusal:
    """End one token of a name, or all of them, at once and for good. Retired ones too: they are no longer held."""
    if not seen:
        return unknown(name)
    chosen = [token for token in seen if token_id is None or token.id == token_id]
    if not chosen:
        return Refusal(f"{name} has no token {token_id!r}: `promgate token show {name}` lists its ids", Why.UNKNOWN)
    ending = _living(tuple(chosen))
    if not ending:
        what = f"every token of {name}" if token_id is None else f"{token_id} of {name}"
        return Refusal(f"nothing to do: {what} is revoked already")
    return Change(name, seen, tuple(replace(token, revoked_at=now) for token in ending))


def advice_on(overlap_s: float) -> str | None:
    """What an operator should know about a lawful but unusual overlap."""
    if overlap_s >= SHORT_OVERLAP_S:
        return None
    return (
        f"an overlap under {SHORT_OVERLAP_S:.0f}s is short: a sender that has not taken the new token by then is "
        "held with 503 until it has"
    )


def summarize(seen: tuple[Token, ...], now: float) -> Summary:
    """One line about a name that has at least one token."""
    current = next((token for token in seen if state_at(token, now) is TokenState.CURRENT), seen[-1])
    others = [token for token in seen if token is not current and state_at(token, now) in ACCEPTED]
    return Summary(
        name=current.name,
        kind=current.kind,
        id=current.id,
        state=state_at(current, now),
        minted_at=current.minted_at,
        expires_at=current.expires_at,
        previous=len(others),
        previous_until=max((end for token in others if (end := ended_at(token)) is not None), default=None),
    )


def summarize_all(tokens: Iterable[Token], now: float) -> list[Summary]:
    """A line for each name, sorted by name."""
    by_name: dict[str, list[Token]] = {}
    for token in tokens:
        by_name.setdefault(token.name, []).append(token)
    seen = ((name, sorted(named, key=lambda token: token.minted_at)) for name, named in by_name.items())
    return [summarize(tuple(named), now) for _, named in sorted(seen)]


def mint_token(
    name: str, kind: TokenKind, now: float, random: Callable[[int], bytes], lifetime_s: float | None
) -> tuple[Token, Secret]:
    """A token that is accepted and not yet current, and its secret."""
    minted = mint(kind, random)
    expires_at = None if lifetime_s is None else now + lifetime_s
    token = Token(minted.id, name, kind, minted.digest, SCHEME, minted_at=now, expires_at=expires_at)
    return token, minted.secret


def _living(seen: tuple[Token, ...]) -> tuple[Token, ...]:
    return tuple(token for token in seen if token.revoked_at is None)


def unknown(name: str) -> Refusal:
    """What is said of a name that has no token."""
    return Refusal(f"there is no token named {name[:80]!r}: `promgate token list` shows the names", Why.UNKNOWN)
