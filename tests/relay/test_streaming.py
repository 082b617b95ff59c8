"""Bodies of any size pass byte for byte, and nobody's slowness is paid with our memory."""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import os
import random
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import yaml

from tests.kit.process import Process, accepts, free_port
from tests.kit.promgate import COMMAND, Promgate, environment
from tests.relay import tls_peer
from tests.relay.peer import Peer
from tests.relay.stage import both_loops, get, on_a_loop, post, stage, upstream

if TYPE_CHECKING:
    from collections.abc import Iterator

MB = 1 << 20
ANNOUNCED = 1 << 30
#: `make soak` has the slow end take nearly all of it at its pace, and then the rest.
SLOW_S = float(os.environ.get("PROMGATE_SLOW_S", "8"))
STEP_S = 0.05
STEP_BYTES = MB // 20
FAST_BYTES = 128 * MB
MAX_GROWTH = 4 * MB

#: A body whose every byte is known from its offset; its period is no power of two, so that a shifted piece is seen.
_PERIOD = random.Random(7).randbytes(65_537)
_TILE = _PERIOD * 32


def pattern(offset: int, size: int) -> bytes:
    at = offset % len(_PERIOD)
    return _TILE[at : at + size]


# Byte for byte


def split(body: bytes, draw: random.Random) -> Iterator[bytes]:
    """The body in pieces of very different sizes."""
    at = 0
    while at < len(body):
        size = draw.choice((draw.randint(1, 9), draw.randint(1, 3000), draw.randint(1, 300_000)))
        yield body[at : at + size]
        at += size


def chunked(body: bytes, draw: random.Random) -> bytes:
    pieces = [b"%x\r\n%b\r\n" % (len(piece), piece) for piece in split(body, draw)]
    return b"".join(pieces) + b"0\r\n\r\n"


async def send_split(peer: Peer, data: bytes, draw: random.Random) -> None:
    for piece in split(data, draw):
        await peer.send(piece)
        if draw.random() < 0.3:
            await asyncio.sleep(0)


def digest(body: bytes) -> str:
    return hashlib.sha256(body).hexdigest()


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("framing", ["length", "chunked"])
@both_loops
@on_a_loop
async def test_bodies_pass_byte_for_byte_both_ways_however_they_are_cut(loop, framing, seed):
    draw = random.Random(seed)
    up, down = draw.randbytes(3 * MB + seed), draw.randbytes(2 * MB + seed)
    encoding = b"Transfer-Encoding: chunked\r\n"

    async def script(peer):
        while True:
            request = await peer.message()
            assert digest(request.body) == digest(up)
            head = b"HTTP/1.1 200 OK\r\n"
            if framing == "chunked":
                await send_split(peer, head + encoding + b"\r\n" + chunked(down, draw), draw)
            else:
                await send_split(peer, head + b"Content-Length: %d\r\n\r\n" % len(down) + down, draw)

    async with upstream(script) as origin, stage(origin.port) as relay:
        client = await relay.client()
        for _ in range(2):
            in_chunks = framing == "chunked"
            request = get("/x", encoding, method="POST") + chunked(up, draw) if in_chunks else post("/x", up)
            sending = asyncio.create_task(send_split(client, request, draw))
            assert digest((await client.message()).body) == digest(down)
            await sending
        outcomes = [(o.reason, o.bytes_in >= len(up), o.bytes_out >= len(down)) for o in relay.outcomes]
        assert outcomes == [("ok", True, True)] * 2
        assert len(origin.peers) == 1


# Back-pressure


class TlsClient:
    """`Peer`'s send and receive over TLS."""

    def __init__(self, peer: tls_peer.Peer) -> None:
        self._peer = peer

    async def send(self, data: bytes) -> None:
        await self._peer.send(data)

    async def receive(self, size: int) -> bytes:
        return await self._peer.read(min(size, 16384))

    def close(self) -> None:
        self._peer.leave()


class Plain(Process):
    """`promgate serve` on plain TCP."""

    def __init__(self, directory: Path, config: dict[str, Any]) -> None:
        directory.mkdir()
        self.port = free_port()
        config_file = directory / "promgate.yml"
        config_file.write_text(yaml.safe_dump({"version": 1, "listen": [f"127.0.0.1:{self.port}"], **config}))
        command = [*COMMAND, "serve", f"--config.file={config_file}"]
        super().__init__(command, directory / "promgate.log", lambda: accepts(self.port), env=environment())

    async def client(self) -> Peer:
        return await Peer.connect(self.port)


class Tls(Promgate):
    async def client(self) -> TlsClient:
        return TlsClient(await tls_peer.Peer.connect(self.port, tls_peer.trusting(self.ca_file)))


def memory(pid: int) -> dict[str, int]:
    """PSS of a process in bytes (proc(5), smaps_rollup), and its anonymous part: the rest moves as other programs that
    have the same libraries open come and go.
    """
    lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()[1:]
    kib = {name: int(value.split()[0]) for name, value in (line.split(":") for line in lines)}
    return {"pss": kib["Pss"] * 1024, "anonymous": kib["Pss_Anon"] * 1024}


async def give(peer: Any, *, begin: int = 0) -> None:
    """Send the pattern as quickly as it is taken."""
    offset = begin
    while offset < ANNOUNCED:
        await peer.send(pattern(offset, MB))
        offset += MB


async def take(peer: Any, offset: int) -> int:
    """Read the pattern at 1 MB/s for a while, then as quickly as it comes; the offset reached."""

    async def some(size: int) -> None:
        nonlocal offset
        end = offset + size
        while offset < end:
            data = await peer.receive(min(end - offset, MB))
            assert data, f"cut after {offset} bytes"
            assert data == pattern(offset, len(data)), f"other bytes at {offset}"
            offset += len(data)

    until = time.monotonic() + SLOW_S
    while time.monotonic() < until and offset + STEP_BYTES <= ANNOUNCED:
        await some(STEP_BYTES)
        await asyncio.sleep(STEP_S)
    await some(min(FAST_BYTES, ANNOUNCED - offset))
    return offset


async def first(relay: Any) -> None:
    """What a first request costs is not what a long one costs."""
    client = await relay.client()
    await client.send(get("/first"))
    assert await client.receive(12) == b"HTTP/1.1 200"
    client.close()


async def download(relay: Any) -> int:
    client = await relay.client()
    await client.send(get("/down"))
    data = b""
    while b"\r\n\r\n" not in data:
        data += await client.receive(16384)
    body = data.partition(b"\r\n\r\n")[2]
    assert body == pattern(0, len(body))
    taken = await take(client, len(body))
    client.close()
    return taken


async def upload(relay: Any) -> None:
    client = await relay.client()
    await client.send(post("/up", b"", length=ANNOUNCED))
    with contextlib.suppress(ConnectionError):
        await give(client)
    client.close()


async def watch(relays: list[Any], most: list[dict[str, int]]) -> None:
    while True:
        for relay, high in zip(relays, most, strict=True):
            for kind, size in memory(relay.pid).items():
                high[kind] = max(high.get(kind, 0), size)
        await asyncio.sleep(0.1)


def test_a_gigabyte_for_a_slow_reader_costs_no_memory_either_way(tmp_path, capsys):
    """Plain and TLS, up and down, all at once: the slow end takes 1 MB/s, then all it can get."""
    uploaded = []

    async def script(peer):
        request = await peer.head()
        if request.target == "/first":
            await peer.send(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")
        elif request.target == "/down":
            await peer.send(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % ANNOUNCED)
            await give(peer)
        else:
            uploaded.append(await take(peer, 0))

    async def play():
        async with upstream(script) as origin:
            route = {"name": "all", "path": "/", "upstream": f"http://127.0.0.1:{origin.port}", "max_body_bytes": "2GB"}
            config = {
                "routes": [route | {"auth": ["none"], "allow": ["anyone"]}],
                "access_log": {"file": "access.log"},
            }
            with contextlib.ExitStack() as stack:
                relays = [Plain(tmp_path / "plain", config), Tls(tmp_path / "tls", config)]
                for relay in relays:
                    stack.enter_context(relay)
                    await first(relay)
                most = [memory(relay.pid) for relay in relays]
                before = [dict(high) for high in most]
                watching = asyncio.create_task(watch(relays, most))
                uploads = [asyncio.create_task(upload(relay)) for relay in relays]
                taken = await asyncio.gather(*map(download, relays))
                await asyncio.gather(*uploads)
                watching.cancel()
            assert all(size > min(SLOW_S * MB / 2 + FAST_BYTES, 0.95 * ANNOUNCED) for size in taken + uploaded)
            assert len(uploaded) == 2
            return [{k: high[k] - base[k] for k in high} for high, base in zip(most, before, strict=True)]

    growth = asyncio.run(asyncio.wait_for(play(), SLOW_S + 60))
    with capsys.disabled():
        for kind in growth[0]:
            print(f" growth in KiB, plain and TLS, {kind}:", *(g[kind] >> 10 for g in growth))
    assert max(g["anonymous"] for g in growth) < MAX_GROWTH
