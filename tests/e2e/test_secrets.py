"""No secret in anything that promgate says, whatever it was shown, and no client writes a line of a log of its own.

A whole stack is used with every kind of credential: right, wrong, retired, malformed, in the wrong field. Then all
that came out of it is searched for each of them: whole, by halves, and in base64 at each alignment.
"""

from __future__ import annotations

import base64
import http.client
import json
import os
import re
import secrets
import signal
import socket
import ssl
import subprocess
import time
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import bcrypt
import pytest

from tests.kit.fetch import fetch
from tests.kit.http_server import HttpServer, Reply, Request
from tests.kit.needles import Output, given_away, needles
from tests.kit.process import free_port
from tests.kit.promgate import COMMAND, WRITE_PATH, Promgate, deliver, environment, write_route
from tests.kit.wait import wait_for
from tests.kit.warm_cli import WarmCli
from tests.login.issuer import Issuer, ec_key

if TYPE_CHECKING:
    from collections.abc import Iterator

READ_PATH = "/prometheus/api/v1/query"
NO_LIMIT = {"rate": 1_000_000, "interval": "1s", "burst": 1_000_000}
#: What would break out of a line, colour a terminal, or end a line for some readers only.
HOSTILE = 'x\r\nts=0 level=error msg="injected"\n{"injected"}\x1b[31m\u2028\u2029\x85\x07\t"'
#: As far as a user's name may go.
ODD_USER = 'x" level=error injected="\\\u65e5'


class Stage:
    """promgate with each way in, an upstream that keeps what it was told, and all that came out of either."""

    def __init__(self, directory: Path, upstream: HttpServer, warm: WarmCli, log_format: str) -> None:
        self.directory = directory
        self.warm = warm
        self.outputs: list[Output] = []
        self.telemetry = free_port()
        self.password, self.wrong = secrets.token_urlsafe(24), secrets.token_urlsafe(24)
        hashed = bcrypt.hashpw(self.password.encode(), bcrypt.gensalt(4)).decode()
        self._issuer = Issuer()
        deliver(self._issuer.jwks(), directory / "keys.json")
        read = {
            "name": "read",
            "path": "/prometheus",
            "upstream": upstream.base,
            "auth": ["basic", "bearer", "jwt"],
            "allow": ["viewer"],
            "identity_headers": True,
        }
        write = {**write_route(upstream.base), "auth": ["write_token", "bearer", "jwt"]}
        self.promgate = Promgate(
            directory / "promgate",
            {
                "basic_auth_users": {"ann": hashed, ODD_USER: hashed},
                "roles": {"viewer": ["basic:ann", "token:reader", "jwt:carol"]},
                "tokens": {"overlap_period": "1ms"},
                "jwt": [{"issuer": "https://idp", "audience": "promgate", "jwks_file": str(directory / "keys.json")}],
                "telemetry": {"listen": f"127.0.0.1:{self.telemetry}"},
                "access_log": {"file": "access.log", "format": log_format},
                "audit": {"file": "audit.jsonl"},
                "limits": {"guesses": NO_LIMIT, "guesses_per_user": NO_LIMIT},
                "routes": [write, read],
            },
        )
        self._trust = ssl.create_default_context(cafile=str(self.promgate.ca_file))
        self.promgate.command += ["--log.level=debug", f"--log.format={log_format}"]

    def jwt(self, ends_in_s: float = 300, **more: Any) -> str:
        key, now = more.pop("key", None), time.time()
        claims = {"iat": now - 1000, "exp": now + ends_in_s, "scope": "write", "jti": secrets.token_hex(8), **more}
        return self._issuer.token(key=key, claims=claims).decode()

    def mint(self) -> dict[str, str]:
        """A secret of each kind -> what is known of it."""
        write, reader = self.cli_secret("create", "agent"), self.cli_secret("create", "reader", "--kind=reader")
        leaked, gone = self.cli_secret("create", "leaked"), self.cli_secret("create", "old")
        fresh = self.cli_secret("rotate", "old")
        self.cli("token", "revoke", "leaked")
        unknown = write[:-8] + "".join(reversed(write[-8:]))
        return {
            "password": self.password,
            "wrong password": self.wrong,
            "write token": write,
            "reader token": reader,
            "revoked token": leaked,
            "retired token": gone,
            "new token": fresh,
            "mistyped token": unknown,
            "jwt": self.jwt(),
            "expired jwt": self.jwt(-10),
            "forged jwt": self.jwt(key=ec_key("another")),
        }

    def cli_secret(self, *words: str) -> str:
        """A minted token; what came beside it is an output."""
        done = self.warm.run("token", *words, f"--config.file={self.promgate.config_file}")
        assert done.returncode == 0, done.stderr
        self.keep(f"stderr of token {words[0]}", done.stderr)
        return done.stdout.strip()

    def cli(self, *words: str) -> None:
        """A command that should tell no secret, whatever it ends with."""
        done = self.warm.run(*words, f"--config.file={self.promgate.config_file}")
        self.keep(f"promgate {' '.join(words[:2])}", done.stdout + done.stderr)

    def keep(self, where: str, text: str | bytes) -> None:
        self.outputs.append(Output(where, text.encode() if isinstance(text, str) else text))

    def send(self, request: bytes) -> None:
        """The bytes on a connection of their own; the answer is an output."""
        with (
            socket.create_connection(("127.0.0.1", self.promgate.port), timeout=20) as plain,
            self._trust.wrap_socket(plain, server_hostname="localhost") as connection,
        ):
            connection.sendall(request)
            answer = http.client.HTTPResponse(connection)
            answer.begin()
            text = f"{answer.status} {answer.reason}\n{answer.headers}\n".encode() + answer.read()
        self.keep("an answer to " + request.decode("latin-1").partition(" HTTP")[0], text)


def fields(secret: str) -> Iterator[bytes]:
    """Field lines in which somebody may show it, lawful and not."""
    bare = secret.encode()
    pairs = (b"ann:" + bare, bare, bare + b":", bare + b":" + bare, b"ann:" + bare + b"\0", b"ann:\xff" + bare)
    yield from (b"Authorization: " + scheme + bare for scheme in (b"Bearer ", b"bearer  ", b"Token ", b"", b"Basic "))
    yield from (b"Authorization: Basic " + base64.b64encode(pair) for pair in pairs)
    yield b"Authorization: Basic " + base64.b64encode(pairs[0]) + b"!!"
    yield b"Authorization: Bearer " + bare + b" " + bare
    yield b"Authorization: Bearer " + bare + b"x" * 5000
    yield b"Authorization: Bearer " + bare + b"\x01"
    yield b"Authorization: Bearer " + bare + b"\r\nAuthorization: Bearer " + bare
    yield b"Authorization : Bearer " + bare
    yield b"Authorization: Bearer\r\n " + bare
    yield b"Authorization_: Bearer " + bare
    yield b"Proxy-Authorization: Bearer " + bare
    yield b"Authorization: Bearer " + bare + b"\r\nContent-Length: many"
    yield b"Authorization: Bearer " + bare + b"\r\nno colon"


def requests(secret: str) -> Iterator[bytes]:
    for number, line in enumerate(fields(secret)):
        elsewhere = () if number else ("GET /nowhere", "BREW /prometheus/-/quit")
        for top in (f"GET {READ_PATH}?query=up", f"POST {WRITE_PATH}", *elsewhere):
            yield f"{top} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n".encode() + line + b"\r\n\r\n"


def bad_configs(good: str, secret: str) -> Iterator[str]:
    """What somebody writes who takes a secret for something else."""
    yield good + f"\npassword: {secret}\n"
    yield good.replace("basic_auth_users:", f"basic_auth_users:\n  bob: {secret}", 1)
    yield good.replace("basic_auth_users:", f"basic_auth_users: [{secret}]\nx:", 1)
    yield re.sub(r"upstream: http://", f"upstream: http://ann:{secret}@", good, count=1)
    yield good + f"\nhtpasswd: 'ann:{secret}'\n"
    yield good + f"\n{json.dumps(HOSTILE)}: {secret}\n"


@pytest.mark.parametrize("log_format", ["logfmt", "json"])
def test_no_secret_comes_out(tmp_path: Path, log_format: str) -> None:
    told: list[Request] = []

    def answer(request: Request) -> Reply:
        told.append(request)
        return Reply(body=b"ok")

    with HttpServer(answer) as upstream, WarmCli() as warm:
        stage = Stage(tmp_path, upstream, warm, log_format)
        with stage.promgate:
            known = stage.mint()
            for secret in known.values():
                for request in requests(secret):
                    stage.send(request)
            _command(stage, known)
            _reload(stage)
            for path in ("/metrics", "/-/ready", "/-/healthy", "/nowhere"):
                stage.keep(f"telemetry {path}", fetch(f"http://127.0.0.1:{stage.telemetry}{path}").body)
            proc = Path(f"/proc/{stage.promgate.pid}")
            stage.keep("argv", (proc / "cmdline").read_bytes())
            assert re.search(r"^Max core file size +0 +0 ", (proc / "limits").read_text(), re.MULTILINE)
            _inject(stage)
    assert {request.headers["X-Promgate-Identity"] for request in told} >= {"basic:ann", "token:reader", "jwt:carol"}
    stage.keep("the upstream", "\n".join(f"{one.path}\n{one.headers}" for one in told))
    for file in (tmp_path / "promgate").rglob("*"):
        if file.is_file() and file.suffix not in {".yml", ".key"}:
            stage.keep(file.name, file.read_bytes())
    _search(stage, known)
    _look_at_the_lines(stage, log_format)


def _command(stage: Stage, known: dict[str, str]) -> None:
    """Every command that is given a secret, or knows of one."""
    file = stage.directory / "shown"
    for secret in known.values():
        deliver(secret, file)
        for url in (stage.promgate.base + READ_PATH, stage.promgate.base + WRITE_PATH):
            stage.cli("explain", f"--credentials-file={file}", url)
            stage.cli("explain", "--user=ann", f"--password-file={file}", url)
    stage.cli("check")
    for words in (["list"], ["list", "--output=json"], ["show", "agent"], ["show", "agent", "--output=json"]):
        stage.cli("token", *words)
    stage.cli("token", "rotate", "nobody")
    for given in (stage.password, stage.password * 9):
        command = [*COMMAND, "hash-password"]
        done = subprocess.run(command, input=given, capture_output=True, text=True, env=environment())
        stage.keep("hash-password", done.stdout + done.stderr)


def _reload(stage: Stage) -> None:
    """Bad configurations with the password in them: refused by the command, and by the server when it reads them."""
    good = stage.promgate.config_file.read_text()
    for number, bad in enumerate(bad_configs(good, stage.wrong), 1):
        stage.promgate.config_file.write_text(bad)
        stage.cli("check")
        assert b"ok, " not in stage.outputs[-1].text, bad
        os.kill(stage.promgate.pid, signal.SIGHUP)
        wait_for(partial(_refused, stage.promgate, number), "the refusal")
    stage.promgate.config_file.write_text(good)


def _refused(promgate: Promgate, times: int) -> bool:
    return promgate.log.count("was not taken") >= times


def _inject(stage: Stage) -> None:
    """X3: in a user name, in a subject, in a path and in the name of an agent."""
    pairs = [f"{user}:{stage.password}".encode() for user in (HOSTILE, ODD_USER)]
    lines = [b"Authorization: Basic " + base64.b64encode(pair) for pair in pairs]
    hostile = "".join(f"%{byte:02x}" for byte in HOSTILE.encode())
    subject = stage.jwt(sub=f"carol{HOSTILE}").encode()
    agent = HOSTILE.replace("\r", "").replace("\n", "").replace("\x1b", "").replace("\x07", "").encode()
    for line in (*lines, b"Authorization: Bearer " + subject, b"User-Agent: " + agent):
        for path in (READ_PATH, WRITE_PATH, f"{READ_PATH}?{hostile}", f"/prometheus/{hostile}", "/%e2%80%a8%1b%5b"):
            head = f"POST {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n".encode()
            stage.send(head + line + b"\r\n\r\n")


def _search(stage: Stage, known: dict[str, str]) -> None:
    """Every output for every spelling of every secret."""
    assert len(stage.outputs) > 500
    searched = {one.where for one in stage.outputs}
    assert {"promgate.log", "access.log", "audit.jsonl", "promgate.db", "telemetry /metrics"} <= searched
    assert given_away(known, stage.outputs) == set()


def _look_at_the_lines(stage: Stage, log_format: str) -> None:
    """Each line is one of ours, in plain printable ASCII; the user whose name wants to be a line stands within one."""
    access = (stage.directory / "promgate" / "access.log").read_bytes()
    process = stage.promgate.log.encode()
    for line in (access + process).decode("ascii").rstrip("\n").split("\n"):
        assert line.isprintable(), line
        if log_format == "json" and not line.startswith("warning: "):
            assert "injected" not in json.loads(line), line
        else:
            assert line.startswith(("ts=20", "warning: ")), line
    assert rb'"basic:x\" level=error injected=\"\\' in access


def test_the_search_finds_what_is_there() -> None:
    """A test of the test: each spelling that somebody could slip in is found."""
    secret, token = "correct-horse-battery", "pgw_AbCdEfGh_" + "s3cret" * 8
    for hidden in (secret, secret[:10], secret[10:], *(f"{user}:{secret}" for user in ("", "a", "an", "ann"))):
        written = hidden if ":" not in hidden else base64.b64encode(hidden.encode()).decode()
        assert any(needle in f"level=info {written} more".encode() for needle in needles(secret)), hidden
    assert not any(needle in b"token=AbCdEfGh" for needle in needles(token))
    assert any(needle in token.encode() for needle in needles(token))
