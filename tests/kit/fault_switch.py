"""A front between a sender and its receiver that answers one status for a while, and relays otherwise.

It is the control of the loss tests: with it a loss can be made on purpose, and the arithmetic must report it.
"""

from __future__ import annotations

import threading
from collections import Counter
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Self
from urllib.parse import urlsplit

from tests.kit.fetch import fetch

#: Not handed on: they speak of one connection only (RFC 9110, section 7.6.1), or are made anew.
_OWN = frozenset({"connection", "host", "content-length"})


class FaultSwitch:
    """Relays POSTs to `upstream` (a base URL). `fault`: the status to answer instead, or None."""

    def __init__(self, upstream: str) -> None:
        self.fault: int | None = None
        self.answered: Counter[int] = Counter()
        self._lock = threading.Lock()
        switch = self
        where = urlsplit(upstream)

        class Relay(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["Content-Length"]))
                status, answer = switch.fault, b"as switched\n"
                if status is None:
                    kept = {name: value for name, value in self.headers.items() if name.lower() not in _OWN}
                    url = f"{where.scheme}://{where.netloc}{self.path}"
                    status, _, answer = fetch(url, method="POST", body=body, headers=kept)
                switch.count(status)
                self.send_response(status)
                if status != 204:
                    self.send_header("Content-Length", str(len(answer)))
                self.end_headers()
                self.wfile.write(answer)

            def log_message(self, *_: object) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Relay)
        self._server.daemon_threads = True
        self._thread = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.1}, daemon=True)

    def count(self, status: int) -> None:
        with self._lock:
            self.answered[status] += 1

    @property
    def base(self) -> str:
        host, port = self._server.server_address[:2]
        return f"http://{host!s}:{port}"

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()
