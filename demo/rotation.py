"""One rotation as the operator does it, and what came of it: who moved when, and how many samples arrived."""

from __future__ import annotations

import contextlib
import time
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING

from demo.parts import COUNTER
from tests.kit.counter import stored, wait_stored
from tests.kit.promgate import deliver, token_id

if TYPE_CHECKING:
    from demo.parts import Parts


@dataclass(frozen=True, slots=True)
class Count:
    """Samples of the counter, which rises by one with each scrape: those from 1 to `sent`."""

    sent: int
    stored: int
    under_way: int = 0

    @property
    def lost(self) -> int:
        return self.sent - self.stored - self.under_way


@dataclass(frozen=True, slots=True)
class Move:
    """The agent's way from one token to the next."""

    old_id: str
    new_id: str
    moved_after_s: float


def rotate(parts: Parts) -> Move:
    """Mint, put the new token where the agent reads it on each request, and wait for its first delivery with it."""
    old_id = current_id(parts)
    secret = parts.promgate.token("rotate", "agent")
    deliver(secret, parts.token_file)
    return follow(parts, old_id, time.time())


def follow(parts: Parts, old_id: str, delivered_at: float) -> Move:
    """Wait until the agent delivers with the token that its file holds now; TimeoutError when it does not."""
    new_id = current_id(parts)
    seen = parts.promgate.wait_request(
        lambda line: line["token"] == new_id and line["status"] == 204, f"a delivery with token {new_id}"
    )
    moved_at = datetime.fromisoformat(seen["ts"]).timestamp()
    return Move(old_id, new_id, max(0.0, moved_at - delivered_at))


def current_id(parts: Parts) -> str:
    """The public part of the token that the agent shows."""
    return token_id(parts.token_file.read_text())


def count(parts: Parts) -> Count:
    """Wait for what was scraped so far to arrive, and count it. What has not arrived after half a minute is lost."""
    sent = parts.target.served
    with contextlib.suppress(TimeoutError):
        wait_stored(parts.receiver, sent, COUNTER)
    return Count(sent, len(_kept(parts, sent)))


def count_at_the_end(parts: Parts, patience_s: float) -> Count:
    """The same in a hurry: what was scraped after the last one that arrived counts as under way."""
    sent = parts.target.served
    with contextlib.suppress(TimeoutError):
        wait_stored(parts.receiver, sent, COUNTER, timeout_s=patience_s)
    kept = _kept(parts, sent)
    return Count(sent, len(kept), under_way=sent - max(kept, default=0))


def _kept(parts: Parts, sent: int) -> set[int]:
    return set(range(1, sent + 1)).intersection(stored(parts.receiver, COUNTER))
