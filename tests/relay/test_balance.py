"""Several upstreams behind one route: who serves, and what happens when one is away or unwell."""

from __future__ import annotations

import asyncio
import contextlib
import socket
from dataclasses import replace

from proxy.gate.decision import Reason
from proxy.gate.snapshot import Upstream
from proxy.relay.reach import Reach
from tests.kit.process import free_port
from tests.relay.stage import OK, answer, answering, both_loops, get, on_a_loop, post, stage, until, upstream


def behind(*ports, first_available=False, health_path=b""):
    """Change a Snapshot so that its routes go to all of `ports`."""
    ups = [Upstream("127.0.0.1", port, health_path=health_path) for port in ports]

    def change(snapshot):
        routes = (
            replace(route, upstream=ups[0], spares=tuple(ups[1:]), first_available=first_available)
            for route in snapshot.routes
        )
        return replace(snapshot, routes=tuple(routes))

    return change


async def served(relay, request=None):
    client = await relay.client(request or get())
    message = await client.message()
    return message.status, message.body


@both_loops
@on_a_loop
async def test_the_one_with_the_fewest_requests_serves(loop):
    release = asyncio.Event()

    async def slow(peer):
        while True:
            await peer.message()
            await release.wait()
            await peer.send(answer(b"slow"))

    async with (
        upstream(slow) as first,
        upstream(answering(answer(b"quick"))) as second,
        stage(first.port, change=behind(first.port, second.port)) as relay,
    ):
        waiting = await relay.client(get())
        await until(lambda: first.requests)
        assert [await served(relay) for _ in range(3)] == [(200, b"quick")] * 3
        release.set()
        assert (await waiting.message()).body == b"slow"


@both_loops
@on_a_loop
async def test_the_first_that_is_there_serves(loop):
    async with upstream(answering(answer(b"one"))) as first, upstream(answering(answer(b"two"))) as second:
        change = behind(first.port, second.port, first_available=True)
        async with stage(first.port, change=change) as relay:
            assert [await served(relay) for _ in range(3)] == [(200, b"one")] * 3
            assert second.requests == []
            await first.stop()
            assert [await served(relay) for _ in range(3)] == [(200, b"two")] * 3


@on_a_loop
async def test_only_its_health_check_brings_an_unwell_server_back():
    """It may take connections all the while, and answer each request with an error."""
    async with upstream(answering(answer(b"one"))) as first, upstream(answering(answer(b"two"))) as second:
        change = behind(first.port, second.port, first_available=True, health_path=b"/-/ready")
        async with stage(first.port, change=change) as relay:
            pool = next(pool for up, pool in relay.context.pools.items() if up.port == first.port)
            pool.note("/-/ready answered 503")
            assert not isinstance(await pool.dial(5.0), Reason)
            assert await served(relay) == (200, b"two")
            pool.note("")
            assert await served(relay) == (200, b"one")


@both_loops
@on_a_loop
async def test_a_write_goes_to_another_when_one_is_away(loop):
    async with upstream(answering(OK)) as there, stage(there.port, change=behind(free_port(), there.port)) as relay:
        request = post("/write", b"samples", relay.bearer)
        assert [await served(relay, request) for _ in range(4)] == [(200, b"ok")] * 4
        assert [message.body for message in there.requests] == [b"samples"] * 4


@on_a_loop
async def test_none_uses_up_the_time_of_the_next():
    """A full backlog answers no SYN, as a machine that is gone."""
    with socket.create_server(("127.0.0.1", 0), backlog=0) as silent, contextlib.ExitStack() as stack:
        for _ in range(4):
            filler = stack.enter_context(socket.socket())
            filler.setblocking(False)
            filler.connect_ex(silent.getsockname())
        async with upstream(answering(OK)) as there:
            change = behind(silent.getsockname()[1], there.port, first_available=True)
            async with stage(there.port, change=change, connect=1.0) as relay:
                assert await served(relay) == (200, b"ok")


@on_a_loop
async def test_when_nobody_is_there_it_is_told_after_the_budget():
    async with stage(1, change=behind(free_port(), free_port()), connect=0.3) as relay:
        assert (await served(relay))[0] == 502


@on_a_loop
async def test_one_that_is_unwell_is_passed_over_until_it_is_well():
    health = [b"HTTP/1.1 503 Starting\r\nContent-Length: 0\r\n\r\n"]

    def script(name):
        async def play(peer):
            while True:
                request = await peer.message()
                asked = request.target == "/-/ready"
                await peer.send(health[0] if asked and name == b"one" else answer(name))

        return play

    async with upstream(script(b"one")) as first, upstream(script(b"two")) as second:
        change = behind(first.port, second.port, first_available=True, health_path=b"/-/ready")
        async with stage(first.port, change=change) as relay:
            reach = Reach(lambda: list(relay.context.pools.values()))
            checking = asyncio.create_task(reach.run(0.05))
            try:
                await until(lambda: len(reach.reached) == 2)
                assert [each.port for each in reach.missing()] == [first.port]
                assert await served(relay) == (200, b"two")
                health[0] = answer(b"")
                await until(lambda: not reach.missing())
                assert await served(relay) == (200, b"one")
            finally:
                checking.cancel()


@on_a_loop
async def test_a_reload_lets_go_of_what_is_no_longer_named():
    async with (
        upstream(answering(answer(b"old"))) as old,
        upstream(answering(answer(b"new"))) as new,
        stage(old.port) as relay,
    ):
        assert await served(relay) == (200, b"old")
        (pool,) = relay.context.pools.values()
        assert pool.idle == 1
        relay.context.use_upstreams(behind(new.port)(relay.context.gate.snapshot).routes)
        assert await served(relay) == (200, b"new")
        await until(lambda: not pool._all)
        assert pool not in relay.context.pools.values()
