"""A machine whose clock is wrong until NTP has set it, under a promgate that was started before."""

from __future__ import annotations

import sys
import time
from typing import TYPE_CHECKING

from tests.kit.fetch import bearer, fetch
from tests.kit.http_server import HttpServer, Reply
from tests.kit.promgate import Promgate, deliver, write_route
from tests.kit.wait import wait_for
from tests.login.issuer import Issuer

if TYPE_CHECKING:
    from pathlib import Path

#: promgate on a machine that is off by as many seconds as a file says.
RUN = """
import sys, time
real, off = time.time, sys.argv.pop(1)
time.time = lambda: real() + float(open(off).read())
from proxy.cli import main
raise SystemExit(main())
"""
YEAR_S = 365 * 86400.0


def test_tokens_of_others_are_judged_by_the_clock_that_was_set_right(tmp_path: Path) -> None:
    issuer, keys, off = Issuer(), tmp_path / "keys.json", tmp_path / "off"
    deliver(issuer.jwks(), keys)
    off.write_text(str(-YEAR_S))
    with HttpServer(lambda _: Reply(204)) as receiver:
        config = {
            "jwt": [{"issuer": "https://idp", "audience": "promgate", "jwks_file": str(keys)}],
            "routes": [{**write_route(receiver.base), "auth": ["write_token", "jwt"]}],
        }
        promgate = Promgate(tmp_path / "promgate", config)
        promgate.command[:3] = [sys.executable, "-c", RUN, str(off)]
        own = promgate.token("create", "agent")

        def write(token: str) -> int:
            headers = bearer(token)
            return fetch(
                promgate.write_url, method="POST", body=b"x", headers=headers, ca_file=promgate.ca_file
            ).status

        def signed(from_s: float, to_s: float) -> str:
            claims = {"scope": "write", "iat": time.time() + from_s, "exp": time.time() + to_s}
            return issuer.token(claims=claims).decode()

        with promgate:
            assert write(own) == 204
            assert write(signed(-10, 600)) == 401, "it comes from the future"
            assert write(signed(-YEAR_S - 10, -YEAR_S + 600)) == 204
            off.write_text("0")
            wait_for(lambda: write(signed(-10, 600)) == 204, "the clock that was set right")
            assert write(signed(-YEAR_S - 10, -YEAR_S + 601)) == 401
            assert write(own) == 204
