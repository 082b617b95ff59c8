"""Unix time that no step of the machine's clock can move: anchored once, then monotonic.

The deadlines of an overlap are wall-clock times; a clock set an hour back must not lengthen one that is running, nor
one set forward cut it short. So this is the time of what promgate has dated itself. What others have dated (JWTs,
certificates) is judged by the machine's own time, which may have been set right after we had started.
"""

from __future__ import annotations

import time


class Clock:
    """One per process. `unix`: the time that it is now by another clock, to go by that one."""

    __slots__ = ("_offset",)

    def __init__(self, unix: float | None = None) -> None:
        self._offset = (time.time() if unix is None else unix) - time.monotonic()

    def at(self, monotonic: float) -> float:
        """The unix time of a monotonic reading."""
        return monotonic + self._offset

    def now(self) -> float:
        """The unix time."""
        return time.monotonic() + self._offset

    def machine(self) -> float:
        """The machine's own time."""
        return time.time()

    def drift_s(self) -> float:
        """How far the machine's own time is ahead of this one."""
        return time.time() - self.now()
