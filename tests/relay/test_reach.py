"""Whether an upstream takes connections, found out with real ports."""

import asyncio
import contextlib
import logging
import socket

from proxy.gate.snapshot import Upstream
from proxy.relay.pool import Pool
from proxy.relay.reach import AT_ONCE, Reach
from proxy.wire.response import ResponseMemo
from tests.kit.process import free_port
from tests.relay.stage import on_a_loop, until

EACH_S = 0.02


def pool_of(upstream):
    return Pool(upstream, ResponseMemo())


@contextlib.asynccontextmanager
async def checking(*upstreams):
    configured = [pool_of(upstream) for upstream in upstreams]
    reach = Reach(lambda: configured)
    task = asyncio.create_task(reach.run(EACH_S))
    try:
        yield reach, configured
    finally:
        task.cancel()
        await asyncio.wait([task])


@on_a_loop
async def test_an_upstream_is_missing_until_it_was_reached():
    with socket.create_server(("127.0.0.1", 0)) as server:
        upstream = Upstream("127.0.0.1", server.getsockname()[1])
        async with checking(upstream) as (reach, _):
            assert reach.missing() == [upstream]
            await until(lambda: not reach.missing())
            assert reach.reached == {upstream: True}


@on_a_loop
async def test_an_upstream_that_goes_and_comes_is_told_once_each(caplog):
    caplog.set_level(logging.INFO)
    there, gone = Upstream("localhost", free_port()), Upstream("127.0.0.1", free_port())
    async with checking(there, gone) as (reach, _):
        await until(lambda: len(reach.reached) == 2)
        assert reach.missing() == [there, gone]
        for _ in range(2):
            with socket.create_server(("127.0.0.1", there.port)):
                await until(lambda: reach.missing() == [gone])
            await until(lambda: reach.missing() == [there, gone])
            await asyncio.sleep(5 * EACH_S)
    told = [record.getMessage() for record in caplog.records if there.authority in record.getMessage()]
    lost, back = f"upstream {there.authority} cannot be reached: ", f"upstream {there.authority} can be reached again"
    assert [text.startswith(lost) for text in told] == [True, False, True, False, True]
    assert told[1] == told[3] == back
    assert len([record for record in caplog.records if gone.authority in record.getMessage()]) == 1


@on_a_loop
async def test_many_are_looked_at_a_few_at_a_time_and_each_is_told_of_as_it_is_found():
    """Each look holds a socket, which is then not there for a client."""
    at_once, most = 0, 0

    async def serve(reader, writer):
        nonlocal at_once, most
        at_once += 1
        most = max(most, at_once)
        await asyncio.wait_for(reader.readuntil(b"\r\n\r\n"), 30)
        if at_once >= AT_ONCE:
            full.set()
        await full.wait()
        for _ in range(3):
            await asyncio.sleep(0)
        at_once -= 1
        writer.write(b"HTTP/1.1 200 OK\r\n\r\n")
        writer.close()

    full = asyncio.Event()
    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    many = [Upstream("127.0.0.1", port, health_path=b"/%d" % number) for number in range(3 * AT_ONCE)]
    async with checking(*many) as (reach, _):
        await until(lambda: len(reach.reached) == len(many) and all(reach.reached.values()))
    server.close()
    assert most == AT_ONCE


@on_a_loop
async def test_a_reload_is_followed():
    with socket.create_server(("127.0.0.1", 0)) as server:
        old, new = Upstream("127.0.0.1", free_port()), Upstream("127.0.0.1", server.getsockname()[1])
        async with checking(old) as (reach, configured):
            await until(lambda: reach.reached == {old: False})
            configured[:] = [pool_of(new)]
            assert reach.missing() == [new], "not before it was seen"
            await until(lambda: reach.reached == {new: True})
            assert reach.missing() == []


@on_a_loop
async def test_a_unix_socket_is_reached_once_it_is_there(tmp_path):
    upstream = Upstream("", 0, str(tmp_path / "prometheus.sock"))
    async with checking(upstream) as (reach, _):
        await until(lambda: reach.reached == {upstream: False})
        with socket.socket(socket.AF_UNIX) as server:
            server.bind(upstream.socket)
            server.listen()
            await until(lambda: not reach.missing())


@on_a_loop
async def test_a_name_that_nobody_knows_is_missing():
    nobody = Upstream("nobody.invalid", 9090)
    async with checking(nobody) as (reach, _):
        await until(lambda: reach.reached == {nobody: False})
