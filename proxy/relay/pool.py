"""Connections to one upstream. A connection comes back only after an answer whose end is beyond doubt."""

from __future__ import annotations

import asyncio
import logging
import ssl
from time import monotonic
from typing import TYPE_CHECKING

from proxy.gate.decision import Reason
from proxy.gate.snapshot import CONTROL
from proxy.pki.context import PairError
from proxy.relay.accepting import NO_FILES
from proxy.relay.budget import Budget
from proxy.relay.upstream import UpstreamConnection
from proxy.relay.upstream_files import UpstreamFiles

if TYPE_CHECKING:
    from collections.abc import Sequence

    from proxy.gate.snapshot import Upstream
    from proxy.relay.internal import Internal
    from proxy.wire.response import ResponseMemo

_log = logging.getLogger("promgate.upstream")

_MAX_IDLE = 512
#: Between two attempts to connect: quick enough for a restart to go unnoticed, slow enough not to spin.
_RETRY_PAUSE_S = (0.02, 0.25)
#: Who was refused again within this time was told of: senders try again each few seconds.
_TELL_LOGIN_EACH_S = 60.0


async def connect(pools: Sequence[Pool], budget_s: float) -> UpstreamConnection | Reason:
    """A fresh connection to the first of `pools` that gives one; all are tried again and again within the budget.

    None may use up the time of those after it: a machine that is gone answers nothing at all.
    """
    deadline = monotonic() + budget_s
    pause, longest = _RETRY_PAUSE_S
    refused = False
    while True:
        for index, pool in enumerate(pools):
            left = deadline - monotonic()
            if left <= 0:
                return Reason.UPSTREAM_REFUSED if refused else Reason.UPSTREAM_LATE
            found = await pool.dial(left / (len(pools) - index))
            if not isinstance(found, Reason):
                return found
            refused = refused or found is Reason.UPSTREAM_REFUSED
        await asyncio.sleep(min(pause, max(0.0, deadline - monotonic())))
        pause = min(2 * pause, longest)


def why(error: Exception) -> str:
    """What an operator is told of a connect that failed."""
    if isinstance(error, ssl.SSLCertVerificationError):
        return f"its certificate is not taken: {error.verify_message}"
    return getattr(error, "strerror", "") or str(error)


class Pool:
    """The idle connections of one upstream, newest first: the oldest may then grow stale and be swept away."""

    def __init__(
        self, upstream: Upstream, memo: ResponseMemo, internal: Internal | None = None, budget: Budget | None = None
    ) -> None:
        self.upstream = upstream
        self._internal = internal
        self._budget = budget or Budget()
        self._budget.pools.add(self)
        self._sockets = 2 if upstream == CONTROL else 1  # both ends of it are ours
        #: None: it is reached with no files and no credential.
        self.files = UpstreamFiles(upstream) if upstream.tls or upstream.login else None
        if self.files is not None:
            self.files.on_new_context = self.distrust
        self._distrusted = 0  # how often
        self.is_down = False
        self._refused_at = float("-inf")
        self._memo = memo
        self._retired = False
        self._idle: dict[UpstreamConnection, float] = {}  # connection -> idle since; insertion order is age
        self._all: set[UpstreamConnection] = set()
        self.connect_failures = 0
        self.retries = 0  # of requests, counted by their exchanges

    @property
    def idle(self) -> int:
        return len(self._idle)

    @property
    def active(self) -> int:
        return len(self._all) - len(self._idle)

    @property
    def idle_since(self) -> float:
        """Of the one that has been idle longest; there is one."""
        return next(iter(self._idle.values()))

    def drop_oldest(self) -> None:
        next(iter(self._idle)).abort()

    def opened(self, connection: UpstreamConnection) -> None:
        """It holds a socket, until it is `closed`."""
        self._all.add(connection)
        self._budget.lend(self._sockets)

    def closed(self, connection: UpstreamConnection) -> None:
        self.forget(connection)
        self._budget.give_back(self._sockets)

    def take(self) -> UpstreamConnection | None:
        """An idle connection, or None: then `connect`."""
        idle = self._idle
        return idle.popitem()[0] if idle else None

    def give(self, connection: UpstreamConnection, now: float) -> None:
        """Take back a connection that is between two exchanges."""
        if self._retired or connection.trust != self._distrusted or len(self._idle) >= _MAX_IDLE:
            connection.abort()
            return
        self._idle[connection] = now

    def forget(self, connection: UpstreamConnection) -> None:
        """The connection is not to be used any more."""
        self._idle.pop(connection, None)
        self._all.discard(connection)

    def sweep(self, idle_before: float) -> None:
        """Close what has been idle since before that time (monotonic)."""
        for connection in [c for c, since in self._idle.items() if since < idle_before]:
            connection.abort()

    def retire(self) -> None:
        """No route goes here any more: what is under way ends, and nothing is kept."""
        self._retired = True
        self._budget.pools.discard(self)
        self._drop_idle()

    def distrust(self) -> None:
        """The upstream was verified, and we showed ourselves, by files that count no more: keep nothing of before."""
        self._distrusted += 1
        self._drop_idle()

    def _drop_idle(self) -> None:
        for connection in list(self._idle):
            connection.abort()

    def close(self) -> None:
        for connection in list(self._all):
            connection.abort()

    async def connect(self, budget_s: float) -> UpstreamConnection | Reason:
        """A fresh connection within the budget: a refused connect is tried again, so that a restart goes unnoticed."""
        return await connect((self,), budget_s)

    async def dial(self, timeout_s: float) -> UpstreamConnection | Reason:
        """One attempt to connect, and what came of it is remembered in `is_down`.

        Of an upstream with a health path a connect says nothing good: its server may answer, and answer 503.
        """
        if not self._budget.may_dial(self._sockets):
            return Reason.UPSTREAM_REFUSED  # by ourselves: it says nothing of the upstream
        self._budget.lend(self._sockets)
        try:
            async with asyncio.timeout(timeout_s):
                connection = await self._dial()
        except TimeoutError:
            self.connect_failures += 1
            self.note(f"no answer within {timeout_s:.1f} s")
            return Reason.UPSTREAM_LATE
        except (OSError, PairError) as error:  # ssl.SSLError is an OSError
            self.connect_failures += 1
            if error.__class__ is PairError or getattr(error, "errno", None) not in NO_FILES:
                self.note(why(error))
            return Reason.UPSTREAM_REFUSED
        finally:
            self._budget.give_back(self._sockets)  # if it is open, it has said so itself
        if not self.upstream.health_path:
            self.note("")
        return connection

    def note(self, failure: str) -> None:
        """Whether the upstream can be reached, as it was just found out; told once when it is lost, once when back."""
        if failure and not self.is_down:
            _log.warning("upstream %s cannot be reached: %s", self.upstream.authority, failure)
        elif not failure and self.is_down:
            _log.info("upstream %s can be reached again", self.upstream.authority)
        self.is_down = bool(failure)

    def note_login(self, status: int, now: float) -> None:
        """The upstream did not take our login, at monotonic `now`; told once, however many requests meet it."""
        if now > self._refused_at + _TELL_LOGIN_EACH_S:
            login = self.upstream.login
            todo = "correct basic_auth or authorization there" if login else "give it basic_auth or authorization"
            if login and login.file:
                todo = f"put the right credential into {login.file}, which is read again"
            _log.error(
                "upstream %s answered %d: it does not take promgate's own login; requests get 502 until it does: %s",
                self.upstream.authority, status, todo,
            )  # fmt: skip
        self._refused_at = now

    async def _dial(self) -> UpstreamConnection:
        """OSError when it is refused, is not whom it should be, or when there is no such socket (yet)."""
        loop, upstream, trust = asyncio.get_running_loop(), self.upstream, self._distrusted

        def protocol() -> UpstreamConnection:
            return UpstreamConnection(self, self._memo, trust)

        if upstream == CONTROL and self._internal is not None:
            return await self._internal.connect(protocol)
        if upstream.socket:
            _, connection = await loop.create_unix_connection(protocol, upstream.socket)
        elif upstream.tls is None:
            _, connection = await loop.create_connection(protocol, upstream.host, upstream.port)
        else:
            assert self.files is not None
            _, connection = await loop.create_connection(
                protocol,
                upstream.host,
                upstream.port,
                ssl=await self.files.context(),
                server_hostname=upstream.tls.server_name or upstream.host,
            )
        return connection
