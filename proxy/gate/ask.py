"""The questions the gate may put to the world, and nothing else it may do.

`decide` returns Need(question); the relay finds the answer and decides again with it among the facts.
Questions are values: equal questions have one answer, so that one flight can serve many.
"""

from __future__ import annotations

from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True)
class CheckPassword:
    """Which of these bcrypt hashes belongs to the password? Answer: that hash, False for none of them, or BUSY.

    `was_right`: it did once, so whoever asks has been here before, and no flood of guesses may keep them waiting.
    """

    hashes: tuple[bytes, ...]
    password: bytes = field(repr=False)
    was_right: bool = field(default=False, compare=False)


@dataclass(frozen=True, slots=True)
class FindToken:
    """Look into the store once: another process may have minted it a moment ago. Answer: FOUND, ABSENT or UNREADABLE.

    A token that was found is in the book when the answer arrives.
    """

    digest: bytes


@dataclass(frozen=True, slots=True)
class VerifyJwt:
    """Is this a signed token of an issuer in the configuration? Answer: Claims, REFUSED, BUSY, UNREACHABLE or LATE.

    No word on the time: the gate judges that, at each look anew.
    """

    text: bytes = field(repr=False)


@dataclass(frozen=True, slots=True)
class Introspect:
    """Does its provider know this opaque token? Answer: Claims, REFUSED, BUSY or UNREACHABLE. No word on the time."""

    text: bytes = field(repr=False)


@dataclass(frozen=True, slots=True)
class FindSession:
    """Look for a person's session that memory does not hold. Answer: FOUND, ABSENT, UNREADABLE or BUSY.

    One that was found is in memory when the answer arrives.
    """

    digest: bytes


@dataclass(frozen=True, slots=True)
class RefreshSession:
    """Does the provider still stand by this session? Answer: FOUND, REFUSED (it has ended), UNREACHABLE or BUSY.

    After FOUND memory holds what the provider says now.
    """

    digest: bytes


@dataclass(frozen=True, slots=True)
class Claims:
    """What a token says, by the word of an issuer that is believed. Times are unix seconds.

    `name` is the identity. `terms` are those under which it was judged. `not_before` is the later of `nbf` and `iat`.
    `writes`: its scope holds the word `write`. `granted` are keys of `Snapshot.roles` that its claims stand for.
    """

    name: str
    terms: str
    not_before: float
    expires_at: float
    writes: bool = False
    granted: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Waited:
    """The time that a limit asked for has passed."""


@dataclass(frozen=True, slots=True)
class Standing:
    """It was let in before, and is still open."""


Question = CheckPassword | FindToken | VerifyJwt | Introspect | FindSession | RefreshSession | Waited | Standing

FOUND, ABSENT, UNREADABLE, BUSY, REFUSED = "found", "absent", "unreadable", "busy", "refused"
#: The provider does not answer; it does, but the key that is wanted is not known yet, and cannot be asked for just now.
UNREACHABLE, LATE = "unreachable", "late"
Answer = bool | bytes | str | Claims
#: Among the facts once a rate's wait is over: the request was charged when it was told to wait.
WAITED = Waited()
#: Among the facts of a stream that is judged again: it is no new request, which would keep a session from idling.
STANDING = Standing()
