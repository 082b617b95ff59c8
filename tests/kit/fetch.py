"""One HTTP request, with no proxy of the environment, no redirect followed and no status turned into an exception."""

from __future__ import annotations

import base64
import http.client
import ssl
from typing import TYPE_CHECKING, NamedTuple
from urllib.parse import urlsplit

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path


class Answer(NamedTuple):
    """What came back. Header names are as `http.client` keeps them: looked up in any case."""

    status: int
    headers: http.client.HTTPMessage
    body: bytes


def connect(url: str, *, ca_file: Path | None = None, timeout_s: float = 10.0) -> http.client.HTTPConnection:
    """A kept-alive connection to the server of `url`; https trusts `ca_file` alone."""
    where = urlsplit(url)
    host, port = where.hostname or "127.0.0.1", where.port
    if where.scheme == "http":
        return http.client.HTTPConnection(host, port, timeout=timeout_s)
    trust = ssl.create_default_context(cafile=str(ca_file) if ca_file else None)
    return http.client.HTTPSConnection(host, port, timeout=timeout_s, context=trust)


def ask(
    connection: http.client.HTTPConnection,
    method: str,
    path: str,
    *,
    body: bytes | None = None,
    headers: Mapping[str, str] | None = None,
) -> Answer:
    """One request on an open connection."""
    connection.request(method, path, body=body, headers=dict(headers or {}))
    response = connection.getresponse()
    return Answer(response.status, response.headers, response.read())


def fetch(
    url: str,
    *,
    method: str = "GET",
    body: bytes | None = None,
    headers: Mapping[str, str] | None = None,
    ca_file: Path | None = None,
    timeout_s: float = 10.0,
) -> Answer:
    """One request on a connection of its own. OSError when there was no answer."""
    connection = connect(url, ca_file=ca_file, timeout_s=timeout_s)
    try:
        where = urlsplit(url)
        path = (where.path or "/") + (f"?{where.query}" if where.query else "")
        return ask(connection, method, path, body=body, headers=headers)
    except http.client.HTTPException as broken:
        raise ConnectionError(f"{url}: {broken!r}") from broken
    finally:
        connection.close()


def bearer(token: str) -> dict[str, str]:
    """The header that shows a token."""
    return {"Authorization": f"Bearer {token}"}


def basic(user: str, password: str) -> dict[str, str]:
    """The header that shows a user name and a password."""
    return {"Authorization": "Basic " + base64.b64encode(f"{user}:{password}".encode()).decode()}


def answers_ok(url: str, ca_file: Path | None = None, headers: Mapping[str, str] | None = None) -> bool:
    """Whether a GET of `url` is answered with 200 now."""
    try:
        return fetch(url, ca_file=ca_file, headers=headers, timeout_s=2.0).status == 200
    except OSError:
        return False
