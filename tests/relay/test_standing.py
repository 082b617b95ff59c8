"""What stands open is judged again: it ends when it would not be let in now, and for nothing that is of the moment."""

from __future__ import annotations

import asyncio
import time
from dataclasses import replace

import pytest

from proxy.gate.ask import BUSY, CheckPassword
from proxy.gate.decide import Gate
from proxy.gate.snapshot import Concurrency, RateLimit, Way
from proxy.relay.context import RelayContext
from proxy.relay.standing import Asking, keep_judging, look
from proxy.tokens.ports import Changes
from tests.relay.stage import both_loops, get, on_a_loop, stage, upstream
from tests.relay.test_tunnel import ASK, EVENTS, Server, live_routes

ANN = b"Authorization: Basic YW5uOnNlY3JldA==\r\n"  # ann:secret


async def judge_standing(relay):
    """One look at all, to the end of its questions."""
    asking = Asking()
    await look(relay, asking)
    await asking.wait()


def change_routes(relay, **changes):
    """As a reload does."""
    snapshot = relay.context.gate.snapshot
    routes = tuple(replace(one, **changes) if one.name == "plain" else one for one in snapshot.routes)
    relay.context.gate = Gate(replace(snapshot, routes=routes), relay.memory)


def change_tokens(relay, **changes):
    """As the store's news do."""
    book = relay.memory.book
    book.apply(Changes(book.generation + 1, tuple(replace(token, **changes) for token in book.tokens.values())))


async def opened(relay, server, *shown):
    client = await relay.client(get("/plain/ws", *ASK, *(shown or (relay.bearer,))))
    assert (await client.head()).status == 101
    await server.there()
    return client


ENDS = {
    "expired": (lambda relay: change_tokens(relay, expires_at=1.0), "token_ended"),
    "overlap over": (lambda relay: change_tokens(relay, accepted_until=1.0), "token_ended"),
    "role gone": (lambda relay: change_routes(relay, rules=()), "not_allowed"),
    "way closed": (lambda relay: change_routes(relay, ways=frozenset({Way.BASIC})), "not_allowed"),
    "route gone": (lambda relay: change_routes(relay, path="/elsewhere"), "no_route"),
    "no websockets": (lambda relay: change_routes(relay, websocket=False), "not_allowed"),
}
STAYS = {
    "nothing": lambda _: None,
    "in its overlap": lambda relay: change_tokens(relay, accepted_until=time.time() + 60),
    "another's role": lambda relay: change_routes(relay, max_body_bytes=5),
    "all places taken, by itself": lambda relay: change_routes(relay, concurrency=Concurrency(1)),
    "a rate that is used up": lambda relay: change_routes(relay, rate_limit=RateLimit(1, 3600.0, 1)),
}


@both_loops
@pytest.mark.parametrize(("change", "reason"), ENDS.values(), ids=ENDS)
@on_a_loop
async def test_what_would_not_be_let_in_now_ends(loop, change, reason):
    server = Server()
    async with upstream(server.script) as origin, stage(origin.port, change=live_routes) as relay:
        await opened(relay, server)
        change(relay)
        await judge_standing(relay.context)
        assert await relay.reasons(1) == [reason]
        assert relay.outcomes[0].status == 101


@pytest.mark.parametrize("change", STAYS.values(), ids=STAYS)
@on_a_loop
async def test_what_is_of_the_moment_ends_nothing(change):
    server = Server()
    limit = RateLimit(1, 3600.0, 1)
    async with upstream(server.script) as origin, stage(origin.port, change=live_routes, limit=limit) as relay:
        client = await opened(relay, server)
        change(relay)
        for _ in range(3):
            await judge_standing(relay.context)
        await client.send(b"still")
        assert await server.peer.exactly(5) == b"still"
        assert relay.outcomes == []


@on_a_loop
async def test_an_event_stream_too_and_by_itself():
    async def stream(peer):
        await peer.message()
        await peer.send(EVENTS)
        await peer.end()

    async with upstream(stream) as origin, stage(origin.port) as relay:
        other = RelayContext(relay.context.gate, relay.context.finder, relay.outcomes.append)
        judging = asyncio.create_task(keep_judging(lambda: [other, relay.context], 0.02))
        client = await relay.client(get("/plain/events", relay.bearer))
        assert (await client.head()).status == 200
        change_tokens(relay, expires_at=1.0)
        assert await relay.reasons(1) == ["token_ended"]
        judging.cancel()


class Passwords:
    """A finder that says what it is told to."""

    says: object = b"$2b$12$ann"

    async def answer(self, question):
        assert isinstance(question, CheckPassword)
        return self.says


@pytest.mark.parametrize(
    ("says", "reasons"), [(False, ["bad_credential"]), (b"$2b$12$ann", []), (BUSY, [])]
)
@on_a_loop
async def test_a_password_that_was_changed_is_asked_about(says, reasons):
    server, passwords = Server(), Passwords()

    def with_ann(snapshot):
        routes = live_routes(snapshot).routes
        routes = tuple(replace(one, ways=frozenset({Way.BASIC})) if one.name == "plain" else one for one in routes)
        roles = {"basic:ann": frozenset({"write"})}
        return replace(snapshot, routes=routes, users={"ann": (b"$2b$04$a",)}, roles=roles)

    async with (
        upstream(server.script) as origin,
        stage(origin.port, change=with_ann, finder=passwords) as relay,
    ):
        client = await opened(relay, server, ANN)
        snapshot = replace(relay.context.gate.snapshot, users={"ann": (b"$2b$04$b",)})
        relay.context.gate, passwords.says = Gate(snapshot, relay.memory), says
        await judge_standing(relay.context)
        assert [str(one.reason) for one in relay.outcomes] == reasons
        if not reasons:
            await client.send(b"still")
            assert await server.peer.exactly(5) == b"still"


class Slow:
    """A finder that never answers; `asked` counts the questions."""

    def __init__(self):
        self.asked = 0

    async def answer(self, question):
        self.asked += isinstance(question, CheckPassword)
        await asyncio.Event().wait()


@on_a_loop
async def test_a_question_that_takes_its_time_keeps_no_other_stream_open():
    server, slow = Server(), Slow()

    def with_ann(snapshot):
        routes = live_routes(snapshot).routes
        ways = frozenset({Way.BASIC, Way.WRITE_TOKEN})
        routes = tuple(replace(one, ways=ways) if one.name == "plain" else one for one in routes)
        roles = {**snapshot.roles, "basic:ann": frozenset({"write"})}
        return replace(snapshot, routes=routes, users={"ann": (b"$2b$04$a",)}, roles=roles)

    async with upstream(server.script) as origin, stage(origin.port, change=with_ann, finder=Passwords()) as relay:
        for _ in range(4):
            await opened(relay, server, ANN)
        await opened(relay, server)
        relay.context.gate = Gate(replace(relay.context.gate.snapshot, users={"ann": (b"$2b$04$b",)}), relay.memory)
        relay.context.finder = slow
        change_tokens(relay, expires_at=1.0)
        judging = asyncio.create_task(keep_judging(lambda: [relay.context], 0.02))
        assert await relay.reasons(1) == ["token_ended"]
        await asyncio.sleep(0.1)
        assert slow.asked == 4, "each is asked about once, however many looks there are meanwhile"
        judging.cancel()
        await asyncio.gather(judging, return_exceptions=True)


@on_a_loop
async def test_a_defect_with_one_stream_leaves_no_other_unjudged(caplog):
    server = Server()
    async with upstream(server.script) as origin, stage(origin.port, change=live_routes) as relay:
        for _ in range(3):
            await opened(relay, server)
        sound, calls = relay.context.gate, []

        class Odd:
            def decide(self, *args):
                calls.append(args)
                if len(calls) == 2:
                    raise ValueError("a defect")
                return sound.decide(*args)

        change_tokens(relay, expires_at=1.0)
        relay.context.gate = Odd()
        await judge_standing(relay.context)
        relay.context.gate = sound
        assert await relay.reasons(2) == ["token_ended"] * 2
        assert "a look at what stands open failed" in caplog.text
