"""How slow a client may be in sending a request body.

It has a time to begin with, and more for what it has brought (Apache's mod_reqtimeout does the same with
`MinRate`), but no silence is longer than that time. A slow peer lives, a trickle does not.
"""

from __future__ import annotations

from time import monotonic
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from proxy.gate.snapshot import Snapshot


class BodyPace:
    """The clock of one body; `begin` starts it anew, for instance after a wait that was not the client's fault."""

    __slots__ = ("_received", "_started")

    def __init__(self, now: float) -> None:
        self.begin(now)

    def begin(self, now: float) -> None:
        self._started = now
        self._received = 0

    def deadline(self, size: int, snapshot: Snapshot) -> float:
        """The new deadline (monotonic seconds) now that `size` more octets have come."""
        self._received += size
        time_out = snapshot.timeouts.body
        earned = self._started + time_out + self._received / snapshot.bounds.body_min_rate_bytes
        silence = monotonic() + time_out
        return earned if earned < silence else silence
