"""The two groups by which a listener agrees on keys, X25519 and P-256: a context for each, and the hello picks one.

OpenSSL knows more: X448, P-521, P-384 and, in TLS 1.3, finite fields up to ffdhe8192, of which one hello costs the
server 115 ms instead of 0.3 and who sends it nothing (D(HE)at, CVE-2002-20001). Python before 3.15 can name one group
for a context, and no list. So who begins with a share of X25519, as nearly all do, gets that with no second round, and
all others get P-256, which nobody may be without (RFC 8446 9.1).
"""

from __future__ import annotations

import contextlib
import ssl
from dataclasses import dataclass
from typing import Final

from proxy.pki.hello import offers_x25519

#: A hello has 300 to 600 bytes, and 1,800 with a share of ML-KEM. Of a longer one, nothing is told.
_HELLO_BYTES: Final = 4096


@dataclass(frozen=True, slots=True)
class ServerContext:
    """What a listener shakes hands with: two contexts that differ in their group alone."""

    x25519: ssl.SSLContext
    p256: ssl.SSLContext

    def choose(self, begin: memoryview) -> ssl.SSLContext:
        """The context for a handshake that begins with these bytes."""
        return self.x25519 if offers_x25519(bytes(begin[:_HELLO_BYTES])) else self.p256


def use_x25519(context: ssl.SSLContext) -> None:
    """Agree by X25519 alone. Python before 3.11.3 cannot say so: there the choice of the hello is all there is."""
    with contextlib.suppress(ssl.SSLError):
        context.set_ecdh_curve("X25519")


def use_p256(context: ssl.SSLContext) -> None:
    context.set_ecdh_curve("prime256v1")
