"""JWTs through a running promgate: who signs what, and a key set that changes under way."""

from __future__ import annotations

import json
import os
import signal
import time
from typing import TYPE_CHECKING

import pytest

from tests.kit.fetch import Answer, bearer, fetch
from tests.kit.http_server import HttpServer, Reply
from tests.kit.promgate import Promgate, deliver, write_route
from tests.kit.wait import wait_for
from tests.login.issuer import Issuer, ec_key, jwk

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


@pytest.fixture
def receiver() -> Iterator[str]:
    with HttpServer(lambda _: Reply(204)) as server:
        yield server.base


def _times(ends_in_s: float) -> dict[str, float]:
    return {"iat": time.time() - 1000, "exp": time.time() + ends_in_s}


def test_signed_tokens_write(tmp_path: Path, receiver: str) -> None:
    issuer, keys = Issuer(), tmp_path / "keys.json"
    deliver(issuer.jwks(), keys)
    config = {
        "jwt": [{"issuer": "https://idp", "audience": "promgate", "jwks_file": str(keys)}],
        "routes": [{**write_route(receiver), "auth": ["write_token", "jwt"]}],
    }
    with Promgate(tmp_path / "promgate", config) as promgate:

        def write(token: bytes) -> Answer:
            headers = bearer(token.decode())
            return fetch(promgate.write_url, method="POST", body=b"x", headers=headers, ca_file=promgate.ca_file)

        good = issuer.token(claims={"scope": "write", **_times(300)})
        assert write(good).status == 204
        assert write(issuer.token(claims=_times(300))).status == 403
        held = write(issuer.token(claims={"scope": "write", **_times(-10)}))
        assert held.status == 503
        assert 5 <= int(held.headers["Retry-After"]) <= 30
        assert write(issuer.token(claims={"scope": "write", **_times(-600)})).status == 401
        assert write(issuer.token(key=ec_key("other"), claims={"scope": "write", **_times(300)})).status == 401

        issuer.keys = [jwk(ec_key("next"), kid="next")]
        deliver(issuer.jwks(), keys)
        claims = {"scope": "write", **_times(300)}
        assert write(issuer.token(key=ec_key("next"), header={"kid": "next"}, claims=claims)).status == 204
        assert write(issuer.token(claims={"scope": "write", **_times(301)})).status == 401
        line = promgate.wait_request(lambda line: line["status"] == 204, "a line of the access log")
        assert "jwt:carol" in json.dumps(line)
        assert good.decode() not in json.dumps(promgate.requests())


def test_a_reload_ends_the_trust_in_an_issuer(tmp_path: Path, receiver: str) -> None:
    issuer, keys = Issuer(), tmp_path / "keys.json"
    deliver(issuer.jwks(), keys)
    issuers = [{"issuer": "https://idp", "audience": "promgate", "jwks_file": str(keys)}]
    config = {"jwt": issuers, "routes": [{**write_route(receiver), "auth": ["write_token", "jwt"]}]}
    with Promgate(tmp_path / "promgate", config) as promgate:
        token = issuer.token(claims={"scope": "write", **_times(300)})

        def status() -> int:
            headers = bearer(token.decode())
            answer = fetch(promgate.write_url, method="POST", body=b"x", headers=headers, ca_file=promgate.ca_file)
            return answer.status

        assert status() == 204
        text = promgate.config_file.read_text()
        promgate.config_file.write_text(text.replace("https://idp", "https://another"))
        os.kill(promgate.pid, signal.SIGHUP)
        wait_for(lambda: status() == 401, "the reload")
