"""A loss made visible: a counter that rises by one with each scrape, so that a lost sample is a missing integer."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING

from tests.kit.http_server import HttpServer, Reply, Request
from tests.kit.wait import wait_for

if TYPE_CHECKING:
    from tests.kit.prometheus import Receiver


#: Beside the counter, a target may have as many series as a real one.
WIDE = "kit_wide_total"


class CounterTarget(HttpServer):
    """A scrape target with one series, `name`. `served` is the last integer it gave out.

    With `series`, so many more of the name `WIDE` rise with it.
    """

    def __init__(self, name: str = "kit_counter_total", *, series: int = 0) -> None:
        super().__init__(self._scrape)
        self.name = name
        self.series = series
        self.served = 0
        self._lock = threading.Lock()

    def _scrape(self, _: Request) -> Reply:
        with self._lock:
            self.served += 1
            number = self.served
        wide = [f'{WIDE}{{n="{n}"}} {number}' for n in range(self.series)]
        head = f"# TYPE {self.name} counter\n{self.name} {number}\n"
        return Reply(body="\n".join([head + f"# TYPE {WIDE} counter", *wide, ""]).encode())

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


def holes(receiver: Receiver, series: int) -> list[str]:
    """Which series of the name `WIDE` lack an integer between their first and their last, or are not there at all."""
    there = receiver.value(f"count(count_over_time({WIDE}[1h]))") or 0
    wrong = [] if there == series else [f"{there:.0f} of {series} series are stored"]
    missing = f"max_over_time({WIDE}[1h]) - min_over_time({WIDE}[1h]) + 1 - count_over_time({WIDE}[1h])"
    return wrong + [f"{one['metric']} lacks {one['value'][1]}" for one in receiver.query(f"{missing} != 0")]


def wait_stored(receiver: Receiver, number: int, name: str = "kit_counter_total", *, timeout_s: float = 30.0) -> None:
    """Wait until the counter's `number`, or a later one, is stored: what was sent before it has arrived or is lost."""
    wait_for(
        lambda: (kept := stored(receiver, name)) and kept[-1] >= number,
        f"{name} {number} at the receiver",
        timeout_s=timeout_s,
        interval_s=0.2,
    )
