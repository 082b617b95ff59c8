"""Who was seen with which token: how it adds up, and within which bounds.

A sender is told apart within its name by what stays the same while it lives: its certificate, or else its address and
the family of its User-Agent (a new version of an agent is the same sender). What there is no room for is counted under
its token as `DROPPED`, so that nobody takes the list for whole.
"""

from __future__ import annotations

import enum
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

#: A first sight is written at once, the later ones of a sender together.
LATER_S = 60.0
#: A sender that was silent for so long is forgotten: a month, for jobs that run once in it.
KEEP_S = 31 * 86400.0
MAX_PER_TOKEN = 1_000
MAX_IN_ALL = 20_000


class Kind(enum.StrEnum):
    """What became of the requests of a sighting, as far as the token goes."""

    USED = "used"
    #: 503 on a write route: the token had just retired.
    HELD = "held"
    #: 401: the token is revoked, or retired for long.
    REFUSED = "refused"
    #: Of senders for whom there was no room; `sender` is empty.
    DROPPED = "dropped"


@dataclass(frozen=True, slots=True)
class Sighting:
    """One sender with one token. Times are unix seconds; `sender` is how it is told apart from others.

    `address` and `agent` (its User-Agent, empty if it sends none) are those of its last request.
    """

    name: str
    token_id: str
    sender: str
    address: str
    agent: str
    first_seen: float
    last_seen: float
    count: int
    kind: Kind = Kind.USED


@dataclass(frozen=True, slots=True)
class Known:
    """All that the ledger can tell of a name. It was begun at `since`; what was before is not known to it.

    `is_fresh`: the server has just written all that it saw; else no server runs. `trouble`: it could not.
    """

    sightings: tuple[Sighting, ...]
    since: float
    is_fresh: bool = True
    trouble: str = ""


class Mark:
    """A sighting while it is added up. `fresh` is how much of `count` is not written yet."""

    __slots__ = (
        "address", "agent", "count", "first_seen", "fresh", "kind", "last_seen", "name", "sender", "token_id",
        "written_at",
    )  # fmt: skip

    def __init__(self, name: str, token_id: str, kind: Kind, sender: str, address: str, agent: str, at: float) -> None:
        self.name = name
        self.token_id = token_id
        self.kind = kind
        self.sender = sender
        self.address = address
        self.agent = agent
        self.first_seen = self.last_seen = at
        self.count = self.fresh = 0
        self.written_at = 0.0

    def sighting(self, count: int) -> Sighting:
        return Sighting(
            self.name, self.token_id, self.sender, self.address, self.agent, self.first_seen, self.last_seen, count,
            self.kind,
        )  # fmt: skip


def describe(one: Sighting | Mark) -> str:
    """How people are told of a sender."""
    where = f"{one.address} {one.agent or 'without a User-Agent'}"
    return f"{one.sender} ({where})" if one.sender.startswith("cert:") else where


class Tally:
    """All marks, bounded. Whoever has a mark adds to its `last_seen`, `count` and `fresh` itself: no call a request.

    Not for threads. `new` are the marks that were never written; `epoch` rises when marks are let go of, and whoever
    keeps some must ask for them anew.
    """

    def __init__(self, *, per_token: int = MAX_PER_TOKEN, in_all: int = MAX_IN_ALL) -> None:
        self._per_token = per_token
        self._in_all = in_all
        self._marks: dict[tuple[str, Kind, str], Mark] = {}
        self._of_token: dict[tuple[str, Kind], int] = {}
        self.new: list[Mark] = []
        self.epoch = 0

    def load(self, sightings: Iterable[Sighting]) -> None:
        """Go on from what was written before."""
        for one in sightings:
            mark = self.find(one.name, one.token_id, one.kind, one.sender, one.address, one.agent, one.first_seen)
            mark.first_seen = min(mark.first_seen, one.first_seen)
            mark.last_seen = max(mark.last_seen, one.last_seen)
            mark.count += one.count
        self.new.clear()

    def find(self, name: str, token_id: str, kind: Kind, sender: str, address: str, agent: str, at: float) -> Mark:
        """The mark of this sender with this token, or the token's mark for all whom there is no room for."""
        mark = self._marks.get((token_id, kind, sender))
        if mark is None and self._is_full(token_id, kind):
            kind, sender, address, agent = Kind.DROPPED, "", "", ""
            mark = self._marks.get((token_id, kind, sender))
        if mark is None:
            mark = self._marks[token_id, kind, sender] = Mark(name, token_id, kind, sender, address, agent, at)
            self._of_token[token_id, kind] = self._of_token.get((token_id, kind), 0) + 1
            self.new.append(mark)
        mark.address, mark.agent = address, agent
        return mark

    def take(self, now: float, *, all_of_it: bool = False) -> list[tuple[Mark, Sighting]]:
        """What is to be written now, taken as written: each with what was added since the last time."""
        due = [mark for mark in self if mark.fresh and (all_of_it or now - mark.written_at >= LATER_S)]
        taken = [(mark, mark.sighting(mark.fresh)) for mark in due]
        for mark in due:
            mark.fresh, mark.written_at = 0, now
        self.new.clear()
        return taken

    def put_back(self, taken: Iterable[tuple[Mark, Sighting]]) -> None:
        """It could not be written: it is due still."""
        for mark, sighting in taken:
            mark.fresh += sighting.count
            mark.written_at = 0.0

    def forget(self, before: float) -> None:
        """Let go of all that was seen last before that time."""
        self.epoch += 1
        for key, mark in list(self._marks.items()):
            if mark.last_seen < before:
                del self._marks[key]
                self._of_token[key[:2]] -= 1
                if not self._of_token[key[:2]]:
                    del self._of_token[key[:2]]

    def __iter__(self) -> Iterator[Mark]:
        return iter(self._marks.values())

    def __len__(self) -> int:
        return len(self._marks)

    def _is_full(self, token_id: str, kind: Kind) -> bool:
        return len(self._marks) >= self._in_all or self._of_token.get((token_id, kind), 0) >= self._per_token
