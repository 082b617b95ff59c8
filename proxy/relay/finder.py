"""Finds the answers to the gate's questions, each in its own place and within its own time."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol, assert_never

from proxy.gate.ask import (
    ABSENT,
    FOUND,
    REFUSED,
    UNREADABLE,
    CheckPassword,
    FindSession,
    FindToken,
    Introspect,
    RefreshSession,
    Standing,
    VerifyJwt,
    Waited,
)
from proxy.tokens.ports import StoreError

if TYPE_CHECKING:
    from proxy.gate.ask import Answer, Question
    from proxy.login.introspection import Introspector
    from proxy.login.jwt import JwtVerifier
    from proxy.login.passwords import PasswordChecker
    from proxy.stores.watch import StoreWatch


class SessionFinder(Protocol):
    """Finds people's sessions, and asks their providers whether they still hold."""

    async def find(self, digest: bytes) -> str: ...

    async def refresh(self, digest: bytes) -> str: ...


class AnswerFinder:
    """`watch` None: no token store is configured, so no token can be found. None of the others: there is none of these.

    `sessions` may be set while it serves.
    """

    def __init__(
        self,
        watch: StoreWatch | None,
        passwords: PasswordChecker,
        jwts: JwtVerifier | None = None,
        introspector: Introspector | None = None,
        sessions: SessionFinder | None = None,
    ) -> None:
        self._watch = watch
        self._passwords = passwords
        self._jwts = jwts
        self._introspector = introspector
        self.sessions = sessions

    async def answer(self, question: Question) -> Answer:
        match question:
            case FindToken(digest):
                return await self._find(digest)
            case CheckPassword():
                return await self._passwords.check(question)
            case VerifyJwt():
                return REFUSED if self._jwts is None else await self._jwts.verify(question)
            case Introspect():
                return REFUSED if self._introspector is None else await self._introspector.find(question)
            case FindSession(digest):
                return ABSENT if self.sessions is None else await self.sessions.find(digest)
            case RefreshSession(digest):
                return REFUSED if self.sessions is None else await self.sessions.refresh(digest)
            case Waited() | Standing():
                return True
            case _:
                assert_never(question)

    async def _find(self, digest: bytes) -> Answer:
        if self._watch is None:
            return ABSENT
        try:
            return ABSENT if await self._watch.find(digest) is None else FOUND
        except StoreError:
            return UNREADABLE
