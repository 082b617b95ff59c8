"""Connections with a PROXY header before them, over plain TCP and TLS."""

from __future__ import annotations

import asyncio
import ssl
from dataclasses import replace
from datetime import UTC, datetime
from ipaddress import ip_network

import pytest

from proxy.gate.forwarded import Proxies
from proxy.gate.snapshot import Bounds
from proxy.pki.authority import Leaf, issue, make_authority
from proxy.pki.context import build_server_context
from tests.relay.stage import OK, answering, both_loops, get, on_a_loop, stage, until, upstream

HEADER = b"PROXY TCP4 198.51.100.9 192.0.2.1 1234 443\r\n"
NETWORKS = (ip_network("127.0.0.0/8"), ip_network("10.0.0.0/8"))


def trusting(snapshot):
    return replace(snapshot, trusted_proxies=Proxies(NETWORKS))


@both_loops
@on_a_loop
async def test_the_announced_address_stands_for_the_peer(loop):
    async with upstream(answering(OK)) as origin, stage(origin.port, change=trusting, proxied=True) as relay:
        together = await relay.client(HEADER + get())
        assert (await together.message()).status == 200
        await together.send(get("/x", b"X-Forwarded-For: 203.0.113.5\r\n"))
        assert (await together.message()).status == 200
        apart = await relay.client()
        for octet in HEADER + get():
            await apart.send(bytes([octet]))
        assert (await apart.message()).status == 200
        assert [request.get("x-forwarded-for") for request in origin.requests] == ["198.51.100.9"] * 3
        assert {outcome.ip for outcome in relay.outcomes} == {"198.51.100.9"}


@on_a_loop
async def test_a_trusted_proxy_that_was_announced_is_believed_in_turn():
    async with upstream(answering(OK)) as origin, stage(origin.port, change=trusting, proxied=True) as relay:
        header = b"PROXY TCP4 10.0.0.5 192.0.2.1 1234 443\r\n"
        client = await relay.client(header + get("/x", b"X-Forwarded-For: 203.0.113.5\r\n"))
        assert (await client.message()).status == 200
        assert origin.requests[0].get("x-forwarded-for") == "203.0.113.5, 10.0.0.5"


@on_a_loop
async def test_a_proxy_that_speaks_for_itself():
    """By LOCAL, as for a health check, and by nothing else: tests/attacks/cases/6-identity has the others."""
    async with upstream(answering(OK)) as origin, stage(origin.port, change=trusting, proxied=True) as relay:
        client = await relay.client(b"\r\n\r\n\0\r\nQUIT\n\x20\0\0\0" + get())
        assert (await client.message()).status == 200
        assert origin.requests[0].get("x-forwarded-for") == "127.0.0.1"


@on_a_loop
async def test_connections_are_counted_for_the_announced_address():
    bounds = Bounds(max_connections_per_ip=1)
    async with (
        upstream(answering(OK)) as origin,
        stage(origin.port, change=trusting, bounds=bounds, proxied=True) as relay,
    ):
        first, second = await relay.client(HEADER + get()), await relay.client(HEADER + get())
        assert (await first.message()).status == 200
        assert await second.end() in {"fin", "reset"}


@both_loops
@on_a_loop
async def test_who_is_to_announce_a_client_holds_a_place_and_gives_it_up_for_that_client(loop):
    """A proxy is not held to the bound of an address, but to the bound of all."""
    bounds = Bounds(max_connections=2, max_connections_per_ip=1)
    async with (
        upstream(answering(OK)) as origin,
        stage(origin.port, change=trusting, bounds=bounds, proxied=True) as relay,
    ):
        first, second = await relay.client(HEADER[:9]), await relay.client(HEADER[:9])
        await until(lambda: relay.context.present == 2)
        assert relay.context.per_ip == {"127.0.0.1": 2}
        third = await relay.client(HEADER + get())
        assert await third.end() in {"fin", "reset"}
        second.close()
        await until(lambda: relay.context.present == 1)
        await first.send(HEADER[9:] + get())
        assert (await first.message()).status == 200
        assert relay.context.per_ip == {"198.51.100.9": 1}


@both_loops
@on_a_loop
async def test_without_a_header_a_trusted_proxy_is_cut(loop):
    async with (
        upstream(answering(OK)) as origin,
        stage(origin.port, change=trusting, proxied=True, header=0.3) as relay,
    ):
        client = await relay.client(get())
        assert await client.end() in {"fin", "reset"}
        silent = await relay.client(b"PROXY TCP4")
        assert await silent.end() in {"fin", "reset"}
        assert await relay.reasons(2) == ["unlawful", "client_late"]
        assert origin.requests == []


@on_a_loop
async def test_anybody_else_is_what_it_is_and_may_not_send_one():
    async with upstream(answering(OK)) as origin, stage(origin.port, proxied=True) as relay:
        client = await relay.client(get())
        assert (await client.message()).status == 200
        spoofing = await relay.client(HEADER + get())
        assert (await spoofing.message()).status == 400
        assert {outcome.ip for outcome in relay.outcomes} == {"127.0.0.1"}


@pytest.fixture(scope="module")
def pair(tmp_path_factory):
    directory = tmp_path_factory.mktemp("pair")
    make_authority(directory, datetime.now(UTC))
    issue(directory, Leaf("one", dns=["localhost"]), datetime.now(UTC))
    return directory


@both_loops
@on_a_loop
async def test_before_tls(pair, loop):
    context = build_server_context(pair / "one.crt", pair / "one.key", ssl.TLSVersion.TLSv1_2)
    async with (
        upstream(answering(OK)) as origin,
        stage(origin.port, change=trusting, proxied=True, context=context) as relay,
    ):
        reader, writer = await asyncio.open_connection("127.0.0.1", relay.port)
        writer.write(HEADER)
        trust = ssl.create_default_context(cafile=str(pair / "ca.crt"))
        await writer.start_tls(trust, server_hostname="localhost")
        writer.write(get())
        assert (await reader.readline()).startswith(b"HTTP/1.1 200")
        assert origin.requests[0].get("x-forwarded-for") == "198.51.100.9"
        writer.close()
