"""The control plane: an aiohttp application that no socket listens for. Each request comes from the relay.

So the gate has said who asks and that they may; this room says what there is to see and to do. Answers are for this
asker and this moment: nothing is stored, framed or read by a script of another site.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from aiohttp import web

from proxy import __version__
from proxy.console.api import Api
from proxy.console.asker import read_asker
from proxy.console.guard import make_guard
from proxy.console.overview import MOST_GUESSERS, Seen, render_overview
from proxy.console.workers import Busy, Workers
from proxy.gate.guessers import Guessers
from proxy.tokens.ports import Asked
from proxy.tokens.renewal import Caller

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Awaitable, Callable, Sequence

    from proxy.console.login import Door
    from proxy.desk.desk import Desk
    from proxy.gate.snapshot import Route
    from proxy.tokens.lifecycle import Summary

#: No script, no frame, nothing from elsewhere (CSP 3); what a page shows is kept nowhere.
_FIELDS = {
    "Content-Security-Policy": "default-src 'none'; style-src 'self'; base-uri 'none'; form-action 'self'; "
    "frame-ancestors 'none'",
    "Cache-Control": "no-store",
    # With no-referrer a browser says of our own forms that they come from nowhere (Fetch, "append a request Origin").
    "Referrer-Policy": "same-origin",
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Cross-Origin-Resource-Policy": "same-origin",
}
#: For a sender that comes when many do.
_LATER_S = 10
_STYLE = Path(__file__).with_name("style.css")


@dataclass(frozen=True, slots=True)
class Windows:
    """What the control plane sees of the process, each looked at when it is asked for.

    `reload` reads the configuration now, for who asks; what keeps it from being taken, nothing when it serves. `desk`
    makes the desk of the moment for who asks, None where there is no token store. `renew` is asked with a token's name
    and id and who shows it, in a thread: status, body, its type, and Retry-After (0: none). `guessers` tells so many of
    those who are refused for too many guesses. `door` is where people log in; None: nowhere.
    """

    prefix: str
    routes: Callable[[], Sequence[Route]]
    missing: Callable[[], Sequence[str]]
    tokens: Callable[[], Sequence[Summary]]
    now: Callable[[], float]
    reload: Callable[[Asked], Awaitable[Sequence[str]]]
    desk: Callable[[Asked], Desk | None]
    renew: Callable[[str, str, Caller], tuple[int, bytes, str, int]] | None = None
    external_url: Callable[[], str] = str
    guessers: Callable[[int], Guessers] = lambda _: Guessers()
    door: Door | None = None


class ControlPlane:
    """`start` it, give `server` to `relay.internal`, `stop` it."""

    def __init__(self, windows: Windows) -> None:
        self._windows = windows
        self._renewals = Workers()
        self._style = _STYLE.read_text(encoding="utf-8")
        self._runner: web.AppRunner | None = None

    async def start(self) -> Callable[[], asyncio.Protocol]:
        """The factory of the server's end of a connection."""
        app = web.Application(middlewares=[make_guard(self._windows.external_url)], client_max_size=64 * 1024)
        app.on_response_prepare.append(_guard)
        prefix = self._windows.prefix
        app.router.add_get(f"{prefix}/console", self._overview)
        app.router.add_get(f"{prefix}/console/style.css", self._sheet)
        app.router.add_route("*", f"{prefix}/reload", self._reload)
        app.router.add_post(f"{prefix}/api/v1/renew", self._renew)
        Api(self._windows.desk, self._windows.guessers).add_to(app.router, f"{prefix}/api/v1")
        if self._windows.door is not None:
            from proxy.console.login import LoginPages  # noqa: PLC0415 - not paid for where nobody logs in

            LoginPages(self._windows.door, prefix, self._style).add_to(app.router)
        self._runner = web.AppRunner(app, access_log=None, handle_signals=False)
        await self._runner.setup()
        server = self._runner.server
        assert server is not None
        return server

    async def stop(self) -> None:
        if self._runner is not None:
            await self._runner.cleanup()

    async def _overview(self, request: web.Request) -> web.Response:
        windows, asker = self._windows, read_asker(request.headers)
        is_admin = "admin" in asker.roles
        seen = Seen(
            asker,
            windows.routes(),
            windows.missing(),
            windows.tokens() if is_admin else None,
            __version__,
            windows.now(),
            windows.guessers(MOST_GUESSERS) if is_admin else None,
        )
        logout = f"{windows.prefix}/logout" if asker.session else ""
        text = render_overview(seen, f"{windows.prefix}/console/style.css", logout)
        return web.Response(text=text, content_type="text/html")

    async def _sheet(self, _: web.Request) -> web.Response:
        return web.Response(text=self._style, content_type="text/css")

    async def _reload(self, request: web.Request) -> web.Response:
        """As Prometheus: POST or PUT."""
        asker = read_asker(request.headers)
        problems = await self._windows.reload(Asked(asker.identity, asker.way, asker.address, "reload"))
        if problems:
            lines = "".join(f"{line}\n" for line in problems)
            return web.Response(status=500, text=f"promgate: not taken, the one before it serves\n{lines}")
        return web.Response(text="reloaded\n")

    async def _renew(self, request: web.Request) -> web.Response:
        """A sender shows the token that it has. The gate has found it good."""
        asker = read_asker(request.headers)
        if self._windows.renew is None:
            raise web.HTTPNotFound
        caller = Caller(asker.address, request.headers.get("User-Agent", ""), asker.certificate)
        name = asker.identity.removeprefix("token:")
        renew = partial(self._windows.renew, name, asker.token_id, caller)
        try:
            status, body, kind, after = await self._renewals.run(renew)
        except Busy:
            status, body, kind, after = 503, b"promgate: not now, ask again\n", "text/plain", _LATER_S
        headers = {"Retry-After": str(after)} if after else {}
        return web.Response(status=status, body=body, content_type=kind, headers=headers)


async def _guard(_: web.BaseRequest, response: web.StreamResponse) -> None:
    response.headers.update(_FIELDS)
    response.headers.pop("Server", None)
