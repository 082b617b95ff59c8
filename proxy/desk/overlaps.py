"""The overlaps that follow their senders: prolongs those that a late one needs, ends those that nobody needs
(`tokens.overlap`).

A ledger that cannot tell changes no deadline: the calendar goes on. A name whose overlap is in trouble is tried again
soon, for its senders are refused at the end of it, and keeps none of the others waiting.
"""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

from proxy.tokens.overlap import adapt, next_look
from proxy.tokens.ports import Conflict, StoreError
from proxy.tokens.token import TokenState, ended_at, state_at

if TYPE_CHECKING:
    from proxy.desk.desk import Desk
    from proxy.tokens.ports import Change

_log = logging.getLogger("promgate.rotation")

#: A sender that is waited for is looked for so often, and one that may have left for good so often at the least.
_SOON_S = 0.2
_EACH_S = 15.0


class Overlaps:
    """Called in rounds; says when it wants to be called again."""

    def __init__(self) -> None:
        self._prolonged: set[str] = set()
        #: Name -> how often in a row it failed, when it is tried again, and what was said of it.
        self._troubles: dict[str, tuple[int, float, str]] = {}

    def __call__(self, desk: Desk) -> float | None:
        now = desk.clock()
        names = {
            token.name for token in desk.store.changes_since(0).tokens if state_at(token, now) is TokenState.PREVIOUS
        }
        self._troubles = {name: trouble for name, trouble in self._troubles.items() if name in names}
        return min((self._attend(desk, name) for name in sorted(names)), default=None)

    def _attend(self, desk: Desk, name: str) -> float:
        """One name; when to look at it again. Its trouble is not that of the others."""
        failures, again_at, said = self._troubles.get(name, (0, 0.0, ""))
        if desk.clock() < again_at:
            return again_at
        try:
            at = self._look(desk, name)
        except Exception as error:  # noqa: BLE001 - a defect too: the senders of the other names must not be refused
            text = f"{type(error).__name__}: {error}"
            if text != said:
                is_told = isinstance(error, StoreError)
                _log.error("%s: its overlap cannot follow its senders: %s", name, error, exc_info=not is_told)
            again_at = desk.clock() + min(2.0**failures, _EACH_S)
            self._troubles[name] = (failures + 1, again_at, text)
            return again_at
        self._troubles.pop(name, None)
        return at

    def _look(self, desk: Desk, name: str) -> float:
        seen, now, quiet_s = desk.store.named(name), desk.clock(), desk.rules.finish_when_quiet_s
        wait = next_look(seen, now)
        if quiet_s is None and (wait is None or wait > 0.0):
            return now + (wait if wait is not None else _EACH_S)
        try:
            known = None if desk.sightings is None else desk.sightings.known(name)
        except StoreError as error:
            _log.debug("%s: %s", name, error)  # which whoever writes the ledger has said already
            known = None
        if known is not None and not known.trouble:
            change = adapt(name, seen, known, now, quiet_s=quiet_s)
            if change is not None:
                self._take(desk, change)
                wait = next_look(desk.store.named(name), now)
        each = _EACH_S if quiet_s is None else max(min(quiet_s / 10, _EACH_S), _SOON_S)
        return now + min(each, max(_SOON_S, each if wait is None else wait))

    def _take(self, desk: Desk, change: Change) -> None:
        try:
            desk.apply(desk.store.commit(change))
        except Conflict:
            return  # another process was faster: the next look tells
        for token in change.put:
            if (ended_at(token) or 0.0) <= desk.clock():
                _log.info("%s: the overlap of token %s has ended: all its senders have moved", change.name, token.id)
            elif token.id not in self._prolonged:
                self._prolonged.add(token.id)
                _log.warning(
                    "%s: token %s is accepted for longer than was asked for: a sender of before the rotation still "
                    "uses it; `promgate token status %s` names it",
                    change.name, token.id, change.name,
                )  # fmt: skip
