"""The compose file, run: who gets in, who does not, what is written where, and what a second start keeps."""

from __future__ import annotations

import json
import os
import ssl
import sys
import time
from contextlib import contextmanager
from functools import partial
from typing import TYPE_CHECKING

from tests.containers import images
from tests.containers.engine import ROOT
from tests.kit.fetch import Answer, basic, bearer, fetch
from tests.kit.process import free_port
from tests.kit.remote_write import HEADERS, build_body
from tests.kit.wait import wait_for

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.containers.engine import Engine

_COMPOSE = "podman-compose==1.6.0"
_STATE = "/var/lib/promgate"
#: Connects to its argument and says how it went; nothing but Python is needed in the container.
_PROBE = """
import socket, sys
host, port = sys.argv[1].split(":")
try:
    socket.create_connection((host, int(port)), 3).close()
except OSError as error:
    sys.exit(f"no: {error}")
"""
#: SQLite's own files, and what a kill leaves of a store or a key before it has its name.
_LEFT_OVER = ("promgate.db-", ".promgate.db.", "certs/.")
_LIST_STATE = """
import json, os, pathlib
print(json.dumps({str(path.relative_to("/var/lib/promgate")): oct(path.stat().st_mode & 0o777)
                  for path in pathlib.Path("/var/lib/promgate").rglob("*")}))
"""


class Stack:
    """One run of the compose file, as a project of its own, published on a loopback port."""

    def __init__(self, engine: Engine) -> None:
        self.engine = engine
        self.project = f"promgate-test-{os.getpid()}"
        self.port = free_port()
        self.ca_file: Path = engine.place / f"{self.project}.crt"
        self._compose = _install_compose(engine)

    def compose(self, *words: str) -> str:
        return self.engine.must(
            self._compose,
            "--in-pod=false",
            f"--project-name={self.project}",
            f"--file={ROOT / 'docker-compose.yml'}",
            *words,
            env={"PROMGATE_PUBLISH": f"127.0.0.1:{self.port}"},
        )

    def container(self, service: str) -> str:
        """The id of a service's container."""
        labels = (f"--filter=label=io.podman.compose.project={self.project}", f"--filter=name=_{service}_")
        found = self.engine.podman("ps", "--all", "--quiet", "--no-trunc", *labels).split()
        assert len(found) == 1, f"{service}: {found}"
        return found[0]

    def all(self, kind: str) -> list[str]:
        """The ids of this project's containers, networks or volumes, running or not."""
        words = [kind, "ls", *(["--all"] if kind == "container" else []), "--quiet"]
        return self.engine.podman(*words, f"--filter=label=io.podman.compose.project={self.project}").split()

    def inside(self, *words: str) -> str:
        """What a command printed that was run beside the server."""
        return self.engine.podman("exec", self.container("promgate"), *words)

    def get(self, path: str, headers: dict[str, str] | None = None) -> Answer:
        return fetch(f"https://localhost:{self.port}{path}", headers=headers, ca_file=self.ca_file)

    def answers_ok(self, path: str, headers: dict[str, str]) -> bool:
        return self.get(path, headers).status == 200

    def push(self, token: str, metric: str) -> int:
        url = f"https://localhost:{self.port}/prometheus/api/v1/write"
        headers = HEADERS | bearer(token)
        return fetch(url, method="POST", body=build_body(metric, 1.0), headers=headers, ca_file=self.ca_file).status

    def wait_healthy(self) -> None:
        """Until HEALTHCHECK says so: run by hand, for podman leaves the timing to a systemd."""
        container = self.container("promgate")

        def is_healthy() -> bool:
            return self.engine.run("podman", "healthcheck", "run", container).returncode == 0

        try:
            wait_for(is_healthy, "HEALTHCHECK", timeout_s=60.0, interval_s=0.3)
        except TimeoutError:
            print(self.log(), file=sys.stderr)
            raise

    def log(self) -> str:
        done = self.engine.run("podman", "logs", self.container("promgate"))
        return done.stdout + done.stderr

    def can_connect(self, network: str, address: str) -> bool:
        """Whether a fresh container on `network` of this project reaches `address`."""
        probe = ("run", "--rm", f"--network={network}", images.base_name(), "python3", "-c", _PROBE, address)
        return self.engine.run("podman", *probe).returncode == 0

    def address(self, service: str, network: str) -> str:
        networks = self.engine.inspect("container", self.container(service))["NetworkSettings"]["Networks"]
        return str(networks[f"{self.project}_{network}"]["IPAddress"])


def check(engine: Engine) -> None:
    with _running(engine) as stack:
        stack.wait_healthy()
        print("ok    first start; HEALTHCHECK is content")
        stack.ca_file.write_text(stack.inside("cat", f"{_STATE}/certs/ca.crt"))
        password = stack.inside("cat", f"{_STATE}/admin.password")
        token = stack.inside("cat", f"{_STATE}/agent.token")
        _check_doors(stack, password, token)
        _check_networks(stack)
        _check_confinement(stack)
        _check_files(stack, password, token)
        _check_rotation(stack, token)
        _check_restart(stack, password, token)
        _check_killed_first_start(engine)


@contextmanager
def _running(engine: Engine) -> Iterator[Stack]:
    stack = Stack(engine)
    try:
        stack.compose("up", "--detach", "--no-build")
        yield stack
    except BaseException:
        for container in stack.all("container"):
            done = engine.run("podman", "logs", "--names", "--tail=20", container)
            print(done.stdout, done.stderr, file=sys.stderr)
        raise
    finally:
        engine.run("podman", "stop", "--time=10", *stack.all("container"))
        stack.compose("down", "--volumes")
        stack.ca_file.unlink(missing_ok=True)
        # podman's own restarts may win over `down`.
        for kind in ("container", "network", "volume"):
            for left in stack.all(kind):
                engine.podman(kind, "rm", "--force", left)


def _check_doors(stack: Stack, password: str, token: str) -> None:
    for path in ("/prometheus/api/v1/query?query=up", "/alertmanager/api/v2/status"):
        # Both start slower than promgate, which says 502 until they listen.
        wait_for(partial(stack.answers_ok, path, basic("admin", password)), f"200 for {path}")
        assert stack.get(path).status == 401
        assert stack.get(path, basic("admin", password[:-1])).status == 401
        assert stack.get(path, bearer(token)).status == 403
    assert stack.get("/-/healthy").status == 200
    assert stack.push(token, "container_probe") == 204
    assert stack.push(token[:-1], "container_probe") == 401
    query = "/prometheus/api/v1/query?query=container_probe"
    answer = json.loads(stack.get(query, basic("admin", password)).body)
    assert len(answer["data"]["result"]) == 1, answer
    print("ok    right credential 200, none or a wrong one 401, a write token 403; a pushed sample is there")


def _check_networks(stack: Stack) -> None:
    inside, outside = f"{stack.project}_inside", f"{stack.project}_outside"
    parts = [f"{stack.address('prometheus', 'inside')}:9090", f"{stack.address('alertmanager', 'inside')}:9093"]
    for part in parts:
        assert stack.can_connect(inside, part), f"{part} cannot be reached from its own network"
        assert not stack.can_connect(outside, part), f"{part} can be reached from the outer network"
    # The probe does work out there: it reaches promgate.
    door = f"{stack.address('promgate', 'outside')}:9443"
    assert stack.can_connect(outside, door)
    assert not stack.can_connect(inside, door), "the inner network has a way out"
    published = {
        service: stack.engine.podman("port", stack.container(service))
        for service in ("promgate", "prometheus", "alertmanager")
    }
    assert published == {
        "promgate": f"9443/tcp -> 127.0.0.1:{stack.port}",
        "prometheus": "",
        "alertmanager": "",
    }, published
    print("ok    9090 and 9093: reached on the inner network, not from another; 9443 alone is published")


def _check_confinement(stack: Stack) -> None:
    status = dict(line.split(":\t", 1) for line in stack.inside("cat", "/proc/1/status").splitlines() if ":\t" in line)
    assert status["Uid"].split() == ["10001"] * 4
    assert int(status["CapEff"], 16) == int(status["CapBnd"], 16) == 0
    assert status["NoNewPrivs"] == "1"
    touch = stack.engine.run("podman", "exec", "--user=0", stack.container("promgate"), "touch", "/opt/promgate/x")
    assert "Read-only file system" in touch.stderr, touch
    # The same user, in the same container: what is in the server's memory and environment is not shown.
    environ = stack.engine.run("podman", "exec", stack.container("promgate"), "cat", "/proc/1/environ")
    assert "Permission denied" in environ.stderr, environ
    command = stack.inside("cat", "/proc/1/cmdline").split("\0")
    assert "serve" in command, f"process 1 is not the server: {command}"
    print("ok    uid 10001, no capability, no new privileges, root file system read-only, process 1 is the server")


def _check_files(stack: Stack, password: str, token: str) -> None:
    modes = json.loads(stack.inside("python", "-c", _LIST_STATE))
    made = {"admin.password", "users.htpasswd", "agent.token", "promgate.db"}
    made |= {f"certs/{name}" for name in ("ca.crt", "ca.key", "server.crt", "server.key")}
    assert made <= set(modes), modes
    wide = {name: mode for name, mode in modes.items() if name != "certs" and mode != "0o600"}
    assert not wide, wide
    assert modes["certs"] == "0o700"
    log = stack.log()
    assert f"{_STATE}/admin.password" in log
    assert f"{_STATE}/agent.token" in log
    hashed = stack.inside("cat", f"{_STATE}/users.htpasswd").partition(":")[2]
    secrets = [password, token, hashed]
    assert not any(secret in log for secret in secrets), "a secret is in the log"
    print(f"ok    what it makes is 0600 ({', '.join(sorted(set(modes) - {'certs'}))}); the log names paths alone")


def _check_rotation(stack: Stack, token: str) -> None:
    fresh = stack.inside("promgate", "token", "rotate", "agent")
    assert fresh != token
    assert [stack.push(each, "container_rotation") for each in (fresh, token)] == [204, 204]
    print("ok    a token rotated beside the server: new and old are taken")
    where = ("localhost", stack.port)
    old = ssl.get_server_certificate(where)
    stack.inside("promgate", "certs", "issue", "server", "--dns=localhost", f"--dir={_STATE}/certs", "--force")
    wait_for(lambda: ssl.get_server_certificate(where) != old, "the new certificate")
    assert stack.get("/-/healthy").status == 200
    assert "ok, 3 routes" in stack.inside("promgate", "check")
    print("ok    a certificate issued beside the server is served, and `promgate check` is content")


def _check_restart(stack: Stack, password: str, token: str) -> None:
    container = stack.container("promgate")
    sums = ("sh", "-c", f"cd {_STATE} && sha256sum admin.password users.htpasswd agent.token certs/*")
    before = stack.inside(*sums)
    began = time.monotonic()
    stack.engine.podman("stop", "--time=30", container)
    took_s = time.monotonic() - began
    state = stack.engine.inspect("container", container)["State"]
    assert state["ExitCode"] == 0, state
    print(f"ok    SIGTERM: exit code 0 after {took_s:.1f} s")
    stack.engine.podman("start", container)
    stack.wait_healthy()
    assert stack.inside(*sums) == before
    assert stack.get("/prometheus/api/v1/query?query=up", basic("admin", password)).status == 200
    assert stack.push(token, "container_restart") == 204
    print("ok    the second start keeps every secret")


def _check_killed_first_start(engine: Engine) -> None:
    """On empty volumes, the first start is killed, each time a little later; the next one completes it."""
    cut = 0
    for delay_ms in range(0, 240, 40):
        volume = f"promgate-test-{os.getpid()}-{delay_ms}"
        engine.podman("volume", "create", volume)
        try:
            cut += _kill_first_start(engine, volume, delay_ms / 1000)
        finally:
            engine.podman("volume", "rm", "--force", volume)
    assert cut, "every first start was quicker than its kill"
    print(f"ok    a first start killed at {cut} moments: the second completes it")


def _kill_first_start(engine: Engine, volume: str, delay_s: float) -> bool:
    """Whether the kill came in time."""
    config = f"--volume={ROOT / 'deploy/compose'}:/etc/promgate:ro"
    common = ("--network=none", "--read-only", config, f"--volume={volume}:{_STATE}", images.PROMGATE)
    words = ("init", "--dns=localhost", "--admin-password", "--write-token=agent")
    container = engine.podman("run", "--detach", *common, *words)
    time.sleep(delay_s)  # the moment is what is tried here: there is nothing to wait for
    engine.run("podman", "kill", "--signal=KILL", container)
    code = engine.podman("wait", container)
    engine.podman("rm", container)
    engine.podman("run", "--rm", *common, *words)
    listed = json.loads(engine.podman("run", "--rm", "--entrypoint=python", *common, "-c", _LIST_STATE))
    names = {name for name in listed if not name.startswith(_LEFT_OVER)}
    pairs = {f"certs/{name}.{end}" for name in ("ca", "server") for end in ("crt", "key")}
    assert names == pairs | {"certs", "promgate.db", "admin.password", "users.htpasswd", "agent.token"}, names
    return code == "137"


def _install_compose(engine: Engine) -> Path:
    """podman-compose in an environment of its own; kept for the next run."""
    venv = engine.place / _COMPOSE.replace("==", "-")
    program = venv / "bin" / "podman-compose"
    if not program.exists():
        engine.must(sys.executable, "-m", "venv", "--clear", venv)
        engine.must(venv / "bin" / "python", "-m", "pip", "--quiet", "install", _COMPOSE, timeout_s=300)
    return program
