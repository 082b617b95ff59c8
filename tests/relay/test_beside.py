"""A listener beside the public one: its own gate and places, and the same word on tokens, trust and reloads."""

from __future__ import annotations

import contextlib
import dataclasses
from ipaddress import ip_network
from types import SimpleNamespace

import pytest

from proxy.gate.decide import Gate
from proxy.gate.forwarded import Proxies
from proxy.gate.snapshot import Snapshot
from proxy.parts import Parts
from proxy.relay.beside import open_beside
from proxy.relay.revoked import end_revoked
from tests.kit.process import free_port
from tests.relay.peer import Peer
from tests.relay.stage import OK, answering, get, on_a_loop, routes, stage, until, upstream


@contextlib.asynccontextmanager
async def beside(relay, origin):
    """The parts of a process with a console of its own before the same upstream, and the port of that."""
    port = free_port()
    address = SimpleNamespace(host="127.0.0.1", port=port)
    gate = Gate(Snapshot(routes(origin.port)), relay.memory)
    console = await open_beside(relay.listeners, gate, gate.snapshot.routes, [address], tls=False)
    parts = Parts(relay.context, relay.listeners, None, None, None, None, None, None, console=console)
    try:
        yield parts, port
    finally:
        console.close()
        for pool in console.relay.pools.values():
            pool.close()
        await until(lambda: not console.relay.connections)


async def stream(peer):
    await peer.message()
    await peer.send(b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n\r\ndata: 1\n\n")
    await peer.end()


@on_a_loop
async def test_a_revocation_ends_what_is_open_at_each():
    async with upstream(stream) as origin, stage(origin.port) as relay, beside(relay, origin) as (parts, port):
        clients = [await Peer.connect(each) for each in (relay.port, port)]
        for client in clients:
            await client.send(get("/plain/events", relay.bearer))
            assert (await client.head()).status == 200
        (token,) = relay.memory.book.tokens.values()
        parts.end_everywhere(end_revoked, frozenset({token.id}))
        assert await relay.reasons(2) == ["token_revoked"] * 2
        for client in clients:
            client.close()


@on_a_loop
async def test_a_reload_is_taken_by_all_listeners_or_by_none():
    async with upstream(answering(OK)) as origin, stage(origin.port) as relay, beside(relay, origin) as (parts, _):
        before = [(each.relay.gate, each.relay.backends) for each in parts.every_listener]
        snapshot = dataclasses.replace(relay.context.gate.snapshot, routes=routes(free_port())[:1])
        parts.console.relay.build_upstreams = lambda _: 1 / 0
        with pytest.raises(ZeroDivisionError):
            parts.prepare(snapshot, relay.memory)
        assert [(each.relay.gate, each.relay.backends) for each in parts.every_listener] == before
        del parts.console.relay.build_upstreams
        for context, gate, upstreams in parts.prepare(snapshot, relay.memory):
            context.use(gate, upstreams)
        assert list(relay.context.backends) == ["open"] == [route.name for route in relay.context.gate.snapshot.routes]
        assert parts.console.relay.backends == {}


@on_a_loop
async def test_a_reload_that_takes_the_proxies_away_leaves_at_each_a_gate_that_trusts_nobody():
    """Whoever came by a proxy before it would be taken for the client of the last request."""

    def trusting(snapshot):
        return dataclasses.replace(snapshot, trusted_proxies=Proxies((ip_network("127.0.0.0/8"),)))

    async with (
        upstream(answering(OK)) as origin,
        stage(origin.port, change=trusting) as relay,
        beside(relay, origin) as (parts, _),
    ):
        parts.console.relay.gate.proxies = relay.context.gate.proxies
        snapshot = dataclasses.replace(relay.context.gate.snapshot, trusted_proxies=None)
        gates = [gate for _, gate, _ in parts.prepare(snapshot, relay.memory)]
        assert [gate.proxies for gate in gates] == [Proxies()] * 2


@on_a_loop
async def test_its_places_are_its_own():
    async with upstream(answering(OK)) as origin, stage(origin.port) as relay:
        whole = relay.context.budget.size
        async with beside(relay, origin) as (parts, port):
            share = parts.console.relay.places.size
            assert share == whole // 8
            assert relay.context.budget.size == whole - share
            client = await Peer.connect(port)
            await client.send(get("/x"))
            assert (await client.message()).status == 200
            assert relay.context.present == 0
            client.close()
