"""The questions the gate may put to the world, and nothing else it may do.

`decide` returns Need(question); the relay finds the answer and decides again with it among the facts.
Questions are values: equal questions have one answer, so that one flight can serve many.
"""

from __future__ import annotations

from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True)
class CheckPassword:
    """Does one of these bcrypt hashes belong to the password? Answer: bool."""

    hashes: tuple[bytes, ...]
    password: bytes = field(repr=False)


@dataclass(frozen=True, slots=True)
class FindToken:
    """Look into the store once: another process may have minted it a moment ago. Answer: FOUND, ABSENT or UNREADABLE.

    A token that was found is in the book when the answer arrives.
    """

    digest: bytes


@dataclass(frozen=True, slots=True)
class VerifyJwt:
    """Is this a signed token of an issuer in the configuration? Answer: JwtClaims, REFUSED or BUSY.

    No word on the time: the gate judges that, at each look anew.
    """

    text: bytes = field(repr=False)


@dataclass(frozen=True, slots=True)
class JwtClaims:
    """What a token says whose signature, issuer and audience are right. Times are unix seconds.

    `not_before` is the later of `nbf` and `iat`. `writes`: its scope holds the word `write`.
    """

    subject: str
    issuer: str
    audience: str
    not_before: float
    expires_at: float
    writes: bool = False


@dataclass(frozen=True, slots=True)
class Waited:
    """The time that a limit asked for has passed."""


Question = CheckPassword | FindToken | VerifyJwt | Waited

FOUND, ABSENT, UNREADABLE, BUSY, REFUSED = "found", "absent", "unreadable", "busy", "refused"
Answer = bool | str | JwtClaims
#: Among the facts once a rate's wait is over: the request was charged when it was told to wait.
WAITED = Waited()
