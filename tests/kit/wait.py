"""Waiting for a condition, never for a time."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable

Answer = TypeVar("Answer")


def wait_for(
    condition: Callable[[], Answer | None], what: str, *, timeout_s: float = 60.0, interval_s: float = 0.05
) -> Answer:
    """What `condition` answers as soon as that is true; TimeoutError naming `what` when it never is."""
    deadline = time.monotonic() + timeout_s
    while True:
        answer = condition()
        if answer:
            return answer
        if time.monotonic() >= deadline:
            raise TimeoutError(f"waited {timeout_s:g} s for {what}")
        time.sleep(interval_s)
