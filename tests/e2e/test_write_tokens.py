"""Write tokens that the configuration lists: rotated by hand with no disk, and beside a store with its ledger."""

from __future__ import annotations

import json
import os
import signal
from hashlib import sha256
from typing import TYPE_CHECKING, Any

import pytest
import yaml

from proxy.tokens.secret import mint
from proxy.tokens.token import TokenKind
from tests.kit.fetch import Answer, bearer, fetch
from tests.kit.http_server import HttpServer, Reply
from tests.kit.process import free_port
from tests.kit.promgate import WRITE_PATH, Promgate, run, write_route
from tests.kit.wait import wait_for

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = pytest.mark.real

OLD, NEW, STRANGE = (mint(TokenKind.WRITE, os.urandom).secret.reveal() for _ in range(3))


def _digest(secret: str) -> str:
    return f"sha256:{sha256(secret.encode()).hexdigest()}"


def _id(secret: str) -> str:
    return _digest(secret)[:19]


def _push(promgate: Promgate, secret: str) -> Answer:
    return fetch(promgate.write_url, method="POST", body=b"x", headers=bearer(secret), ca_file=promgate.ca_file)


def _statuses(promgate: Promgate, *secrets: str) -> list[int]:
    return [_push(promgate, secret).status for secret in secrets]


def _write(promgate: Promgate, *listed: str, **more: Any) -> None:
    config = yaml.safe_load(promgate.config_file.read_text()) | {"write_tokens": {"agent": list(listed)}} | more
    fresh = promgate.config_file.with_suffix(".new")
    fresh.write_text(yaml.safe_dump(config))
    fresh.replace(promgate.config_file)


def _reload(promgate: Promgate, *listed: str) -> None:
    taken = promgate.log.count(" taken: ")
    _write(promgate, *listed)
    os.kill(promgate.pid, signal.SIGHUP)
    wait_for(lambda: promgate.log.count(" taken: ") > taken, "the reload")


def test_a_rotation_by_hand_with_no_disk(tmp_path: Path) -> None:
    with HttpServer(lambda _: Reply(204)) as upstream:
        promgate = Promgate(tmp_path, {"routes": [write_route(upstream.base)]})
        _write(promgate, _digest(OLD), tokens={"retry_grace": "1h"})
        with promgate:
            # No store could have been lost, so what nobody knows is wrong, and not held.
            assert _statuses(promgate, OLD, NEW, STRANGE) == [204, 401, 401]
            _reload(promgate, _digest(NEW), _digest(OLD))
            assert _statuses(promgate, OLD, NEW, STRANGE) == [204, 204, 401]
            _reload(promgate, _digest(NEW))
            told = _push(promgate, OLD)
            assert (told.status, 5 <= int(told.headers["Retry-After"]) <= 30) == (503, True)
            assert _statuses(promgate, NEW, STRANGE) == [204, 401]
            held = promgate.wait_request(lambda line: line["status"] == 503, "the line of the late sender")
            assert (held["reason"], held["identity"], held["token"]) == ("token_retired", "token:agent", _id(OLD))

            _write(promgate, NEW)  # pasted clear
            os.kill(promgate.pid, signal.SIGHUP)
            wait_for(lambda: "was not taken" in promgate.log, "the bad file to be refused")
            assert _statuses(promgate, NEW, OLD) == [204, 503]
            refused = run("check", f"--config.file={promgate.config_file}")
            assert "write_tokens.agent[0]: <secret> is not a digest" in refused.stderr
            _write(promgate, _digest(NEW))
            listed = run("token", "list", f"--config.file={promgate.config_file}")
            assert _id(NEW) in listed.stdout
        with promgate:  # a restart does not know what was taken away before
            assert _statuses(promgate, OLD, NEW) == [401, 204]
        said = promgate.log + json.dumps(promgate.requests()) + refused.stderr + refused.stdout + listed.stdout
    for secret in (OLD, NEW, STRANGE):
        assert secret not in said
        assert _digest(secret) not in said
    assert not list(tmp_path.glob("*.db*"))


def test_beside_a_store_the_ledger_knows_who_shows_them(tmp_path: Path) -> None:
    telemetry = free_port()
    with HttpServer(lambda _: Reply(204)) as upstream:
        config = {"routes": [write_route(upstream.base)], "telemetry": {"listen": f"127.0.0.1:{telemetry}"}}
        promgate = Promgate(tmp_path, config)
        _write(promgate, _digest(NEW), _digest(OLD))
        with promgate:
            # The store is empty, so it may have been lost: that is no matter of what the file lists.
            assert _statuses(promgate, OLD, NEW, STRANGE) == [204, 204, 503]
            status = json.loads(promgate.token("status", "agent", "--output=json"))
            assert (status["current"], status["senders"], status["verdict"]) == (_id(NEW), 1, "WAIT")
            stored = promgate.token("create", "agent")
            assert _statuses(promgate, stored, OLD, NEW) == [204] * 3
            page = fetch(f"http://127.0.0.1:{telemetry}/metrics").body.decode()
            assert 'promgate_tokens{kind="write",state="current"} 2.0' in page
            assert 'promgate_tokens{kind="write",state="previous"} 1.0' in page
            _reload(promgate, _digest(NEW))
            assert "write_tokens: agent has tokens in the store too" in promgate.log
            done = run("token", "revoke", "agent", f"--config.file={promgate.config_file}")
            assert (done.returncode, f"{_id(NEW)} of agent in write_tokens stays accepted" in done.stderr) == (1, True)
            assert _statuses(promgate, stored, OLD, NEW) == [401, 503, 204]
        before = len(promgate.log)
        with promgate:  # of a token that is not listed any more it does not say that a store has lost it
            assert _statuses(promgate, NEW) == [204]
            assert "not the one of before" not in promgate.log[before:]
        told = run(
            "explain", "--as=token:agent", "-X", "POST", f"{promgate.base}{WRITE_PATH}", "--output=json",
            f"--config.file={promgate.config_file}",
        )  # fmt: skip
        assert json.loads(told.stdout)["identity"] == "token:agent"
