"""Logins: what bcrypt costs those who log in, and what it costs everybody else. Beside nginx, and Prometheus' own.

bcrypt takes a core for 60 ms or more. nginx checks each request, in the loop that serves all others; Prometheus
keeps in mind what was right, as promgate does. Each ratio is of two runs that follow each other, and the median of
several counts.
"""

from __future__ import annotations

import base64
import contextlib
import http.client
import itertools
import statistics
import time
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import bcrypt

from bench.load import running_load
from bench.measure import WARM_UP_S, Result, measure
from bench.process import SERVER_CORE, BenchError, free_port, running
from bench.promgate import Promgate, prepare, running_promgate
from bench.servers import Server, Tokens, find_program, running_peer
from bench.workloads import WORKLOADS, Workload

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from bench.process import Child
    from bench.stage import Stage

#: Each logs in once, so that nobody remembers them; there are enough for all rounds.
USERS = 1000
#: Users share few passwords: making a hash takes as long as checking it. No two that log in at once have the same.
PASSWORDS = 4
COST = 10
GUESSERS = 32
#: Wrong passwords, in turn of a user who exists and of one who does not.
WRONG_PAIRS = 60
STARTS = 5

BASIC = Workload("basic", "basic auth, bcrypt cost 10, the same user", "fetch.lua", connections=16, direct=False)
LOGINS = Workload("logins", "logins that nobody remembers", "logins.lua", connections=2, direct=False)
GUESSES = Workload("guesses", "guesses at a password", "guesses.lua", connections=GUESSERS, direct=False)


@dataclass(frozen=True, slots=True)
class LoginsResult:
    """`basic`: promgate and nginx. The p99 are in ms, one for each round, by server.

    `wrong_ms`: medians for a wrong password of a user who exists, and of one who does not.
    """

    basic: Result
    bearer_p99: dict[str, list[float]]
    guessed_p99: dict[str, list[float]]
    wrong_ms: tuple[float, float]

    def figures(self) -> dict[tuple[str, str], float]:
        """As `Report.figures`."""
        per_s = {name: self.basic.median(name, lambda sample: sample.requests) for name in self.basic.samples}
        return {
            ("basic", "nginx"): per_s["promgate"] / max(1.0, per_s["nginx"]),
            ("bearer", "nginx"): _ratio(self.bearer_p99, "nginx"),
            ("guessed", "prometheus"): _ratio(self.guessed_p99, "prometheus"),
        }

    def lines(self) -> list[str]:
        told = (
            ("GET 1 KB with a token while two logins at a time are checked", self.bearer_p99),
            (f"basic auth of a known user beside {GUESSERS} who guess", self.guessed_p99),
        )
        lines = [
            f"{title}: p99 " + ", ".join(f"{name} {statistics.median(seen):.1f} ms" for name, seen in by_server.items())
            for title, by_server in told
        ]
        known_ms, unknown_ms = self.wrong_ms
        each = f"{known_ms:.1f} ms for a user who exists, {unknown_ms:.1f} ms for one who does not"
        return [*lines, f"a wrong password: p50 {each}: ratio {known_ms / unknown_ms:.3f} (wanted: 0.95 to 1.05)"]


def measure_logins(stage: Stage, *, rounds: int, window_s: float) -> LoginsResult:
    place = stage.dir / "logins"
    place.mkdir()
    passwords = [f"correct horse {number}" for number in range(PASSWORDS)]
    hashes = [bcrypt.hashpw(one.encode(), bcrypt.gensalt(COST)).decode() for one in passwords]
    htpasswd = place / "htpasswd"
    htpasswd.write_text("".join(f"u{n:04d}:{hashes[n % PASSWORDS]}\n" for n in range(USERS)))
    htpasswd.chmod(0o644)  # nginx reads it as its own user
    known = base64.b64encode(f"u0000:{passwords[0]}".encode()).decode()
    firsts = itertools.count(PASSWORDS, max(8, USERS // (2 * rounds + 2)) // PASSWORDS * PASSWORDS)
    with contextlib.ExitStack() as stack:
        prepared = prepare(Promgate("promgate-logins", htpasswd=htpasswd, users=USERS), stage)
        ours = replace(stack.enter_context(running_promgate(prepared)), name="promgate")
        nginx = stack.enter_context(running_peer("nginx", stage, prepared.tokens, htpasswd))
        prometheus = stack.enter_context(_running_prometheus(stage, place, hashes[0], prepared.tokens.read))
        for server, path in ((ours, "/basic/x"), (nginx, "/basic/x"), (prometheus, "/-/healthy")):
            _prove(stage, server, path, known)
        basic_load = replace(BASIC, settings={"BENCH_PATH": "/basic/x", "BENCH_AUTHORIZATION": f"Basic {known}"})
        basic = measure(stage, [ours, nginx], basic_load, rounds=rounds, window_s=window_s)
        wrong_ms = _wrong_ms(stage, ours)
        bearer: dict[str, list[float]] = {"promgate": [], "nginx": []}
        guessed: dict[str, list[float]] = {"promgate": [], "prometheus": []}
        for _ in range(rounds):
            for server in (ours, nginx):
                settings = {"BENCH_PATH": "/basic/x", "BENCH_FIRST": str(next(firsts) % USERS)}
                with running_load(stage, server, replace(LOGINS, settings=settings)):
                    bearer[server.name].append(_p99_ms(stage, server, WORKLOADS["get1k"], window_s))
            for server, path in ((ours, "/basic/x"), (prometheus, "/-/healthy")):
                good = replace(basic_load, settings={**basic_load.settings, "BENCH_PATH": path}, connections=4)
                with running_load(stage, server, replace(GUESSES, settings={"BENCH_PATH": path})):
                    guessed[server.name].append(_p99_ms(stage, server, good, window_s))
    return LoginsResult(basic, bearer, guessed, wrong_ms)


def measure_starts(stage: Stage) -> float:
    """Seconds from the start of the process to the first answer over TLS: the median of some starts."""
    prepared = prepare(Promgate("promgate-start"), stage)
    context = stage.client_context()
    seen = []

    def answers() -> bool:
        connection = http.client.HTTPSConnection("127.0.0.1", prepared.port, timeout=5.0, context=context)
        with contextlib.suppress(OSError), contextlib.closing(connection):
            connection.request("GET", "/-/healthy")
            return connection.getresponse().status == 200
        return False

    for _ in range(STARTS):
        began = time.monotonic()
        with running_promgate(prepared) as server:
            server.child.await_that(answers, "the first answer")
            seen.append(time.monotonic() - began)
    return statistics.median(seen)


def _ratio(p99: dict[str, list[float]], peer: str) -> float:
    return statistics.median(a / b for a, b in zip(p99["promgate"], p99[peer], strict=True))


def _p99_ms(stage: Stage, server: Server, workload: Workload, window_s: float) -> float:
    """As the clients see it, over some seconds of their load."""
    time.sleep(WARM_UP_S)  # whoever is in their way has begun
    with running_load(stage, server, workload) as load:
        time.sleep(3 * max(1.0, window_s))  # a server that answers 77 requests a second has to have a p99 too
        seen = load.finish()
    server.child.require_alive()
    if seen.errors or not seen.p99_us:
        raise BenchError(f"{server.name} failed {seen.errors} requests of {workload.title}, p99 {seen.p99_us} us")
    return seen.p99_us / 1000


def _wrong_ms(stage: Stage, server: Server) -> tuple[float, float]:
    """Medians over HTTP, each guess from an address of its own, so that none is refused for its number."""
    took: dict[str, list[float]] = {"u": [], "x": []}  # u0007 is a user, x0007 is none
    context = stage.client_context()
    for number in range(WRONG_PAIRS):
        for kind, times in took.items():
            address = (f"127.1.{'ux'.index(kind)}.{number + 1}", 0)
            shown = base64.b64encode(f"{kind}{number:04d}:wrong".encode()).decode()
            connection = http.client.HTTPSConnection(
                "127.0.0.1", server.port, timeout=20.0, context=context, source_address=address
            )
            with contextlib.closing(connection):
                connection.connect()
                began = time.perf_counter()
                connection.request("GET", "/basic/x", headers={"Authorization": f"Basic {shown}"})
                status = connection.getresponse().status
                times.append((time.perf_counter() - began) * 1000)
            if status != 401:
                raise BenchError(f"{server.name} answers {status} and not 401 to a wrong password")
    return statistics.median(took["u"]), statistics.median(took["x"])


def _prove(stage: Stage, server: Server, path: str, known: str) -> None:
    """Right and wrong passwords are told apart; afterwards the right one is remembered by those who remember."""
    wrong = base64.b64encode(b"u0000:wrong").decode()
    context = stage.client_context()
    for shown, status in ((known, 200), (wrong, 401)):
        connection = http.client.HTTPSConnection("127.0.0.1", server.port, timeout=20.0, context=context)
        with contextlib.closing(connection):
            connection.request("GET", path, headers={"Authorization": f"Basic {shown}"})
            got = connection.getresponse().status
        if got != status:
            raise BenchError(f"{server.name} answers {got} and not {status} to basic auth at {path}")


@contextlib.contextmanager
def _running_prometheus(stage: Stage, place: Path, known_hash: str, token: str) -> Iterator[Server]:
    """Prometheus by itself, with basic auth of its own (`--web.config.file`)."""
    program, port = find_program("prometheus"), free_port()
    if program is None:
        raise BenchError("prometheus is not installed")
    config, web_config, log = place / "prometheus.yml", place / "web.yml", place / "prometheus.log"
    config.write_text("global: {scrape_interval: 1h}\n")
    web_config.write_text(
        f"tls_server_config: {{cert_file: {stage.cert}, key_file: {stage.key}, min_version: TLS13}}\n"
        f"basic_auth_users: {{u0000: '{known_hash}'}}\n"
    )
    command = [
        program,
        f"--config.file={config}",
        f"--web.config.file={web_config}",
        f"--storage.tsdb.path={place / 'data'}",
        f"--web.listen-address=127.0.0.1:{port}",
    ]
    with running("prometheus", command, log, core=SERVER_CORE, env={"GOMAXPROCS": "1"}) as child:
        child.await_port(port, timeout_s=60.0)
        yield _as_server(child, port, token, log)


def _as_server(child: Child, port: int, token: str, log: Path) -> Server:
    return Server("prometheus", child, f"https://127.0.0.1:{port}", "", Tokens(token, token), log)
