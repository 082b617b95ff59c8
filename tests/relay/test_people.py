"""What people get beside the relayed answer: a redirect from http, and Strict-Transport-Security."""

from __future__ import annotations

import ssl
from dataclasses import replace
from datetime import UTC, datetime

import pytest

from proxy.gate.redirect import RedirectGate
from proxy.gate.snapshot import Snapshot
from proxy.pki.authority import Leaf, issue, make_authority
from proxy.pki.context import build_server_context
from proxy.relay.context import RelayContext
from proxy.relay.listener import Listeners
from tests.kit.process import free_port
from tests.relay.peer import Peer
from tests.relay.stage import OK, Nobody, answering, get, on_a_loop, post, stage, upstream
from tests.relay.tls_peer import Peer as TlsPeer
from tests.relay.tls_peer import trusting

HSTS = b"Strict-Transport-Security: max-age=60\r\n"
PAGE = b"Accept: text/html\r\n"


@on_a_loop
async def test_the_plain_listener_relays_nothing_and_keeps_the_connection():
    outcomes = []
    relay = RelayContext(RedirectGate(Snapshot((), external_url="https://noc")), Nobody(), outcomes.append)
    listeners = Listeners(relay, None)
    port = free_port()
    await listeners.open([("127.0.0.1", port)])
    try:
        client = await Peer.connect(port)
        await client.send(get("/x?a=b", PAGE))
        answer = await client.message()
        assert (answer.status, answer.get("location")) == (308, "https://noc/x?a=b")
        await client.send(post("/api/v1/write", b"samples", b"Authorization: Bearer x\r\n"))
        answer = await client.message()
        assert answer.status == 503
        assert 5 <= int(answer.get("retry-after")) <= 30
        await client.send(get("/x", b"Accept: */*\r\n"))
        assert (await client.message()).status == 403
        await client.send(get("/-/healthy"))
        assert (await client.message()).body == b"ok\n"
        client.close()
        assert [str(outcome.reason) for outcome in outcomes] == ["redirected", "plain_write", "plain_http", "health"]
    finally:
        assert await listeners.drain() == 0


@pytest.fixture(scope="module")
def pki(tmp_path_factory):
    directory = tmp_path_factory.mktemp("pki")
    make_authority(directory, datetime.now(UTC))
    issue(directory, Leaf("one", dns=["localhost"]), datetime.now(UTC))
    return directory


async def heads(pki, origin_answer, hsts, *requests, tls=True):
    """The heads of the answers to `requests` on one connection."""
    context = build_server_context(pki / "one.crt", pki / "one.key", ssl.TLSVersion.TLSv1_2) if tls else None
    change = lambda snapshot: replace(snapshot, hsts=hsts)  # noqa: E731
    async with (
        upstream(answering(origin_answer)) as origin,
        stage(origin.port, context=context, change=change) as relay,
    ):
        peer = await (TlsPeer.connect(relay.port, trusting(pki / "ca.crt")) if tls else Peer.connect(relay.port))
        found = []
        for request in requests:
            await peer.send(request)
            found.append(await (head_over_tls(peer) if tls else head_in_clear(peer)))
        (peer.leave if tls else peer.close)()
        return found


async def head_over_tls(peer):
    data = b""
    while b"\r\n\r\n" not in data:
        data += await peer.read(1)
    head = data.decode().lower()
    await peer.read(int(head.partition("content-length: ")[2].partition("\r\n")[0]))
    return head


async def head_in_clear(peer):
    message = await peer.message()
    return "\r\n".join(f"{name}: {value}" for name, value in message.fields)


FIELD = "strict-transport-security: max-age=60\r\n"


@on_a_loop
async def test_it_is_sent_with_relayed_answers_and_with_our_own(pki):
    for head in await heads(pki, OK, HSTS, get(), get("/plain"), get("/-/healthy")):
        assert head.count(FIELD) == 1


@on_a_loop
async def test_an_upstreams_own_is_not_doubled(pki):
    own = b"HTTP/1.1 200 OK\r\nStrict-Transport-Security: max-age=7\r\nContent-Length: 2\r\n\r\nok"
    (head,) = await heads(pki, own, HSTS, get())
    assert head.count("strict-transport-security") == 1
    assert "max-age=7" in head


@pytest.mark.parametrize(("hsts", "tls"), [(b"", True), (HSTS, False)])
@on_a_loop
async def test_it_is_not_sent_where_it_is_off_or_in_clear(pki, hsts, tls):
    for head in await heads(pki, OK, hsts, get(), get("/plain"), tls=tls):
        assert "strict-transport-security" not in head
