"""Who was seen with which token."""

from __future__ import annotations

from dataclasses import dataclass


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
