"""What an upstream is told of who is asking: in lines that only we write (a client's are dropped)."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from proxy.gate.decision import Reason

if TYPE_CHECKING:
    from proxy.gate.decision import Identity
    from proxy.gate.snapshot import Telling
    from proxy.gate.tenants import Tenants

#: Visible ASCII (RFC 9110 5.5) without the comma, by which two identities could be read from one field.
_fits = re.compile(r"[!-+\--~]+", re.ASCII).fullmatch

_odd = re.compile(rb"[^A-Za-z0-9._~:@=-]")


def quote(name: str) -> str:
    """Percent-encoded (RFC 3986 2.1): any name, as one word of ASCII."""
    return _odd.sub(lambda found: b"%%%02X" % found[0][0], name.encode()).decode()


def tell_certificate(name: str) -> bytes:
    """The line for the certificate that a client showed beside its credential (quoted, as all that is `quoted`)."""
    return f"X-Promgate-Certificate: {quote(name)}\r\n".encode()


def tell(telling: Telling, identity: Identity, tenants: Tenants) -> bytes | Reason:
    """The lines for `identity`, or the reason why it may not pass."""
    lines = ""
    if telling.quoted:
        lines = (
            f"X-Promgate-Identity: {quote(identity.name)}\r\nX-Promgate-Way: {identity.way.value}\r\n"
            f"X-Promgate-Roles: {','.join(map(quote, sorted(identity.roles)))}\r\n"
            f"X-Promgate-Token-Id: {identity.token_id}\r\n"
        )
        if identity.session:
            lines += f"X-Promgate-Session: {identity.session}\r\n"
    elif telling.identity:
        if not _fits(identity.name):
            return Reason.IDENTITY_UNFIT
        roles = ",".join(sorted(identity.roles))
        lines = f"X-Promgate-Identity: {identity.name}\r\nX-Promgate-Roles: {roles}\r\n"
    if telling.tenant_header:
        tenant = telling.tenant or tenants.find(identity)
        if tenant is None:
            return Reason.NO_TENANT
        lines += f"{telling.tenant_header}: {tenant}\r\n"
    return lines.encode()
