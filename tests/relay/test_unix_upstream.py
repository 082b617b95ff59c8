"""An upstream behind a unix socket: everything is as over TCP."""

from __future__ import annotations

import asyncio

import pytest

from tests.relay.stage import OK, answering, both_loops, get, live, on_a_loop, post, stage, until, upstream

KB = 1024


@pytest.fixture
def path(tmp_path):
    return tmp_path / "prometheus.sock"


@both_loops
@on_a_loop
async def test_one_connection_serves_many_requests(path, loop):
    async with upstream(answering(OK), path) as origin, stage(path) as relay:
        for _ in range(2):
            client = await relay.client()
            for request in (get(), post("/x", bytes(600 * KB)), get(method="HEAD")):
                await client.send(request)
                assert (await client.message(head_only=request.startswith(b"HEAD"))).status == 200
        assert len(origin.requests) == 6
        assert origin.requests[1].body == bytes(600 * KB)
        assert all(request.get("host") == "h" for request in origin.requests)


@both_loops
@on_a_loop
async def test_a_restart_of_the_upstream_goes_unnoticed(path, loop):
    """The socket is away for a while, as when a server removes it and binds anew."""
    async with stage(path) as relay:
        async with upstream(answering(OK), path) as origin:
            client = await relay.client(get())
            assert (await client.message()).status == 200
            assert len(live(origin)) == 1
        path.unlink()
        await client.send(get())
        await asyncio.sleep(0.1)
        async with upstream(answering(OK), path):
            assert (await client.message()).status == 200


@on_a_loop
async def test_a_stale_connection_is_replaced(path):
    async def once(peer):
        await peer.message()
        await peer.send(OK)

    async with upstream(once, path) as origin, stage(path) as relay:
        client = await relay.client(get())
        assert (await client.message()).status == 200
        await until(lambda: not live(origin))
        await client.send(get())
        assert (await client.message()).status == 200


@both_loops
@on_a_loop
async def test_no_socket_there(path, loop):
    async with stage(path, connect=0.3) as relay:
        client = await relay.client(get())
        answer = await client.message()
        assert answer.status == 502
        assert await relay.reasons(1) == ["upstream_refused"]


@on_a_loop
async def test_an_upstream_that_keeps_silent(path):
    async def silent(peer):
        await peer.message()
        await peer.message()

    async with upstream(silent, path), stage(path, response=0.3) as relay:
        client = await relay.client(get())
        assert (await client.message()).status == 504
        assert await relay.reasons(1) == ["upstream_late"]
