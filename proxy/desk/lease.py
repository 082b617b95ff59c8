"""Keeps a lease alive while something blocks: a sink that takes a minute must not look like a dead process."""

from __future__ import annotations

import threading
from contextlib import suppress
from typing import TYPE_CHECKING, Generic, TypeVar

from proxy.tokens.ports import StoreError
from proxy.tokens.rotation import RENEW_S

if TYPE_CHECKING:
    from collections.abc import Callable

_T = TypeVar("_T")


class _Work(threading.Thread, Generic[_T]):
    def __init__(self, work: Callable[[], _T]) -> None:
        # A daemon: Ctrl-C ends the command, and not only when the sink has come back.
        super().__init__(name="delivery", daemon=True)
        self._work = work
        self.result: list[_T] = []
        self.error: BaseException | None = None

    def run(self) -> None:
        try:
            self.result.append(self._work())
        except BaseException as error:  # noqa: BLE001 - it is raised where it is waited for
            self.error = error


def while_renewing(work: Callable[[], _T], renew: Callable[[], None], each_s: float = RENEW_S) -> _T:
    """What `work` returns or raises. A lease that could not be renewed is noticed at the next commit."""
    thread = _Work(work)
    thread.start()
    while True:
        thread.join(each_s)
        if not thread.is_alive():
            break
        with suppress(StoreError):
            renew()
    if thread.error is not None:
        raise thread.error
    return thread.result[0]
