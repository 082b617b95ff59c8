"""No secret in anything that promgate says, of those that it gets from others or shows them.

What people's logins bring (session, state, code, refresh, access and ID tokens), what promgate shows providers and
upstreams, the key of a webhook, the canary's password, and what the admin API is told in bodies: all of it is used,
rightly and wrongly, and then all that came out is searched for it.
"""

from __future__ import annotations

import base64
import hashlib
import itertools
import json
import re
import secrets
import time
from http.cookies import SimpleCookie
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qsl, urlencode, urlsplit

import bcrypt
import pytest

from tests.kit.fetch import Answer, basic, bearer, fetch
from tests.kit.http_server import HttpServer, Reply, Request
from tests.kit.needles import Output, given_away
from tests.kit.process import free_port
from tests.kit.prometheus import Receiver
from tests.kit.promgate import Promgate, write_route
from tests.kit.users import write_private
from tests.kit.wait import wait_for
from tests.kit.warm_cli import WarmCli
from tests.login.issuer import Issuer, ec_key, jwk

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

pytestmark = pytest.mark.real

API = "/-/api/v1"
TOO_MANY = 429
OPENS = {"Accept": "text/html,*/*", "Sec-Fetch-Mode": "navigate", "Sec-Fetch-Site": "none"}
NO_LIMIT = {"rate": 1_000_000, "interval": "1s", "burst": 1_000_000}
#: What a browser must be told, and nobody else; and the link that ends its session at the provider, by its ID token.
FOR_THE_BROWSER = {"set-cookie", "location", "refresh"}
LOGOUT_LINK = re.compile(rb'href="[^"]*/end\?[^"]*"')


def told(value: Mapping[str, object], status: int = 200) -> Reply:
    return Reply(status, json.dumps(value).encode(), "application/json")


class Idp(HttpServer):
    """A provider of people, and of opaque tokens, that repeats what it was shown whenever it says no."""

    def __init__(self, known: dict[str, str]) -> None:
        super().__init__(self._answer)
        self.known = known
        self.opaque = {"alive": secrets.token_urlsafe(30), "dead": secrets.token_urlsafe(30)}
        known |= {f"opaque token, {what}": one for what, one in self.opaque.items()}
        self.is_angry = False
        self._asked_for: dict[str, str] = {}
        self._given = 0

    def authorize(self, url: str) -> str:
        """What the browser does there: the path and query with which it comes back."""
        self._asked_for = dict(parse_qsl(urlsplit(url).query))
        state = self._asked_for["state"]
        self.keep(code=(code := secrets.token_urlsafe(30)), state=state, nonce=self._asked_for["nonce"])
        return "/-/callback/corp?" + urlencode({"code": code, "state": state})

    def keep(self, **what: str) -> None:
        self.known |= {f"{name} {len(self.known)}": one for name, one in what.items()}

    def _answer(self, request: Request) -> Reply:
        path = urlsplit(request.path).path
        if path == "/.well-known/openid-configuration":
            return told(
                {
                    "issuer": self.base, "jwks_uri": f"{self.base}/keys", "token_endpoint": f"{self.base}/token",
                    "authorization_endpoint": f"{self.base}/authorize", "end_session_endpoint": f"{self.base}/end",
                    "introspection_endpoint": f"{self.base}/introspect", "code_challenge_methods_supported": ["S256"],
                    "response_types_supported": ["code"], "subject_types_supported": ["public"],
                }
            )  # fmt: skip
        if path == "/keys":
            return told({"keys": [jwk(ec_key("corp"), kid="ec")]})
        form = dict(parse_qsl(request.body.decode()))
        if path == "/introspect":
            return self._introspect(request, form)
        return self._give_tokens(request, form)

    def _introspect(self, request: Request, form: Mapping[str, str]) -> Reply:
        if self.is_angry:
            return self._repeat(request, 500)
        is_alive = form["token"] == self.opaque["alive"]
        return told({"active": is_alive, "sub": "machine", "exp": time.time() + 300} if is_alive else {"active": False})

    def _give_tokens(self, request: Request, form: Mapping[str, str]) -> Reply:
        if self.is_angry:
            return self._repeat(request, 400)
        verifier = form.get("code_verifier", "")
        if verifier:
            shown = base64.urlsafe_b64encode(hashlib.sha256(verifier.encode()).digest()).rstrip(b"=").decode()
            assert shown == self._asked_for["code_challenge"]
            self.keep(verifier=verifier)
        self._given += 1
        now = int(time.time())
        claims = {
            "iss": self.base, "aud": "promgate", "sub": "carol", "iat": now, "exp": now + 300,
            "nonce": self._asked_for["nonce"], "email": "carol@example.net", "email_verified": True,
            "jti": secrets.token_hex(8),
        }  # fmt: skip
        id_token = Issuer().token(key=ec_key("corp"), claims=claims).decode()
        access, refresh = secrets.token_urlsafe(30), secrets.token_urlsafe(30)
        self.keep(id_token=id_token, access=access, refresh=refresh)
        return told(
            {"access_token": access, "token_type": "Bearer", "refresh_token": refresh, "id_token": id_token,
             "expires_in": 300}
        )  # fmt: skip

    @staticmethod
    def _repeat(request: Request, status: int) -> Reply:
        said = f"{request.body.decode()} {request.headers['Authorization']}"
        return told({"error": "server_error" if status > 499 else "invalid_grant", "error_description": said}, status)


class Stage:
    """promgate with everything that shows or gets a secret of others, and all that came out of it."""

    def __init__(self, directory: Path, known: dict[str, str], log_format: str) -> None:
        self.known = known
        self.outputs: list[Output] = []
        self.seen: list[Request] = []
        self.idp = Idp(known)
        self.upstream = HttpServer(self._upstream)
        self.hook = HttpServer(lambda request: Reply(500, request.body + str(request.headers).encode()))
        self.receiver = Receiver(directory / "receiver")
        self.telemetry = free_port()
        self.filed = directory / "filed.token"
        self.cookies: dict[str, str] = {}
        self.warm = WarmCli()
        own = directory / "promgate"
        for what in ("client", "introspection", "upstream-password", "upstream-token", "hook", "canary", "root"):
            known[what] = secrets.token_urlsafe(30)
            write_private(own / f"{what}.secret", known[what])
        users = {who: bcrypt.hashpw(known[who].encode(), bcrypt.gensalt(4)).decode() for who in ("canary", "root")}
        port = free_port()
        self.promgate = Promgate(own, self._config(users, port, log_format), port)
        self.promgate.command += ["--log.level=debug", f"--log.format={log_format}"]

    def _config(self, users: dict[str, str], port: int, log_format: str) -> dict[str, Any]:
        there, ways = self.upstream.base, ["basic", "introspection", "oauth2"]
        asks = {"client_id": "promgate"}
        receiver = f"http://127.0.0.1:{self.receiver.port}"
        return {
            "external_url": f"https://localhost:{port}",
            "basic_auth_users": users,
            "oauth2": {
                "name": "corp", "issuer": self.idp.base, "client_secret_file": "client.secret", **asks,
                "scopes": ["openid", "email", "offline_access"],
            },
            "introspection": {"issuer": self.idp.base, "client_secret_file": "introspection.secret", **asks},
            "sessions": {"refresh": "1s"},
            "roles": {
                "viewer": ["oidc:domain:example.net", "introspection:machine", "basic:canary"], "admin": ["basic:root"],
            },
            "tokens": {
                "deliver": {
                    "hooked": {"webhook": f"{self.hook.base}/hook", "secret_file": "hook.secret"},
                    "filed": {"file": str(self.filed)},
                },
                "canary": {
                    "basic_auth": {"username": "canary", "password_file": "canary.secret"},
                    "tls_config": {"ca_file": "certs/ca.crt", "server_name": "localhost"},
                    "timeout": "5s",
                },
            },
            "console": {},
            "audit": {"file": "audit.jsonl"},
            "telemetry": {"listen": f"127.0.0.1:{self.telemetry}"},
            "access_log": {"file": "access.log", "format": log_format},
            "limits": {"guesses": NO_LIMIT, "guesses_per_user": NO_LIMIT},
            "routes": [
                write_route(receiver),
                {"name": "read", "path": "/prometheus", "upstream": receiver, "auth": "basic", "allow": "viewer"},
                *(
                    {"name": name, "path": f"/{name}", "upstream": {"url": there, **login}, "auth": ways,
                     "allow": "viewer", "identity_headers": True}
                    for name, login in (
                        ("app", {"basic_auth": {"username": "promgate", "password_file": "upstream-password.secret"}}),
                        ("api", {"authorization": {"credentials_file": "upstream-token.secret"}}),
                    )
                ),
                {"name": "gone", "path": "/gone", "auth": ways, "allow": "viewer", "upstream": {
                    "url": "http://127.0.0.1:1", "authorization": {"credentials_file": "upstream-token.secret"}}},
            ],
        }  # fmt: skip

    def _upstream(self, request: Request) -> Reply:
        self.seen.append(request)
        return Reply(int(urlsplit(request.path).query or 200), b"ok")

    def keep(self, where: str, text: str | bytes) -> None:
        self.outputs.append(Output(where, text.encode() if isinstance(text, str) else text))

    def ask(
        self, path: str, method: str = "GET", body: bytes | None = None, headers: Mapping[str, str] | None = None
    ) -> Answer:
        """One request; what anybody may know of the answer is an output."""
        answer = fetch(
            self.promgate.base + path, method=method, body=body, headers=headers, ca_file=self.promgate.ca_file,
            timeout_s=60,
        )  # fmt: skip
        lines = [f"{name}: {value}" for name, value in answer.headers.items() if name.lower() not in FOR_THE_BROWSER]
        where = f"an answer to {method} {path.partition('?')[0]}"
        self.keep(where, f"{answer.status}\n{lines}\n".encode() + LOGOUT_LINK.sub(b"", answer.body))
        return answer

    def browse(self, path: str, method: str = "GET", form: Mapping[str, str] | None = None, **headers: str) -> Answer:
        """As somebody's browser, which keeps cookies: each of them is a secret."""
        fields = {**OPENS, "Cookie": "; ".join(f"{name}={one}" for name, one in self.cookies.items()), **headers}
        body = None
        if form is not None:
            origin = f"https://localhost:{self.promgate.port}"
            fields |= {"Content-Type": "application/x-www-form-urlencoded", "Origin": origin}
            body = urlencode(form).encode()
        answer = self.ask(path, method, body, fields)
        for line in answer.headers.get_all("Set-Cookie", []):
            for name, morsel in SimpleCookie(line).items():
                self.cookies[name] = morsel.value
                if morsel.value:
                    self.idp.keep(cookie=morsel.value)
        return answer

    def api(self, method: str, path: str, said: object = None, *, minted: str = "") -> None:
        """One call of the admin API as root. Where `minted` (what to call it), its answer has a secret, and is none."""
        fields = basic("root", self.known["root"]) | {"Content-Type": "application/json"}
        body = said if isinstance(said, bytes) else None if said is None else json.dumps(said).encode()
        if not minted:
            wait_for(lambda: self.ask(API + path, method, body, fields).status != TOO_MANY, "a turn")
            return
        url = self.promgate.base + API + path

        def answered() -> Answer | None:
            answer = fetch(url, method=method, body=body, headers=fields, ca_file=self.promgate.ca_file)
            return None if answer.status == TOO_MANY else answer

        answer = wait_for(answered, "a turn")
        assert answer.status in {200, 201}, answer.body
        self.known[minted] = json.loads(answer.body)["secret"]

    def cli(self, *words: str) -> tuple[int, str]:
        done = self.warm.run(*words, f"--config.file={self.promgate.config_file}")
        self.keep(f"promgate {' '.join(words[:2])}", done.stdout + done.stderr)
        return done.returncode, done.stderr


@pytest.mark.parametrize("log_format", ["logfmt", "json"])
def test_no_secret_of_others_comes_out(tmp_path: Path, log_format: str) -> None:
    known: dict[str, str] = {}
    stage = Stage(tmp_path, known, log_format)
    with stage.idp, stage.upstream, stage.hook, stage.receiver, stage.warm, stage.promgate:
        _log_in(stage)
        _ask_with_opaque_tokens(stage)
        _use_the_api(stage)
        _use_the_commands(stage)
        _read_everything(stage)
    _look_at_the_upstream(stage)
    for file in (tmp_path / "promgate").rglob("*"):
        if file.is_file() and file.suffix not in {".yml", ".key", ".secret"}:
            stage.keep(file.name, file.read_bytes())
    kept = {one.where for one in stage.outputs}
    assert kept >= {"promgate.log", "access.log", "audit.jsonl", "promgate.db", "promgate.db-sessions", "metrics"}
    kinds = {what.rstrip(" 0123456789") for what in known}
    assert kinds >= {"state", "code", "nonce", "verifier", "cookie", "refresh", "access", "id_token", "leaked", "hook"}
    assert given_away(known, stage.outputs) == set()


def _log_in(stage: Stage) -> None:
    def begin() -> str:
        sent = stage.browse("/-/login/corp?rd=/app/x")
        assert sent.status == 302, sent.body
        return stage.idp.authorize(str(sent.headers["Location"]))

    back = begin()
    for wrong in (back.replace("code=", "code=x"), back.replace("state=", "state=x"), back + "&error=access_denied"):
        stage.browse(wrong)
    stage.idp.is_angry = True
    assert stage.browse(begin()).status in {403, 502}
    stage.idp.is_angry = False
    done = stage.browse(back := begin())
    assert (done.status, done.headers["Location"]) == (302, "/app/x"), done.body
    for path in ("/app/x", "/api/x", "/gone/x", "/app/x?302", "/app/x?401", "/app/x?500", "/nowhere", "/-/login"):
        stage.browse(path)
    stage.browse(back)
    session = stage.cookies["__Host-promgate"]
    for headers in (bearer(session), basic("carol", session), {"Cookie": f"__Host-promgate={session}x"}):
        stage.ask("/app/x", headers=headers)
    # A refresh, one that the provider refuses, and the end that comes of it.
    given = sum(what.startswith("refresh") for what in stage.known)
    wait_for(
        lambda: stage.browse("/app/x") and sum(what.startswith("refresh") for what in stage.known) > given, "a refresh"
    )
    stage.idp.is_angry = True
    wait_for(lambda: stage.browse("/app/x").status == 302, "the provider's no")
    stage.idp.is_angry = False
    stage.browse(begin())
    token = next(one for what, one in stage.known.items() if what.startswith("id_token"))
    stage.browse("/-/logout/backchannel/corp", "POST", {"logout_token": token})
    left = stage.browse("/-/logout", "POST", {}, **{"Sec-Fetch-Site": "same-origin"})
    assert len(LOGOUT_LINK.findall(left.body)) == 1, left.body


def _ask_with_opaque_tokens(stage: Stage) -> None:
    alive, dead = stage.idp.opaque["alive"], stage.idp.opaque["dead"]
    for is_angry in (False, True):
        stage.idp.is_angry = is_angry
        for token in (alive, dead, alive + "x"):
            for headers in (bearer(token), basic("x", token), basic(token, "")):
                for path in ("/app/x", "/api/x", "/gone/x", "/-/console"):
                    stage.ask(path, headers=headers)
    stage.idp.is_angry = False
    assert stage.ask("/app/x", headers=bearer(alive)).status == 200
    assert stage.ask("/gone/x", headers=bearer(alive)).status == 502


def _use_the_api(stage: Stage) -> None:
    stage.api("POST", "/tokens", {"name": "shown"}, minted="first")
    stage.api("POST", "/tokens/shown/rotate", {}, minted="second")
    stage.api("POST", "/tokens", {"name": "filed", "show": True}, minted="filed")
    stage.api("POST", "/tokens", {"name": "hooked"})
    secrets_said = [stage.known[what] for what in ("first", "second", "filed", "root")]
    for said in secrets_said:
        for name in ("shown", "filed", "nobody"):
            stage.api("POST", f"/tokens/{name}/verify", {"secret": said})
        wrongs = (
            {"secret": [said]}, {"password": said}, {"secret": said, "digest": said}, {"digest": said},
            {"secret": said * 99}, f'{{"secret": "{said}"'.encode(), said.encode(), [said], {"secret": said + "\x00\n"},
        )  # fmt: skip
        for wrong, path in zip(wrongs, itertools.cycle(["/leaked", "/tokens/shown/verify", "/tokens"])):
            stage.api("POST", path, wrong)
        for path in ("rotate", "revoke", "rollback", "finish"):
            stage.api("POST", f"/tokens/nobody/{path}", {"token": said, "id": said})
    stage.api("POST", "/leaked", {"secret": stage.known["first"], "show": True}, minted="leaked")
    stage.api("POST", "/leaked", {"secret": stage.known["filed"]})
    stage.api("POST", "/leaked", {"secret": stage.known["filed"]})
    stage.known["in the file"] = stage.filed.read_text().strip()
    stage.api("POST", "/tokens/filed/verify", {})
    assert b"works" in stage.outputs[-1].text or b'"state"' in stage.outputs[-1].text, stage.outputs[-1]


def _use_the_commands(stage: Stage) -> None:
    shown = stage.filed.with_name("shown")
    for secret in list(stage.known.values()):
        write_private(shown, secret)
        stage.cli("explain", f"--credentials-file={shown}", f"{stage.promgate.base}/app/x")
    write_private(shown, stage.known["second"])
    stage.cli("token", "verify", "shown", f"--credentials-file={shown}")
    stage.cli("token", "verify", "filed")
    _, said = stage.cli("token", "rotate", "hooked")
    (rotation,) = re.findall(r"--id (\w+)", said)
    code, said = stage.cli("token", "rotate", "hooked", "--id", rotation)
    assert code == 1, said
    assert "/hook: " in said
    assert stage.cli("token", "rotate", "filed")[0] == 0
    stage.known["in the file at last"] = stage.filed.read_text().strip()
    # A canary that shows a password that is refused.
    write_private(stage.promgate.config_file.with_name("canary.secret"), stage.known["hook"])
    code, said = stage.cli("token", "verify", "filed")
    assert code == 1, said
    for words in (["token", "status", "filed"], ["token", "list"], ["audit", "verify"], ["check"]):
        stage.cli(*words)


def _read_everything(stage: Stage) -> None:
    for path in ("/tokens", "/tokens/filed", "/tokens/filed/status", "/tokens/filed/senders", "/tokens/hooked/status",
                 "/rotations?limit=100", "/due", "/guessers", "/audit"):  # fmt: skip
        stage.api("GET", path)
    for path in ("/-/console", "/-/console/style.css", "/-/login", "/-/logout", "/-/auth"):
        stage.ask(path, headers=basic("root", stage.known["root"]) | OPENS)
    stage.keep("metrics", fetch(f"http://127.0.0.1:{stage.telemetry}/metrics").body)
    stage.keep("ready", fetch(f"http://127.0.0.1:{stage.telemetry}/-/ready").body)
    assert any(b"filed" in one.text for one in stage.outputs if one.where.endswith("/audit"))


def _look_at_the_upstream(stage: Stage) -> None:
    """It gets what promgate logs in with, in the one field for that, and nothing else of anybody."""
    logins = {
        "/app": "Basic " + base64.b64encode(b"promgate:" + stage.known["upstream-password"].encode()).decode(),
        "/api": f"Bearer {stage.known['upstream-token']}",
    }
    assert {request.path[:4] for request in stage.seen} == set(logins)
    for request in stage.seen:
        assert request.headers.get_all("Authorization") == [logins[request.path[:4]]]
        del request.headers["Authorization"]
        stage.keep("the upstream", f"{request.path}\n{request.headers}\n".encode() + request.body)
    identities = {request.headers["X-Promgate-Identity"] for request in stage.seen}
    assert identities == {"oidc:user:carol@example.net", "introspection:machine"}
