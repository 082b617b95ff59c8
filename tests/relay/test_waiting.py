"""Requests that wait for a fact or for their turn, and what becomes of them when their client does not."""

import asyncio
import secrets
from dataclasses import replace
from time import monotonic
from types import SimpleNamespace

import pytest

from proxy.gate.ask import ABSENT, FOUND, WAITED, FindToken
from proxy.gate.authenticate import ANYONE
from proxy.gate.decision import Forward, Need
from proxy.gate.snapshot import RateLimit, Route, Upstream
from proxy.relay.settle import settle
from proxy.tokens.secret import mint
from proxy.tokens.token import TokenKind
from tests.relay.peer import Cut
from tests.relay.stage import OK, answering, both_loops, get, on_a_loop, post, stage, until, upstream

KB = 1024
MB = 1024 * KB


# Rates


@on_a_loop
async def test_a_rate_waits_first_and_then_says_not_now_to_a_sender_and_slow_down_to_others():
    limit = RateLimit(rate=10, interval_s=1.0, burst=1, max_delay_s=0.35)
    async with upstream(answering(OK)) as origin, stage(origin.port, limit=limit) as relay:
        for path, refused in (("/write", 503), ("/plain", 429)):
            clients = [await relay.client() for _ in range(8)]
            since = monotonic()
            await asyncio.gather(*(client.send(post(path, b"abc", relay.bearer)) for client in clients))
            messages = [await client.message() for client in clients]
            took = monotonic() - since
            statuses = sorted(message.status for message in messages)
            passed = statuses.count(200)
            assert statuses == [200] * passed + [refused] * (8 - passed)
            assert 4 <= passed <= 5, "one at once, three within the delay"
            assert 0.25 <= took < 1.0
            assert all(m.get("retry-after") for m in messages if m.status != 200)
        assert len(origin.requests) == len([o for o in relay.outcomes if o.reason == "ok"])


@both_loops
@on_a_loop
async def test_a_request_whose_question_was_ended_by_somebody_else_is_cut_and_not_left_to_hang(loop):
    class Finder:
        async def answer(self, _question):
            flight = asyncio.create_task(asyncio.sleep(60))
            asyncio.get_running_loop().call_soon(flight.cancel)
            await flight

    minted = mint(TokenKind.WRITE, secrets.token_bytes)
    shown = f"Authorization: Bearer {minted.secret.reveal()}\r\n".encode()
    async with upstream(answering(OK)) as origin, stage(origin.port, finder=Finder()) as relay:
        client = await relay.client(post("/write", b"abc", shown))
        with pytest.raises((Cut, ConnectionError)):
            await client.message()
        assert await relay.reasons(1) == ["client_gone"]
        await until(lambda: not relay.context.connections)


@on_a_loop
async def test_what_was_found_before_a_wait_is_found_anew_after_it():
    """Meanwhile its key may have been withdrawn: an answer of before must not be taken for one of now."""
    question, forward = FindToken(b"digest"), Forward(Route("r", "/", Upstream("127.0.0.1", 1)), ANYONE)
    asked = []

    class Finder:
        async def answer(self, question):
            asked.append(question)
            return FOUND

    def decide(head, shown, ip, at, now, facts):
        if question not in facts:
            return Need(question, forward.route)
        return forward if WAITED in facts else replace(forward, wait_s=0.01)

    relay = SimpleNamespace(gate=SimpleNamespace(decide=decide), finder=Finder(), clock=SimpleNamespace(at=float))
    assert await settle(relay, None, None, "192.0.2.1", Need(question, forward.route)) == forward
    assert asked == [question, question]


# Questions that take their time


class SlowFinder:
    """Answers when it is told to; knows how many questions were given up."""

    def __init__(self):
        self.asked = 0
        self.given_up = 0
        self.go = asyncio.Event()
        self.result = ABSENT

    async def answer(self, _question):
        self.asked += 1
        try:
            await self.go.wait()
        except asyncio.CancelledError:
            self.given_up += 1
            raise
        return self.result


def unknown_bearer():
    minted = mint(TokenKind.WRITE, secrets.token_bytes)
    return minted, f"Authorization: Bearer {minted.secret.reveal()}\r\n".encode()


@both_loops
@on_a_loop
async def test_a_question_whose_client_left_is_given_up(loop):
    finder = SlowFinder()
    async with upstream(answering(OK)) as origin, stage(origin.port, finder=finder) as relay:
        _, bearer = unknown_bearer()
        client = await relay.client(post("/plain", b"abc", bearer))
        await until(lambda: finder.asked)
        client.reset()
        await until(lambda: finder.given_up)
        assert await relay.reasons(1) == ["client_gone"]
        assert relay.outcomes[0].path == b"/plain"


@on_a_loop
async def test_a_wait_for_a_rate_whose_client_left_is_given_up():
    limit = RateLimit(rate=1, interval_s=2.0, burst=1, max_delay_s=5.0)
    async with upstream(answering(OK)) as origin, stage(origin.port, limit=limit) as relay:
        client = await relay.client(get("/plain", relay.bearer) * 2)
        await client.message()
        await asyncio.sleep(0.05)
        client.reset()
        assert await relay.reasons(2) == ["ok", "client_gone"]


@both_loops
@on_a_loop
async def test_who_closes_in_the_middle_of_a_body_during_a_question_has_left(loop):
    finder = SlowFinder()
    finder.result = FOUND
    async with upstream(answering(OK)) as origin, stage(origin.port, finder=finder) as relay:
        await (await relay.client(get())).message()  # an upstream connection is at hand
        minted, bearer = unknown_bearer()
        client = await relay.client(post("/plain", b"abc", bearer, length=1000))
        client.half_close()
        await until(lambda: finder.asked)
        await asyncio.sleep(0.05)
        relay.learn(minted)
        finder.go.set()
        assert await relay.reasons(2) == ["ok", "client_gone"]
        await client.end()
        assert len(origin.requests) == 1


@both_loops
@on_a_loop
async def test_after_a_question_the_connection_goes_on(loop):
    finder = SlowFinder()
    finder.go.set()
    async with upstream(answering(OK)) as origin, stage(origin.port, finder=finder) as relay:
        _, bearer = unknown_bearer()
        client = await relay.client(get("/plain", bearer) * 2)
        for _ in range(2):
            assert (await client.message()).status == 401
        await client.send(get("/plain", bearer) + get("/x"))
        assert (await client.message()).status == 401
        assert (await client.message()).status == 200


@both_loops
@on_a_loop
async def test_a_token_that_is_found_brings_its_whole_body_through(loop):
    finder = SlowFinder()
    finder.result = FOUND
    body = secrets.token_bytes(3 * MB)
    async with upstream(answering(OK)) as origin, stage(origin.port, finder=finder) as relay:
        minted, bearer = unknown_bearer()
        client = await relay.client()
        sending = asyncio.create_task(client.send(post("/write", body, bearer)))
        await until(lambda: finder.asked)
        await asyncio.sleep(0.1)
        assert relay.held() < MB, "who is not known yet does not fill memory"
        relay.learn(minted)
        finder.go.set()
        assert (await client.message()).status == 200
        await sending
        assert origin.requests[0].body == body


@both_loops
@on_a_loop
async def test_a_half_closed_client_gets_the_answer_to_a_question_and_the_end(loop):
    finder = SlowFinder()
    async with upstream(answering(OK)) as origin, stage(origin.port, finder=finder) as relay:
        client = await relay.client(get("/plain", unknown_bearer()[1]))
        client.half_close()
        await until(lambda: finder.asked)
        await asyncio.sleep(0.05)
        finder.go.set()
        assert (await client.message()).status == 401
        assert await client.end() == "fin"
