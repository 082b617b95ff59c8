"""How many at once: a place for each request under way, counted by who asks, or from where.

A place is taken when the request goes on its way and given back when it ends, in whatever way; nobody waits for one.
There are never more keys than requests under way, so the table needs no other bound.
"""

from __future__ import annotations


class Places:
    """The places of one route. Outlives a reload, which may change how many there are."""

    __slots__ = ("_taken",)

    def __init__(self) -> None:
        self._taken: dict[str, int] = {}

    def taken(self, key: str) -> int:
        return self._taken.get(key, 0)

    def take(self, key: str) -> None:
        self._taken[key] = self._taken.get(key, 0) + 1

    def give_back(self, key: str) -> None:
        left = self._taken.pop(key) - 1
        if left:
            self._taken[key] = left

    def __len__(self) -> int:
        return len(self._taken)


class Place:
    """One request's place: `take` when it goes on its way, `give_back` once when it ends."""

    __slots__ = ("_key", "_places")

    def __init__(self, places: Places, key: str) -> None:
        self._places = places
        self._key = key

    def is_free(self, limit: int) -> bool:
        return self._places.taken(self._key) < limit

    def take(self) -> None:
        self._places.take(self._key)

    def give_back(self) -> None:
        self._places.give_back(self._key)
