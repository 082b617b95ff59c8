"""What the gate remembers between requests. Changed only by the gate and by the store's news; survives a reload."""

from __future__ import annotations

from typing import TYPE_CHECKING

from proxy.gate.limit import Meter
from proxy.gate.places import Places
from proxy.gate.session import Sessions
from proxy.gate.verified import INTROSPECTED_LIFE_S, JWT_LIFE_S, VerifiedPasswords, VerifiedTokens
from proxy.tokens.book import TokenBook

if TYPE_CHECKING:
    from proxy.gate.snapshot import RateLimit


class Memory:
    """`key` is 32 random bytes of this process, for the hashes of remembered passwords."""

    __slots__ = ("_meters", "_places", "book", "drift_s", "introspected", "jwts", "passwords", "sessions")

    def __init__(self, key: bytes) -> None:
        self.book = TokenBook()
        #: How far the machine's time is ahead of the one that decisions are made by (`proxy.clock`). It judges what
        #: others have dated; the process looks at it twice a second.
        self.drift_s = 0.0
        self.passwords = VerifiedPasswords(key)
        self.jwts = VerifiedTokens(JWT_LIFE_S)
        self.introspected = VerifiedTokens(INTROSPECTED_LIFE_S)
        self.sessions = Sessions()
        self._meters: dict[tuple[str, RateLimit], Meter] = {}
        self._places: dict[str, Places] = {}

    def meter(self, name: str, limit: RateLimit) -> Meter:
        """The debts of this limit; the same ones as before a reload that left it alone."""
        meter = self._meters.get((name, limit))
        if meter is None:
            self._meters = {key: kept for key, kept in self._meters.items() if key[0] != name}
            meter = self._meters[name, limit] = Meter(limit)
        return meter

    def places(self, route: str) -> Places:
        """The requests that are under way on a route; counted on over a reload."""
        return self._places.setdefault(route, Places())
