"""What was shown: one Authorization value -> one credential. The credential shown picks the method, once."""

from __future__ import annotations

import base64
import binascii
import math
import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from proxy.tokens.secret import digest, looks_minted

if TYPE_CHECKING:
    from collections.abc import Iterable

    from proxy.wire.head import RequestHead

_MAX_BYTES = 4096
#: A JWT begins with the base64url of `{"` (RFC 7515 3.1); no token of ours does.
_JWT_START = b"eyJ"
#: 256 random bits in base64url.
_is_session_id = re.compile(rb"[A-Za-z0-9_-]{43}").fullmatch


@dataclass(frozen=True, slots=True)
class ShownToken:
    """An opaque token, as a bearer or as a basic password. `minted`: prefix and checksum are ours.

    `text` is that of a bearer that was not minted here: whoever did may have to be asked.
    """

    digest: bytes
    minted: bool
    text: bytes = field(default=b"", repr=False)


@dataclass(frozen=True, slots=True)
class ShownPassword:
    user: str
    password: bytes = field(repr=False)


@dataclass(frozen=True, slots=True)
class ShownJwt:
    """A signed token. `digest` is the SHA-256 of its text, by which it is remembered once it was verified."""

    text: bytes = field(repr=False)
    digest: bytes


@dataclass(slots=True)
class ShownCertificate:
    """A client certificate, verified by the handshake. `names` are the identities it stands for, the first its own.

    `not_after` is in unix seconds: a connection may outlive its certificate. `allowed`: its names are let in at all.
    """

    names: tuple[str, ...]
    not_after: float
    allowed: bool = True

    def distrust(self) -> None:
        """It was verified by what is no longer believed, for each request that shows it: those that wait, too."""
        self.not_after = -math.inf


@dataclass(frozen=True, slots=True)
class ShownSession:
    """A person's session, by the cookie that holds its id."""

    digest: bytes


@dataclass(frozen=True, slots=True)
class Malformed:
    """Something that no method can take."""


Shown = ShownToken | ShownPassword | ShownJwt | ShownCertificate | Malformed
_MALFORMED = Malformed()


class LastShown:
    """The credential of a connection's last request that was let in: the same line is not read twice.

    Only the reading is remembered; whether the credential is good is looked up for each request. The connection's
    certificate is shown by requests without an Authorization field, and by no other: what failed does not fall through.
    """

    __slots__ = ("_shown", "certificate", "line")

    def __init__(self, certificate: ShownCertificate | None = None) -> None:
        self.line: bytes | None = None
        self.certificate = certificate
        self._shown: Shown | None = None

    def read(self, head: RequestHead) -> Shown | None:
        """What the head shows. It was admitted with our `line` as the known one."""
        if head.authorization_line is None:
            return self.certificate
        return self._shown if head.authorization is None else read_credential(head.authorization)

    def keep(self, head: RequestHead, shown: Shown | None) -> None:
        """`head` showed another line than our own, and was let in."""
        self.line, self._shown = head.authorization_line, shown


def read_session(cookies: Iterable[tuple[bytes, bytes]], name: bytes) -> ShownSession | Malformed | None:
    """The session that the cookie `name` stands for. Of two nobody knows which the browser means: that is none."""
    values = [value for own, value in cookies if own == name]
    if not values:
        return None
    if len(values) > 1 or _is_session_id(values[0]) is None:
        return _MALFORMED
    return ShownSession(digest(values[0]))


def read_credential(value: bytes) -> Shown:
    """The credential in the value of an Authorization field (RFC 9110 11.4, RFC 6750 2.1, RFC 7617)."""
    scheme, _, rest = value.partition(b" ")
    scheme = scheme.lower()
    rest = rest.strip(b" ")
    if not rest or len(value) > _MAX_BYTES:
        return _MALFORMED
    if scheme == b"bearer":
        if rest.startswith(_JWT_START) and rest.count(b".") == 2:
            return ShownJwt(rest, digest(rest))
        minted = looks_minted(rest)
        return ShownToken(digest(rest), minted, b"" if minted else rest)
    if scheme == b"basic":
        return _read_basic(rest)
    return _MALFORMED


def _read_basic(encoded: bytes) -> Shown:
    try:
        clear = base64.b64decode(encoded, validate=True)
        user, colon, password = clear.partition(b":")
        name = user.decode()
        password.decode()
    except (binascii.Error, UnicodeDecodeError):
        return _MALFORMED
    if not colon or b"\0" in clear or b"\n" in clear or b"\r" in clear:
        return _MALFORMED
    if base64.b64encode(clear) != encoded:  # b64decode takes too much padding, and bits that mean nothing
        return _MALFORMED
    if looks_minted(password):
        return ShownToken(digest(password), minted=True)
    return ShownPassword(name, password)
