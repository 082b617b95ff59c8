"""What a user asks: what does promgate cost beside the Prometheus it guards? `python -m bench.fleet`

Real Prometheus agents scrape a big target and write, over TLS and with a token, through promgate into a real
Prometheus. The CPU time of promgate is set beside that of the receiver for the same stream. promgate and the receiver
share core 0; agents and target share core 1. The receiver does nothing but receive: no scrape, rule or query of its
own, so that the share is on the high side of what a user will see.
"""

from __future__ import annotations

import argparse
import contextlib
import re
import sys
import time
import urllib.request
from dataclasses import dataclass
from typing import TYPE_CHECKING

from bench.process import LOAD_CORE, SERVER_CORE, BenchError, Child, free_port, prepare_this_process, running
from bench.promgate import Promgate, prepare, running_promgate
from bench.servers import find_program
from bench.stage import HERE, fill, open_stage

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from bench.servers import Server
    from bench.stage import Stage

SAMPLES_PER_SEND = 2000
START_S = 5.0  # what a server reads after its first answer (the console) belongs to its start
IDLE_S = 5.0
#: Scrapes of each agent to let pass first: the receiver creates the series on the first one.
SETTLING_SCRAPES = 5

APPENDED = "prometheus_tsdb_head_samples_appended_total"
SENT_BYTES = "prometheus_remote_storage_bytes_total"
SENDS = "prometheus_remote_storage_sent_batch_duration_seconds_count"
TROUBLES = (
    "prometheus_remote_storage_samples_failed_total",
    "prometheus_remote_storage_samples_dropped_total",
    "prometheus_remote_storage_samples_retried_total",
)


@dataclass(frozen=True, slots=True)
class Fleet:
    """Size of a run."""

    agents: int = 4
    series: int = 10_000
    seconds: float = 30.0


@dataclass(frozen=True, slots=True)
class FleetResult:
    """One window of a flowing stream. `troubles`: samples that an agent failed to send, dropped or sent again."""

    agents: int
    seconds: float
    samples: float
    requests: float
    sent_bytes: float
    promgate_cpu_s: float
    promgate_idle_cpu_share: float
    receiver_cpu_s: float
    troubles: float

    @property
    def share_percent(self) -> float:
        return 100.0 * self.promgate_cpu_s / self.receiver_cpu_s

    @property
    def samples_per_core(self) -> float:
        """Samples per second that one core of promgate carries, by CPU per sample."""
        return self.samples / self.promgate_cpu_s

    def lines(self) -> list[str]:
        requests = max(1.0, self.requests)
        stream = f"{self.agents} agents: {self.samples / self.seconds:,.0f} samples/s"
        size = f"{self.samples / requests:,.0f} samples and {self.sent_bytes / requests / 1000:,.0f} KB"
        ours = f"promgate {self.promgate_cpu_s / self.seconds:.2%} of a core"
        theirs = f"Prometheus {self.receiver_cpu_s / self.seconds:.2%}"
        return [
            f"{stream} in {requests / self.seconds:,.1f} requests/s, each {size}; watched for {self.seconds:.0f} s",
            f"samples that failed, were dropped or sent again: {self.troubles:,.0f}",
            f"CPU: {ours}, {theirs}: promgate adds {self.share_percent:.1f} %",
            f"CPU of promgate when nothing is sent: {self.promgate_idle_cpu_share:.2%} of a core",
            f"one core of promgate carries {self.samples_per_core / 1e6:,.1f} million samples/s (from CPU per sample)",
        ]


def measure_fleet(stage: Stage, what: Promgate, fleet: Fleet) -> FleetResult:
    place = stage.dir / "fleet"
    place.mkdir()
    with contextlib.ExitStack() as stack:
        receiver, receiver_port = stack.enter_context(_running_receiver(place))
        server = stack.enter_context(running_promgate(prepare(what, stage, receiver_port)))
        time.sleep(START_S)
        idle_from = server.child.cpu_s()
        time.sleep(IDLE_S)
        idle_share = (server.child.cpu_s() - idle_from) / IDLE_S
        target_port = free_port()
        agents = [
            stack.enter_context(_running_agent(place, stage, server, target_port, n)) for n in range(fleet.agents)
        ]
        command = [sys.executable, "-m", "bench.target", str(target_port), str(fleet.series)]
        stack.enter_context(running("target", command, place / "target.log", core=LOAD_CORE, cwd=HERE.parent))

        flowing = fleet.agents * fleet.series * SETTLING_SCRAPES
        receiver.await_that(
            lambda: _metric(receiver_port, APPENDED, "/prometheus") > flowing, f"{flowing:,} samples to arrive", 60.0
        )
        before = _Mark.take(server, receiver, receiver_port, agents)
        time.sleep(fleet.seconds)
        after = _Mark.take(server, receiver, receiver_port, agents)
    return FleetResult(
        agents=fleet.agents,
        seconds=after.at_s - before.at_s,
        samples=after.samples - before.samples,
        requests=after.requests - before.requests,
        sent_bytes=after.sent_bytes - before.sent_bytes,
        promgate_cpu_s=after.promgate_cpu_s - before.promgate_cpu_s,
        promgate_idle_cpu_share=idle_share,
        receiver_cpu_s=after.receiver_cpu_s - before.receiver_cpu_s,
        troubles=after.troubles,
    )


@dataclass(frozen=True, slots=True)
class _Mark:
    """All counters at one moment. The CPU clocks are read first: asking for metrics costs CPU too."""

    at_s: float
    promgate_cpu_s: float
    receiver_cpu_s: float
    samples: float
    requests: float
    sent_bytes: float
    troubles: float

    @staticmethod
    def take(server: Server, receiver: Child, receiver_port: int, agents: list[int]) -> _Mark:
        at_s, promgate_cpu_s, receiver_cpu_s = time.monotonic(), server.child.cpu_s(), receiver.cpu_s()
        samples = _metric(receiver_port, APPENDED, "/prometheus")
        requests, sent_bytes, troubles = 0.0, 0.0, 0.0
        for port in agents:
            page = _metrics(port)
            requests += _sum_of(page, SENDS)
            sent_bytes += _sum_of(page, SENT_BYTES)
            troubles += sum(_sum_of(page, name) for name in TROUBLES)
        return _Mark(at_s, promgate_cpu_s, receiver_cpu_s, samples, requests, sent_bytes, troubles)


@contextlib.contextmanager
def _running_receiver(place: Path) -> Iterator[tuple[Child, int]]:
    port = free_port()
    config = place / "receiver.yml"
    config.write_text("global: {scrape_interval: 1h}\n")
    command = [
        _prometheus(),
        f"--config.file={config}",
        f"--storage.tsdb.path={place / 'receiver'}",
        f"--web.listen-address=127.0.0.1:{port}",
        "--web.enable-remote-write-receiver",
        "--web.external-url=http://localhost/prometheus",
    ]
    with running("receiver", command, place / "receiver.log", core=SERVER_CORE) as child:
        child.await_that(lambda: _is_ready(port, "/prometheus"), "the receiver to be ready", 30.0)
        yield child, port


@contextlib.contextmanager
def _running_agent(place: Path, stage: Stage, server: Server, target_port: int, number: int) -> Iterator[int]:
    port = free_port()
    token_file, config = place / "token", place / f"agent-{number}.yml"
    token_file.write_text(server.tokens.write)
    values = {
        "name": number,
        "target_port": target_port,
        "url": server.url,
        "token_file": token_file,
        "cert": stage.cert,
        "samples_per_send": SAMPLES_PER_SEND,
    }
    config.write_text(fill(HERE / "peers" / "agent.yml.tmpl", values))
    command = [
        _prometheus(),
        "--enable-feature=agent",
        f"--config.file={config}",
        f"--storage.agent.path={place / f'agent-{number}'}",
        "--storage.remote.flush-deadline=1s",
        f"--web.listen-address=127.0.0.1:{port}",
    ]
    with running(f"agent {number}", command, place / f"agent-{number}.log", core=LOAD_CORE) as child:
        child.await_that(lambda: _is_ready(port), f"agent {number} to be ready", 30.0)
        yield port


def _prometheus() -> str:
    found = find_program("prometheus")
    if found is None:
        raise BenchError("prometheus is not installed: the fleet needs it (apt-get install prometheus)")
    return found


def _is_ready(port: int, prefix: str = "") -> bool:
    with contextlib.suppress(OSError), urllib.request.urlopen(f"http://127.0.0.1:{port}{prefix}/-/ready", timeout=5.0):
        return True
    return False


def _metrics(port: int, prefix: str = "") -> str:
    with urllib.request.urlopen(f"http://127.0.0.1:{port}{prefix}/metrics", timeout=20.0) as answer:
        text: str = answer.read().decode()
        return text


def _metric(port: int, name: str, prefix: str = "") -> float:
    return _sum_of(_metrics(port, prefix), name)


def _sum_of(page: str, name: str) -> float:
    return sum(float(value) for value in re.findall(rf"^{name}(?:{{.*}})? (\S+)$", page, re.MULTILINE))


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m bench.fleet", description=__doc__)
    usual = Fleet()
    parser.add_argument("--agents", type=int, default=usual.agents)
    parser.add_argument("--series", type=int, default=usual.series, help="series of each agent, scraped each second")
    parser.add_argument("--seconds", type=float, default=usual.seconds)
    chosen = parser.parse_args()
    prepare_this_process()
    with open_stage() as stage:
        result = measure_fleet(stage, Promgate("promgate-fleet"), Fleet(chosen.agents, chosen.series, chosen.seconds))
    print("\n".join(result.lines()))


if __name__ == "__main__":
    main()
