"""The audit as the desk sees it: whether it can be written, what it holds, and what is told to it beside changes."""

from __future__ import annotations

from contextlib import suppress
from typing import TYPE_CHECKING

from proxy.desk.desk import Report
from proxy.tokens.lifecycle import Refusal, Why
from proxy.tokens.ports import StoreError

if TYPE_CHECKING:
    from proxy.desk.desk import Desk

_LOOK_EACH_S = 30.0


def list_audit(desk: Desk, limit: int) -> Report | Refusal:
    """The last records, the newest first, in `records`. Raises StoreError."""
    if desk.audit is None:
        return Refusal("there is no audit: write `audit: {file: ...}` into the configuration", Why.UNKNOWN)
    return Report(facts={"records": desk.audit.newest(limit)})


def record_end(desk: Desk, name: str, result: Report | Refusal) -> None:
    """Put on record what came of something that was asked for, where its changes do not tell: a no, or a failure."""
    if desk.audit is None:
        return
    if isinstance(result, Refusal):
        desk.audit.tell("failed" if result.why is Why.FAILED else "refused", name, result.text)
    elif result.failure:
        desk.audit.tell("failed", name, result.failure)


def look_at_audit(desk: Desk) -> float | None:
    """The keeper's chore: that nothing can be recorded is to be known before somebody has to change something."""
    if desk.audit is None:
        return None
    with suppress(StoreError):  # the trail has logged it, and the metric tells
        desk.audit.check()
    return desk.clock() + _LOOK_EACH_S
