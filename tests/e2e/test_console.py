"""The control plane through the gate: who sees it, by which listener, and what a reload by HTTP answers."""

from __future__ import annotations

import base64
from pathlib import Path
from typing import TYPE_CHECKING, Any

import bcrypt
import pytest
import yaml

from tests.kit.fetch import Answer, bearer, fetch
from tests.kit.process import free_port
from tests.kit.promgate import Promgate
from tests.kit.wait import wait_for

if TYPE_CHECKING:
    from collections.abc import Mapping

ROUTE = {"name": "all", "path": "/", "upstream": "http://127.0.0.1:1", "auth": "basic", "allow": "viewer"}
USERS = {user: bcrypt.hashpw(user.encode(), bcrypt.gensalt(4)).decode() for user in ("ann", "root", "Zoë <b>")}


def config(**changes: Any) -> dict[str, Any]:
    roles = {"viewer": ["basic:ann", "token:reader", "basic:Zoë <b>"], "admin": ["basic:root"]}
    return {"basic_auth_users": USERS, "roles": roles, "routes": [ROUTE], "console": {}, **changes}


def basic(user: str) -> dict[str, str]:
    return {"Authorization": "Basic " + base64.b64encode(f"{user}:{user}".encode()).decode()}


def ask(promgate: Promgate, path: str, headers: Mapping[str, str], method: str = "GET", base: str = "") -> Answer:
    return fetch((base or promgate.base) + path, method=method, headers=headers, ca_file=promgate.ca_file)


def test_the_console_is_a_route_like_any_other(tmp_path: Path) -> None:
    with Promgate(tmp_path, config()) as promgate:
        promgate.token("create", "sender")
        reader = promgate.token("create", "reader", "--kind=reader")
        root = ask(promgate, "/-/console", basic("root"))
        assert (root.status, root.headers["Content-Type"]) == (200, "text/html; charset=utf-8")
        assert "default-src 'none'" in root.headers["Content-Security-Policy"]
        assert (root.headers["Cache-Control"], root.headers["Server"]) == ("no-store", None)
        assert b"sender" in root.body
        assert ask(promgate, "/-/console/style.css", basic("ann")).status == 200

        spoofed = {"X-Promgate-Identity": "basic:root", "X-Promgate-Roles": "admin", "X-Promgate-Way": "jwt"}
        ann = ask(promgate, "/-/console", {**basic("ann"), **spoofed})
        assert (ann.status, b"basic:ann" in ann.body, b"admin" in ann.body) == (200, True, False)
        assert b"sender" not in ann.body, "names of tokens are for admins"
        assert b"Zo\xc3\xab &lt;b&gt;" in ask(promgate, "/-/console", basic("Zoë <b>")).body
        assert b"token:reader" in ask(promgate, "/-/console", bearer(reader)).body

        assert ask(promgate, "/-/console", {}).status == 401
        assert ask(promgate, "/-/console", basic("ann"), "POST").status == 405
        assert ask(promgate, "/-/api/v1/tokens", basic("ann")).status == 403
        assert ask(promgate, "/-/consoleX", basic("ann")).status == 502, "the route of the file, whose upstream is away"
        assert ask(promgate, "/-/reload", basic("root"), "POST").status == 403, "closed, as on every route"
        logged = promgate.wait_request(lambda line: line["path"] == "/-/console" and line["status"] == 200, "the page")
        assert (logged["route"], logged["identity"]) == ("promgate:console", "basic:root")


def test_a_listener_of_its_own(tmp_path: Path) -> None:
    port = free_port()
    with Promgate(tmp_path, config(console={"listen": f"127.0.0.1:{port}"}, control_prefix="/ops")) as promgate:
        base = f"https://127.0.0.1:{port}"
        assert ask(promgate, "/ops/console", basic("ann"), base=base).status == 200
        assert ask(promgate, "/ops/console", {}, base=base).status == 401
        assert ask(promgate, "/graph", basic("ann"), base=base).status == 404, "no route of the file is there"
        assert ask(promgate, "/ops/console", basic("ann")).status == 502, "and not on the public one"


@pytest.mark.parametrize("console", [{}, {"console": {"enabled": False}}])
def test_where_there_is_none_nothing_of_it_is_loaded(tmp_path: Path, console: dict[str, Any]) -> None:
    written = {key: value for key, value in config().items() if key != "console"} | console
    with Promgate(tmp_path, written) as promgate:
        assert ask(promgate, "/-/console", basic("ann")).status == 502, "the route of the file, whose upstream is away"
        maps = Path(f"/proc/{promgate.pid}/maps").read_text()
        assert "aiohttp" not in maps


def test_a_reload_by_http(tmp_path: Path) -> None:
    port = free_port()
    changes = {"telemetry": {"listen": f"127.0.0.1:{port}"}, "reload": {"http": True}}
    with Promgate(tmp_path, config(**changes)) as promgate:
        telemetry = f"http://127.0.0.1:{port}"
        written = yaml.safe_load(promgate.config_file.read_text())
        more = {**written["roles"], "admin": ["basic:root", "basic:ann"]}
        promgate.config_file.write_text(yaml.safe_dump({**written, "roles": more}))
        assert fetch(f"{telemetry}/-/reload", method="POST").body == b"reloaded\n"
        assert ask(promgate, "/-/reload", basic("ann"), "POST").body == b"reloaded\n"

        promgate.config_file.write_text(yaml.safe_dump({**written, "swizzle": 1}))
        for answer in (fetch(f"{telemetry}/-/reload", method="POST"), ask(promgate, "/-/reload", basic("root"), "PUT")):
            assert answer.status == 500
            assert b"swizzle: unknown key" in answer.body
        assert ask(promgate, "/-/console", basic("ann")).status == 200, "the last good one serves"
        assert b"promgate_config_last_reload_successful 0" in fetch(f"{telemetry}/metrics").body

        assert fetch(f"{telemetry}/-/reload", method="POST", headers={"Origin": "https://evil"}).status == 403
        assert ask(promgate, "/-/reload", {**basic("root"), "Origin": "https://evil"}, "POST").status == 403
        assert ask(promgate, "/-/reload", {**basic("root"), "Sec-Fetch-Site": "cross-site"}, "POST").status == 403
        assert fetch(f"{telemetry}/-/reload").status == 404


def test_a_reload_leaves_it_where_it_answers(tmp_path: Path) -> None:
    port, own = free_port(), free_port()
    with Promgate(tmp_path, config(telemetry={"listen": f"127.0.0.1:{port}"}, reload={"http": True})) as promgate:
        telemetry = f"http://127.0.0.1:{port}"
        written = yaml.safe_load(promgate.config_file.read_text())

        def reload(**changes: Any) -> str:
            before = len(promgate.log)
            promgate.config_file.write_text(yaml.safe_dump({**written, **changes}))
            assert fetch(f"{telemetry}/-/reload", method="POST").body == b"reloaded\n"
            wait_for(lambda: "routes" in promgate.log[before:], "the word on it")
            return promgate.log[before:]

        assert "; control_prefix: not before a restart" in reload(control_prefix="/ops")
        assert ask(promgate, "/-/console", basic("ann")).status == 200
        assert "; console.listen: not before a restart" in reload(console={"listen": f"127.0.0.1:{own}"})
        assert ask(promgate, "/-/console", basic("ann")).status == 200
        assert "not before" not in reload()
        reload(reload={"http": False})
        assert fetch(f"{telemetry}/-/reload", method="POST").status == 404
        assert ask(promgate, "/-/reload", basic("root"), "POST").status == 403, "closed, as on every route"


def test_a_reload_by_http_is_off_unless_it_is_asked_for(tmp_path: Path) -> None:
    port = free_port()
    with Promgate(tmp_path, config(telemetry={"listen": f"127.0.0.1:{port}"})) as promgate:
        assert fetch(f"http://127.0.0.1:{port}/-/reload", method="POST").status == 404
        assert ask(promgate, "/-/reload", basic("root"), "POST").status == 403
