"""What every connection of the data plane shares. One per process; the gate in it is replaced whole on reload."""

from __future__ import annotations

import asyncio
import logging
from typing import TYPE_CHECKING, NamedTuple, Protocol

from proxy.clock import Clock
from proxy.gate.edits import IDENTITY_FIELDS
from proxy.gate.limit import address_key
from proxy.gate.snapshot import CONTROL
from proxy.relay.balance import Balance
from proxy.relay.budget import Budget
from proxy.relay.internal import Internal
from proxy.relay.pool import Pool
from proxy.wire.head import RequestMemo
from proxy.wire.response import ResponseMemo

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine, Iterable, Mapping

    from proxy.gate.ask import Answer, Question
    from proxy.gate.credentials import Shown, ShownPassword
    from proxy.gate.decision import Decision, Deny, Identity, Need
    from proxy.gate.forwarded import Proxies
    from proxy.gate.snapshot import ClientTrust, Route, Snapshot, Upstream
    from proxy.observe.outcome import Outcome
    from proxy.relay.balance import Backend
    from proxy.relay.budget import Places
    from proxy.relay.connection import ClientConnection
    from proxy.relay.tunnel import Tunnel
    from proxy.wire.head import RequestHead


_log = logging.getLogger("promgate.relay")


class Finder(Protocol):
    """Finds the answers to the gate's questions."""

    async def answer(self, question: Question) -> Answer: ...


class Decider(Protocol):
    """A gate: `gate.decide.Gate`, or one that lets nobody in."""

    snapshot: Snapshot
    proxies: Proxies | None

    def decide(
        self,
        head: RequestHead,
        shown: Shown | None,
        ip: str,
        at: float,
        now: float,
        facts: Mapping[Question, Answer] = ...,
        /,
    ) -> Decision: ...

    def check_password(
        self, shown: ShownPassword, ip: str, at: float, now: float, facts: Mapping[Question, Answer] = ..., /
    ) -> Identity | Deny | Need: ...


class Upstreams(NamedTuple):
    """What stands behind the routes of a Snapshot; a backend goes by the name of its route."""

    pools: dict[Upstream, Pool]
    backends: dict[str, Backend]


class RelayContext:
    """Shared by all connections: where the rules are, where the upstreams are, whom to tell."""

    def __init__(
        self,
        gate: Decider,
        finder: Finder,
        report: Callable[[Outcome], None],
        budget: Budget | None = None,
        places: Places | None = None,
    ) -> None:
        self.gate = gate
        self.finder = finder
        self.report = report
        self.clock = Clock()
        self.pools: dict[Upstream, Pool] = {}
        self.backends: dict[str, Backend] = {}  # by the name of a route
        self.connections: set[ClientConnection | Tunnel] = set()
        self.tunnels = 0
        #: What the process has files for, and what of it is for clients here; the configuration may say less.
        self.budget = budget or Budget()
        self.places = places or self.budget
        #: Those who hold a socket here, also before they have become `connections`.
        self.present = 0
        self.per_ip: dict[str, int] = {}
        self.request_memo = RequestMemo(IDENTITY_FIELDS)
        self.response_memo = ResponseMemo()
        self._control_memo = ResponseMemo(may_set_own=True)
        self.draining = False
        self.is_leaving = False  # told to load balancers, before and while it drains
        self.internal = Internal()
        self._hinted = False
        #: Which client certificates the listeners take; None: none is asked for.
        self.trust: ClientTrust | None = None

    def use(self, gate: Decider, upstreams: Upstreams) -> None:
        """Decide by `gate` from now on, and relay to what stands behind its routes: the one never without the other.

        What no route names any more is left to end.
        """
        for upstream, pool in self.pools.items():
            if upstream not in upstreams.pools:
                pool.retire()
        self.gate, (self.pools, self.backends) = gate, upstreams

    def use_upstreams(self, routes: Iterable[Route]) -> None:
        """The same, by the gate that is there."""
        self.use(self.gate, self.build_upstreams(routes))

    def build_upstreams(self, routes: Iterable[Route]) -> Upstreams:
        """Make ready what stands behind these routes. Nothing is changed by it."""
        pools: dict[Upstream, Pool] = {}
        backends: dict[str, Backend] = {}
        for route in routes:
            if route.inquires:
                continue
            for upstream in (route.upstream, *route.spares):
                pools[upstream] = (
                    pools.get(upstream)
                    or self.pools.get(upstream)
                    or Pool(upstream, self._memo_for(upstream), self.internal, self.budget)
                )
            mine = [pools[upstream] for upstream in (route.upstream, *route.spares)]
            backends[route.name] = Balance(mine, first_available=route.first_available) if route.spares else mine[0]
        return Upstreams(pools, backends)

    def _memo_for(self, upstream: Upstream) -> ResponseMemo:
        return self._control_memo if upstream == CONTROL else self.response_memo

    def distrust_certificates(self) -> None:
        """They were judged by authorities that have changed: whoever showed one must do so again."""
        for connection in list(self.connections):
            if (certificate := connection.last_shown.certificate) is not None:
                certificate.distrust()
                connection.drain(last_call=False)  # it would be answered by a refusal, and who is cut asks again

    def enter(self, peer: str) -> bool:
        """Count in who has connected from `peer`, until `leave`; False: no room is left, in all or for its address.

        From the first byte: whoever is within a handshake, or is to announce a client, holds a socket like any other. A
        trusted proxy brings the connections of many.
        """
        address = address_key(peer)
        mine = self.per_ip[address] = self.per_ip.get(address, 0) + 1
        self.present += 1
        has_place = self.places.take()
        bounds, proxies = self.gate.snapshot.bounds, self.gate.proxies
        if not has_place or self.present > bounds.max_connections:
            return False
        return mine <= bounds.max_connections_per_ip or (proxies is not None and proxies.trust(peer))

    def leave(self, peer: str) -> None:
        """Count it out."""
        address = address_key(peer)
        self.present -= 1
        self.places.give()
        left = self.per_ip.pop(address, 1) - 1
        if left > 0:
            self.per_ip[address] = left

    def admit(self, connection: ClientConnection) -> bool:
        """Count a connection in; False when there is no room for it, or for its certificate."""
        self.connections.add(connection)
        certificate = connection.last_shown.certificate
        return self.enter(connection.peer) and (certificate is None or certificate.allowed)

    def replace(self, connection: ClientConnection, tunnel: Tunnel) -> None:
        """The same connection by another name: its place in the counts stays its own."""
        self.connections.remove(connection)
        self.connections.add(tunnel)
        self.tunnels += 1

    def forget(self, connection: ClientConnection | Tunnel) -> None:
        """Count it out."""
        self.connections.discard(connection)
        self.leave(connection.peer)

    def remember(self, head: RequestHead, peer: str) -> None:
        """Its sender is let in, so what was new in the head just read is known from now on."""
        self.request_memo.keep()
        if head.is_passed_on and self.gate.proxies is None and not self._hinted:
            self._hinted = True
            _log.warning(
                "%s passes requests on (X-Forwarded-For), and trusted_proxies is empty: all who come through it count "
                "as one address for limits, guesses and senders; if it is a proxy of yours, name it in trusted_proxies",
                peer,
            )

    def start(self, work: Coroutine[None, None, None], on_defect: Callable[[], None]) -> asyncio.Task[None]:
        """Run `work` beside the callbacks. A defect in it is logged, and `on_defect` ends what waits for it."""

        def ended(task: asyncio.Task[None]) -> None:
            if not task.cancelled() and (defect := task.exception()) is not None:
                _log.error("a request failed", exc_info=defect)
                on_defect()

        task = asyncio.get_running_loop().create_task(work)
        task.add_done_callback(ended)
        return task
