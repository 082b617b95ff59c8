"""The place of one run: a temporary directory with a certificate, request bodies, and the upstream, all made now."""

from __future__ import annotations

import mmap
import random
import re
import ssl
import struct
import subprocess
import tempfile
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from bench.process import LOAD_CORE, BenchError, Child, free_port, running

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

HERE = Path(__file__).parent
DEBIAN_PACKAGES = "gcc libc6-dev openssl wrk nginx-light haproxy prometheus"
BODY_SIZES = {"8k": 8 << 10, "64k": 64 << 10, "200k": 200 << 10}


class Counters(NamedTuple):
    """What the upstream has seen so far: `struct counters` of upstream.c."""

    connections: int
    requests: int
    body_bytes: int
    answer_bytes: int


_COUNTERS = struct.Struct("=4Q")


class Upstream:
    """The running upstream: where it listens, and its counters."""

    def __init__(self, child: Child, port: int, counters: mmap.mmap) -> None:
        self.child = child
        self.port = port
        self._counters = counters

    def counters(self) -> Counters:
        return Counters(*_COUNTERS.unpack(self._counters[: _COUNTERS.size]))


@dataclass(frozen=True, slots=True)
class Stage:
    """Paths of one run. `cert` is self-signed for 127.0.0.1, so it is its own CA file as well."""

    dir: Path
    cert: Path
    key: Path
    cert_and_key: Path
    upstream: Upstream

    def body(self, size: str) -> Path:
        return self.dir / f"body-{size}"

    def client_context(self) -> ssl.SSLContext:
        context = ssl.create_default_context(cafile=str(self.cert))
        context.minimum_version = ssl.TLSVersion.TLSv1_3
        return context


@contextmanager
def open_stage() -> Iterator[Stage]:
    with tempfile.TemporaryDirectory(prefix="promgate-bench-") as name:
        place = Path(name)
        cert, key, both = place / "server.crt", place / "server.key", place / "server.pem"
        make_certificate(cert, key)
        both.write_bytes(cert.read_bytes() + key.read_bytes())
        chance = random.Random(0)  # snappy output looks like noise: nothing on the way may gain by compressing it
        for size, count in BODY_SIZES.items():
            (place / f"body-{size}").write_bytes(chance.randbytes(count))
        with _running_upstream(place) as upstream:
            yield Stage(place, cert, key, both, upstream)


def make_certificate(cert: Path, key: Path) -> None:
    run(
        "openssl",
        "req",
        "-x509",
        "-newkey",
        "ec",
        "-pkeyopt",
        "ec_paramgen_curve:P-256",
        "-nodes",
        "-days",
        "2",
        "-subj",
        "/CN=bench",
        "-addext",
        "subjectAltName=IP:127.0.0.1",
        "-keyout",
        key,
        "-out",
        cert,
    )
    key.chmod(0o600)


@contextmanager
def _running_upstream(place: Path) -> Iterator[Upstream]:
    binary, counters = place / "upstream", place / "counters"
    run("cc", "-O2", "-o", binary, HERE / "upstream.c")
    counters.write_bytes(bytes(_COUNTERS.size))
    port = free_port()
    with (
        counters.open("r+b") as file,
        mmap.mmap(file.fileno(), _COUNTERS.size, access=mmap.ACCESS_READ) as mapped,
        running("upstream", [binary, str(port), counters], place / "upstream.log", core=LOAD_CORE) as child,
    ):
        child.await_port(port)
        yield Upstream(child, port, mapped)


def fill(template: Path, values: Mapping[str, object]) -> str:
    """Put `values` in place of every @name@ of a template."""
    return re.sub(r"@(\w+)@", lambda match: str(values[match[1]]), template.read_text())


def run(*command: str | Path) -> str:
    """Run a short command to its end; its standard output."""
    try:
        done = subprocess.run(list(map(str, command)), capture_output=True, text=True, check=False)
    except FileNotFoundError as error:
        raise BenchError(f"{command[0]} is not installed; the bench needs: {DEBIAN_PACKAGES}") from error
    if done.returncode != 0:
        raise BenchError(f"{' '.join(map(str, command))} failed:\n{done.stdout}{done.stderr}")
    return done.stdout
