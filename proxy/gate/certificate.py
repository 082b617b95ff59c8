"""A client certificate that the handshake has verified -> what its holder shows, and by which names.

The names are those of the subject and of the subject alternative names, no more: issuer and serial number identify a
certificate and not its holder. A subject with two common names has none.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from proxy.gate.credentials import ShownCertificate

if TYPE_CHECKING:
    from collections.abc import Mapping

    from proxy.gate.snapshot import ClientTrust

_SAN_KINDS = frozenset({"DNS", "IP Address", "URI", "email"})
_MAX_NAME = 256
_MAX_NAMES = 64


def read_certificate(told: Mapping[str, Any], not_after: float, trust: ClientTrust) -> ShownCertificate:
    """What `ssl.SSLObject.getpeercert` tells of a verified certificate, judged by the names that `trust` allows.

    `not_after` is its end in unix seconds.
    """
    common = [value for part in told.get("subject", ()) for key, value in part if key == "commonName"]
    sans = [value for kind, value in told.get("subjectAltName", ()) if kind in _SAN_KINDS]
    names = [f"cert:CN={name}" for name in common if len(common) == 1] + [f"cert:SAN={name}" for name in sans]
    fit = tuple(name for name in names[:_MAX_NAMES] if len(name) <= _MAX_NAME and name.isprintable())
    allowed = bool(fit) and (not trust.allowed_sans or not trust.allowed_sans.isdisjoint(sans))
    return ShownCertificate(fit, not_after, allowed)
