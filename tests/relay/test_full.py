"""Clients leave room for upstreams and telemetry, and a process with no file left spins on nothing and recovers."""

from __future__ import annotations

import contextlib
import resource
import socket
import sys
import threading
import time
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
import yaml

from tests.kit.http_server import HttpServer, Reply
from tests.kit.process import Process, accepts, free_port
from tests.kit.promgate import environment
from tests.kit.wait import wait_for

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.kit.http_server import Request

FILES = 128
#: Of 128 files, a quarter or 64 are kept from clients, and an eighth of the rest is telemetry's: docs/behaviour.md.
ROOM = 56
_HIDE_UVLOOP = "import sys; sys.modules['uvloop'] = None\n"
_SERVE = "import sys; from proxy.cli import main; sys.exit(main(sys.argv[1:]))"
HEALTHY = b"GET /-/healthy HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n"


class Small(Process):
    """`promgate serve` that may open few files, on either loop."""

    def __init__(self, directory: Path, loop: str) -> None:
        self.port, self.telemetry = free_port(), free_port()
        config_file = directory / "promgate.yml"
        route = {"name": "all", "path": "/", "upstream": f"http://127.0.0.1:{free_port()}", "auth": "none"}
        config = {
            "listen": f"127.0.0.1:{self.port}",
            "telemetry": {"listen": f"127.0.0.1:{self.telemetry}"},
            "timeouts": {"header": "60s"},
            "routes": [route],
        }
        config_file.write_text(yaml.safe_dump(config))
        code = (_HIDE_UVLOOP if loop == "asyncio" else "") + _SERVE
        command = ["prlimit", f"--nofile={FILES}:{FILES}", sys.executable, "-c", code]
        super().__init__(
            [*command, "serve", f"--config.file={config_file}"],
            directory / "promgate.log",
            lambda: accepts(self.port),
            env=environment(),
        )

    def cpu_s(self) -> float:
        fields = Path(f"/proc/{self.pid}/stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / 100

    def let_open(self, files: int) -> None:
        resource.prlimit(self.pid, resource.RLIMIT_NOFILE, (files, FILES))

    def let_open_no_more(self) -> None:
        self.let_open(max(int(file.name) for file in Path(f"/proc/{self.pid}/fd").iterdir()) + 1)


@pytest.fixture(params=["uvloop", "asyncio"])
def small(request, tmp_path) -> Iterator[Small]:
    with Small(tmp_path, request.param) as process:
        yield process


def is_healthy(port: int) -> bool:
    with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), 5) as sock:
        sock.sendall(HEALTHY)
        return sock.recv(100).startswith(b"HTTP/1.1 200")
    return False


def crowd(port: int, size: int) -> list[socket.socket]:
    """Clients that send the beginning of a request and stay."""
    clients = []
    for _ in range(size):
        sock = socket.create_connection(("127.0.0.1", port), 5)
        sock.setblocking(False)
        with contextlib.suppress(OSError):
            sock.send(b"GET / HT")
        clients.append(sock)
    return clients


def is_open(sock: socket.socket) -> bool:
    try:
        return bool(sock.recv(1))
    except BlockingIOError:
        return True
    except OSError:
        return False


def test_clients_leave_room_for_telemetry(small):
    clients = crowd(small.port, 3 * FILES)
    wait_for(lambda: sum(map(is_open, clients)) == ROOM, "the others are turned away")
    assert is_healthy(small.telemetry)
    assert not is_healthy(small.port)
    assert "raise the limit of open files" in small.log
    for client in clients:
        client.close()
    wait_for(lambda: is_healthy(small.port), "there is room again")


class Beset(Process):
    """`promgate serve` with every kind of listener before `upstream`, and few files."""

    FILES = 256

    def __init__(self, directory: Path, upstream: str) -> None:
        self.ports = {name: free_port() for name in ("public", "redirect", "console", "telemetry")}
        at = {name: f"127.0.0.1:{port}" for name, port in self.ports.items()}
        config = {
            "listen": at["public"],
            "external_url": f"https://{at['public']}",
            "redirect_http": {"listen": at["redirect"]},
            "console": {"listen": at["console"]},
            "telemetry": {"listen": at["telemetry"]},
            "tokens": {"store": "sqlite:///promgate.db"},
            "roles": {"admin": ["token:ops"]},
            "timeouts": {"header": "60s"},
            "routes": [{"name": "all", "path": "/", "upstream": upstream, "auth": "none", "allow": "anyone"}],
        }
        config_file = directory / "promgate.yml"
        config_file.write_text(yaml.safe_dump(config))
        command = ["prlimit", f"--nofile={self.FILES}:{self.FILES}", sys.executable, "-m", "proxy", "serve"]
        super().__init__(
            [*command, f"--config.file={config_file}"],
            directory / "promgate.log",
            lambda: accepts(self.ports["public"]),
            env=environment(),
        )

    def client(self) -> socket.socket:
        return socket.create_connection(("127.0.0.1", self.ports["public"]), 20)

    @property
    def files(self) -> int:
        return len(list(Path(f"/proc/{self.pid}/fd").iterdir()))


def is_served(client: socket.socket) -> bool:
    """Whether the upstream's whole answer comes; head and body may come apart."""
    got = b""
    while not got.endswith(b"ok") and (piece := client.recv(4096)):
        got += piece
    return got.startswith(b"HTTP/1.1 200")


def test_whoever_presses_in_wherever_a_request_gets_its_upstream(tmp_path):
    """One budget: what listeners, handshakes and upstreams may hold comes to less than there is."""
    at_once = threading.Barrier(12)

    def answer(request: Request) -> Reply:
        if request.path == "/wait":
            at_once.wait(30)
        return Reply(body=b"ok")

    with HttpServer(answer) as upstream, Beset(tmp_path, upstream.base) as promgate, contextlib.ExitStack() as stack:
        inside = [stack.enter_context(promgate.client()) for _ in range(12)]
        inside[0].sendall(b"GET /x HTTP/1.1\r\nHost: localhost\r\n\r\n")
        assert is_served(inside[0])
        crowds = [crowd(port, promgate.FILES) for port in promgate.ports.values()]
        for sock in (sock for one in crowds for sock in one):
            stack.callback(sock.close)
        wait_for(lambda: sum(is_open(sock) for one in crowds for sock in one) < 192, "the others are turned away")
        assert promgate.files < promgate.FILES - 32, "what is left for upstreams and the store"
        for client in inside:
            client.sendall(b"GET /wait HTTP/1.1\r\nHost: localhost\r\n\r\n")
        for client in inside:
            assert is_served(client), "twelve at once"
        assert is_healthy(promgate.ports["telemetry"])
        assert "cannot be reached" not in promgate.log


def test_without_any_file_nobody_spins_and_it_recovers(small):
    wait_for(lambda: is_healthy(small.telemetry), "telemetry")
    small.let_open_no_more()
    before, started = small.cpu_s(), time.monotonic()
    clients = crowd(small.port, 300)
    wait_for(lambda: time.monotonic() > started + 2, "two seconds to spin in")
    assert small.cpu_s() - before < 0.6
    assert small.log.count("\n") < 50
    small.let_open(FILES)
    for client in clients:
        client.close()
    wait_for(lambda: is_healthy(small.port), "it recovers")
    assert is_healthy(small.telemetry)
