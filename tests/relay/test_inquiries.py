"""Forward auth through real sockets: what a proxy is told, who is charged, and that nobody else may ask."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from ipaddress import ip_network

import pytest

from proxy.gate.ask import ABSENT, CheckPassword
from proxy.gate.decision import Reason
from proxy.gate.forwarded import Proxies
from proxy.gate.snapshot import CONTROL, Bounds, RateLimit, Route, Rule, TokenRules, Way
from proxy.tokens.ports import Changes
from tests.relay.stage import OK, answering, both_loops, get, on_a_loop, stage, until, upstream

ASKING = Route("promgate:auth", "/-/auth", CONTROL, ways=frozenset({Way.NONE}), inquires=True)
LOCAL, ELSEWHERE = Proxies((ip_network("127.0.0.0/8"),)), Proxies((ip_network("192.0.2.0/24"),))
ANN, WRONG = b"Authorization: Basic YW5uOnJpZ2h0\r\n", b"Authorization: Basic YW5uOndyb25n\r\n"
BOUNDS = Bounds(guesses=RateLimit(rate=0.001, interval_s=1.0, burst=4, by_identity=False))
PAGES = Route(
    "pages", "/pages", ASKING.upstream, ways=frozenset({Way.BASIC}), rules=(Rule("viewer", frozenset({b"GET"})),)
)


class People:
    async def answer(self, question):
        await asyncio.sleep(0)
        if not isinstance(question, CheckPassword):
            return ABSENT
        return question.hashes[0] if question.password == b"right" else False


def asking(proxies=LOCAL, **changes):
    def change(snapshot):
        pages = replace(PAGES, upstream=snapshot.routes[0].upstream)
        return replace(
            snapshot,
            routes=(*snapshot.routes, pages, ASKING),
            users={"ann": (b"$2b$12$ann",)},
            roles={"basic:ann": frozenset({"viewer"})},
            trusted_proxies=proxies,
            **changes,
        )

    return change


def about(path, *fields, method="GET", client=b"198.51.100.1", **request):
    said = b"X-Original-URL: http://h%b\r\nX-Original-Method: %b\r\n" % (path.encode(), method.encode())
    return get("/-/auth", b"X-Forwarded-For: %b\r\n" % client, said, *fields, **request)


async def told(peer, request, *, head_only=False):
    await peer.send(request)
    return await peer.message(head_only=head_only)


def site(change=None, **options):
    return stage(9, finder=People(), change=change or asking(), bounds=BOUNDS, **options)


@both_loops
@on_a_loop
async def test_a_proxy_is_told_who_it_is_and_that_it_may_pass(loop):
    async with site() as relay:
        proxy = await relay.client()
        for _ in range(2):
            answer = await told(proxy, about("/pages/1?x", ANN))
            assert (answer.status, answer.body) == (200, b"")
            assert answer.get("x-promgate-identity") == "basic:ann"
            assert answer.get("x-promgate-roles") == "viewer"
        answer = await told(proxy, about("/plain", relay.bearer))
        assert answer.get("x-promgate-identity") == "token:sender"
        answer = await told(proxy, about("/anything"))
        assert (answer.status, answer.get("x-promgate-identity")) == (200, "anyone")
        answer = await told(proxy, about("/pages", ANN).replace(b"GET /-/auth", b"HEAD /-/auth"), head_only=True)
        assert answer.status == 200
        logged = [(o.ip, o.method, o.path, o.route, o.identity, o.reason, o.status) for o in relay.outcomes[:3]]
        page = ("198.51.100.1", b"GET", b"/pages/1", "pages", "basic:ann", Reason.GRANTED, 200)
        assert logged == [page, page, ("198.51.100.1", b"GET", b"/plain", "plain", "token:sender", Reason.GRANTED, 200)]


@on_a_loop
async def test_nothing_is_relayed():
    async with upstream(answering(OK)) as origin, stage(origin.port, finder=People(), change=asking()) as relay:
        proxy = await relay.client()
        assert (await told(proxy, about("/pages", ANN))).status == 200
        assert (await told(proxy, about("/anything"))).status == 200
        assert origin.requests == []
        assert all(pool.upstream != CONTROL for pool in relay.context.pools.values())


@pytest.mark.parametrize(
    ("path", "fields", "method", "status", "reason"),
    [
        ("/pages", (), "GET", 401, "no_credential"),
        ("/pages", (WRONG,), "GET", 401, "bad_credential"),
        ("/pages", (ANN,), "POST", 403, "not_allowed"),
        ("/pages", (ANN,), "TRACE", 405, "method_not_taken"),
        ("/pages/-/quit", (ANN,), "GET", 403, "blocked"),
        ("/write", (), "GET", 405, "method_not_taken"),
        ("/pages/../write", (ANN,), "GET", 400, "unlawful"),
        ("/pages%2f..%2fwrite", (ANN,), "GET", 400, "unlawful"),
        ("/pages", (ANN, b"X-Original-URL: http://h/\r\n"), "GET", 400, "no_inquiry"),
        ("/pages", (ANN, b"X-Forwarded-Uri: /\r\n"), "GET", 400, "no_inquiry"),
        ("/pages", (ANN, b"X-Forwarded-Host: other\r\n"), "GET", 400, "no_inquiry"),
        ("/-/healthy", (), "GET", 404, "no_route"),
        ("/-/auth", (ANN,), "GET", 400, "no_inquiry"),
    ],
)
def test_it_is_told_the_gates_own_refusal(path, fields, method, status, reason):
    @on_a_loop
    async def test():
        async with site() as relay:
            proxy = await relay.client()
            answer = await told(proxy, about(path, *fields, method=method))
            assert answer.status == status
            assert answer.body.startswith(b"promgate: ")
            assert answer.get("x-promgate-identity") == ""
            assert answer.get("location") == ""
            assert ("Basic" in answer.get("www-authenticate")) is (status == 401)
            assert [outcome.reason for outcome in relay.outcomes] == [reason]
            assert (await told(proxy, about("/pages", ANN))).status == 200, "the proxy's connection is still good"

    test()


@on_a_loop
async def test_only_a_trusted_proxy_may_ask():
    async with site(asking(ELSEWHERE)) as relay:
        stranger = await relay.client()
        for fields in ((), (ANN,), (b"X-Promgate-Identity: basic:ann\r\n",)):
            answer = await told(stranger, about("/pages", *fields))
            assert (answer.status, answer.get("x-promgate-identity")) == (403, "")
        assert {(outcome.reason, outcome.ip) for outcome in relay.outcomes} == {("not_a_proxy", "127.0.0.1")}
        # and nowhere else does what it says of a request count
        said = b"X-Original-URL: http://h/anything\r\nX-Forwarded-Uri: /anything\r\n"
        answer = await told(stranger, get("/pages", said))
        assert answer.status == 401


@on_a_loop
async def test_other_paths_do_not_read_what_is_said_of_a_request():
    async with upstream(answering(OK)) as origin, stage(origin.port, finder=People(), change=asking()) as relay:
        proxy = await relay.client()
        said = b"X-Original-URL: http://h/anything\r\nX-Original-Method: GET\r\nX-Forwarded-For: 198.51.100.1\r\n"
        assert (await told(proxy, get("/pages", said))).status == 401
        assert (await told(proxy, get("/anything", said))).status == 200
        assert origin.requests[0].get("x-original-url") == ""


@on_a_loop
async def test_a_guess_is_charged_to_the_client_and_not_to_the_proxy():
    async with site() as relay:
        proxy = await relay.client()
        assert (await told(proxy, about("/pages", ANN, client=b"198.51.100.7"))).status == 200
        guess = about("/pages", WRONG, client=b"203.0.113.9, 198.51.100.7")
        statuses = [(await told(proxy, guess)).status for _ in range(4)]
        assert statuses[0] == 401
        assert statuses[-1] == 429
        refused = await told(proxy, about("/pages", WRONG, client=b"198.51.100.7"))
        assert refused.get("retry-after")
        assert (await told(proxy, about("/pages", WRONG, client=b"198.51.100.8"))).status == 401
        assert (await told(proxy, about("/pages", ANN, client=b"198.51.100.7"))).status == 200, "who is known is let in"
        assert {o.ip for o in relay.outcomes} == {"198.51.100.7", "198.51.100.8"}


@on_a_loop
async def test_a_rate_is_the_clients():
    limit = RateLimit(rate=0.001, interval_s=1.0, burst=2, by_identity=False)

    def limited(snapshot):
        *routes, pages, auth = asking()(snapshot).routes
        return replace(asking()(snapshot), routes=(*routes, replace(pages, rate_limit=limit), auth))

    async with site(limited) as relay:
        proxy = await relay.client()
        for client, statuses in ((b"198.51.100.1", [200, 200, 429]), (b"198.51.100.2", [200])):
            assert [(await told(proxy, about("/pages", ANN, client=client))).status for _ in statuses] == statuses


@on_a_loop
async def test_a_writer_that_is_held_is_told_to_wait():
    async with site(asking(token_rules=TokenRules(retry_grace_s=3600.0))) as relay:
        book, now = relay.memory.book, relay.context.clock.now()
        (token,) = book.tokens.values()
        book.apply(Changes(2, (replace(token, accepted_until=now - 1),)))
        proxy = await relay.client()
        answer = await told(proxy, about("/write", relay.bearer, method="POST"))
        assert answer.status == 503
        assert 5 <= int(answer.get("retry-after")) <= 30
        assert b"replaced" in answer.body
        assert [outcome.reason for outcome in relay.outcomes] == [Reason.TOKEN_RETIRED]
        assert [outcome.token_id for outcome in relay.outcomes] == [token.id], "so the ledger knows its sender"


@on_a_loop
async def test_an_inquiry_with_a_body_is_one_request():
    async with site() as relay:
        proxy = await relay.client()
        body = b"GET /-/auth HTTP/1.1\r\n\r\n"
        asked = about("/pages", ANN, b"Content-Length: %d\r\n" % len(body)).replace(b"GET /-", b"POST /-")
        assert (await told(proxy, asked + body)).status == 200
        assert (await told(proxy, about("/pages"))).status == 401
        await proxy.send(about("/pages", ANN) + about("/pages") + about("/anything"))
        assert [(await proxy.message()).status for _ in range(3)] == [200, 401, 200], "in their order"


@on_a_loop
async def test_a_proxy_that_leaves_is_no_defect():
    class Never:
        def __init__(self):
            self.asked = 0

        async def answer(self, _question):
            self.asked += 1
            await asyncio.Event().wait()

    finder = Never()
    async with stage(9, finder=finder, change=asking()) as relay:
        proxy = await relay.client(about("/pages", ANN))
        await until(lambda: finder.asked)
        proxy.reset()
        assert await relay.reasons(1) == ["client_gone"]


@on_a_loop
async def test_what_a_proxy_says_fills_no_memory():
    async with site() as relay:
        proxy = await relay.client()
        memo = relay.context.request_memo
        for number in range(50):
            assert (await told(proxy, about(f"/anything/{number}", b"X-A: %d\r\n" % number))).status == 200
        assert not memo.lines
        assert not memo.sections
        assert not any(line.startswith(b"X-A") for line in memo.sections.fields)
