"""The promgate that is attacked: plain TCP on the loopback, short deadlines, a recorder behind every route."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any, NamedTuple

import yaml

from tests.kit.process import Process, accepts, free_port
from tests.kit.promgate import COMMAND, environment, run

if TYPE_CHECKING:
    from pathlib import Path

    from tests.attacks.recorder import Recorder

LINGER_S = 1.0
HEADER_S = 1.5
BODY_S = 1.5
RESPONSE_S = 2.0
_NO_LIMIT = {"rate": 1_000_000, "interval": "1s", "burst": 1_000_000}
_SECRET = "$2b$04$eWs7cR1KBuDnAb/ky88J0uwcpvuZ2TYAklUWZBnCiiqcb2s/1a9nG"  # of the password `secret`
#: Those who can log in with a password; bob has no role, `long` has one of 72 times `a`.
USERS = {
    "ann": _SECRET,
    "bob": _SECRET,
    "an,na": _SECRET,
    "an na": _SECRET,
    "\u00e4nn": _SECRET,
    "long": "$2b$04$8aKDB.5HBV4nVYKASfnR0OpwDCZ/AbG3zVuRDKBHJFPfxLm1bjftq",
}
_DEFECT = re.compile(r"Traceback|level=error|Task exception|never retrieved|never awaited|Fatal error", re.IGNORECASE)


def route(name: str, path: str, upstream: str | dict[str, Any], **more: Any) -> dict[str, Any]:
    """One route to an upstream, by its URL or its section; open to anyone unless `more` says otherwise."""
    return {"name": name, "path": path, "upstream": upstream, "auth": ["none"], "allow": ["anyone"], **more}


def write_route(path: str, upstream: str) -> dict[str, Any]:
    return route(
        "write", path, upstream, methods=["POST"], kind="remote_write", auth=["write_token"], allow=["write"]
    )


def open_routes(recorder: Recorder) -> list[dict[str, Any]]:
    """All paths lead to the recorder; `/private` wants a password, `/write` a token."""
    here = recorder.url
    return [
        write_route("/write", here),
        route("private", "/private", here, auth=["basic"], allow=["admin"]),
        route("small", "/small", here, max_body_bytes="64KB"),
        route("read", "/", here),
    ]


def strict_routes(recorder: Recorder) -> list[dict[str, Any]]:
    """Only what lies below two prefixes leads anywhere."""
    here = recorder.url
    return [
        write_route("/prometheus/api/v1/write", here),
        route("prometheus", "/prometheus", here),
        route("probe", "/probe", here),
    ]


def guarded_routes(recorder: Recorder) -> list[dict[str, Any]]:
    """Behind each of these, one way of saying who may do what, from where, and who it is."""
    here = recorder.url
    viewer = {"auth": ["basic"], "allow": ["viewer"]}
    tenant = {"tenant_header": "X-Scope-OrgID"}
    snapshot = "/api/v1/admin/tsdb/snapshot"
    return [
        write_route("/prometheus/api/v1/write", here),
        route("prometheus", "/prometheus", here, exempt=["/-/ready"], **viewer),
        route("labels", "/labels", here, auth=["basic"], allow=[{"role": "viewer", "path": "/api/v1/label"}]),
        route("snapshots", "/snapshots", here, auth=["basic"], allow=["admin"], unblock=[snapshot]),
        route("near", "/near", here, allow_from=["127.0.0.0/8"]),
        route("far", "/far", here, allow_from=["10.0.0.0/8", "::1"]),
        route("denied", "/denied", here, deny_from=["127.0.0.1"], **viewer),
        route("told", "/told", here, identity_headers=True, **viewer),
        route("tenant", "/tenant", here, **tenant, **viewer),
        route("live", "/live", here, websocket=True),
        route("probe", "/probe", here),
    ]


def proxied_routes(recorder: Recorder) -> list[dict[str, Any]]:
    """What is for one client, and for the proxy by which it comes."""
    here = recorder.url
    near = route("near", "/near", here, allow_from=["10.0.0.9", "127.0.0.1"])
    return [near, route("probe", "/probe", here)]


def stripped_routes(recorder: Recorder) -> list[dict[str, Any]]:
    """Routes of every kind that take their prefix off, so that the upstream sees the same as on a plain one."""
    here = recorder.upstream
    pushed = {"kind": "remote_write", "methods": ["GET", "HEAD", "POST"]}
    return [
        route("stripped", "/stripped", here, strip_prefix=True),
        route("pushed", "/pushed", here, strip_prefix=True, **pushed),
        route("talking", "/talking", here, strip_prefix=True, websocket=True),
        route("probe", "/probe", here),
    ]


class Relay(Process):
    """`promgate serve` with `routes`; `complaints()` is what its log says that a served attack must not cause."""

    def __init__(self, directory: Path, routes: list[dict[str, Any]], **more: Any) -> None:
        self.port = free_port()
        self.address = ("127.0.0.1", self.port)
        self.config_file = directory / "promgate.yml"
        password_hash = "$2b$04$T7JQp8uCzzVGa4ECmiYFVunK3ZLYMkxa0BBzkdUnlmX8VJcQcn1fC"  # nobody logs in here
        config = {
            "version": 1,
            "listen": [f"127.0.0.1:{self.port}"],
            "basic_auth_users": {"admin": password_hash, **USERS},
            "roles": {"admin": ["basic:admin"], "viewer": [f"basic:{user}" for user in USERS if user != "bob"]},
            "tenants": {"basic:ann": "team-a"},
            "tokens": {"store": "sqlite:///promgate.db"},
            "timeouts": {
                "header": f"{HEADER_S * 1000:.0f}ms",
                "idle": "20s",
                "body": f"{BODY_S * 1000:.0f}ms",
                "connect": "700ms",
                "response": f"{RESPONSE_S * 1000:.0f}ms",
                "linger": f"{LINGER_S * 1000:.0f}ms",
                "stream": "3s",
                "drain": "1s",
            },
            "limits": {"guesses": _NO_LIMIT, "guesses_per_user": _NO_LIMIT},
            "access_log": {"file": "access.log"},
            "routes": routes,
            **more,
        }
        self.config_file.write_text(yaml.safe_dump(config))
        self._judged = 0
        super().__init__(
            [*COMMAND, "serve", f"--config.file={self.config_file}"],
            directory / "promgate.log",
            lambda: accepts(self.port),
            env=environment(),
        )

    def token(self) -> str:
        """A write token of its own making."""
        done = run("token", "create", "attacker", f"--config.file={self.config_file}")
        assert done.returncode == 0, done.stderr
        return done.stdout.strip()

    def complaints(self) -> str:
        """What the log has gained since the last look, if it tells of a defect; it is empty or the test fails."""
        log = self.log
        gained, self._judged = log[self._judged :], len(log)
        if not self.running:
            return f"the server has ended\n{gained}"
        return gained if _DEFECT.search(gained) else ""


class Target(NamedTuple):
    """A relay, what stands behind it, and a token that opens its write route; a good connection begins with `hello`."""

    relay: Relay
    recorder: Recorder
    token: str
    hello: bytes = b""
