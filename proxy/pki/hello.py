"""What a client begins its handshake with: is it agreed on by X25519 at once, and by nothing dearer?

Only the shares of keys and the versions are looked at (RFC 8446 4.1.2, 4.2.1, 4.2.8). Whatever is not plainly so is
no: a hello in pieces, or with anything that was not expected. A no costs a round trip; a wrong yes could cost 0.1 s.
"""

from __future__ import annotations

from typing import Final

_HANDSHAKE, _CLIENT_HELLO = 0x16, 0x01
_VERSIONS, _KEY_SHARE = 0x002B, 0x0033
_TLS13: Final = b"\x03\x04"
_X25519: Final = 0x001D
#: What may stand beside it: P-256, its own hybrid with ML-KEM (0x11EC), which costs little more, and the values that
#: stand for nothing, so that nobody relies on knowing all (RFC 8701).
_CHEAP: Final = frozenset({_X25519, 0x0017, 0x11EC, *(0x0A0A + 0x1010 * n for n in range(16))})


def offers_x25519(data: bytes) -> bool:
    """Whether `data` begins with a whole hello of TLS 1.3 that has a share of X25519, and none of a dear group."""
    try:
        versions, shares = _find(data)
        groups = _groups(shares)
    except (ValueError, IndexError):
        return False
    return (
        _X25519 in groups
        and groups <= _CHEAP
        and any(versions[at : at + 2] == _TLS13 for at in range(0, len(versions), 2))
    )


def _find(data: bytes) -> tuple[bytes, bytes]:
    """(The versions, the shares) of a hello that is one message in one record, each without its length.

    ValueError or IndexError: it is none.
    """
    end = 5 + _number(data, 3)
    is_whole = end <= len(data) and data[6] == 0 and 9 + _number(data, 7) == end
    if data[0] != _HANDSHAKE or data[5] != _CLIENT_HELLO or not is_whole:
        raise ValueError
    at = 9 + 2 + 32  # version and random
    at += 1 + data[at]  # the session's id
    at += 2 + _number(data, at)  # ciphers
    at += 1 + data[at]  # compressions
    if at + 2 + _number(data, at) != end:
        raise ValueError
    at += 2
    versions = shares = b""
    while at < end:
        kind, begin = data[at] << 8 | data[at + 1], at + 4
        at = begin + (data[at + 2] << 8 | data[at + 3])
        if kind == _KEY_SHARE:
            shares = data[begin + 2 : at]
        elif kind == _VERSIONS:
            versions = data[begin + 1 : at]
    if at != end:
        raise ValueError
    return versions, shares


def _groups(shares: bytes) -> set[int]:
    groups, at = set(), 0
    while at < len(shares):
        groups.add(_number(shares, at))
        at += 4 + _number(shares, at + 2)
    if at != len(shares):
        raise ValueError
    return groups


def _number(data: bytes, at: int) -> int:
    return data[at] << 8 | data[at + 1]
