"""The server's own hand: begins the rotations that are due, and takes up what was left open.

A name that is in trouble is left alone for a while and said once; the others have their turn.
"""

from __future__ import annotations

import logging
from collections import Counter
from typing import TYPE_CHECKING

from proxy.desk.auditing import record_end
from proxy.desk.rounds import TICK_S, Rounds
from proxy.desk.schedule import Outlook, do, look_ahead, next_time, next_work
from proxy.desk.words import when
from proxy.tokens.lifecycle import Refusal
from proxy.tokens.ports import StoreError
from proxy.tokens.rotation import FIRST_RETRY_S, retry_wait_s

if TYPE_CHECKING:
    from collections.abc import Callable

    from proxy.desk.desk import Desk
    from proxy.desk.schedule import Work

_log = logging.getLogger("promgate.rotation")


class Keeper:
    """Its `rounds` are started and stopped. A rotation that is under way at the end is taken up by the next server."""

    def __init__(self, desk: Callable[[], Desk], look: Callable[[], object], *, tick_s: float = TICK_S) -> None:
        self.rounds = Rounds("rotations", desk, look, self._work, tick_s=tick_s)
        self._tick_s = tick_s
        self._not_before: dict[str, float] = {}
        self._said: dict[str, str] = {}
        self._overdue: set[str] = set()
        self._defects: Counter[str] = Counter()
        #: For the metrics: what the last look saw, and how rotations of this process ended.
        self.outlook = Outlook((), (), ())
        self.ended: Counter[str] = Counter()

    def _work(self, desk: Desk) -> float | None:
        now = desk.clock()
        self.outlook = look_ahead(desk)
        times = [next_time(self.outlook)]
        self._tell_overdue(now)
        while not self.rounds.is_ending and self._step(desk):
            self.outlook = look_ahead(desk)
            times.append(next_time(self.outlook))
        if self.outlook.without(self._not_before).is_awaited(now):
            return now + self._tick_s
        return min((at for at in (*times, *self._not_before.values()) if at is not None and at > now), default=None)

    def _tell_overdue(self, now: float) -> None:
        """Each once: no server ran, or others that are due as well had their turns, a minute each."""
        late = {one.name: one for one in self.outlook.late(now)}
        for name in sorted(late.keys() - self._overdue):
            _log.warning("%s: its rotation was due at %s and has not begun yet", name, when(late[name].at))
        self._overdue = set(late)

    def _step(self, desk: Desk) -> bool:
        """Begin or take up one rotation; whether there was one."""
        now = desk.clock()
        self._not_before = {name: at for name, at in self._not_before.items() if at > now}
        work = next_work(desk, self.outlook.without(self._not_before))
        if work is None:
            return False
        try:
            self._do(desk, work)
        except StoreError:
            raise  # the trouble of all names
        except Exception:  # noqa: BLE001 - a defect that one name has met must not end the calendar of the others
            self.ended["failed"] += 1
            self._defects[work.name] += 1
            self._not_before[work.name] = desk.clock() + retry_wait_s(self._defects[work.name])
            _log.exception("%s: a defect ended its rotation; it is taken up later", work.name)
        else:
            del self._defects[work.name]
        return True

    def _do(self, desk: Desk, work: Work) -> None:
        result = do(desk, work)
        if isinstance(result, Refusal):
            self.ended["failed"] += 1
            # What the journal does not know (a refusal to begin) must not be asked for each second.
            self._not_before[work.name] = desk.clock() + FIRST_RETRY_S
            if self._said.get(work.name) != result.text:
                self._said[work.name] = result.text
                record_end(desk, work.name, result)
                _log.error("%s", result.text)
            return
        self.ended["done"] += 1
        self._said.pop(work.name, None)
        for line in result.notes:
            _log.info("%s", line)
        if result.failure:
            _log.error("%s: %s", work.name, result.failure)
