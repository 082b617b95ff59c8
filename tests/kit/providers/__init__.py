"""Real providers of tokens, as programs of Node: `make providers` installs them into .venv/providers."""

from __future__ import annotations

import json
import os
import signal
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

from tests.kit.fetch import answers_ok, basic, fetch
from tests.kit.process import Process, accepts, free_port
from tests.kit.wait import wait_for

if TYPE_CHECKING:
    from collections.abc import Mapping

HERE = Path(__file__).parent
MODULES = Path(sys.prefix) / "providers"
#: The audience of its tokens.
AUDIENCE = "urn:promgate"
CLIENT, SECRET = "agent", "agent-secret"
INTROSPECTOR, INTROSPECTOR_SECRET = "promgate", "promgate-secret"


class _Provider(Process):
    def __init__(self, script: str, directory: Path, environment: Mapping[str, str]) -> None:
        directory.mkdir(parents=True, exist_ok=True)
        self.port = free_port()
        self.base = f"http://127.0.0.1:{self.port}"
        super().__init__(
            ["node", str(HERE / script)],
            directory / f"{script}.log",
            lambda: answers_ok(f"{self.base}/.well-known/openid-configuration"),
            env={**os.environ, "PROVIDER_MODULES": str(MODULES), "PORT": str(self.port), **environment},
        )

    def grant(self, client: str = CLIENT, secret: str = SECRET, **form: str) -> str:
        """A token for the client itself (RFC 6749 4.4)."""
        written = "&".join(f"{name}={value}" for name, value in {"grant_type": "client_credentials", **form}.items())
        headers = {**basic(client, secret), "Content-Type": "application/x-www-form-urlencoded"}
        answer = fetch(f"{self.base}/token", method="POST", body=written.encode(), headers=headers)
        if answer.status != 200:
            raise ConnectionError(f"no token: {answer.status} {answer.body!r}")
        token: str = json.loads(answer.body)["access_token"]
        return token


class OidcProvider(_Provider):
    """oidc-provider. Its tokens live `ttl_s`, and are JWTs or opaque."""

    def __init__(self, directory: Path, *, ttl_s: int, is_jwt: bool) -> None:
        super().__init__("oidc.mjs", directory, {"TTL": str(ttl_s), "FORMAT": "jwt" if is_jwt else "opaque"})

    @property
    def issued(self) -> int:
        """How many tokens it has issued."""
        return self.log.splitlines().count("issued")

    def go_away(self) -> None:
        """Take no more connections and cut those there are; nothing is forgotten."""
        self._signal(signal.SIGUSR2)
        wait_for(lambda: not accepts(self.port), "the provider to go away")

    def come_back(self) -> None:
        self._signal(signal.SIGUSR2)
        wait_for(self._ready, "the provider to come back")


class PeopleProvider(_Provider):
    """oidc-provider with its development login page, where anybody logs in by any name (see people.mjs).

    `client` is what differs of the client `promgate`: `redirect_uris`, `post_logout_redirect_uris`, ...
    """

    def __init__(self, directory: Path, **client: Any) -> None:
        super().__init__("people.mjs", directory, {"CLIENT": json.dumps(client)})


class Forger(_Provider):
    """oauth2-mock-server: it signs whatever it is asked to."""

    def __init__(self, directory: Path) -> None:
        super().__init__("forger.mjs", directory, {})

    def forge(self, **forged: Any) -> str:
        """A token whose `header` and `payload` are changed before it is signed."""
        return self.grant("any", "any", scope="write", forge=quote(json.dumps(forged)))

    def introspection(self, **said: Any) -> str:
        """The URL of an endpoint that answers with this `status` and `body`."""
        return f"{self.base}/introspect?say={quote(json.dumps(said))}"

    def add_key(self) -> None:
        """Sign with another key from now on; the one before stays in the set."""
        before = len(json.loads(fetch(f"{self.base}/jwks").body)["keys"])
        self._signal(signal.SIGUSR2)
        wait_for(lambda: len(json.loads(fetch(f"{self.base}/jwks").body)["keys"]) > before, "another key")
