"""When PEM certificates end and for which hosts it stands, read from its DER.

Without `cryptography` (5 MB) and without OpenSSL's private calls. Only `Validity` and the subject alternative names are
looked at (RFC 5280 sections 4.1 and 4.2.1.6); a certificate that OpenSSL has loaded already is well formed.
"""

from __future__ import annotations

import ssl
from contextlib import suppress
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Iterator

_VERSION: Final = 0xA0
_EXTENSIONS: Final = 0xA3
_UTC_TIME: Final = 0x17
_SUBJECT_ALT_NAME: Final = bytes.fromhex("551d11")  # 2.5.29.17
_DNS_NAME: Final = 0x82
_BEGIN: Final = "-----BEGIN CERTIFICATE-----"
_END: Final = "-----END CERTIFICATE-----"


def find_ends(pem: str) -> list[float]:
    """When each certificate of a PEM text ends, in its order and in unix seconds; what cannot be read is left out."""
    ends = []
    begin = pem.find(_BEGIN)
    while begin >= 0:
        with suppress(ValueError, IndexError):
            ends.append(_end(pem[begin:]))
        begin = pem.find(_BEGIN, begin + len(_BEGIN))
    return ends


def _end(pem: str) -> float:
    _, validity, _ = _element(_from_validity(pem))
    _, _, not_after = _element(validity)
    tag, text, _ = _element(not_after)
    return _time(tag, text.decode("ascii"))


def find_dns_names(pem: str) -> list[str]:
    """The DNS names that the first certificate of a PEM text stands for, in lower case; wildcards as they stand."""
    try:
        rest = _from_validity(pem)
        while rest:
            tag, extensions, rest = _element(rest)
            if tag == _EXTENSIONS:
                return [name.decode("ascii").lower() for name in _dns_names(extensions)]
    except (ValueError, IndexError):
        pass
    return []


def _dns_names(extensions: bytes) -> Iterator[bytes]:
    _, left, _ = _element(extensions)
    while left:
        _, extension, left = _element(left)
        _, oid, value = _element(extension)
        if oid == _SUBJECT_ALT_NAME:
            while value:  # a `critical` may stand before the value
                _, content, value = _element(value)
            _, names, _ = _element(content)
            while names:
                tag, name, names = _element(names)
                if tag == _DNS_NAME:
                    yield name


def _from_validity(pem: str) -> bytes:
    """What stands in the first certificate from `Validity` on. ValueError or IndexError: nothing can be read."""
    begin = pem.index(_BEGIN)
    der = ssl.PEM_cert_to_DER_cert(pem[begin : pem.index(_END, begin) + len(_END)])
    _, certificate, _ = _element(der)
    _, to_be_signed, _ = _element(certificate)
    tag, _, rest = _element(to_be_signed)
    if tag == _VERSION:
        _, _, rest = _element(rest)  # serialNumber
    _, _, rest = _element(rest)  # signature
    _, _, rest = _element(rest)  # issuer
    return rest


def _element(der: bytes) -> tuple[int, bytes, bytes]:
    """The first element of a DER string: its tag, its contents, and what follows it."""
    length, at = der[1], 2
    if length & 0x80:
        at += length & 0x7F
        length = int.from_bytes(der[2:at])
    if len(der) < at + length:
        raise ValueError("an element that goes beyond the end")
    return der[0], der[at : at + length], der[at + length :]


def _time(tag: int, text: str) -> float:
    """UTCTime has two digits of the year, 50 and more meaning 19xx (RFC 5280 section 4.1.2.5.1)."""
    if tag == _UTC_TIME:
        text = ("19" if text[:2] >= "50" else "20") + text
    return datetime.strptime(text, "%Y%m%d%H%M%SZ").replace(tzinfo=UTC).timestamp()
