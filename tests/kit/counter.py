"""A loss made visible: a counter that rises by one with each scrape, so that a lost sample is a missing integer."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING

from tests.kit.http_server import HttpServer, Reply, Request
from tests.kit.wait import wait_for

if TYPE_CHECKING:
    from tests.kit.prometheus import Receiver


class CounterTarget(HttpServer):
    """A scrape target with one series, `name`. `served` is the last integer it gave out."""

    def __init__(self, name: str = "kit_counter_total") -> None:
        super().__init__(self._scrape)
        self.name = name
        self.served = 0
        self._lock = threading.Lock()

    def _scrape(self, _: Request) -> Reply:
        with self._lock:
            self.served += 1
            return Reply(body=f"# TYPE {self.name} counter\n{self.name} {self.served}\n".encode())

    def wait_served(self, number: int, *, timeout_s: float = 60.0) -> None:
        """Wait until the counter has given out `number`: at one scrape a second, a measure of time too."""
        wait_for(lambda: self.served >= number, f"scrape {number} of {self.name}", timeout_s=timeout_s)


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
