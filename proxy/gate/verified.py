"""What was verified a moment ago: one hash per request instead of 60 ms of bcrypt, or 100 us of a signature.

Trust ends after a while and the memory goes on: what was verified once is no guess when it is verified again,
so that a guesser behind the same address cannot lock out who has been here before.
"""

from __future__ import annotations

import hashlib
import math
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from proxy.gate.ask import Claims
    from proxy.gate.credentials import ShownPassword

_LIFE_S = 60.0
#: A key that its issuer has withdrawn is believed for no longer, even where nobody tells that it was.
JWT_LIFE_S = 300.0
#: A token that its provider has revoked is believed for no longer.
INTROSPECTED_LIFE_S = 30.0
_MAX_ENTRIES = 10_000


class VerifiedPasswords:
    """A bounded memory of (user, hashes, password). `key` is 32 random bytes of this process.

    A changed hash is another entry, so that a reload needs no flush. The parts are length-delimited:
    exporter-toolkit joined them plainly once, and one user's entry could stand for another (CVE-2022-46146).
    """

    __slots__ = ("_key", "_known")

    def __init__(self, key: bytes) -> None:
        self._key = key
        self._known: dict[bytes, tuple[float, bytes]] = {}

    def find(self, shown: ShownPassword, hashes: tuple[bytes, ...], at: float) -> bytes | None:
        """The one of `hashes` that belongs to it, where that is known."""
        known = self._known.get(self._mark(shown, hashes))
        return known[1] if known is not None and at < known[0] else None

    def knew(self, shown: ShownPassword, hashes: tuple[bytes, ...]) -> bool:
        """True for what was right once, however long ago: to be checked again, but no guess."""
        return self._mark(shown, hashes) in self._known

    def remember(self, shown: ShownPassword, hashes: tuple[bytes, ...], found: bytes, at: float) -> None:
        """It belongs to `found`, one of `hashes`."""
        mark = self._mark(shown, hashes)
        self._known.pop(mark, None)
        if len(self._known) >= _MAX_ENTRIES:
            del self._known[next(iter(self._known))]
        self._known[mark] = at + _LIFE_S, found

    def _mark(self, shown: ShownPassword, hashes: tuple[bytes, ...]) -> bytes:
        mark = hashlib.blake2b(key=self._key, digest_size=32)
        for part in (shown.user.encode(), shown.password, *hashes):
            mark.update(len(part).to_bytes(4, "big"))
            mark.update(part)
        return mark.digest()


class VerifiedTokens:
    """A bounded memory: SHA-256 of a token's text -> its claims. Their times are judged by the gate at each look.

    What was verified is believed for `life_s`, or until its own end.
    """

    __slots__ = ("_known", "_life_s")

    def __init__(self, life_s: float) -> None:
        self._life_s = life_s
        self._known: dict[bytes, tuple[float, Claims]] = {}

    def find(self, digest: bytes, at: float) -> Claims | None:
        known = self._known.get(digest)
        return known[1] if known is not None and at < known[0] else None

    def find_ended(self, digest: bytes, now: float) -> Claims | None:
        """What was good until its end, which no new look could move."""
        known = self._known.get(digest)
        return known[1] if known is not None and now >= known[1].expires_at else None

    def knew(self, digest: bytes) -> bool:
        """True for what was right once: to be verified again, but no guess."""
        return digest in self._known

    def remember(self, digest: bytes, claims: Claims, at: float) -> None:
        self._known.pop(digest, None)
        if len(self._known) >= _MAX_ENTRIES:
            del self._known[next(iter(self._known))]
        self._known[digest] = at + self._life_s, claims

    def forget(self, digest: bytes) -> None:
        self._known.pop(digest, None)

    def doubt(self) -> None:
        """Believe nothing of it without a new look: a key was withdrawn."""
        self._known = {digest: (-math.inf, claims) for digest, (_, claims) in self._known.items()}
