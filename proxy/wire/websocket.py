"""The opening handshake of a websocket (RFC 6455 4): the one upgrade that may be passed on, and its one good answer.

What is not exactly this is no handshake, and its Upgrade is dropped like every other.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
from typing import TYPE_CHECKING, NamedTuple

from proxy.wire.fields import listed, split_field
from proxy.wire.unlawful import Unlawful

if TYPE_CHECKING:
    from collections.abc import Iterable

    from proxy.wire.head import RequestHead
    from proxy.wire.response import ResponseHead

#: For the head of either side: these fields belong to the connection, so we write our own.
UPGRADE_LINES = b"Connection: Upgrade\r\nUpgrade: websocket\r\n"
#: RFC 6455 1.3
_GUID = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"
_KEY_BYTES = 16


class Handshake(NamedTuple):
    """`origin` is where the page comes from that opens it; None: it is no browser's."""

    key: bytes
    origin: bytes | None


def find_handshake(head: RequestHead) -> Handshake | None:
    """The handshake that `head` is: GET, HTTP/1.1, no body, version 13, one key of 16 octets, nothing twice."""
    if head.upgrade != b"websocket" or head.method != b"GET" or head.has_body or head.close or head.expects:
        return None
    told = _values(head.fields.split(b"\r\n")[:-1])
    keys, versions, origins = (told.get(b"sec-websocket-key"), told.get(b"sec-websocket-version"), told.get(b"origin"))
    if keys is None or len(keys) != 1 or versions != [b"13"] or (origins is not None and len(origins) != 1):
        return None
    return Handshake(keys[0], origins[0] if origins else None) if _is_key(keys[0]) else None


def check_switch(raw: bytes, head: ResponseHead, key: bytes) -> None:
    """Unlawful unless `raw`, admitted as the 101 `head`, is the answer to the handshake with `key` (RFC 6455 4.1)."""
    told = _values(raw.split(b"\r\n")[1:])
    options = [option for value in told.get(b"connection", ()) for option in listed(value)]
    if [value.lower() for value in told.get(b"upgrade", ())] != [b"websocket"] or b"upgrade" not in options:
        raise Unlawful("upgrade to something else than was asked for")
    if told.get(b"sec-websocket-accept") != [accept_of(key)]:
        raise Unlawful("answer to another handshake")
    if head.chunked or head.length >= 0:
        raise Unlawful("101 with a body")  # RFC 9110 8.6, RFC 9112 6.1


def accept_of(key: bytes) -> bytes:
    """What only a server that read `key` as a websocket's answers; SHA-1 is no security here."""
    return base64.b64encode(hashlib.sha1(key + _GUID, usedforsecurity=False).digest())


def _is_key(value: bytes) -> bool:
    try:
        clear = base64.b64decode(value, validate=True)
    except binascii.Error:
        return False
    return len(clear) == _KEY_BYTES and base64.b64encode(clear) == value


def _values(lines: Iterable[bytes]) -> dict[bytes, list[bytes]]:
    """Lower-case name -> its values, of lines that were judged lawful."""
    told: dict[bytes, list[bytes]] = {}
    for line in lines:
        name, value = split_field(line)
        told.setdefault(name.lower(), []).append(value)
    return told
