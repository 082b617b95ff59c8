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
import ssl
from functools import partial
from importlib import import_module
from time import monotonic
from typing import TYPE_CHECKING

from proxy import __version__
from proxy.audit.operation import Operation, open_trail
from proxy.clock import Clock
from proxy.config.restart import options_waiting
from proxy.desk.restored import look_back
from proxy.desk.serving import Followed, ServerDesk
from proxy.gate.decide import Gate
from proxy.gate.guessers import list_guessers
from proxy.gate.memory import Memory
from proxy.gate.redirect import RedirectGate
from proxy.gate.snapshot import CONTROL
from proxy.login.introspection import Introspector
from proxy.login.jwt import JwtVerifier
from proxy.login.passwords import PasswordChecker
from proxy.observe import metrics
from proxy.observe.access_log import AccessLog
from proxy.observe.metrics import RequestCounts, Sample, token_samples
from proxy.observe.observers import Observers
from proxy.parts import Ledger, Parts, console_only, in_background, make_ledger, sweep
from proxy.pki.certificates import Certificates
from proxy.pki.expiry import CertificateEnds
from proxy.pki.watch import CertWatch, TrustWatch
from proxy.process import give_back_memory, prepare_process, room_for_sockets
from proxy.relay.beside import open_beside
from proxy.relay.budget import Budget
from proxy.relay.context import RelayContext
from proxy.relay.figures import certificate_samples, guesser_samples, provider_samples, relay_samples
from proxy.relay.finder import AnswerFinder
from proxy.relay.judging import Judging
from proxy.relay.listener import Listeners
from proxy.relay.reach import Reach
from proxy.relay.revoked import end_revoked, end_sessions
from proxy.relay.standing import keep_judging
from proxy.relay.upstream_files import follow
from proxy.reload import Reload
from proxy.signals import Signals, notify
from proxy.stores.nudge import serve_nudges
from proxy.stores.sqlite import open_store
from proxy.stores.watch import StoreWatch
from proxy.tokens.configured import find_in_both
from proxy.tokens.lifecycle import summarize_all

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterator

    from proxy.config.read import Loaded
    from proxy.console.login import Door
    from proxy.gate.snapshot import Snapshot, TokenRules
    from proxy.people import People
    from proxy.pki.groups import ServerContext
    from proxy.relay.pool import Pool
    from proxy.tokens.ports import Asked

_log = logging.getLogger("promgate.server")
_GIVE_BACK_EACH_S = 60.0
_TLS_VERSIONS = {"TLS12": ssl.TLSVersion.TLSv1_2, "TLS13": ssl.TLSVersion.TLSv1_3}


class App:
    """One promgate process: `run` until a signal says stop."""

    def __init__(self, loaded: Loaded) -> None:
        self._loaded = loaded
        self._memory = Memory(secrets.token_bytes(32))
        self._jwts = JwtVerifier(loaded.snapshot.jwt_issuers, self._memory.jwts.doubt)
        self._introspector = Introspector(loaded.snapshot.introspection)
        self._counts = RequestCounts()
        self._ends = CertificateEnds(loaded.certificates)
        self._trail = open_trail(loaded.settings.audit, loaded.settings.store)
        self._clock = Clock()
        self._audit = None if self._trail is None else partial(Operation, self._trail)
        self._reload = Reload(loaded, self._audit)
        self._signals = Signals(self._reload.ask)

    async def run(self) -> int:
        """Serve until SIGTERM or SIGINT; the exit code. OSError, StoreError or PairError: it could not be started."""
        self._signals.listen()
        snapshot, settings = self._loaded.snapshot, self._loaded.settings
        async with contextlib.AsyncExitStack() as stack:
            certificate = self._load_certificates()
            self._memory.book.has_store = settings.store is not None
            self._configure(snapshot.token_rules)
            log = AccessLog(settings.access_log.file, settings.access_log.format)
            stack.callback(log.close)
            ledger = None if settings.store is None else make_ledger(settings.store, self._clock.now)
            tell = [self._counts.add] if settings.telemetry else []
            observers = Observers(log.write, *tell, *([ledger.senders.add] if ledger else []))
            followed = await self._follow_store(stack, ledger, observers)
            stack.callback(observers.flush)
            passwords = PasswordChecker()
            stack.callback(passwords.close)
            stack.callback(self._jwts.close)
            stack.push_async_callback(self._introspector.aclose)
            finder = AnswerFinder(followed and followed.watch, passwords, self._jwts, self._introspector)
            relay = RelayContext(Gate(snapshot, self._memory), finder, observers.add, Budget(*room_for_sockets()))
            relay.clock = self._clock
            self._counts.know(route.name for route in snapshot.routes)
            relay.use_upstreams(snapshot.routes)
            relay.trust = settings.tls and settings.tls.trust
            self._tell_twice(snapshot.token_rules)
            listeners = Listeners(relay, certificate and certificate[1])
            reach = Reach(lambda: self._checked(relay))
            parts = Parts(relay, listeners, log, observers, certificate and certificate[0], reach, ledger, finder)
            if followed is not None:
                followed.watch.on_revoked = partial(parts.end_everywhere, end_revoked)
            await self._open_people(stack, parts, snapshot)
            await self._open_telemetry(stack, parts)
            addresses = [(address.host, address.port) for address in settings.listen]
            await listeners.open(addresses, proxied=settings.proxy_protocol)
            parts.listening = True
            redirect = settings.redirect_listen
            parts.redirect = await open_beside(listeners, RedirectGate(snapshot), (), redirect, tls=False)
            if followed is not None and ledger is not None:
                flushed = partial(ledger.flush, observers)
                parts.desk = ServerDesk(followed, snapshot.token_rules, self._clock.now, flushed, self._audit)
                parts.desk.start()
                stack.push_async_callback(asyncio.to_thread, parts.desk.stop)
            await self._open_console(stack, parts)
            if relay.budget.size < snapshot.bounds.max_connections:
                few = "%d client connections are taken: for more, raise the limit of open files"
                _log.warning(few, relay.budget.size)
            if certificate is not None:
                in_background(stack, certificate[0].run(parts.use))
            in_background(stack, sweep(parts, self._memory))
            in_background(stack, _stay_small())
            in_background(stack, keep_judging(lambda: [each.relay for each in parts.every_listener]))
            in_background(stack, reach.run())
            in_background(stack, follow(lambda: [pool.files for pool in relay.pools.values() if pool.files]))
            in_background(stack, self._jwts.run())
            in_background(stack, self._ends.run())
            prepare = partial(self._prepare, stack, parts)
            in_background(stack, self._reload.run(lambda fresh: self._reloaded(parts, fresh), prepare))
            gc.collect()
            gc.freeze()  # what lives from here to the end need not be looked at again
            parts.serving = True
            _log.info("serving on %s", ", ".join(map(str, settings.listen)))
            notify("READY=1")
            await self._signals.wait_stop()
            notify("STOPPING=1")
            await self._drain(parts)
        return 0

    async def _drain(self, parts: Parts) -> None:
        """Leave: first where load balancers look, then at the listeners."""
        if parts.desk is not None:
            parts.desk.end()  # no rotation begins any more, for whose canary no listener would be there
        for each in parts.every_listener:
            each.relay.is_leaving = True
        if delay_s := parts.relay.gate.snapshot.timeouts.drain_delay:
            _log.info("not ready any more; the listeners close in %g s", delay_s)
            await self._signals.wait_hurry(delay_s)
        _log.info("draining: %d connections", len(parts.relay.connections))
        draining = (each.drain(lambda: self._signals.hurry) for each in parts.every_listener)
        _log.info("stopped, %d connections cut", sum(await asyncio.gather(*draining)))

    async def _prepare(self, stack: contextlib.AsyncExitStack, parts: Parts, loaded: Loaded) -> None:
        """Start what a reload is the first to need. It is there before `loaded` serves, so nobody gets a 502."""
        first = await self._open_people(stack, parts, loaded.snapshot)
        await self._start_control(stack, parts, loaded, anew=first)

    async def _open_people(self, stack: contextlib.AsyncExitStack, parts: Parts, snapshot: Snapshot) -> bool:
        """Those who log in, where there is a way and was none before; whether it is so."""
        if snapshot.sessions is None or parts.people is not None:
            return False
        if parts.serving:
            await asyncio.to_thread(import_module, "proxy.people")
        from proxy.people import People  # noqa: PLC0415 - not paid for where nobody logs in

        people = People(self._memory, self._loaded.settings.store, self._clock.now)
        stack.push_async_callback(people.aclose)
        people.keeper.on_ended = partial(parts.end_everywhere, end_sessions)
        await people.start(snapshot)
        parts.people, parts.finder.sessions = people, people.keeper
        in_background(stack, people.keeper.run())
        return True

    async def _open_console(self, stack: contextlib.AsyncExitStack, parts: Parts) -> None:
        """The control plane, where a route leads to it: on the public listener, or behind a gate of its own."""
        await self._start_control(stack, parts, self._loaded)
        snapshot, address = self._loaded.snapshot, self._loaded.settings.console_listen
        if address is not None:
            gate = Gate(console_only(snapshot), self._memory)
            parts.console = await open_beside(parts.listeners, gate, snapshot.console, [address], tls=True)
            _log.info("console on %s", address)

    async def _start_control(
        self, stack: contextlib.AsyncExitStack, parts: Parts, loaded: Loaded, *, anew: bool = False
    ) -> None:
        """If `loaded` needs it and it does not run; `anew`: also if it does, for it has no pages for people."""
        snapshot, internal = loaded.snapshot, parts.relay.internal
        is_needed = any(route.upstream == CONTROL and not route.inquires for route in snapshot.routes)
        if (internal.serve is not None and not anew) or not (is_needed or snapshot.console):
            return
        if parts.serving:  # half a second, in which a reload must not hold up requests
            await asyncio.to_thread(import_module, "proxy.console.control")
        from proxy.console.control import ControlPlane, Windows  # noqa: PLC0415 - not paid for where it is not used

        book, now = self._memory.book, parts.relay.clock.now
        judging = Judging(parts.relay)
        windows = Windows(
            prefix=self._loaded.settings.control_prefix,
            routes=lambda: parts.relay.gate.snapshot.routes,
            missing=lambda: list(self._missing(parts)),
            external_url=lambda: parts.relay.gate.snapshot.external_url,
            tokens=lambda: summarize_all(book.tokens.values(), now()),
            now=now,
            reload=self._reload.now_for,
            desk=lambda asked: None if parts.desk is None else parts.desk.desk(asked),
            renew=parts.desk.renewing.answer if parts.desk is not None else None,
            guessers=lambda most: list_guessers(parts.relay.gate.snapshot, self._memory, monotonic(), most),
            door=None if parts.people is None else _door(parts, parts.people, judging),
        )
        plane = ControlPlane(windows)
        internal.serve = await plane.start()
        stack.push_async_callback(plane.stop)
        if anew:
            parts.leave_control()

    async def _follow_store(
        self, stack: contextlib.AsyncExitStack, ledger: Ledger | None, observers: Observers
    ) -> Followed | None:
        path = self._loaded.settings.store
        if path is None or ledger is None:
            return None
        store = open_store(path)
        stack.callback(store.close)
        watch = StoreWatch(store, self._memory.book, look=store.look)
        await watch.start()
        stack.push_async_callback(watch.stop)
        await ledger.writer.start()
        stack.push_async_callback(ledger.writer.stop)
        grace_s = self._loaded.snapshot.token_rules.retry_grace_s
        look_back(store, self._memory.book, ledger.tally, self._clock.now(), grace_s)
        in_background(stack, ledger.writer.run())
        listen = " ".join(map(str, self._loaded.settings.listen))
        flush = partial(ledger.flush, observers)
        server = await serve_nudges(path, watch.sync, flush, self._clock.now, listen)
        stack.callback(server.close)
        return Followed(store, watch, server)

    def _load_certificates(self) -> tuple[Certificates, ServerContext] | None:
        tls = self._loaded.settings.tls
        if tls is None:
            return None
        lowest = _TLS_VERSIONS[tls.min_version]
        pairs = [(tls.cert_file, tls.key_file), *tls.others]
        watches = [CertWatch(cert, key, lowest) for cert, key in pairs]
        certificates = Certificates(watches, None if tls.trust is None else TrustWatch(tls.trust))
        return certificates, certificates.load()

    async def _open_telemetry(self, stack: contextlib.AsyncExitStack, parts: Parts) -> None:
        """Before the public listeners, and closed after them: a drain can be watched to its end."""
        address = self._loaded.settings.telemetry
        if address is None:
            return
        from proxy.console.page import CONTENT_TYPE, Page  # noqa: PLC0415 - not paid for where it is not used
        from proxy.console.telemetry import MAX_CONNECTIONS, Telemetry  # noqa: PLC0415

        page = Page(lambda: self._samples(parts))
        unready = lambda: ", ".join(self._missing(parts))  # noqa: E731
        size = parts.relay.budget.share(MAX_CONNECTIONS).size
        telemetry = Telemetry(page.build, CONTENT_TYPE, unready, self._find_reload, size)
        await telemetry.open(address.host, address.port)
        stack.callback(telemetry.close)
        _log.info("telemetry on %s", address)

    def _find_reload(self) -> Callable[[Asked], Awaitable[list[str]]] | None:
        return self._reload.now_for if self._reload.loaded.settings.reloads_by_http else None

    def _samples(self, parts: Parts) -> Iterator[Sample]:
        """All that a scrape is told."""
        parts.observers.flush()
        yield from self._counts.samples()
        yield from relay_samples(parts.relay, parts.listeners.tls, parts.reach.reached)
        yield from guesser_samples(parts.relay.gate.snapshot, self._memory, monotonic())
        yield from provider_samples(self._jwts, self._introspector)
        if self._memory.book.has_store or self._memory.book.tokens:
            now = parts.relay.clock.at(monotonic())
            yield from token_samples(self._memory.book, now)
            if parts.ledger is not None:
                is_writable = parts.ledger.writer.trouble is None
                yield from parts.ledger.senders.samples(self._memory.book, now, is_writable=is_writable)
        if parts.desk is not None:
            yield from parts.desk.samples()
        if parts.people is not None:
            yield from parts.people.samples()
        if self._trail is not None:
            yield from self._trail.samples()
        yield Sample(metrics.RELOAD_SUCCESSFUL, not self._reload.failed)
        yield Sample(metrics.RELOAD_TIME, self._reload.taken_at)
        yield from certificate_samples(parts.certificate, self._ends)
        yield Sample(metrics.LINES_LOST, parts.log.lost)
        yield Sample(metrics.BUILD, 1, (__version__,))

    def _missing(self, parts: Parts) -> Iterator[str]:
        """What keeps this process from being ready."""
        if parts.relay.is_leaving:
            yield "draining"
        elif not parts.listening:
            yield "the public listeners are not open yet"
        if not self._memory.book.readable:
            yield "the token store cannot be read"
        for upstream in parts.reach.missing():
            yield f"upstream {upstream.authority} cannot be reached"

    def _reloaded(self, parts: Parts, loaded: Loaded) -> None:
        """Serve by the new configuration from the next request on; what needs new sockets or files is told."""
        changes = parts.prepare(loaded.snapshot, self._memory)  # what can fail comes before the first that is taken
        self._counts.know(route.name for route in loaded.snapshot.routes)
        self._jwts.take(loaded.snapshot.jwt_issuers)
        self._introspector.take(loaded.snapshot.introspection)
        self._ends.take(loaded.certificates)
        for relay, gate, upstreams in changes:
            relay.use(gate, upstreams)
        parts.end_everywhere(end_revoked, self._configure(loaded.snapshot.token_rules))
        self._tell_twice(loaded.snapshot.token_rules)
        if parts.desk is not None:
            parts.desk.rules = loaded.snapshot.token_rules
        if parts.people is not None:
            parts.people.take(loaded.snapshot)
        kept = list(options_waiting(self._loaded, loaded))
        waits = f"; {', '.join(kept)}: not before a restart" if kept else ""
        for warning in loaded.warnings:
            _log.warning("%s", warning)
        _log.info("%s taken: %d routes%s", loaded.settings.path, len(loaded.snapshot.routes), waits)

    def _configure(self, rules: TokenRules) -> frozenset[str]:
        """Take the tokens that the configuration lists; the ids of those that it lists no more."""
        return self._memory.book.configure(rules.configured, self._clock.now(), rules.retry_grace_s)

    def _tell_twice(self, rules: TokenRules) -> None:
        for line in find_in_both(rules.configured, self._memory.book.tokens.values()):
            _log.warning("write_tokens: %s", line)

    def _checked(self, relay: RelayContext) -> list[Pool]:
        """The upstreams that are looked at beside the requests: with telemetry all, else those for which it matters."""
        all_of_them = self._loaded.settings.telemetry is not None
        return [
            pool
            for route in relay.gate.snapshot.routes
            if not route.inquires
            for pool in map(relay.pools.__getitem__, (route.upstream, *route.spares))
            if pool.upstream != CONTROL and (all_of_them or route.spares or pool.upstream.health_path)
        ]


def _door(parts: Parts, people: People, judging: Judging) -> Door:
    from proxy.console.login import Door  # noqa: PLC0415 - not paid for where nobody logs in

    return Door(
        snapshot=lambda: parts.relay.gate.snapshot,
        providers=lambda: people.providers,
        keeper=people.keeper,
        seal=people.seal,
        judging=judging,
        now=parts.relay.clock.now,
    )


async def _stay_small() -> None:
    while True:
        await asyncio.sleep(_GIVE_BACK_EACH_S)
        give_back_memory()


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
