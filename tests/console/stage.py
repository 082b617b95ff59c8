"""A relay with the control plane behind it, in the test's own process: over a socket pair, as in a server.

    async with control() as site:
        answer = await site.ask("GET", "/-/console", ANN)
"""

from __future__ import annotations

import base64
import contextlib
import json
from typing import TYPE_CHECKING, Any, NamedTuple

from proxy.console.control import ControlPlane, Windows
from proxy.gate.ask import CheckPassword
from proxy.gate.authorize import READING
from proxy.gate.decide import Gate
from proxy.gate.guessers import Guessers
from proxy.gate.memory import Memory
from proxy.gate.snapshot import CONTROL, Route, Rule, Snapshot, Telling, Upstream, Way
from proxy.relay.context import RelayContext
from proxy.relay.listener import Listeners
from tests.kit.process import free_port
from tests.relay.peer import Peer
from tests.relay.stage import until

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable

    from proxy.desk.desk import Desk
    from proxy.tokens.ports import Asked
    from proxy.tokens.renewal import Caller


_HOSTS = frozenset({b"noc.example.net"})
_CONSOLE = Route(
    "promgate:console",
    "/-/console",
    CONTROL,
    ways=frozenset({Way.BASIC}),
    rules=(Rule("admin"), Rule("viewer")),
    methods=READING,
    telling=Telling(identity=True, quoted=True),
    only_hosts=_HOSTS,
)


def _like_console(name: str, path: str, methods: frozenset[bytes], max_body: int = 16 * 1024) -> Route:
    return Route(
        f"promgate:{name}", path, CONTROL, ways=_CONSOLE.ways, rules=(Rule("admin"),), methods=methods,
        telling=_CONSOLE.telling, only_hosts=_HOSTS, max_body_bytes=max_body,
    )  # fmt: skip


ROUTES = (
    Route("prometheus", "/prometheus", Upstream("127.0.0.1", 9), ways=frozenset({Way.BASIC}), rules=(Rule("viewer"),)),
    _CONSOLE,
    _like_console("api", "/-/api/v1", READING | {b"POST"}),
    _like_console("reload", "/-/reload", frozenset({b"POST"})),
)
ANN, BOB = ("ann", "right"), ("bob", "right")


class _Passwords:
    """Everybody's password is `right`."""

    async def answer(self, question: Any) -> bytes | bool:
        is_right = isinstance(question, CheckPassword) and question.password == b"right"
        return question.hashes[0] if is_right else False


class Told(NamedTuple):
    """An answer; `json` of its body, where it is one."""

    status: int
    fields: dict[str, str]
    text: str

    @property
    def json(self) -> Any:
        return json.loads(self.text)


class Site:
    """`problems` is what a reload finds, `desk` what the API works on, `lacks` what it is not ready for."""

    def __init__(self, desk: Desk | None) -> None:
        self.desk = desk
        self.problems: list[str] = []
        self.reloads = 0
        self.lacks: list[str] = []
        self.guessers = Guessers()
        self.outcomes: list[Any] = []
        users = {"ann": (b"$2b$12$ann",), "bob": (b"$2b$12$bob",)}
        roles = {"basic:ann": frozenset({"admin"}), "basic:bob": frozenset({"viewer"})}
        snapshot = Snapshot(ROUTES, users=users, roles=roles, external_url="https://public.example")
        #: May be replaced by a test.
        self.reload: Callable[[], Awaitable[list[str]]] = self._reload
        #: Who asked for the last one.
        self.asked: Asked | None = None
        #: May be replaced by a test: called in a thread.
        self.renew: Callable[[str, str, Caller], tuple[int, bytes, str, int]] = lambda *_: (204, b"", "text/plain", 0)
        self.plane = ControlPlane(
            Windows(
                prefix="/-",
                routes=lambda: snapshot.routes,
                missing=lambda: self.lacks,
                external_url=lambda: snapshot.external_url,
                tokens=list,
                now=lambda: 0.0,
                reload=self._asked,
                renew=self._renew,
                guessers=lambda most: self.guessers._replace(addresses=self.guessers.addresses[:most]),
                desk=lambda _: self.desk,
            )
        )
        gate = Gate(snapshot, Memory(bytes(32)))
        self.relay = RelayContext(gate, _Passwords(), self.outcomes.append)
        self.relay.use_upstreams(snapshot.routes)
        self.listeners = Listeners(self.relay, None)
        self.port = free_port()

    async def _asked(self, asked: Asked) -> list[str]:
        self.asked = asked
        return await self.reload()

    def _renew(self, name: str, token_id: str, caller: Caller) -> tuple[int, bytes, str, int]:
        return self.renew(name, token_id, caller)

    async def _reload(self) -> list[str]:
        self.reloads += 1
        return self.problems

    async def ask(
        self,
        method: str,
        path: str,
        who: tuple[str, str] | None = ANN,
        *,
        body: object = None,
        host: str = "noc.example.net",
        **fields: str,
    ) -> Told:
        """One request on a connection of its own. `Sec_Fetch_Site="..."` is a field line; a body is sent as JSON."""
        lines = [f"{method} {path} HTTP/1.1", f"Host: {host}"]
        if who is not None:
            lines.append("Authorization: Basic " + base64.b64encode(":".join(who).encode()).decode())
        lines += [f"{name.replace('_', '-')}: {value}" for name, value in fields.items()]
        content = b"" if body is None else body if isinstance(body, bytes) else json.dumps(body).encode()
        if body is not None:
            if "Content_Type" not in fields:
                lines.append("Content-Type: application/json")
            lines.append(f"Content-Length: {len(content)}")
        peer = await Peer.connect(self.port)
        try:
            await peer.send("\r\n".join([*lines, "", ""]).encode() + content)
            answer = await peer.message(head_only=method == "HEAD")
        finally:
            peer.close()
        return Told(answer.status, dict(answer.fields), answer.body.decode())


@contextlib.asynccontextmanager
async def control(desk: Desk | None = None) -> AsyncIterator[Site]:
    site = Site(desk)
    site.relay.internal.serve = await site.plane.start()
    await site.listeners.open([("127.0.0.1", site.port)])
    try:
        yield site
    finally:
        await site.listeners.drain()
        await site.plane.stop()
        await until(lambda: not site.relay.connections)
