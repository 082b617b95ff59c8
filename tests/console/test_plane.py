"""The control plane as the relay reaches it: over socket pairs, through the gate, and by nobody else."""

from __future__ import annotations

import asyncio
import threading
from dataclasses import replace
from ipaddress import ip_network

import pytest

from proxy.console.workers import Busy, Workers
from proxy.gate.decide import Gate
from proxy.gate.decision import Reason
from proxy.gate.forwarded import Proxies
from proxy.gate.memory import Memory
from proxy.gate.snapshot import CONTROL
from proxy.tokens.ports import Asked
from tests.console.stage import ANN, BOB, control
from tests.relay.stage import both_loops, on_a_loop, until

READ_ONLY = {
    "cache-control": "no-store",
    "x-frame-options": "DENY",
    "x-content-type-options": "nosniff",
    "referrer-policy": "same-origin",
}


@both_loops
@on_a_loop
async def test_it_is_told_who_asks_by_the_gate_alone(loop):
    async with control() as site:
        told = ("X-Promgate-Identity", "x-promgate-roles", "X-Promgate-Way", "X-Promgate-Token-Id")
        for name in (*told, "X-Promgate-Certificate"):
            page = await site.ask("GET", "/-/console", BOB, **{name.replace("-", "_"): "admin"})
            assert page.status == 200
            assert ">basic:bob<" in page.text
            assert ">viewer<" in page.text
            assert ">a password<" in page.text
            assert "Tokens" not in page.text, "which is for admins"
        assert "Tokens" in (await site.ask("GET", "/-/console", ANN)).text
        assert (await site.ask("GET", "/-/console", None)).status == 401
        assert (await site.ask("GET", "/-/console", ("ann", "wrong"))).status == 401


@on_a_loop
async def test_it_knows_the_client_and_not_the_proxy_before_it():
    async with control() as site:
        proxies = Proxies((ip_network("127.0.0.0/8"),))
        site.relay.gate = Gate(replace(site.relay.gate.snapshot, trusted_proxies=proxies), Memory(bytes(32)))
        page = await site.ask("GET", "/-/console", BOB, X_Forwarded_For="203.0.113.9, 198.51.100.7")
        assert ">198.51.100.7<" in page.text
        assert "203.0.113.9" not in page.text, "which nobody vouches for"
        assert ">127.0.0.1<" not in page.text


@both_loops
@on_a_loop
async def test_many_ask_at_once_and_connections_are_used_again(loop):
    async with control() as site:
        assert (await site.ask("GET", "/-/console")).status == 200  # sixty strangers would have to wait
        answers = await asyncio.gather(*(site.ask("GET", "/-/console") for _ in range(60)))
        assert {answer.status for answer in answers} == {200}
        pool = site.relay.pools[CONTROL]
        await until(lambda: not pool.active)
        kept = pool.idle
        assert 1 <= kept <= 60
        for _ in range(5):
            assert (await site.ask("GET", "/-/console")).status == 200
        assert pool.idle == kept
        assert {outcome.route for outcome in site.outcomes} == {"promgate:console"}


@pytest.mark.parametrize("who", [ANN, BOB])
@on_a_loop
async def test_every_answer_is_sealed(who):
    async with control() as site:
        for method, path in [
            ("GET", "/-/console"),
            ("HEAD", "/-/console"),
            ("GET", "/-/console/style.css"),
            ("GET", "/-/console/none"),
            ("GET", "/-/console/../console/none%20"),
        ]:
            answer = await site.ask(method, path, who)
            if answer.status == 400:
                continue  # the relay's own: no path of two meanings comes so far
            assert answer.fields.items() >= READ_ONLY.items()
            policy = answer.fields["content-security-policy"]
            assert {"default-src 'none'", "style-src 'self'", "frame-ancestors 'none'"} <= set(policy.split("; "))
            assert "server" not in answer.fields
            assert "set-cookie" not in answer.fields


@on_a_loop
async def test_what_is_not_there_says_so_as_a_problem():
    async with control() as site:
        answer = await site.ask("GET", "/-/console/none")
        assert answer.status == 404
        assert answer.fields["content-type"].startswith("application/problem+json")
        assert answer.json["status"] == 404
        assert (await site.ask("GET", "/-/reload")).status == 405


@pytest.mark.parametrize(
    ("fields", "status"),
    [
        ({}, 200),
        ({"Origin": "http://noc.example.net"}, 200),
        ({"Sec_Fetch_Site": "same-origin"}, 200),
        ({"Sec_Fetch_Site": "none"}, 200),
        ({"Sec_Fetch_Site": "same-origin", "Origin": "HTTP://NOC.example.net"}, 200),
        ({"Sec_Fetch_Site": "cross-site"}, 403),
        ({"Sec_Fetch_Site": "same-site"}, 403),
        ({"Origin": "null"}, 403),
        ({"Origin": "http://evil.example"}, 403),
        ({"Origin": "http://noc.example.net.evil.example"}, 403),
        ({"Origin": "http://noc.example.net:81"}, 403),
        ({"Origin": "https://noc.example.net"}, 200),  # something before promgate ends TLS
        ({"Origin": "https://noc.example.net", "host": "noc.example.net:443"}, 200),
        ({"Origin": "https://noc.example.net:8443"}, 403),
        ({"Origin": "https://public.example"}, 200),  # its external_url
        ({"Origin": "http://public.example"}, 403),
        ({"Sec_Fetch_Site": "none", "Origin": "http://evil.example"}, 403),
        ({"Sec_Fetch_Site": "same-origin", "Origin": "http://evil.example"}, 403),
    ],
)
@on_a_loop
async def test_no_page_of_another_site_may_act(fields, status):
    async with control() as site:
        assert (await site.ask("POST", "/-/reload", **fields)).status == status
        assert site.reloads == (status == 200)


@on_a_loop
async def test_who_asks_for_a_reload_is_told_on():
    async with control() as site:
        await site.ask("POST", "/-/reload")
        assert site.asked == Asked("basic:ann", "basic", "127.0.0.1", "reload")


@on_a_loop
async def test_senders_that_come_all_at_once_are_told_to_come_again():
    """Each renewal may send a canary for seconds: no line of waiting requests, and no thread that an end waits for."""
    async with control() as site:
        release = threading.Event()

        def slow(*_):
            assert release.wait(60)
            return 204, b"", "text/plain", 0

        site.renew = slow
        asking = [asyncio.create_task(site.ask("POST", "/-/api/v1/renew")) for _ in range(9)]
        done, waiting = await asyncio.wait(asking, timeout=60, return_when=asyncio.FIRST_COMPLETED)
        release.set()
        (told,) = [each.result() for each in done]
        assert (told.status, told.fields["retry-after"]) == (503, "10")
        assert [(await each).status for each in waiting] == [204] * 8


@on_a_loop
async def test_a_defect_shows_nothing_of_its_inside(caplog):
    async with control() as site:

        async def broken():
            raise ValueError("the inside")

        site.reload = broken
        answer = await site.ask("POST", "/-/reload")
        assert answer.status == 500
        assert "inside" not in answer.text
        assert "the inside" in caplog.text


@on_a_loop
async def test_a_body_too_large_does_not_come_so_far():
    async with control() as site:
        answer = await site.ask("POST", "/-/api/v1/x", body=b"x" * 20_000)
        assert answer.status == 413
        await until(lambda: site.outcomes)
        assert site.outcomes[0].reason is Reason.BODY_TOO_LARGE


@on_a_loop
async def test_a_process_without_one_refuses():
    async with control() as site:
        site.relay.internal.serve = None
        assert await site.relay.pools[CONTROL].connect(0.05) is Reason.UPSTREAM_REFUSED


@both_loops
@on_a_loop
async def test_a_drain_waits_for_what_is_under_way(loop):
    async with control() as site:
        release = asyncio.Event()

        async def slow():
            await release.wait()
            return []

        site.reload = slow
        asking = asyncio.create_task(site.ask("POST", "/-/reload"))
        await until(lambda: any(connection.exchange for connection in site.relay.connections))
        draining = asyncio.create_task(site.listeners.drain())
        await until(lambda: site.relay.draining)
        release.set()
        assert (await asking).status == 200
        assert await draining == 0


# Threads


@on_a_loop
async def test_as_much_as_may_be_is_under_way():
    workers, threads = Workers(2), []
    release = asyncio.Event()
    loop = asyncio.get_running_loop()

    def work():
        asyncio.run_coroutine_threadsafe(release.wait(), loop).result()
        return 7

    threads = [asyncio.create_task(workers.run(work)) for _ in range(2)]
    await until(lambda: workers._under_way == 2)
    with pytest.raises(Busy):
        await workers.run(work)
    threads[0].cancel()
    release.set()
    assert await threads[1] == 7
    await until(lambda: workers._under_way == 0)

    def fail():
        raise ValueError("why")

    with pytest.raises(ValueError, match="why"):
        await workers.run(fail)
