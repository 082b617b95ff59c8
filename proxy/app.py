"""The composition root: the only place that knows which concrete pieces make a promgate, and in what order they live.

Whatever can fail at the start (the store, a certificate, a port) fails before the first connection is taken,
with a text that names it; what fails later leaves the last good state serving.
"""

from __future__ import annotations

import asyncio
import contextlib
import gc
import logging
import secrets
import signal
import ssl
from time import monotonic
from typing import TYPE_CHECKING

from proxy.config.read import ConfigError, load
from proxy.gate.decide import Gate
from proxy.gate.memory import Memory
from proxy.login.jwt import JwtVerifier
from proxy.login.passwords import PasswordChecker
from proxy.observe.access_log import AccessLog
from proxy.pki.watch import CertWatch
from proxy.process import prepare_process
from proxy.relay.context import RelayContext
from proxy.relay.finder import AnswerFinder
from proxy.relay.listener import SWEEP_S, Listeners
from proxy.relay.pool import Pool
from proxy.stores.nudge import serve_nudges, socket_beside
from proxy.stores.sqlite import open_store
from proxy.stores.watch import StoreWatch

if TYPE_CHECKING:
    from collections.abc import Coroutine

    from proxy.config.read import Loaded
    from proxy.gate.snapshot import Snapshot

_log = logging.getLogger("promgate.server")
_REOPEN_EACH_S = 5.0
_TLS_VERSIONS = {"TLS12": ssl.TLSVersion.TLSv1_2, "TLS13": ssl.TLSVersion.TLSv1_3}


class App:
    """One promgate process: `run` until a signal says stop."""

    def __init__(self, loaded: Loaded) -> None:
        self._loaded = loaded
        self._memory = Memory(secrets.token_bytes(32))
        self._jwts = JwtVerifier(loaded.snapshot.jwt_issuers)
        self._stop = asyncio.Event()

    async def run(self) -> int:
        """Serve until SIGTERM or SIGINT; the exit code. OSError, StoreError or PairError: it could not be started."""
        snapshot, settings = self._loaded.snapshot, self._loaded.settings
        async with contextlib.AsyncExitStack() as stack:
            certificate = self._load_certificate()
            watch = await self._follow_store(stack)
            passwords = PasswordChecker()
            stack.callback(passwords.close)
            stack.callback(self._jwts.close)
            log = AccessLog(settings.access_log.file, settings.access_log.format)
            stack.callback(log.close)
            relay = RelayContext(Gate(snapshot, self._memory), AnswerFinder(watch, passwords, self._jwts), log.add)
            self._take(relay, snapshot)
            listeners = Listeners(relay, certificate and certificate[1])
            await listeners.open([(address.host, address.port) for address in settings.listen])
            if certificate is not None:
                _in_background(stack, certificate[0].run(listeners.use))
            _in_background(stack, _sweep(listeners, log))
            self._on_signals(relay)
            gc.collect()
            gc.freeze()  # what lives from here to the end need not be looked at again
            _log.info("serving on %s", ", ".join(map(str, settings.listen)))
            await self._stop.wait()
            _log.info("draining: %d connections", len(relay.connections))
            cut = await listeners.drain()
            _log.info("stopped, %d connections cut", cut)
        return 0

    async def _follow_store(self, stack: contextlib.AsyncExitStack) -> StoreWatch | None:
        path = self._loaded.settings.store
        if path is None:
            return None
        store = open_store(path)
        stack.callback(store.close)
        watch = StoreWatch(store, self._memory.book, look=store.look)
        await watch.start()
        stack.push_async_callback(watch.stop)
        server = await serve_nudges(socket_beside(path), watch.sync)
        if server is not None:
            stack.callback(server.close)
        return watch

    def _load_certificate(self) -> tuple[CertWatch, ssl.SSLContext] | None:
        tls = self._loaded.settings.tls
        if tls is None:
            return None
        watch = CertWatch(tls.cert_file, tls.key_file, _TLS_VERSIONS[tls.min_version])
        return watch, watch.load()

    def _on_signals(self, relay: RelayContext) -> None:
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self._stop.set)
        loop.add_signal_handler(signal.SIGHUP, self._reload, relay)

    def _reload(self, relay: RelayContext) -> None:
        """Take the file as it is now, whole or not at all."""
        path = self._loaded.settings.path
        try:
            loaded = load(path)
        except ConfigError as error:
            for problem in error.problems:
                _log.error("%s", problem)
            _log.error("%s was not taken; the configuration before it goes on", path)
            return
        if loaded.settings != self._loaded.settings:
            _log.warning("listen, tls_server_config, tokens.store and access_log change with a restart only")
        self._take(relay, loaded.snapshot)
        self._jwts.take(loaded.snapshot.jwt_issuers)
        relay.gate = Gate(loaded.snapshot, self._memory)
        _log.info("%s taken: %d routes", path, len(loaded.snapshot.routes))

    def _take(self, relay: RelayContext, snapshot: Snapshot) -> None:
        """A pool for every upstream; those no longer named are left to grow idle and be swept."""
        for route in snapshot.routes:
            if route.upstream not in relay.pools:
                relay.pools[route.upstream] = Pool(route.upstream, relay.response_memo)


def _in_background(stack: contextlib.AsyncExitStack, work: Coroutine[None, None, None]) -> None:
    stack.callback(asyncio.create_task(work).cancel)


async def _sweep(listeners: Listeners, log: AccessLog) -> None:
    """Keep deadlines and write the log. A defect here must not end either: it is logged, and the next pass comes."""
    reopen_at = monotonic() + _REOPEN_EACH_S
    while True:
        await asyncio.sleep(SWEEP_S)
        now = monotonic()
        try:
            listeners.sweep(now)
            log.flush()
            if now > reopen_at:
                reopen_at = now + _REOPEN_EACH_S
                log.reopen_if_moved()
        except Exception:  # noqa: BLE001
            _log.exception("the sweep failed")


def run(loaded: Loaded) -> int:
    """Serve with uvloop where it is installed, else with asyncio's own loop. Raises what App.run raises."""
    prepare_process()
    try:
        import uvloop  # noqa: PLC0415
    except ImportError:
        factory = None
    else:
        factory = uvloop.new_event_loop
    with asyncio.Runner(loop_factory=factory) as runner:
        return runner.run(_run(loaded))


async def _run(loaded: Loaded) -> int:
    return await App(loaded).run()
