"""Unix time that no step of the machine's clock can move: anchored once, then monotonic.

The deadlines of an overlap are wall-clock times; a clock set an hour back must not lengthen one that is running, nor
one set forward cut it short.
"""

from __future__ import annotations

import time


class Clock:
    """One per process."""

    __slots__ = ("_offset",)

    def __init__(self) -> None:
        self._offset = time.time() - time.monotonic()

    def at(self, monotonic: float) -> float:
        """The unix time of a monotonic reading."""
        return monotonic + self._offset

    def now(self) -> float:
        """The unix time."""
        return time.monotonic() + self._offset
