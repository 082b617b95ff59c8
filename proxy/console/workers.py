"""What blocks (the store, a delivery, a canary) runs in threads that nobody has to wait for.

Daemons: a sink that hangs must not keep the process from ending. Any step of a rotation may be the last one.
"""

from __future__ import annotations

import asyncio
import threading
from contextlib import suppress
from typing import TYPE_CHECKING, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable

_T = TypeVar("_T")


class Busy(Exception):
    """As much as may be is under way already."""


class Workers:
    """Up to `most` at once; one more is Busy, for a waiting line would hold whoever stands in it for minutes."""

    def __init__(self, most: int = 8) -> None:
        self._most = most
        self._under_way = 0

    async def run(self, work: Callable[[], _T]) -> _T:
        """What `work` returns or raises. It is not stopped when nobody waits for it any more."""
        if self._under_way >= self._most:
            raise Busy
        loop = asyncio.get_running_loop()
        done: asyncio.Future[_T] = loop.create_future()

        def tell(result: _T | None, error: BaseException | None) -> None:
            self._under_way -= 1
            if done.done():
                return
            if error is not None:
                done.set_exception(error)
            else:
                done.set_result(result)  # type: ignore[arg-type]  # one of both is there

        def run() -> None:
            result, failed = None, None
            try:
                result = work()
            except BaseException as error:  # noqa: BLE001 - it is raised where it is waited for
                failed = error
            with suppress(RuntimeError):  # the loop has ended
                loop.call_soon_threadsafe(tell, result, failed)

        self._under_way += 1
        threading.Thread(target=run, name="console", daemon=True).start()
        return await done
