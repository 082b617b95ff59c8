"""Work beside everything else, whose defect is told at once.

A Task that somebody holds and nobody asks dies in silence: asyncio complains when it is thrown away.
"""

from __future__ import annotations

import asyncio
import logging
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Coroutine

_log = logging.getLogger("promgate.server")


def begin(work: Coroutine[None, None, None]) -> asyncio.Task[None]:
    """Run it. Whoever begins it keeps the Task (the loop does not), and may cancel it."""
    task = asyncio.create_task(work, name=getattr(work, "__qualname__", None))
    task.add_done_callback(_tell)
    return task


def _tell(task: asyncio.Task[None]) -> None:
    if not task.cancelled() and (defect := task.exception()) is not None:
        _log.error("%s ended by a defect: restart promgate, and report it", task.get_name(), exc_info=defect)
