"""The client behind a trusted proxy, from one request to the next on the proxy's connection."""

from __future__ import annotations

from dataclasses import replace
from ipaddress import ip_network

from proxy.gate.decide import Gate
from proxy.gate.forwarded import Proxies
from proxy.gate.snapshot import Bounds, RateLimit
from tests.relay.stage import OK, answering, get, on_a_loop, stage, upstream

LOCAL = Proxies((ip_network("127.0.0.0/8"),))


def trusting(snapshot):
    return replace(snapshot, trusted_proxies=LOCAL)


def behind(ip, *fields):
    return get("/x", b"X-Forwarded-For: %b\r\n" % ip, *fields)


@on_a_loop
async def test_each_request_has_its_own_client():
    async with upstream(answering(OK)) as origin, stage(origin.port, change=trusting) as relay:
        client = await relay.client()
        for ip in (b"198.51.100.1", b"198.51.100.2", b"nonsense", b"198.51.100.1"):
            await client.send(behind(ip, b"X-Forwarded-Proto: https\r\n", b"X-Real-IP: 9.9.9.9\r\n"))
            assert (await client.message()).status == 200
        await client.send(get())
        assert (await client.message()).status == 200
        sent = [request.get("x-forwarded-for") for request in origin.requests]
        assert sent == [
            "198.51.100.1, 127.0.0.1", "198.51.100.2, 127.0.0.1", "127.0.0.1", "198.51.100.1, 127.0.0.1", "127.0.0.1",
        ]  # fmt: skip
        assert [request.get("x-forwarded-proto") for request in origin.requests] == ["https"] * 4 + ["http"]
        assert {request.get("x-real-ip") for request in origin.requests} == {""}
        ips = [outcome.ip for outcome in relay.outcomes]
        assert ips == ["198.51.100.1", "198.51.100.2", "127.0.0.1", "198.51.100.1", "127.0.0.1"]


@on_a_loop
async def test_what_is_no_request_is_the_proxys_own():
    async with upstream(answering(OK)) as origin, stage(origin.port, change=trusting) as relay:
        client = await relay.client(behind(b"198.51.100.1"))
        assert (await client.message()).status == 200
        await client.send(b"nonsense\r\n\r\n")
        assert (await client.message()).status == 400
        assert [outcome.ip for outcome in relay.outcomes] == ["198.51.100.1", "127.0.0.1"]


@on_a_loop
async def test_limits_count_the_client():
    limit = RateLimit(rate=0.001, interval_s=1.0, burst=1, by_identity=False)

    def limited(snapshot):
        first, *others = trusting(snapshot).routes
        return replace(trusting(snapshot), routes=(replace(first, rate_limit=limit), *others))

    async with upstream(answering(OK)) as origin, stage(origin.port, change=limited) as relay:
        client = await relay.client()
        for ip, status in ((b"198.51.100.1", 200), (b"198.51.100.2", 200), (b"198.51.100.1", 429)):
            await client.send(behind(ip))
            assert (await client.message()).status == status


@on_a_loop
async def test_a_proxy_brings_the_connections_of_many():
    bounds = Bounds(max_connections_per_ip=2)
    async with upstream(answering(OK)) as origin, stage(origin.port, change=trusting, bounds=bounds) as relay:
        clients = [await relay.client(get()) for _ in range(5)]
        assert [(await client.message()).status for client in clients] == [200] * 5
        assert relay.context.per_ip == {"127.0.0.1": 5}


@on_a_loop
async def test_the_end_of_a_trust_is_seen_at_once():
    async with upstream(answering(OK)) as origin, stage(origin.port, change=trusting) as relay:
        client = await relay.client(behind(b"198.51.100.1"))
        assert (await client.message()).status == 200
        nobody = replace(relay.context.gate.snapshot, trusted_proxies=Proxies())
        relay.context.gate = Gate(nobody, relay.memory)
        await client.send(behind(b"198.51.100.1"))
        assert (await client.message()).status == 200
        assert relay.outcomes[-1].ip == "127.0.0.1"
        assert origin.requests[-1].get("x-forwarded-for") == "127.0.0.1"
