"""By which certificate a client is known: the first name of the one that its handshake has verified."""

from __future__ import annotations

from typing import TYPE_CHECKING

from proxy.gate.telling import tell_certificate

if TYPE_CHECKING:
    from proxy.relay.connection import ClientConnection


def certificate_of(client: ClientConnection) -> str:
    """Empty without one, and where it is that of a proxy which brings the requests of many."""
    shown = client.last_shown.certificate
    return shown.names[0] if shown is not None and shown.names and client.ip == client.peer else ""


def certificate_line(client: ClientConnection, now: float) -> bytes:
    """For the control plane: as above, while the certificate lasts. `now` in unix seconds."""
    shown = client.last_shown.certificate
    name = certificate_of(client)
    return tell_certificate(name) if name and shown is not None and shown.allowed and now < shown.not_after else b""
