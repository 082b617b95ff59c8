"""promgate started as an operator would: a config file, tokens made by the command, `python -m proxy serve`."""

from __future__ import annotations

import contextlib
import sqlite3
import subprocess
import sys
from dataclasses import dataclass
from typing import TYPE_CHECKING

from bench.process import SERVER_CORE, BenchError, free_port, running
from bench.servers import Server, Tokens
from bench.stage import HERE, fill

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from bench.stage import Stage

ROOT = HERE.parent
EXTRA_ROUTE = """\
  - name: team-{number:04d}
    path: /team-{number:04d}
    upstream: http://127.0.0.1:{upstream_port}
    auth: [bearer]
    allow: [viewer]
    rate_limit: {{rate: 1000000, interval: 1s, burst: 100000, by: ip}}
"""


PEOPLE = """\
  - {{name: people, path: /basic, upstream: "http://127.0.0.1:{upstream_port}", auth: [basic], allow: [viewer]}}
htpasswd_file: {htpasswd}
"""
#: Other people's tokens, as a restored backup would bring them; made one by one, 100,000 would take minutes of fsync.
OTHER_TOKENS = """
WITH RECURSIVE numbers(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM numbers WHERE n < :count)
INSERT INTO token (id, name, kind, digest, scheme, minted_at, current_from, generation)
SELECT printf('%08d', n), printf('sender-%06d', n), kind, randomblob(32), scheme, minted_at, current_from, generation
FROM token, numbers WHERE name = 'bench-write'
"""


@dataclass(frozen=True, slots=True)
class Promgate:
    """A promgate to start, from the checkout `root`; `other_tokens` and `routes`: what it has to know beside."""

    name: str = "promgate"
    root: Path = ROOT
    other_tokens: int = 0
    routes: int = 0
    #: Beside tokens, people with passwords, `u0000` and so on: below /basic.
    htpasswd: Path | None = None
    users: int = 0


@dataclass(frozen=True, slots=True)
class Prepared:
    """A promgate with config and store on disk, not started yet."""

    what: Promgate
    config: Path
    access_log: Path
    port: int
    tokens: Tokens


def prepare(what: Promgate, stage: Stage, upstream_port: int | None = None) -> Prepared:
    """Write the config, make the tokens."""
    place = stage.dir / what.name
    place.mkdir()
    config, access_log, port = place / "promgate.yml", place / "access.log", free_port()
    to_port = upstream_port or stage.upstream.port
    store = place / "promgate.db"
    values = {
        "port": port,
        "upstream_port": to_port,
        "cert": stage.cert,
        "key": stage.key,
        "store": store,
        "access_log": access_log,
        "audit": place / "audit.jsonl",
        "viewers": "".join(f", 'basic:u{number:04d}'" for number in range(what.users)),
    }
    extra = (EXTRA_ROUTE.format(number=number, upstream_port=to_port) for number in range(1, what.routes + 1))
    people = PEOPLE.format(upstream_port=to_port, htpasswd=what.htpasswd) if what.htpasswd else ""
    config.write_text(fill(HERE / "peers" / "promgate.yml.tmpl", values) + "".join(extra) + people)
    in_config = f"--config.file={config}"
    tokens = Tokens(
        read=command(what.root, "token", "create", "bench-read", "--kind", "reader", in_config).strip(),
        write=command(what.root, "token", "create", "bench-write", "--kind", "write", in_config).strip(),
    )
    if what.other_tokens:
        with contextlib.closing(sqlite3.connect(store)) as db, db:
            db.execute(OTHER_TOKENS, {"count": what.other_tokens})
    return Prepared(what, config, access_log, port, tokens)


@contextlib.contextmanager
def running_promgate(prepared: Prepared) -> Iterator[Server]:
    what, port = prepared.what, prepared.port
    start = [sys.executable, "-m", "proxy", "serve", f"--config.file={prepared.config}"]
    log = prepared.config.with_name("output.log")
    with running(what.name, start, log, core=SERVER_CORE, cwd=what.root) as child:
        child.await_port(port, timeout_s=60.0)
        url, version = f"https://127.0.0.1:{port}", git_version(what.root)
        yield Server(what.name, child, url, version, prepared.tokens, prepared.access_log, what.routes)


def command(root: Path, *arguments: str) -> str:
    """Run `promgate ARGUMENTS` of a checkout; its standard output."""
    line = [sys.executable, "-m", "proxy", *arguments]
    done = subprocess.run(line, cwd=root, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise BenchError(f"promgate {' '.join(arguments)} failed in {root}:\n{done.stderr}")
    return done.stdout


def git_version(root: Path) -> str:
    done = subprocess.run(
        ["git", "-C", str(root), "describe", "--always", "--dirty"], capture_output=True, text=True, check=False
    )
    return done.stdout.strip() or "no commit"
