"""A drain breaks no request, waits for nobody who is idle, and tells everybody else that this was the last one."""

import asyncio
from time import monotonic

import pytest

from proxy.gate.snapshot import Bounds
from tests.relay.peer import Cut
from tests.relay.stage import OK, Lag, answering, both_loops, get, live, on_a_loop, post, stage, until, upstream


@both_loops
@on_a_loop
async def test_drain_breaks_no_request(loop):
    broken, served, told = [], 0, 0

    async def slow(peer):
        while True:
            await peer.message()
            await asyncio.sleep(0.01)
            await peer.send(OK)

    async def sender(client, body):
        nonlocal served, told
        while True:
            try:
                await client.send(post("/x", body))
                message = await client.message()
            except (Cut, ConnectionError) as error:
                broken.append(error)
                return
            assert message.status == 200
            served += 1
            if message.get("connection") == "close":
                told += 1
                return
            await asyncio.sleep(0)

    async with upstream(slow) as origin, stage(origin.port, bounds=Bounds()) as relay:
        senders = [asyncio.create_task(sender(await relay.client(), bytes(1000 * n))) for n in range(40)]
        await until(lambda: served > 200)
        assert await relay.listeners.drain() == 0
        await asyncio.gather(*senders)
        assert (len(broken), told) == (0, 40)
        with pytest.raises(ConnectionRefusedError):
            await relay.client()
        await until(lambda: not live(origin))


@both_loops
@on_a_loop
async def test_a_request_on_its_way_when_the_drain_begins_is_answered(loop):
    async with upstream(answering(OK)) as origin, stage(origin.port) as relay:
        clients = [await relay.client(get()) for _ in range(3)]
        for client in clients:
            await client.message()
        await until(lambda: len(relay.outcomes) == 3)
        requests = (get(), post("/write", b"abc", relay.bearer), get("/plain"))
        for client, request_bytes in zip(clients, requests, strict=True):
            client.sock.send(request_bytes)
        assert await relay.listeners.drain() == 0
        for client, status in zip(clients, (200, 200, 401), strict=True):
            message = await client.message()
            assert (message.status, message.get("connection")) == (status, "close")


@both_loops
@on_a_loop
async def test_who_was_told_before_the_drain_that_it_may_go_on_is_told_once_more(loop):
    begun, go_on = asyncio.Event(), asyncio.Event()

    async def in_two_pieces(peer):
        await peer.message()
        await peer.send(OK[:-2])
        begun.set()
        await go_on.wait()
        await peer.send(OK[-2:])
        await peer.message()

    async with upstream(in_two_pieces) as origin, stage(origin.port) as relay:
        client = await relay.client(get())
        await begun.wait()
        await until(lambda: any(one.exchange and one.exchange.status for one in relay.context.connections))
        draining = asyncio.create_task(relay.listeners.drain())
        await until(lambda: relay.context.draining)
        go_on.set()
        first = await client.message()
        await client.send(get())
        last = await client.message()
        assert [(one.status, one.get("connection")) for one in (first, last)] == [(200, ""), (200, "close")]
        assert await draining == 0


@both_loops
@on_a_loop
async def test_drain_does_not_wait_for_idle_connections(loop):
    async with upstream(answering(OK)) as origin, stage(origin.port, drain=10) as relay:
        client = await relay.client(get())
        await client.message()
        since, lag = monotonic(), Lag()
        assert await relay.listeners.drain() == 0
        assert monotonic() - since < 1.5 + lag.late_s
        assert await client.end() == "fin"


@on_a_loop
async def test_during_drain_ready_says_no():
    async def slow(peer):
        await peer.message()
        await asyncio.sleep(0.3)
        await peer.send(OK)

    async with upstream(slow) as origin, stage(origin.port) as relay:
        busy, idle = await relay.client(get()), await relay.client()
        await until(lambda: origin.requests)
        draining = asyncio.create_task(relay.listeners.drain())
        await asyncio.sleep(0)
        await idle.send(get("/-/ready"))
        assert (await idle.message()).status == 503
        assert (await busy.message()).get("connection") == "close"
        assert await draining == 0
