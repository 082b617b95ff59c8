"""Where the tokens of a name go, as the configuration says it. `delivery` makes a sink of each.

`target` is the stable name of a place, as receipts, logs and errors have it. Paths are absolute.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class FileTarget:
    """A file on this machine that the sender reads its token from."""

    path: str

    @property
    def target(self) -> str:
        return f"file:{self.path}"


@dataclass(frozen=True, slots=True)
class CommandTarget:
    """A program that takes the token from its standard input. `argv[0]` is looked up in PATH where it has no slash.

    `environment` are names of variables of our own that it is given.
    """

    argv: tuple[str, ...]
    timeout_s: float = 30.0
    environment: tuple[str, ...] = ()

    @property
    def target(self) -> str:
        words = (word if word.isprintable() and word.split() == [word] else ascii(word) for word in self.argv)
        return f"command:{' '.join(words)}"


@dataclass(frozen=True, slots=True)
class WebhookTarget:
    """An HTTPS endpoint that is told the token. `secret_file` holds the key of the signature; `ca_file` "": the
    system's.

    `url` has no user, query or fragment: it stands in logs.
    """

    url: str
    secret_file: str
    ca_file: str = ""
    server_name: str = ""
    timeout_s: float = 30.0

    @property
    def target(self) -> str:
        return f"webhook:{self.url}"


Target = FileTarget | CommandTarget | WebhookTarget


@dataclass(frozen=True, slots=True)
class CanaryRules:
    """How a token is proven before anybody has it.

    `push_url` is the remote-write URL and `query_url` the one of instant queries (`.../api/v1/query`), both of the
    public listener. `server_name` (default: the URL's host) is what the certificate must stand for and what Host
    says. The reader is a bearer token in `credentials_file`, or `username` with `password_file`, or nobody. `readers`
    are the reader tokens whose roles let them query there: others cannot be proven so.
    """

    push_url: str
    query_url: str
    ca_file: str = ""
    server_name: str = ""
    credentials_file: str = ""
    username: str = ""
    password_file: str = ""
    timeout_s: float = 20.0
    readers: frozenset[str] = frozenset()
