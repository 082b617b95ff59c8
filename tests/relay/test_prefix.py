"""A route with `strip_prefix`, on the wire."""

from __future__ import annotations

from dataclasses import replace

from tests.relay.stage import OK, answering, get, on_a_loop, post, stage, upstream

MOVED = b"HTTP/1.1 302 Found\r\nLocation: /graph\r\nContent-Length: 0\r\n\r\n"
ELSEWHERE = b"HTTP/1.1 302 Found\r\nLocation: https://elsewhere/graph\r\nContent-Length: 0\r\n\r\n"
CREATED = b"HTTP/1.1 201 Created\r\nLocation: /graph\r\nContent-Length: 0\r\n\r\n"


def stripping(snapshot):
    """The route `/` becomes `/prometheus`, with the prefix taken off."""
    first, *others = snapshot.routes
    return replace(snapshot, routes=(replace(first, path="/prometheus", stripped=b"/prometheus"), *others))


@on_a_loop
async def test_the_upstream_does_not_see_the_prefix():
    async with upstream(answering(OK)) as origin, stage(origin.port, change=stripping) as relay:
        client = await relay.client()
        for target in ("/prometheus", "/prometheus/", "/prometheus/api?a=b", "/%70rometheus/api", "http://h/prometheus/x"):
            for _ in range(2):  # the second time from memory
                await client.send(get(target))
                assert (await client.message()).status == 200
        await client.send(post("/prometheus/api", b"body"))
        assert (await client.message()).status == 200
        seen = [request.target for request in origin.requests]
        assert seen[::2] == ["/", "/", "/api?a=b", "/api", "/x", "/api"]
        assert seen[1::2] == ["/", "/", "/api?a=b", "/api", "/x"]
        assert origin.requests[-1].body == b"body"
        assert {outcome.path[:11] for outcome in relay.outcomes} == {b"/prometheus"}


@on_a_loop
async def test_a_redirect_has_it_again():
    script = answering(MOVED, MOVED, ELSEWHERE, CREATED)
    async with upstream(script) as origin, stage(origin.port, change=stripping) as relay:
        client = await relay.client()
        found = []
        for _ in range(4):
            await client.send(get("/prometheus"))
            found.append((await client.message()).get("location"))
        assert found == ["/prometheus/graph", "/prometheus/graph", "https://elsewhere/graph", "/graph"]


@on_a_loop
async def test_a_replay_is_stripped_once():
    async def stale(peer):
        await peer.message()
        await peer.send(OK)
        if len(seen.requests) < 2:
            await peer.message()

    async with upstream(stale) as seen, stage(seen.port, change=stripping) as relay:
        client = await relay.client(get("/prometheus/prometheus"))
        assert (await client.message()).status == 200
        await client.send(get("/prometheus/prometheus"))
        assert (await client.message()).status == 200
        assert [request.target for request in seen.requests] == ["/prometheus"] * 3
