"""Which TLS layer? Memory per idle connection and CPU per request of each: `python -m bench.tls_memory`.

Memory is the growth of the server's PSS over many open TLS 1.3 connections (P-256, no client certificate), fresh and
after each has carried 1 MB down (in 256 KB writes) and 200 KB up. CPU is taken in interleaved rounds, and compared
within a round; nothing is proxied. Prints a table; `--json FILE` keeps all samples.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import re
import resource
import socket
import ssl
import subprocess
import sys
import tempfile
import time
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

from bench.machine import describe_machine
from bench.measure import Spread
from bench.process import LOAD_CORE, SERVER_CORE, BenchError, free_port, prepare_this_process, running
from proxy.pki.authority import Leaf, issue, make_authority

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from bench.process import Child
    from proxy.pki.authority import Pair

BODY_BYTES = 200_000
ANSWER_BYTES = 1_000_000
STREAM_BYTES = 10_000_000


@dataclass(frozen=True, slots=True)
class Candidate:
    """One server process: a layer of bench.tls_servers, a loop, and what malloc is told."""

    name: str
    layer: str
    loop: str = "uvloop"
    env: dict[str, str] = field(default_factory=dict)


CANDIDATES = (
    Candidate("shared BIOs", "shared-bio"),
    Candidate("shared BIOs, asyncio", "shared-bio", "asyncio"),
    Candidate("own BIOs, 4 KB slices", "own-bios-4"),
    Candidate("own BIOs, 8 KB slices", "own-bios-8"),
    Candidate("own BIOs, 16 KB slices", "own-bios-16"),
    Candidate("own BIOs, unsliced", "own-bios-1024"),
    Candidate("SSLSocket", "ssl-socket"),
    Candidate("uvloop's ssl", "loop-ssl"),
    Candidate("shared BIOs, one arena", "shared-bio", env={"MALLOC_ARENA_MAX": "1"}),
    Candidate(
        "shared BIOs, no trim below 4 MB",
        "shared-bio",
        env={"MALLOC_TRIM_THRESHOLD_": "4194304", "MALLOC_MMAP_THRESHOLD_": "4194304"},
    ),
)

#: name -> path, connections, body
LOADS = {
    "GET 1 KB": ("/", 64, 0),
    "POST 64 KB": ("/take", 64, 65536),
    "GET 10 MB": (f"/{STREAM_BYTES}", 8, 0),
}


@dataclass(frozen=True, slots=True)
class Price:
    """KB of PSS per connection."""

    fresh: float
    used: float


@dataclass(slots=True)
class Findings:
    """All that was measured. CPU in microseconds per request: load -> candidate -> one value per round."""

    memory: dict[str, Price] = field(default_factory=dict)
    cpu: dict[str, dict[str, list[float]]] = field(default_factory=dict)


class Client:
    """A blocking client that keeps its connection."""

    def __init__(self, port: int, context: ssl.SSLContext) -> None:
        self.tls = context.wrap_socket(socket.create_connection(("127.0.0.1", port), 20.0))

    def get(self, size: int) -> None:
        path = b"/%d" % size if size else b"/"
        self.tls.sendall(b"GET %s HTTP/1.1\r\nHost: x\r\n\r\n" % path)
        self._take_answer()

    def post(self, body: bytes) -> None:
        self.tls.sendall(b"POST /take HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n" % len(body) + body)
        self._take_answer()

    def _take_answer(self) -> None:
        head = b""
        while b"\r\n\r\n" not in head:
            head += self._receive()
        head, _, body = head.partition(b"\r\n\r\n")
        left = int(head.rpartition(b" ")[2]) - len(body)
        while left:
            left -= len(self._receive())

    def _receive(self) -> bytes:
        data = self.tls.recv(262144)
        if not data:
            raise BenchError("the server closed the connection within an answer")
        return data


def measure_memory(child: Child, port: int, connections: int) -> Price:
    context = ssl.create_default_context()
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    body = bytes(BODY_BYTES)
    with contextlib.ExitStack() as held:

        def open_one() -> Client:
            client = Client(port, context)
            held.callback(client.tls.close)
            return client

        for _ in range(20):  # what is paid once
            client = open_one()
            client.get(ANSWER_BYTES)
            client.post(body)
        before = _settled_kib(child)
        clients = [open_one() for _ in range(connections)]
        for client in clients:
            client.get(0)
        fresh = _settled_kib(child)
        for client in clients:
            client.get(ANSWER_BYTES)
            client.post(body)
        used = _settled_kib(child)
    return Price((fresh - before) / connections, (used - before) / connections)


def measure_cpu(child: Child, port: int, load: str, seconds: int, script: Path) -> float:
    path, connections, body = LOADS[load]
    script.write_text(f'wrk.method = "POST"\nwrk.body = string.rep("x", {body})\n' if body else "")
    command = ["wrk", "-t1", f"-c{connections}", f"-d{seconds}", "-s", script, f"https://127.0.0.1:{port}{path}"]
    before = child.cpu_s()
    printed = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    spent = child.cpu_s() - before
    count = re.search(r"(\d+) requests in", printed)
    if count is None or int(count[1]) == 0 or "Non-2xx" in printed:
        raise BenchError(f"{child.name}, {load}: no lawful answers:\n{printed}")
    return spent * 1e6 / int(count[1])


def measure(candidates: Sequence[Candidate], pair: Pair, work: Path, args: argparse.Namespace) -> Findings:
    findings = Findings(cpu={load: {} for load in LOADS})
    with contextlib.ExitStack() as stack:
        servers = {one.name: stack.enter_context(_running(one, pair, work)) for one in candidates}
        names = list(servers)
        for name, (child, port) in servers.items():
            findings.memory[name] = measure_memory(child, port, args.connections)
            print(f"memory: {name}", file=sys.stderr)
        for number in range(args.rounds):
            first = number % len(names)
            for load in LOADS:
                for name in [*names[first:], *names[:first]]:
                    cost = measure_cpu(*servers[name], load, args.seconds, work / "load.lua")
                    findings.cpu[load].setdefault(name, []).append(cost)
            print(f"CPU: round {number + 1} of {args.rounds}", file=sys.stderr)
    return findings


def render(findings: Findings) -> str:
    """A Markdown table: memory, then the CPU of each load as a multiple of the first candidate's in the same round."""
    (first, *_) = findings.memory
    lines = [
        "| layer | fresh, KB | used, KB | " + " | ".join(LOADS) + " |",
        "|---|---|---|" + "---|" * len(LOADS),
    ]
    for name, price in findings.memory.items():
        cells = [name, f"{price.fresh:.1f}", f"{price.used:.1f}"]
        for samples in findings.cpu.values():
            if name not in samples:
                continue
            ratio = Spread.of([a / b for a, b in zip(samples[name], samples[first], strict=True)])
            cells.append(f"{ratio.median:.2f} ({ratio.least:.2f}-{ratio.most:.2f})")
        lines.append("| " + " | ".join(cells) + " |")
    for load, samples in findings.cpu.items():
        if first in samples:
            cost = Spread.of(samples[first]).median
            per_gb = f", {cost / STREAM_BYTES * 1e6:.0f} ms per GB" if "MB" in load else ""
            lines.append(f"\n{load}: 1.00 is {cost:.1f} us per request{per_gb}.")
    return "\n".join(lines)


@contextlib.contextmanager
def _running(one: Candidate, pair: Pair, work: Path) -> Iterator[tuple[Child, int]]:
    port = free_port()
    command = [sys.executable, "-m", "bench.tls_servers", one.layer, one.loop, str(port), pair.cert_file, pair.key_file]
    with running(one.name, command, work / f"{port}.log", core=SERVER_CORE, env=one.env) as child:
        child.await_port(port)
        yield child, port


def _settled_kib(child: Child) -> int:
    last, now = -1, child.memory().pss_kib
    while now != last:
        time.sleep(0.3)
        last, now = now, child.memory().pss_kib
    return now


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--connections", type=int, default=1000)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--seconds", type=int, default=1, help="of load, for each candidate in each round")
    parser.add_argument("--only", default="", help="names of candidates, by their beginnings, separated by commas")
    parser.add_argument("--json", type=Path, metavar="FILE")
    args = parser.parse_args()
    prepare_this_process()
    resource.setrlimit(resource.RLIMIT_NOFILE, (resource.getrlimit(resource.RLIMIT_NOFILE)[1],) * 2)
    wanted = tuple(args.only.split(","))
    machine = describe_machine()
    with tempfile.TemporaryDirectory() as name:
        work, now = Path(name), datetime.now(UTC)
        make_authority(work, now)
        pair = issue(work, Leaf("server", dns=["localhost"]), now)
        try:
            findings = measure([one for one in CANDIDATES if one.name.startswith(wanted)], pair, work, args)
        except BenchError as error:
            print(error, file=sys.stderr)
            return 1
    print("\n".join(f"{key}: {value}" for key, value in machine.items()))
    print(f"servers on core {SERVER_CORE}, wrk on core {LOAD_CORE}; {args.connections} connections\n")
    print(render(findings))
    if args.json:
        args.json.write_text(json.dumps({"machine": machine, **asdict(findings)}, indent=2) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
