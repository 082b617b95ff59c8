"""Towards an upstream: TLS that is verified, a certificate and a credential of our own, each taken when it changes."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import logging
import ssl
from dataclasses import replace
from datetime import UTC, datetime
from time import monotonic

import pytest

from proxy.gate.snapshot import Route, Rule, Upstream, UpstreamLogin, UpstreamTls, Way
from proxy.pki.authority import Leaf, issue, make_authority
from proxy.relay.upstream_files import follow
from tests.relay.stage import both_loops, get, on_a_loop, stage, until

POLL_S = 0.02


@pytest.fixture(scope="module")
def pki(tmp_path_factory):
    """Two authorities, `ours` and `other`, each with a server's pair and a client's."""
    directory = tmp_path_factory.mktemp("pki")
    now = datetime.now(UTC)
    for name in ("ours", "other"):
        make_authority(directory / name, now)
        issue(directory / name, Leaf("server", dns=["prometheus.internal"]), now)
        issue(directory / name, Leaf("client", dns=["promgate"], client=True), now)
    return directory


@contextlib.asynccontextmanager
async def tls_upstream(pki, *, authority="ours", clients=None):
    """Answers each request with what it saw: the client certificate's name and the Authorization field."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(pki / authority / "server.crt", pki / authority / "server.key")
    if clients:
        context.verify_mode = ssl.CERT_REQUIRED
        context.load_verify_locations(pki / clients / "ca.crt")

    async def serve(reader, writer):
        with contextlib.suppress(OSError, asyncio.IncompleteReadError):
            while True:
                head = await reader.readuntil(b"\r\n\r\n")
                shown = [line for line in head.split(b"\r\n") if line.lower().startswith(b"authorization:")]
                cert = writer.get_extra_info("peercert") or {}
                names = [value for kind, value in cert.get("subjectAltName", ()) if kind == "DNS"]
                body = repr((names, b"|".join(shown).decode())).encode()
                writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%b" % (len(body), body))
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0, ssl=context)
    try:
        yield server.sockets[0].getsockname()[1]
    finally:
        server.close()


@contextlib.asynccontextmanager
async def reaching(port, tls=None, login=None):
    """A relay whose one route goes to the upstream at `port`, its files followed."""
    there = Upstream("127.0.0.1", port, tls=tls, login=login)
    route = Route("open", "/", there, ways=frozenset({Way.NONE}), rules=(Rule("anyone"),))
    async with stage(port, change=lambda snapshot: replace(snapshot, routes=(route,)), connect=0.5) as relay:
        pools = relay.context.pools.values()
        following = asyncio.create_task(follow(lambda: [pool.files for pool in pools if pool.files], POLL_S))
        try:
            yield relay
        finally:
            following.cancel()


async def ask(relay):
    """(status, body) of a request on a connection of its own."""
    client = await relay.client(get())
    answer = await client.message()
    return answer.status, answer.body.decode()


def ours(pki, **changes):
    return UpstreamTls(str(pki / "ours" / "ca.crt"), server_name="prometheus.internal")._replace(**changes)


def put(path, data):
    """Replace a file in one step."""
    fresh = path.with_name(path.name + ".new")
    fresh.write_bytes(data)
    fresh.replace(path)


@both_loops
@on_a_loop
async def test_a_verified_upstream_serves(pki, loop):
    async with tls_upstream(pki) as port, reaching(port, ours(pki)) as relay:
        assert await ask(relay) == (200, "([], '')")
        assert await ask(relay) == (200, "([], '')")
        (pool,) = relay.context.pools.values()
        assert pool.idle == 1, "the second request went over the first one's connection"


@both_loops
@pytest.mark.parametrize("wrong", ["authority", "name", "system"])
@on_a_loop
async def test_whoever_is_not_whom_it_should_be_gets_nothing(pki, wrong, caplog, loop):
    """T13: `system` is what is done where nothing is said of it."""
    tls = {
        "authority": ours(pki, ca_file=str(pki / "other" / "ca.crt")),
        "name": ours(pki, server_name="alertmanager.internal"),
        "system": UpstreamTls(server_name="prometheus.internal"),
    }[wrong]
    async with tls_upstream(pki) as port, reaching(port, tls, UpstreamLogin("", "s3cret")) as relay:
        status, body = await ask(relay)
    assert (status, body) == (502, "promgate: the upstream cannot be reached\n")
    told = [record.getMessage() for record in caplog.records if record.name == "promgate.upstream"]
    assert len(told) == 1, "once, however often it was tried"
    assert told[0].startswith(f"upstream 127.0.0.1:{port} cannot be reached: its certificate is not taken: ")


@both_loops
@on_a_loop
async def test_a_certificate_of_our_own(pki, loop):
    pair = {"cert_file": str(pki / "ours" / "client.crt"), "key_file": str(pki / "ours" / "client.key")}
    async with tls_upstream(pki, clients="ours") as port:
        async with reaching(port, ours(pki, **pair)) as relay:
            assert await ask(relay) == (200, "(['promgate'], '')")
        async with reaching(port, ours(pki)) as relay:
            assert (await ask(relay))[0] == 502


@on_a_loop
async def test_a_changed_pair_is_taken_and_a_bad_one_is_not(pki, tmp_path, caplog):
    caplog.set_level(logging.INFO)
    cert, key = tmp_path / "client.crt", tmp_path / "client.key"
    for path in (cert, key):
        put(path, (pki / "other" / path.name).read_bytes())
    tls = ours(pki, cert_file=str(cert), key_file=str(key))
    async with tls_upstream(pki, clients="ours") as port, reaching(port, tls) as relay:
        assert (await ask(relay))[0] == 502, "of an authority that the upstream does not know"
        for path in (cert, key):
            put(path, (pki / "ours" / path.name).read_bytes())
        await until(lambda: "the changed TLS files are taken" in caplog.text)
        assert await ask(relay) == (200, "(['promgate'], '')")
        put(key, b"no key")
        await until(lambda: "are not taken, the last good ones go on" in caplog.text)
        for pool in relay.context.pools.values():
            pool.close()
        assert await ask(relay) == (200, "(['promgate'], '')")


@both_loops
@on_a_loop
async def test_what_the_authority_of_before_has_verified_carries_nothing_more(pki, tmp_path, caplog, loop):
    """Neither what is idle when the file changes, nor what is under way and comes back later."""
    caplog.set_level(logging.INFO)
    ca = tmp_path / "ca.crt"
    put(ca, (pki / "ours" / "ca.crt").read_bytes())
    async with tls_upstream(pki) as port, reaching(port, ours(pki, ca_file=str(ca))) as relay:
        (pool,) = relay.context.pools.values()
        assert (await ask(relay))[0] == 200
        under_way = await pool.dial(5.0)
        assert (pool.idle, pool.active) == (1, 1)
        put(ca, (pki / "other" / "ca.crt").read_bytes())
        await until(lambda: pool.idle == 0)
        pool.give(under_way, monotonic())
        assert pool.idle == 0
        assert (await ask(relay))[0] == 502, "its certificate is of an authority that counts no more"
        put(ca, (pki / "ours" / "ca.crt").read_bytes())
        await until(lambda: caplog.text.count("the changed TLS files are taken") == 2)
        assert (await ask(relay))[0] == 200
        assert pool.idle == 1, "and a new one is kept as ever"


@both_loops
@pytest.mark.parametrize(
    ("login", "line"),
    [
        (UpstreamLogin("", "s3cret"), "Authorization: Bearer s3cret"),
        (UpstreamLogin("ann", "p:w"), "Authorization: Basic " + base64.b64encode(b"ann:p:w").decode()),
    ],
)
@on_a_loop
async def test_the_upstream_is_shown_our_credential_and_not_the_clients(pki, login, line, loop):
    async with tls_upstream(pki) as port, reaching(port, ours(pki), login) as relay:
        client = await relay.client(get("/x", b"Authorization: Bearer of-the-client\r\n"))
        assert (await client.message()).body.decode() == repr(([], line))


@on_a_loop
async def test_a_credential_in_a_file_is_read_again(pki, tmp_path, caplog):
    caplog.set_level(logging.INFO)
    file = tmp_path / "token"
    put(file, b"first\n")
    async with tls_upstream(pki) as port, reaching(port, ours(pki), UpstreamLogin("", "first", str(file))) as relay:
        assert "Bearer first" in (await ask(relay))[1]
        put(file, b"second\n")
        await until(lambda: "changed credential" in caplog.text)
        assert "Bearer second" in (await ask(relay))[1]
        put(file, b"")
        await until(lambda: "are not taken" in caplog.text)
        assert "Bearer second" in (await ask(relay))[1]
        file.unlink()
        await until(lambda: caplog.text.count("are not taken") == 2)
        assert "Bearer second" in (await ask(relay))[1]
    assert "first" not in caplog.text
    assert "Bearer" not in caplog.text
