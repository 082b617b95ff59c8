"""Tokens on their way, and an endpoint that takes them."""

from __future__ import annotations

import ssl
import threading
from contextlib import contextmanager
from datetime import UTC, datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from proxy.pki.authority import Leaf, issue, make_authority
from proxy.tokens.ports import Parcel
from proxy.tokens.secret import mint
from proxy.tokens.token import TokenKind
from tests.tokens.play import randomness


def parcel(seed=0, rotation="rotation-1"):
    minted = mint(TokenKind.WRITE, randomness(seed))
    return Parcel("agent", TokenKind.WRITE, minted.id, rotation, minted.secret)


def own_part(secret):
    """What must never be told: prefix and id are public."""
    return secret.reveal().rpartition("_")[2]


def make_pair(directory):
    """An authority and a pair for localhost and 127.0.0.1 in `directory`."""
    now = datetime.now(UTC)
    make_authority(directory, now)
    issue(directory, Leaf("localhost", dns=["localhost"], addresses=["127.0.0.1"]), now)
    return directory


class Endpoint:
    """An HTTPS server that keeps what it is sent.

    `answer(request) -> (status, headers, body)` may be replaced; so may all of it, by `instead(write)`.
    """

    def __init__(self, pair):
        self.received = []
        self.answer = lambda _: (204, {}, b"")
        self.instead = None
        endpoint = self

        class Take(BaseHTTPRequestHandler):
            def do_POST(self):
                body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
                request = {"path": self.path, "headers": dict(self.headers), "body": body}
                endpoint.received.append(request)
                if endpoint.instead is not None:
                    endpoint.instead(self.wfile.write)
                    return
                status, headers, said = endpoint.answer(request)
                self.send_response(status)
                for name, value in {"Content-Length": str(len(said)), **headers}.items():
                    self.send_header(name, value)
                self.end_headers()
                self.wfile.write(said)

            def do_GET(self):
                self.do_POST()

            def log_message(self, *_):
                pass

        class Quiet(ThreadingHTTPServer):
            def handle_error(self, *_):
                """A client that leaves is what some tests are about."""

        self._server = Quiet(("127.0.0.1", 0), Take)
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(pair / "localhost.crt", pair / "localhost.key")
        self._server.socket = context.wrap_socket(self._server.socket, server_side=True, do_handshake_on_connect=False)
        self.port = self._server.server_address[1]
        self.url = f"https://127.0.0.1:{self.port}"

    @contextmanager
    def running(self):
        thread = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True)
        thread.start()
        try:
            yield self
        finally:
            self._server.shutdown()
            self._server.server_close()
            thread.join()
