"""A volume is lost, and a store is made anew: the senders that it does not know keep their data while it is new."""

from __future__ import annotations

import json
import os
import re
import sqlite3
from contextlib import closing
from typing import TYPE_CHECKING

import pytest

from proxy.tokens.secret import mint
from proxy.tokens.token import TokenKind
from tests.kit.fetch import Answer, bearer, fetch
from tests.kit.http_server import HttpServer, Reply
from tests.kit.process import free_port
from tests.kit.promgate import WRITE_PATH, Promgate, run, token_id, write_route
from tests.kit.wait import wait_for

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = pytest.mark.real

#: What a sender still has from the store that was lost.
LOST = mint(TokenKind.WRITE, os.urandom).secret.reveal()


def _push(promgate: Promgate, secret: str) -> Answer:
    return fetch(promgate.write_url, method="POST", body=b"x", headers=bearer(secret), ca_file=promgate.ca_file)


def test_a_first_start_of_init_holds_the_senders_that_it_does_not_know(tmp_path: Path) -> None:
    telemetry = free_port()
    with HttpServer(lambda _: Reply(204)) as upstream:
        config = {"routes": [write_route(upstream.base)], "telemetry": {"listen": f"127.0.0.1:{telemetry}"}}
        promgate = Promgate(tmp_path, config)
        made = run("init", "--write-token=agent", f"--config.file={promgate.config_file}")
        assert made.returncode == 0, made.stderr
        with promgate:
            assert _push(promgate, (tmp_path / "agent.token").read_text().strip()).status == 204
            told = _push(promgate, LOST)
            assert (told.status, 5 <= int(told.headers["Retry-After"]) <= 30) == (503, True)
            assert b"made anew" in told.body
            assert _push(promgate, LOST[:-1]).status == 401
            promgate.wait_request(lambda line: line["reason"] == "store_new" and line["status"] == 503, "its line")
            page = fetch(f"http://127.0.0.1:{telemetry}/metrics").body.decode()
            (line,) = [line for line in page.splitlines() if 'reason="store_new"' in line]
            assert line.startswith("promgate_requests_total{")
            assert 'code="503"' in line
            assert "writers whose token it does not know are told 503" in promgate.log
            assert _explained(promgate, tmp_path) == "store_new"

            with closing(sqlite3.connect(tmp_path / "promgate.db", isolation_level=None)) as db:
                db.execute("UPDATE meta SET made_at = made_at - 3601")
            wait_for(lambda: _push(promgate, LOST).status == 401, "the grace to be over")
            assert _explained(promgate, tmp_path) == "bad_credential"


def _explained(promgate: Promgate, directory: Path) -> str:
    shown = directory / "lost.token"
    shown.touch(mode=0o600)
    shown.write_text(LOST)
    done = run(
        "explain", "-X", "POST", f"{promgate.base}{WRITE_PATH}", f"--credentials-file={shown}", "--output=json",
        f"--config.file={promgate.config_file}",
    )  # fmt: skip
    return str(json.loads(done.stdout)["reason"])


def test_what_was_revoked_stays_so_when_an_older_copy_is_put_back_under_a_running_server(tmp_path: Path) -> None:
    store, copy = tmp_path / "promgate.db", tmp_path / "copy.db"
    with HttpServer(lambda _: Reply(204)) as upstream:
        promgate = Promgate(tmp_path, {"routes": [write_route(upstream.base)], "audit": {"file": "audit.jsonl"}})
        with promgate:
            leaked, other = promgate.token("create", "leaked"), promgate.token("create", "other")
            _copy(store, copy)
            promgate.token("revoke", "leaked")
            later = promgate.token("create", "later")
            assert [_push(promgate, one).status for one in (leaked, other, later)] == [401, 204, 204]

            _copy(copy, store)
            # More changes than there were since the copy: by its number alone it would be the store that was known.
            for name in ("x", "y", "z"):
                run("token", "create", name, f"--config.file={promgate.config_file}")
            assert _push(promgate, leaked).status == 401
            done = run("token", "revoke", "other", f"--config.file={promgate.config_file}")
            assert "went back" in done.stderr
            assert [_push(promgate, one).status for one in (leaked, other, later)] == [401, 401, 204]
            wait_for(lambda: "revoked there again" in promgate.log, "the copy to be mended")
            assert "an older copy was put in its place" in promgate.log
            audit = (tmp_path / "audit.jsonl").read_text()
            assert audit.rindex('"revoked"') > audit.rindex('"minted"')
        with promgate:  # on the copy as it is now; what was minted after it is lost, and held
            assert [_push(promgate, one).status for one in (leaked, other, later)] == [401, 401, 503]

        _copy(copy, store)
        with promgate:  # which nobody saw: the ledger alone knows better
            wait_for(lambda: _push(promgate, later).status == 503, "what is lost to be held")
            lost, doubtful = f"{token_id(later)} of later", f"{token_id(leaked)} of leaked"
            assert re.search(rf"token store is not the one of before.*{lost}", promgate.log)
            assert re.search(rf"refused before and are accepted now.*{doubtful}", promgate.log)


def _copy(source: Path, target: Path) -> None:
    """As `sqlite3 TARGET '.restore SOURCE'` does: in place, whoever has it open."""
    with closing(sqlite3.connect(source)) as here, closing(sqlite3.connect(target)) as there:
        here.backup(there)
