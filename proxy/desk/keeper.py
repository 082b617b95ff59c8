"""The server's own hand: begins what is due, takes up what was left open, and lets the ledger's rule move deadlines.

A thread of its own, for all of it blocks. It looks at the store when that has changed or when something comes due, and
otherwise at two stat calls a second. What fails is said once in the log, and tried again later and later.
"""

from __future__ import annotations

import logging
import threading
from collections import Counter
from typing import TYPE_CHECKING

from proxy.desk.auditing import record_end
from proxy.desk.schedule import Outlook, do, look_ahead, next_time, next_work
from proxy.tokens.lifecycle import Refusal
from proxy.tokens.ports import StoreError
from proxy.tokens.rotation import FIRST_RETRY_S

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from proxy.desk.desk import Desk

_log = logging.getLogger("promgate.rotation")

TICK_S = 1.0
#: A look at the store costs little; whatever was overlooked is found by then.
LOOK_EACH_S = 30.0
STOP_WAIT_S = 5.0
_LEAST_PAUSE_S = 0.1


class Keeper:
    """`start`, then `stop`. `desk` is asked for anew each time: a reload may have changed the rules."""

    def __init__(
        self,
        desk: Callable[[], Desk],
        look: Callable[[], object],
        chores: Iterable[Callable[[Desk], float | None]] = (),
        *,
        tick_s: float = TICK_S,
    ) -> None:
        """`look`: a sign that differs once the store may have changed.

        A chore does its part of the work, and says when it wants to be called again, at the latest.
        """
        self._desk = desk
        self._look = look
        self._chores = tuple(chores)
        self._tick_s = self._pause_s = tick_s
        self._ending = threading.Event()
        # A daemon: a sink that hangs must not keep the process from ending. Any step may be the last.
        self._thread = threading.Thread(target=self._run, name="keeper", daemon=True)
        self._seen: object = None
        self._next_at = 0.0
        self._not_before: dict[str, float] = {}
        self._said: dict[str, str] = {}
        #: For the metrics: what the last look saw, when, and how rotations of this process ended.
        self.outlook = Outlook((), (), ())
        self.ended: Counter[str] = Counter()

    def start(self) -> None:
        self._thread.start()

    def end(self) -> None:
        """Begin nothing more."""
        self._ending.set()

    def stop(self) -> None:
        """End, and wait a little. A rotation that it is in the middle of is taken up by the next server."""
        self.end()
        self._thread.join(STOP_WAIT_S)

    def _run(self) -> None:
        while not self._ending.wait(self._pause_s):
            self._pause_s = self._tick_s
            try:
                self.work()
            except StoreError as error:
                self._say("", f"the schedule waits: {error}")
            except Exception:  # noqa: BLE001 - a defect must not end the schedule in silence
                _log.exception("the schedule failed")

    def work(self) -> None:
        """One look, and all that there is to do now. Raises StoreError."""
        desk = self._desk()
        sign, now = self._look(), desk.clock()
        if sign == self._seen and now < self._next_at:
            return
        self._seen = sign
        self.outlook = look_ahead(desk)
        times = [next_time(self.outlook), *(chore(desk) for chore in self._chores)]
        while not self._ending.is_set() and self._step(desk):
            self.outlook = look_ahead(desk)
            times.append(next_time(self.outlook))
        self._said.pop("", None)
        later = [at for at in (*times, *self._not_before.values()) if at is not None and at > now]
        self._next_at = now + self._tick_s if self._is_awaited(now) else min([*later, now + LOOK_EACH_S])
        self._pause_s = min(self._tick_s, max(self._next_at - desk.clock(), _LEAST_PAUSE_S))

    def _is_awaited(self, now: float) -> bool:
        """Something may be there to do at any moment: a minute passes, or a process that drives a rotation ends."""
        allowed = self.outlook.without(self._not_before)
        return any(one.at <= now for one in allowed.dues) or any(one.failed_at is None for one in allowed.open)

    def _step(self, desk: Desk) -> bool:
        """Begin or take up one rotation; whether there was one."""
        now = desk.clock()
        self._not_before = {name: at for name, at in self._not_before.items() if at > now}
        allowed = self.outlook.without(self._not_before)
        work = next_work(desk, allowed)
        if work is None:
            return False
        result = do(desk, work)
        if isinstance(result, Refusal):
            self.ended["failed"] += 1
            if self._said.get(work.name) != result.text:
                record_end(desk, work.name, result)
            # What the journal does not know (a refusal to begin) must not be asked for each second.
            self._not_before[work.name] = now + FIRST_RETRY_S
            self._say(work.name, result.text)
        else:
            self.ended["done"] += 1
            self._said.pop(work.name, None)
            for line in result.notes:
                _log.info("%s", line)
            if result.failure:
                _log.error("%s: %s", work.name, result.failure)
        return True

    def _say(self, name: str, text: str) -> None:
        """Once, until it is another trouble."""
        if self._said.get(name) != text:
            self._said[name] = text
            _log.error("%s", text)
