"""The written form of a token: `pgw_<id8>_<secret43><check6>` (`pgr` for readers): making one, and knowing one.

Prefix and checksum let scanners find a leaked token, and let the gate refuse a typo without a look-up; they are no
security, for anyone can compute them. The security is 256 bits from the operating system's CSPRNG, of which only a
SHA-256 is kept: no salt and no bcrypt, for a secret of this strength cannot be guessed (NIST SP 800-63B 5.1.2).
"""

from __future__ import annotations

import hashlib
import re
import zlib
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple, NoReturn

from proxy.tokens.token import TokenKind

if TYPE_CHECKING:
    from collections.abc import Callable


#: How `digest` is made; stands beside it in the store, so that another way can live with this one.
SCHEME = "sha256"

_PREFIX = {TokenKind.WRITE: "pgw", TokenKind.READER: "pgr"}
_KIND = {prefix.encode(): kind for kind, prefix in _PREFIX.items()}

# Base62 has no character that ends a word in a terminal or a log, so a double click selects the whole token.
_DIGITS = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"
_ID_LEN, _SECRET_LEN, _CHECK_LEN = 8, 43, 6  # 62**43 > 2**256, 62**6 > 2**32
_SECRET_BYTES = 32
#: Twice what an id needs, so that taking the remainder favours no id by more than 2**-80.
_ID_BYTES = 16

_SHAPE = re.compile(
    rb"(pg[wr])_([0-9A-Za-z]{%d})_[0-9A-Za-z]{%d}" % (_ID_LEN, _SECRET_LEN + _CHECK_LEN),
)


class Secret:
    """A clear secret that no print, log, format, pickle or traceback shows. `reveal` is the one way to it."""

    __slots__ = ("_clear",)

    def __init__(self, clear: str) -> None:
        self._clear = clear

    def reveal(self) -> str:
        """The clear text: for the terminal or the sink it is delivered to, and nothing else."""
        return self._clear

    def __repr__(self) -> str:
        return "<secret>"

    def __format__(self, spec: str) -> str:
        return format("<secret>", spec)

    def __reduce_ex__(self, protocol: object) -> NoReturn:
        raise TypeError("a secret is neither copied nor pickled")


@dataclass(frozen=True, slots=True)
class Minted:
    """A token just made: what may be kept (`id`, `digest`), and what may not."""

    kind: TokenKind
    id: str
    digest: bytes
    secret: Secret


class Marks(NamedTuple):
    """What a token says of itself in public."""

    kind: TokenKind
    id: str


def mint(kind: TokenKind, random: Callable[[int], bytes]) -> Minted:
    """A new token. `random` is the operating system's CSPRNG: `secrets.token_bytes`."""
    token_id = _base62(int.from_bytes(random(_ID_BYTES), "big") % 62**_ID_LEN, _ID_LEN)
    body = f"{_PREFIX[kind]}_{token_id}_{_base62(int.from_bytes(random(_SECRET_BYTES), 'big'), _SECRET_LEN)}"
    clear = body + _check(body.encode())
    return Minted(kind, token_id, digest(clear.encode()), Secret(clear))


def digest(secret: bytes) -> bytes:
    """What a token is kept and looked up by: SHA-256 over the whole string as shown, prefix and checksum too."""
    return hashlib.sha256(secret).digest()


def looks_minted(shown: bytes) -> bool:
    """Whether prefix, form and checksum are those of a token of ours. Cheap (2 us): anyone may make us call it."""
    return _SHAPE.fullmatch(shown) is not None and _check(shown[:-_CHECK_LEN]).encode() == shown[-_CHECK_LEN:]


def parse(shown: bytes) -> Marks | None:
    """Kind and public id of a string that `looks_minted`, else None. Whether it opens a door is not said."""
    match = _SHAPE.fullmatch(shown)
    if match is None or not looks_minted(shown):
        return None
    return Marks(_KIND[match[1]], match[2].decode())


def withhold(text: bytes) -> bytes:
    """`text` less the secret part of whatever in it has a token's form; prefix and id, which are public, stay."""
    return _SHAPE.sub(rb"\1_\2_...", text) if b"pg" in text else text


def _check(body: bytes) -> str:
    """CRC-32 of all that stands before it, as GitHub's tokens do it."""
    return _base62(zlib.crc32(body), _CHECK_LEN)


def _base62(number: int, width: int) -> str:
    digits = []
    for _ in range(width):
        number, digit = divmod(number, 62)
        digits.append(_DIGITS[digit])
    return "".join(reversed(digits))
