"""`POST /-/api/v1/renew`, as its answers: what `desk.renewing` says, to a sender that may be somebody else.

So the caller is told what to do and nothing of what is known of others; the log is told all. A stranger is an error
line and a metric, for an operator must look. Blocking: the control plane calls it in a thread.
"""

from __future__ import annotations

import json
import logging
from typing import TYPE_CHECKING, NamedTuple

from proxy.desk.desk import Report
from proxy.desk.renewing import Renewed, Stranger, renew
from proxy.tokens.lifecycle import Why
from proxy.tokens.ports import Asked, StoreError

if TYPE_CHECKING:
    from collections.abc import Callable

    from proxy.desk.desk import Desk
    from proxy.tokens.renewal import Caller

_log = logging.getLogger("promgate.rotation")
#: As on a write route: senders obey it to the second.
_RETRY_AFTER_S = 10
_STOPPED = "this rotation was stopped: ask who runs promgate"
_TEXTS = {
    Why.INVALID: (403, "this token is not one that renews itself"),
    Why.UNKNOWN: (401, "this token is not accepted"),
    Why.CONFLICT: (409, "no successor for this token: its file should hold another one by now"),
    Why.FAILED: (409, _STOPPED),
}


class RenewAnswer(NamedTuple):
    """Status and body; `retry_after_s` 0: no Retry-After."""

    status: int
    body: bytes = b""
    content_type: str = "text/plain"
    retry_after_s: int = 0


class Renewing:
    """`desk` makes the desk of the moment, for who asks. `strangers` is counted for the metrics."""

    def __init__(self, desk: Callable[[Asked], Desk]) -> None:
        self._desk = desk
        self.strangers = 0

    def answer(self, name: str, token_id: str, caller: Caller) -> RenewAnswer:
        """What a caller is told whom the gate has let in by this token of `name`."""
        desk = self._desk(Asked(f"token:{name}", "write_token", str(caller), "renew"))
        try:
            result = renew(desk, name, token_id, caller)
        except StoreError as error:
            _log.error("renewal of %s for %s: %s", name, caller, error)
            return RenewAnswer(503, b"promgate: not now, ask again\n", retry_after_s=_RETRY_AFTER_S)
        match result:
            case Renewed(secret=secret):
                _log.info("token %s of %s was picked up by %s", result.token_id, name, caller)
                told = {"name": name, "token_id": result.token_id, "rotation": result.rotation}
                body = json.dumps(told | {"token": secret.reveal()}).encode()
                return RenewAnswer(200, body, "application/json")
            case Report(notes=notes):
                for line in notes if result.failure else ():
                    _log.warning("%s", line)
                return RenewAnswer(204)
            case Stranger(text=text):
                self.strangers += 1
                if desk.audit is not None:
                    desk.audit.tell("alarm", name, text)
                _log.error("ALARM: %s; every token stays as it is until `promgate token rollback %s`", text, name)
                return _refused(409, _STOPPED)
            case _:
                _log.warning("renewal of %s for %s: %s", name, caller, result.text)
                return _refused(*_TEXTS[result.why])


def _refused(status: int, text: str) -> RenewAnswer:
    return RenewAnswer(status, f"promgate: {text}\n".encode())
