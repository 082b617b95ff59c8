"""The page of a living relay: what it counts, and that no client adds a series or finds a secret in it."""

import asyncio
import base64
from time import monotonic

import pytest
from prometheus_client.parser import text_string_to_metric_families

from proxy.console.page import Page
from proxy.gate.decision import Reason
from proxy.observe.metrics import METRICS, RequestCounts, token_samples
from proxy.observe.observers import Observers
from proxy.relay.figures import relay_samples
from tests.relay.peer import Cut
from tests.relay.stage import OK, answering, get, on_a_loop, post, stage, until, upstream

REQUESTS = 10_000
AHEAD = 50


def watched(relay):
    """The page of a stage, built anew at each call."""
    counts = RequestCounts()
    counts.know(route.name for route in relay.context.gate.snapshot.routes)
    observers = Observers(counts.add)
    relay.context.report = observers.add

    def samples():
        observers.flush()
        yield from counts.samples()
        yield from relay_samples(relay.context, relay.listeners.tls, {})
        yield from token_samples(relay.memory.book, relay.context.clock.at(monotonic()))

    return Page(samples)


def series(page):
    """name{labels} -> value, as Prometheus' own parser reads the page."""
    families = text_string_to_metric_families(page.build().decode())
    return {(one.name, frozenset(one.labels.items())): one.value for family in families for one in family.samples}


def value(page, name, **labels):
    return series(page)[name, frozenset(labels.items())]


def made_up(n):
    """A request that nobody made before, in a way of its own."""
    word = f"made-up-{n}"
    agent = f"User-Agent: {word}\r\n".encode()
    basic = base64.b64encode(f"{word}:secret-{word}".encode()).decode()
    match n % 5:
        case 0:
            return get(f"/{word}?q={word}", agent)
        case 1:
            return get(f"/plain/{word}", agent, f"Authorization: Basic {basic}\r\n".encode())
        case 2:
            return get(f"/plain/{word}", agent, f"Authorization: Bearer secret-{word}\r\n".encode())
        case 3:
            return get("/plain", agent, method=word.upper())
        case _:
            return post("/write", word.encode(), agent, f"Authorization: Bearer secret-{word}\r\n".encode())


async def play(relay, numbers):
    """Each request once, some ahead of their answers."""
    client = await relay.client()
    for at in range(numbers.start, numbers.stop, AHEAD):
        batch = range(at, min(at + AHEAD, numbers.stop))
        await client.send(b"".join(map(made_up, batch)))
        for _ in batch:
            await client.message()


@on_a_loop
async def test_no_client_adds_a_series_or_finds_a_secret():
    async with upstream(answering(OK)) as origin, stage(origin.port) as relay:
        page = watched(relay)
        await play(relay, range(200))
        before = series(page)
        await asyncio.gather(
            *(play(relay, range(at, at + REQUESTS // 10)) for at in range(0, REQUESTS, REQUESTS // 10))
        )
        after = series(page)
        assert after.keys() == before.keys()
        counted = [count for (name, _), count in after.items() if name == "promgate_requests_total"]
        assert sum(counted) == REQUESTS + 200
        text = page.build().decode()
        clear = relay.bearer.split()[-1].decode()
        for secret in ("made-up", "MADE-UP", "secret", clear, clear[13:], '"sender"', "token:sender", '127.0.0.1"'):
            assert secret not in text, secret


@on_a_loop
async def test_what_never_became_a_request_is_counted():
    async with upstream(answering(OK)) as origin, stage(origin.port) as relay:
        page = watched(relay)
        client = await relay.client(b"\x16\x03\x01 no HTTP at all\r\n\r\n")
        await client.message()
        await until(lambda: value(page, "promgate_requests_total", route="", reason="unlawful", code="400") == 1)


@on_a_loop
async def test_connections_on_both_sides_are_told():
    async with upstream(answering(OK)) as origin, stage(origin.port) as relay:
        page, name = watched(relay), f"127.0.0.1:{origin.port}"

        def connections(state):
            return value(page, "promgate_upstream_connections", upstream=name, state=state)

        assert value(page, "promgate_connections") == 0
        client = await relay.client(get())
        await client.message()
        await until(lambda: (connections("idle"), connections("active")) == (1, 0))
        assert value(page, "promgate_connections") == 1
        sender = await relay.client(post("/", b"half", length=10))
        await until(lambda: connections("active") == 1)
        sender.reset()
        await until(lambda: (connections("idle"), connections("active")) == (0, 0))
        assert value(page, "promgate_requests_total", route="open", reason="client_gone", code="0") == 1
        assert value(page, "promgate_request_bytes_total", route="open") == 4
        assert value(page, "promgate_response_bytes_total", route="open") == 2


@on_a_loop
async def test_an_upstream_that_refuses_and_a_request_that_is_sent_again_are_counted():
    async def dies_reused(peer):
        await peer.message()
        await peer.send(OK)
        await peer.message()
        raise Cut(b"")

    async with upstream(dies_reused) as origin, stage(origin.port, connect=0.2) as relay:
        page, name = watched(relay), f"127.0.0.1:{origin.port}"
        client = await relay.client(get())
        await client.message()
        await client.send(get())
        assert (await client.message()).status == 200
        assert value(page, "promgate_upstream_retries_total", upstream=name) == 1
        assert value(page, "promgate_upstream_connect_failures_total", upstream=name) == 0
        await origin.stop()
        await client.send(get())
        assert (await client.message()).status == 502
        assert value(page, "promgate_upstream_connect_failures_total", upstream=name) > 1
        assert value(page, "promgate_requests_total", route="open", reason="upstream_refused", code="502") == 1


def test_the_page_is_in_order_and_of_the_kinds_it_names():
    counts = RequestCounts()
    counts.know(["a"])
    families = list(text_string_to_metric_families(Page(counts.samples).build().decode()))
    kinds = {metric.name.removesuffix("_total"): metric.kind for metric in METRICS}
    ours = [family for family in families if family.name.startswith("promgate_")]
    assert [family.name for family in ours] == [name for name in kinds if name in {family.name for family in ours}]
    assert all(family.type == kinds[family.name] for family in ours)
    assert any(family.name == "process_cpu_seconds" for family in families)


@pytest.mark.parametrize("name", ['quote"', "back\\slash", "line\nbreak"])
def test_a_label_is_escaped(name):
    """Route names are plain words; that rests on another room."""
    counts = RequestCounts()
    counts.know([name])
    assert value(Page(counts.samples), "promgate_request_bytes_total", route=name) == 0


def test_every_reason_may_be_a_label():
    assert all(reason.isascii() and reason.replace("_", "").isalpha() for reason in Reason)
