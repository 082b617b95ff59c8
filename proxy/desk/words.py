"""How times are written, to people and to programs alike."""

from __future__ import annotations

import time
from typing import overload


@overload
def when(at: float) -> str: ...
@overload
def when(at: None) -> None: ...
@overload
def when(at: float | None) -> str | None: ...
def when(at: float | None) -> str | None:
    """RFC 3339 in UTC, to the second."""
    return None if at is None else time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(at))
