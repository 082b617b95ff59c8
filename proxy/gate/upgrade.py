"""May this request leave HTTP? Only as a websocket, where the route says so, and not for another site's page.

A browser lets any page open a websocket to anywhere, with the password or certificate that it holds for the place
(RFC 6455 10.2; "cross-site WebSocket hijacking"), so the page's origin must be the host that was asked, or ours.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from proxy.gate.decision import Deny, Forward, Reason, Upgrade
from proxy.gate.origin import is_ours
from proxy.gate.snapshot import Way
from proxy.wire.websocket import UPGRADE_LINES, find_handshake

if TYPE_CHECKING:
    from proxy.wire.head import RequestHead


def judge_upgrade(head: RequestHead, forward: Forward, external_url: str) -> Upgrade | Forward | Deny:
    """`forward` as it stands for what is no handshake: it goes on without its Upgrade."""
    handshake = find_handshake(head)
    if handshake is None:
        return forward
    origin = handshake.origin
    # Each browser names the page (RFC 6455 4.1); a session is a browser's.
    is_foreign = forward.identity.way is Way.OAUTH2 if origin is None else not is_ours(origin, head.host, external_url)
    if is_foreign:
        return Deny(Reason.FOREIGN_ORIGIN, forward.route, identity=forward.identity)
    told = forward.told + UPGRADE_LINES
    return Upgrade(forward.route, forward.identity, forward.wait_s, told, forward.place, handshake.key)

