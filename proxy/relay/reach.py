"""Whether the upstreams are there: a connect to each, or a request to its health path, every few seconds."""

from __future__ import annotations

import asyncio
import re
from contextlib import closing
from typing import TYPE_CHECKING

from proxy.pki.context import PairError
from proxy.relay.pool import why

if TYPE_CHECKING:
    from collections.abc import Callable, Collection

    from proxy.gate.snapshot import Upstream
    from proxy.relay.pool import Pool

CHECK_EACH_S = 5.0
_CHECK_S = 3.0
#: Each holds a socket that no client's request has then; those that are gone hold it for `_CHECK_S`.
AT_ONCE = 16
_STATUS = re.compile(rb"HTTP/1\.[01] ([0-9]{3})[ \r]").match


class Reach:
    """`run` in the background. `pools` is asked before each round, so that a reload is followed."""

    def __init__(self, pools: Callable[[], Collection[Pool]]) -> None:
        self._pools = pools
        #: What the last check of each upstream found; one that was not checked yet is not in it.
        self.reached: dict[Upstream, bool] = {}

    async def run(self, each_s: float = CHECK_EACH_S) -> None:
        places = asyncio.Semaphore(AT_ONCE)
        while True:
            pools = list(dict.fromkeys(self._pools()))
            await asyncio.gather(*(self._look(pool, places) for pool in pools))
            self.reached = {pool.upstream: self.reached[pool.upstream] for pool in pools}
            await asyncio.sleep(each_s)

    async def _look(self, pool: Pool, places: asyncio.Semaphore) -> None:
        async with places:
            failure = await _try(pool)
        pool.note(failure)
        self.reached[pool.upstream] = not failure

    def missing(self) -> list[Upstream]:
        """The upstreams that cannot be reached, or have not been yet."""
        return [pool.upstream for pool in dict.fromkeys(self._pools()) if not self.reached.get(pool.upstream)]


async def _try(pool: Pool) -> str:
    """Why it is not there, or nothing. Connected, it is left at once: no server minds."""
    try:
        async with asyncio.timeout(_CHECK_S):
            reader, writer = await _connect(pool)
            with closing(writer):
                return await _ask(pool, reader, writer) if pool.upstream.health_path else ""
    except TimeoutError:
        return f"no answer within {_CHECK_S:.0f} s"
    except (OSError, ValueError, PairError) as error:  # ValueError: a line without end
        return why(error)


async def _connect(pool: Pool) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    upstream = pool.upstream
    if upstream.socket:
        return await asyncio.open_unix_connection(upstream.socket)
    if upstream.tls is None or pool.files is None:
        return await asyncio.open_connection(upstream.host, upstream.port)
    name = upstream.tls.server_name or upstream.host
    context = await pool.files.context()
    return await asyncio.open_connection(upstream.host, upstream.port, ssl=context, server_hostname=name)


async def _ask(pool: Pool, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> str:
    upstream = pool.upstream
    host = upstream.host.encode() or b"localhost"
    line = b"" if pool.files is None else pool.files.line
    writer.write(b"GET %b HTTP/1.1\r\nHost: %b\r\n%bConnection: close\r\n\r\n" % (upstream.health_path, host, line))
    answer = _STATUS(await reader.readline())
    if answer is None:
        return f"{upstream.health_path.decode()} answered what is not HTTP"
    status = int(answer[1])
    return "" if 200 <= status < 300 else f"{upstream.health_path.decode()} answered {status}"
