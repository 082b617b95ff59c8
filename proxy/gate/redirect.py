"""The gate of a plain listener that lets nobody in: it sends people to https, and tells programs to go there.

A sender must not be redirected: some turn a POST into a GET and take the page that answers for success. Nor may it be
told 4xx: it would drop its samples. So it gets 503, keeps them, and says so in its log until somebody looks.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from proxy.gate.authorize import READING
from proxy.gate.decision import Decision, Deny, Local, Reason
from proxy.gate.navigation import is_navigation
from proxy.gate.routing import HEALTH_PATHS

if TYPE_CHECKING:
    from collections.abc import Mapping

    from proxy.gate.ask import Answer, Question
    from proxy.gate.credentials import Shown, ShownPassword
    from proxy.gate.forwarded import Proxies
    from proxy.gate.snapshot import Snapshot
    from proxy.wire.head import RequestHead

_NO_FACTS: Mapping[Question, Answer] = {}


class RedirectGate:
    """`decide` as Gate's. Where people go is the configured `external_url`: never what Host says."""

    __slots__ = ("proxies", "snapshot")

    def __init__(self, snapshot: Snapshot) -> None:
        self.snapshot = snapshot
        self.proxies: Proxies | None = snapshot.trusted_proxies  # who announces whom, for the log and the bounds

    def decide(
        self,
        head: RequestHead,
        _shown: Shown | None,
        _ip: str,
        _at: float,
        _now: float,
        _facts: Mapping[Question, Answer] = _NO_FACTS,
    ) -> Decision:
        if head.method not in READING:
            return Deny(Reason.PLAIN_WRITE)
        if head.path in HEALTH_PATHS:
            return Local(Reason.HEALTH)
        if is_navigation(head):
            place = self.snapshot.external_url.encode() + head.path + head.line.query
            return Local(Reason.REDIRECTED, place.decode("latin-1"))
        return Deny(Reason.PLAIN_HTTP)

    def check_password(
        self, _shown: ShownPassword, _ip: str, _at: float, _now: float, _facts: Mapping[Question, Answer] = _NO_FACTS
    ) -> Deny:
        return Deny(Reason.PLAIN_HTTP)
