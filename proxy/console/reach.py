"""Whether the upstreams take connections: a connect to each, every few seconds, beside the requests."""

from __future__ import annotations

import asyncio
import logging
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Collection

    from proxy.gate.snapshot import Upstream

_log = logging.getLogger("promgate.upstream")

CHECK_EACH_S = 5.0
_CONNECT_S = 3.0


class Reach:
    """`run` in the background. `upstreams` is asked before each round, so that a reload is followed."""

    def __init__(self, upstreams: Callable[[], Collection[Upstream]]) -> None:
        self._upstreams = upstreams
        #: What the last check of each upstream found; one that was not checked yet is not in it.
        self.reached: dict[Upstream, bool] = {}

    async def run(self, each_s: float = CHECK_EACH_S) -> None:
        while True:
            upstreams = self._upstreams()
            failures = await asyncio.gather(*map(_try, upstreams))
            for upstream, failure in zip(upstreams, failures, strict=True):
                self._note(upstream, failure)
            self.reached = {upstream: not failure for upstream, failure in zip(upstreams, failures, strict=True)}
            await asyncio.sleep(each_s)

    def missing(self) -> list[Upstream]:
        """The upstreams that cannot be reached, or have not been yet."""
        return [upstream for upstream in self._upstreams() if not self.reached.get(upstream)]

    def _note(self, upstream: Upstream, failure: str) -> None:
        """One line when an upstream is lost, one when it is back."""
        before = self.reached.get(upstream)
        if failure and before is not False:
            _log.warning("upstream %s cannot be reached: %s", upstream.authority, failure)
        elif not failure and before is False:
            _log.info("upstream %s can be reached again", upstream.authority)


async def _try(upstream: Upstream) -> str:
    """Why it cannot be connected to, or nothing. Connected, it is left at once: no server minds."""
    try:
        async with asyncio.timeout(_CONNECT_S):
            transport = await _connect(upstream)
    except TimeoutError:
        return f"no answer within {_CONNECT_S:.0f} s"
    except OSError as error:
        return error.strerror or str(error)
    transport.close()
    return ""


async def _connect(upstream: Upstream) -> asyncio.BaseTransport:
    loop = asyncio.get_running_loop()
    if upstream.socket:
        transport: asyncio.BaseTransport
        transport, _ = await loop.create_unix_connection(asyncio.Protocol, upstream.socket)
    else:
        transport, _ = await loop.create_connection(asyncio.Protocol, upstream.host, upstream.port)
    return transport
