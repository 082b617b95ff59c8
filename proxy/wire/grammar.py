"""Character classes of RFC 9110 and RFC 3986, as tables for bytes.translate: what remains after deletion is wrong."""

from __future__ import annotations

import re

_ALPHA = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"
_DIGIT = b"0123456789"

#: RFC 9110 5.6.2: token = 1*tchar
TCHAR = b"!#$%&'*+-.^_`|~" + _DIGIT + _ALPHA

#: RFC 9110 5.5: field-vchar = VCHAR / obs-text, with SP and HTAB between. Every other CTL is refused,
#: not only the three that the RFC names: no field of this trade has use for one.
FIELD_VALUE = b"\t " + bytes(range(0x21, 0x7F)) + bytes(range(0x80, 0x100))

#: RFC 3986 2.3
UNRESERVED = _ALPHA + _DIGIT + b"-._~"

#: What a request target may be made of: visible ASCII. `#` never goes over the wire (RFC 9112 3.2).
TARGET = bytes(range(0x21, 0x7F)).replace(b"#", b"")

#: A path of these octets alone is canonical as it stands, dots and double slashes aside.
PLAIN_PATH = UNRESERVED + b"!$&'()*+,;=:@/"

#: RFC 9112 7.1: chunk-size = 1*HEXDIG, here without leading zeros and not the last one;
#: 15 digits hold any length that can be counted.
plain_chunk_size = re.compile(rb"[1-9A-Fa-f][0-9A-Fa-f]{0,14}").fullmatch

#: RFC 9110 7.2: Host = uri-host [ ":" port ]; reg-name without percent-encoding, or an IP literal.
_HOST = re.compile(rb"(?:[A-Za-z0-9._~!$&'()*+;=-]{1,255}|\[[0-9A-Fa-f:.]{2,45}\])(?::([0-9]{0,5}))?").fullmatch


def is_authority(value: bytes) -> bool:
    """True for `host` or `host:port` with a port up to 65535; userinfo and anything else is not one."""
    match = _HOST(value)
    return match is not None and int(match[1] or b"0") <= 65535


def is_token(value: bytes) -> bool:
    return bool(value) and not value.translate(None, TCHAR)
