"""One HTTP/1.1 request of our own, over a connection of its own, with one deadline for all of it.

No redirect is followed: it would carry a secret to where nobody sent it. No proxy of the environment is used. TLS is
verified always, against `ca_file` or the system's authorities. Only the standard library is imported: it is there
already in a server with TLS, and `promgate token renew` runs on the senders' machines.
"""

from __future__ import annotations

import http.client
import socket
import ssl
import threading
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from time import monotonic
from typing import TYPE_CHECKING, Final
from urllib.parse import urlsplit

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

_MAX_BODY: Final = 1024 * 1024


class NoAnswer(Exception):
    """There was no answer, or none that can be understood. `step`: `connect`, `tls` or `answer`; `text` says why."""

    def __init__(self, step: str, text: str) -> None:
        super().__init__(text)
        self.step = step


@dataclass(frozen=True, slots=True)
class Answer:
    """What came back. `headers` have lower-case names; the body is cut at 1 MiB."""

    status: int
    headers: Mapping[str, str]
    body: bytes


@dataclass(frozen=True, slots=True)
class Request:
    """What is asked. `url` is http or https with a host; its query goes along.

    `server_name`: what the certificate must stand for, and what Host says; empty: the host of `url`. `cert_file` and
    `key_file`: a certificate of our own, read anew for each request.
    """

    method: str
    url: str
    headers: Mapping[str, str] = field(default_factory=dict)
    body: bytes = b""
    ca_file: str = ""
    server_name: str = ""
    cert_file: str = ""
    key_file: str = ""


def ask(request: Request, deadline_s: float) -> Answer:
    """The answer to one request. Raises NoAnswer, at the latest after `deadline_s` (looking a name up not counted)."""
    until = monotonic() + deadline_s
    where = urlsplit(request.url)
    host, port = where.hostname or "", where.port or (443 if where.scheme == "https" else 80)
    with _connected(host, port, deadline_s) as plain, _cut_after(plain, until - monotonic()) as cut:
        connection = http.client.HTTPConnection(host, port)
        try:
            connection.sock = _secured(plain, request, host) if where.scheme == "https" else plain
            path = (where.path or "/") + (f"?{where.query}" if where.query else "")
            connection.putrequest(request.method, path, skip_host=True, skip_accept_encoding=True)
            connection.putheader("Host", _authority(request.server_name or host, where.port))
            for name, value in request.headers.items():
                connection.putheader(name, value)
            if request.body or request.method == "POST":
                connection.putheader("Content-Length", str(len(request.body)))
            connection.putheader("Connection", "close")
            connection.endheaders(request.body or None)
            response = connection.getresponse()
            headers = {name.lower(): value for name, value in response.getheaders()}
            body = response.read(_MAX_BODY)
            if cut.is_set():  # http.client takes the end of the connection for the end of a head
                raise TimeoutError
            return Answer(response.status, headers, body)
        except (OSError, http.client.HTTPException) as error:
            why = f"it took longer than {deadline_s:g} s" if cut.is_set() else _reason(error)
            raise NoAnswer("answer", f"{host}:{port} gave no answer: {why}") from error
        finally:
            connection.close()


@contextmanager
def _connected(host: str, port: int, deadline_s: float) -> Iterator[socket.socket]:
    try:
        plain = socket.create_connection((host, port), timeout=deadline_s)
    except OSError as error:
        raise NoAnswer("connect", f"cannot connect to {host}:{port}: {_reason(error)}") from error
    with plain:
        yield plain


@contextmanager
def _cut_after(plain: socket.socket, deadline_s: float) -> Iterator[threading.Event]:
    """A socket's own time-out counts for each read anew; a server that trickles would hold us for ever."""
    is_cut = threading.Event()
    handle = plain.dup()  # TLS takes the socket over

    def cut() -> None:
        is_cut.set()
        with suppress(OSError):
            handle.shutdown(socket.SHUT_RDWR)

    timer = threading.Timer(deadline_s, cut)
    timer.daemon = True
    timer.start()
    try:
        yield is_cut
    finally:
        timer.cancel()
        timer.join()
        handle.close()


def _secured(plain: socket.socket, request: Request, host: str) -> ssl.SSLSocket:
    try:
        trust = ssl.create_default_context(cafile=request.ca_file or None)
    except OSError as error:
        raise NoAnswer("tls", f"{request.ca_file} cannot be read as certificates in PEM: {_reason(error)}") from error
    if request.cert_file:
        try:
            # Without a password OpenSSL would ask the terminal for that of an encrypted key.
            trust.load_cert_chain(request.cert_file, request.key_file or None, password="")
        except OSError as error:
            raise NoAnswer("tls", f"{request.cert_file} cannot be shown with its key: {_reason(error)}") from error
    try:
        return trust.wrap_socket(plain, server_hostname=request.server_name or host)
    except ssl.SSLCertVerificationError as error:
        text = f"the certificate of {host} is not good: {error.verify_message or _reason(error)}"
        raise NoAnswer("tls", text) from error
    except (OSError, ValueError) as error:
        raise NoAnswer("tls", f"no TLS with {host}: {_reason(error)}") from error


def _authority(host: str, port: int | None) -> str:
    name = f"[{host}]" if ":" in host else host
    return f"{name}:{port}" if port else name


def _reason(error: Exception) -> str:
    if isinstance(error, TimeoutError):
        return "it took too long"
    if isinstance(error, ssl.SSLError):
        return error.reason or "the TLS connection broke"
    if isinstance(error, OSError):
        return error.strerror or str(error) or type(error).__name__
    if isinstance(error, http.client.HTTPException):
        return "what it sent is not HTTP"  # its text is the peer's own, which may be what it was given: a secret
    return str(error) or type(error).__name__
