"""A websocket library that is not ours on both ends, with compression and its own pings, over TLS."""

from __future__ import annotations

import contextlib
import ssl
from datetime import UTC, datetime

import aiohttp
import pytest
from aiohttp import web

from proxy.pki.authority import Leaf, issue, make_authority
from proxy.pki.context import build_server_context
from tests.relay import tls_peer
from tests.relay.stage import both_loops, on_a_loop, until
from tests.relay.test_tunnel import opened


@contextlib.asynccontextmanager
async def echo():
    """The port of a server that sends back what it gets, in words and in octets."""

    async def play(request):
        socket = web.WebSocketResponse(protocols=("echo",), heartbeat=0.2)
        await socket.prepare(request)
        async for message in socket:
            if message.type is aiohttp.WSMsgType.TEXT:
                await socket.send_str(message.data)
            elif message.type is aiohttp.WSMsgType.BINARY:
                await socket.send_bytes(message.data)
        return socket

    app = web.Application()
    app.add_routes([web.get("/ws", play)])
    runner = web.AppRunner(app)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    try:
        yield runner.addresses[0][1]
    finally:
        await runner.cleanup()


@pytest.fixture(scope="module")
def pki(tmp_path_factory):
    directory = tmp_path_factory.mktemp("pki")
    make_authority(directory, datetime.now(UTC))
    issue(directory, Leaf("one", dns=["localhost"]), datetime.now(UTC))
    return directory


@both_loops
@on_a_loop
async def test_a_talk_between_two_libraries(loop, pki):
    context = build_server_context(pki / "one.crt", pki / "one.key", ssl.TLSVersion.TLSv1_2)
    async with echo() as port, opened(port, context=context) as relay:
        trusted = aiohttp.TCPConnector(ssl=tls_peer.trusting(pki / "ca.crt"))
        base = f"https://localhost:{relay.port}"
        async with aiohttp.ClientSession(base, connector=trusted) as session:
            async with session.ws_connect("/ws", protocols=("echo",), compress=15, origin=base) as socket:
                assert (socket.protocol, socket.compress) == ("echo", 15)
                for text in ("", "hello", "x" * 200_000):
                    await socket.send_str(text)
                    assert await socket.receive_str() == text
                await socket.send_bytes(bytes(3_000_000))
                assert await socket.receive_bytes() == bytes(3_000_000)
            assert socket.close_code == aiohttp.WSCloseCode.OK
            await until(lambda: relay.outcomes)
            assert [(o.status, o.reason) for o in relay.outcomes] == [(101, "ok")]
            with pytest.raises(aiohttp.WSServerHandshakeError) as refused:
                await session.ws_connect("/ws", origin="https://evil.example")
            assert refused.value.status == 403
