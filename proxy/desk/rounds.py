"""A thread of the server's that makes its round again and again: when the store has changed, and when its time comes.

Each kind of work has its own, for all of it blocks: a delivery that takes minutes must not keep an overlap from being
prolonged. Otherwise it costs two stat calls a second. What fails is said once and tried again, later and later.
"""

from __future__ import annotations

import logging
import threading
from typing import TYPE_CHECKING

from proxy.tokens.ports import StoreError

if TYPE_CHECKING:
    from collections.abc import Callable

    from proxy.desk.desk import Desk

_log = logging.getLogger("promgate.rotation")

TICK_S = 1.0
#: A look at the store costs little; whatever was overlooked is found by then, and what fails is tried as often.
LOOK_EACH_S = 30.0
STOP_WAIT_S = 5.0
_LEAST_PAUSE_S = 0.1


class Rounds:
    """`start`, then `stop`. `desk` is asked for anew each time: a reload may have changed the rules."""

    def __init__(
        self,
        name: str,
        desk: Callable[[], Desk],
        look: Callable[[], object],
        work: Callable[[Desk], float | None],
        *,
        tick_s: float = TICK_S,
    ) -> None:
        """`look`: a sign that differs once the store may have changed.

        `work` does all that there is to do now, and says when it wants to be called again, at the latest.
        """
        self._name = name
        self._desk = desk
        self._look = look
        self._work = work
        self._tick_s = self._pause_s = tick_s
        self._ending = threading.Event()
        # A daemon: a sink that hangs must not keep the process from ending. Any step may be the last.
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)
        self._seen: object = None
        self._failures = 0
        self._said = ""
        #: Unix time of the next round, if nobody changes the store before.
        self.next_at = 0.0

    @property
    def is_ending(self) -> bool:
        """Nothing more is to be begun."""
        return self._ending.is_set()

    def start(self) -> None:
        self._thread.start()

    def end(self) -> None:
        """Begin nothing more."""
        self._ending.set()

    def stop(self) -> None:
        """End, and wait a little for what is under way."""
        self.end()
        self._thread.join(STOP_WAIT_S)

    def turn(self) -> None:
        """One look, and the round if it is time for it. Raises what the work raises, and has it done anew then."""
        desk = self._desk()
        sign, now = self._look(), desk.clock()
        if sign != self._seen or now >= self.next_at:
            self._seen, self.next_at = None, 0.0
            wanted = self._work(desk)
            self._seen = sign
            self.next_at = now + LOOK_EACH_S if wanted is None else min(wanted, now + LOOK_EACH_S)
        self._pause_s = min(self._tick_s, max(self.next_at - desk.clock(), _LEAST_PAUSE_S))

    def _run(self) -> None:
        while not self._ending.wait(self._pause_s):
            try:
                self.turn()
            except Exception as error:  # noqa: BLE001 - a defect must not end the work in silence
                self._failures += 1
                self._pause_s = min(self._tick_s * 2.0 ** min(self._failures - 1, 16), LOOK_EACH_S)
                self._say(error)
            else:
                self._failures, self._said = 0, ""

    def _say(self, error: Exception) -> None:
        """Once, until it is another trouble."""
        text = f"{type(error).__name__}: {error}"
        if text == self._said:
            return
        self._said = text
        if isinstance(error, StoreError):
            _log.error("the %s wait: %s", self._name, error)
        else:
            _log.error("a defect: the %s wait", self._name, exc_info=error)
