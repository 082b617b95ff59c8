"""A loss made visible: a counter that rises by one with each scrape, so that a lost sample is a missing integer."""

from __future__ import annotations

import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING, Self

from tests.kit.wait import wait_for

if TYPE_CHECKING:
    from tests.kit.prometheus import Receiver


class CounterTarget:
    """A scrape target with one series, `name`. `served` is the last integer it gave out."""

    def __init__(self, name: str = "kit_counter_total") -> None:
        self.name = name
        self.served = 0
        self._lock = threading.Lock()
        target = self

        class Scrape(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                body = target.scrape().encode()
                self.send_response(200)
                self.send_header("Content-Type", "text/plain; version=0.0.4")
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *_: object) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Scrape)
        self._thread = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.1}, daemon=True)

    def scrape(self) -> str:
        with self._lock:
            self.served += 1
            return f"# TYPE {self.name} counter\n{self.name} {self.served}\n"

    def wait_served(self, number: int) -> None:
        """Wait until the counter has given out `number`: at one scrape a second, a measure of time too."""
        wait_for(lambda: self.served >= number, f"scrape {number} of {self.name}", timeout_s=60.0)

    @property
    def address(self) -> str:
        host, port = self._server.server_address[:2]
        return f"{host!s}:{port}"

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()


def stored(receiver: Receiver, name: str = "kit_counter_total") -> list[int]:
    """Every integer of the counter that the receiver keeps, in the order of their times."""
    return [int(value) for _, value in receiver.samples(name)]


def losses(receiver: Receiver, name: str = "kit_counter_total") -> list[int]:
    """The integers between the first and the last stored one that are not stored. ValueError when none is stored."""
    kept = stored(receiver, name)
    if not kept:
        raise ValueError(f"nothing of {name} is stored: a sender that never delivered cannot be judged")
    return sorted(set(range(kept[0], kept[-1] + 1)) - set(kept))


def wait_stored(receiver: Receiver, number: int, name: str = "kit_counter_total", *, timeout_s: float = 30.0) -> None:
    """Wait until the counter's `number`, or a later one, is stored: what was sent before it has arrived or is lost."""
    wait_for(
        lambda: (kept := stored(receiver, name)) and kept[-1] >= number,
        f"{name} {number} at the receiver",
        timeout_s=timeout_s,
        interval_s=0.2,
    )
