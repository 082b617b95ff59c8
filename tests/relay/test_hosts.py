"""Virtual hosts on the wire: two names, two upstreams, and nobody for the rest."""

from __future__ import annotations

from dataclasses import replace

from proxy.gate.snapshot import Upstream
from tests.relay.stage import answer, answering, on_a_loop, stage, upstream


def ask(host, path=b"/x"):
    return b"GET %b HTTP/1.1\r\nHost: %b\r\n\r\n" % (path, host)


@on_a_loop
async def test_two_names_on_one_connection():
    async with upstream(answering(answer(b"a"))) as a, upstream(answering(answer(b"b"))) as b:

        def two(snapshot):
            first = replace(snapshot.routes[0], hosts=frozenset({b"a.example"}))
            there = Upstream("127.0.0.1", b.port)
            second = replace(first, name="b", upstream=there, hosts=frozenset({b"b.example"}))
            return replace(snapshot, routes=(first, second))

        async with stage(a.port, change=two) as relay:
            client = await relay.client()
            for host, status, body in (
                (b"a.example", 200, b"a"),
                (b"b.example:9443", 200, b"b"),
                (b"A.EXAMPLE", 200, b"a"),
                (b"c.example", 421, None),
                (b"b.example", 200, b"b"),
            ):
                await client.send(ask(host))
                got = await client.message()
                assert got.status == status
                assert body in {None, got.body}
            await client.send(ask(b"c.example", b"/-/healthy"))
            assert (await client.message()).status == 200
            assert [request.get("host") for request in b.requests] == ["b.example:9443", "b.example"]
            reasons = [str(outcome.reason) for outcome in relay.outcomes]
            assert reasons == ["ok", "ok", "ok", "wrong_host", "ok", "health"]
