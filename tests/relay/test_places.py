"""A place is given back exactly once, in whatever way its request ends."""

from __future__ import annotations

import asyncio
import contextlib
import random
from dataclasses import replace

import pytest

from proxy.gate.snapshot import Concurrency
from tests.kit.process import free_port
from tests.relay.peer import Cut
from tests.relay.stage import OK, answering, both_loops, get, on_a_loop, post, stage, until, upstream


def bounded(limit):
    def change(snapshot):
        by_ip = Concurrency(limit, by_identity=False)
        return replace(snapshot, routes=tuple(replace(route, concurrency=by_ip) for route in snapshot.routes))

    return change


def taken(relay):
    """The keys with a request under way, by route."""
    return {name: len(relay.memory.places(name)) for name in ("open", "plain", "write")}


NONE = {"open": 0, "plain": 0, "write": 0}


@both_loops
@on_a_loop
async def test_one_over_the_limit_is_refused_and_the_next_is_not(loop):
    release = asyncio.Event()

    async def slow(peer):
        while True:
            await peer.message()
            await release.wait()
            await peer.send(OK)

    async with upstream(slow) as origin, stage(origin.port, change=bounded(2)) as relay:
        waiting = [await relay.client(get()) for _ in range(2)]
        await until(lambda: len(origin.requests) == 2)
        refused = await relay.client(get())
        answer = await refused.message()
        assert (answer.status, "retry-after" in dict(answer.fields)) == (429, True)
        release.set()
        assert [(await client.message()).status for client in waiting] == [200, 200]
        await refused.send(get())
        assert (await refused.message()).status == 200
        await until(lambda: taken(relay) == NONE)


async def _silent(peer):
    await peer.message()
    await asyncio.sleep(60)


async def _breaks(peer):
    await peer.message()


async def _cuts(peer):
    await peer.message()
    await peer.send(b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nshort")


async def _garbage(peer):
    await peer.message()
    await peer.send(b"SSH-2.0-OpenSSH\r\n\r\n")


@pytest.mark.parametrize("script", [answering(OK), _silent, _breaks, _cuts, _garbage])
@pytest.mark.parametrize("leaves", [False, True])
@on_a_loop
async def test_however_it_ends(script, leaves):
    async with upstream(script) as origin, stage(origin.port, change=bounded(9), response=0.3) as relay:
        cut_short = post("/write", b"x", relay.bearer, length=9)
        for request in (get(), post("/write", b"x" * 100, relay.bearer), *([cut_short] if leaves else [])):
            client = await relay.client(request)
            if leaves:
                await until(lambda: origin.requests or taken(relay) != NONE or relay.outcomes)
                client.close()
            else:
                with contextlib.suppress(Cut, ConnectionError, TimeoutError):
                    await client.message()
                client.close()
            await until(lambda: taken(relay) == NONE)


@on_a_loop
async def test_when_nobody_is_there():
    async with stage(free_port(), change=bounded(1), connect=0.1) as relay:
        for _ in range(3):
            client = await relay.client(get())
            assert (await client.message()).status == 502
        assert taken(relay) == NONE


@on_a_loop
async def test_a_storm_leaves_nothing_behind():
    dice = random.Random(7)

    async def erratic(peer):
        while True:
            await peer.message()
            await asyncio.sleep(dice.random() / 50)
            if dice.random() < 0.2:
                return
            await peer.send(OK)

    async with upstream(erratic) as origin, stage(origin.port, change=bounded(5)) as relay:

        async def one():
            client = await relay.client(get() if dice.random() < 0.5 else post("/write", b"x" * 64, relay.bearer))
            if dice.random() < 0.3:
                await asyncio.sleep(dice.random() / 50)
            else:
                with contextlib.suppress(Cut, ConnectionError):
                    assert (await client.message()).status in {200, 429, 502, 503}
            client.close()

        for _ in range(10):
            await asyncio.gather(*(one() for _ in range(20)))
        await until(lambda: taken(relay) == NONE)
