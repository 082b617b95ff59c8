"""A front between a sender and its receiver that answers one status for a while, and relays otherwise.

It is the control of the loss tests: with it a loss can be made on purpose, and the arithmetic must report it.
"""

from __future__ import annotations

import threading
from collections import Counter
from typing import TYPE_CHECKING

from tests.kit.fetch import fetch
from tests.kit.http_server import HttpServer, Reply, Request

if TYPE_CHECKING:
    from collections.abc import Callable

#: Not handed on: they speak of one connection only (RFC 9110, section 7.6.1), or are made anew.
_OWN = frozenset({"connection", "host", "content-length"})


class FaultSwitch(HttpServer):
    """Relays requests to `upstream` (a base URL without a path).

    `fault`: the status to answer instead, or None; `strikes` says which requests it is for (all, unless it is set).
    """

    def __init__(self, upstream: str) -> None:
        super().__init__(self._answer)
        self.fault: int | None = None
        self.strikes: Callable[[Request], bool] = lambda _: True
        self.answered: Counter[int] = Counter()
        self._upstream = upstream
        self._lock = threading.Lock()

    def _answer(self, request: Request) -> Reply:
        if self.fault is not None and self.strikes(request):
            reply = Reply(self.fault, b"as switched\n")
        else:
            kept = {name: value for name, value in request.headers.items() if name.lower() not in _OWN}
            url = self._upstream + request.path
            relayed = fetch(url, method=request.method, body=request.body, headers=kept)
            reply = Reply(relayed.status, relayed.body)
        with self._lock:
            self.answered[reply.status] += 1
        return reply
