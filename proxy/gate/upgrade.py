"""May this request leave HTTP? Only as a websocket, where the route says so, and not for another site's page.

A browser lets any page open a websocket to anywhere, with the password or certificate that it holds for the place
(RFC 6455 10.2; "cross-site WebSocket hijacking"), so the page's origin must be the host that was asked, or ours.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from proxy.gate.decision import Deny, Forward, Reason, Upgrade
from proxy.wire.websocket import UPGRADE_LINES, find_handshake

if TYPE_CHECKING:
    from proxy.wire.head import RequestHead

_DEFAULT_PORTS = {b"https": b":443", b"http": b":80"}


def judge_upgrade(head: RequestHead, forward: Forward, external_url: str) -> Upgrade | Forward | Deny:
    """`forward` as it stands for what is no handshake: it goes on without its Upgrade."""
    handshake = find_handshake(head)
    if handshake is None:
        return forward
    if handshake.origin is not None and not _is_ours(handshake.origin.lower(), head.host or b"", external_url.encode()):
        return Deny(Reason.FOREIGN_ORIGIN, forward.route, identity=forward.identity)
    told = forward.told + UPGRADE_LINES
    return Upgrade(forward.route, forward.identity, forward.wait_s, told, forward.place, handshake.key)


def _is_ours(origin: bytes, host: bytes, external_url: bytes) -> bool:
    """Host and port; the scheme is not known here where something before us ends TLS."""
    scheme, _, authority = origin.partition(b"://")
    port = _DEFAULT_PORTS.get(scheme)
    if port is None:
        return False  # `null`, an extension, a file
    place = authority.removesuffix(port)
    return place == host.lower().removesuffix(port) or b"%b://%b" % (scheme, place) == external_url.removesuffix(port)
