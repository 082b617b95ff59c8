"""A file -> the facts of its certificates, each a plain value. It judges nothing: that is the reader's work."""

from __future__ import annotations

import re
import warnings
from dataclasses import dataclass
from typing import TYPE_CHECKING

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import dsa, ec, ed448, ed25519, rsa
from cryptography.utils import CryptographyDeprecationWarning

if TYPE_CHECKING:
    from collections.abc import Callable
    from datetime import datetime

#: Attributes of x509.KeyUsage that can always be read, in the order of RFC 5280 section 4.2.1.3.
_USAGES = {
    "digital_signature": "digitalSignature",
    "content_commitment": "nonRepudiation",
    "key_encipherment": "keyEncipherment",
    "data_encipherment": "dataEncipherment",
    "key_agreement": "keyAgreement",
    "key_cert_sign": "keyCertSign",
    "crl_sign": "cRLSign",
}
_EXTENDED_USAGES = {
    "1.3.6.1.5.5.7.3.1": "serverAuth",
    "1.3.6.1.5.5.7.3.2": "clientAuth",
    "2.5.29.37.0": "any",
}


#: What is taken for a file of certificates, and is none: by what stands in it (RFC 7468, RFC 2315 14), and what to do.
_OTHERS = (
    (b"BEGIN PKCS7", "PKCS#7 and no certificate: openssl pkcs7 -print_certs -in FILE"),
    (bytes.fromhex("06092a864886f70d010702"), "PKCS#7 and no certificate: openssl pkcs7 -inform DER -print_certs"),
    (bytes.fromhex("020103"), "PKCS#12 and no certificate: openssl pkcs12 -nokeys -in FILE"),
    (b"PRIVATE KEY-----", "a key and no certificate: give the .crt or .pem beside it"),
    (b"BEGIN CERTIFICATE REQUEST", "a request for a certificate: give what the authority made of it"),
    (b"BEGIN X509 CRL", "a list of the revoked: openssl crl -text -in FILE"),
)
#: To its end or, where that is missing, to the end of the file (RFC 7468 3, and the older label).
_BLOCK = re.compile(rb"-----BEGIN (?:X509 )?CERTIFICATE-----.*?(?:-----END (?:X509 )?CERTIFICATE-----|\Z)", re.DOTALL)
_NOTHING = "no certificate in it: give a file with BEGIN CERTIFICATE, or one certificate as DER"


class NoCertificate(Exception):
    """There is no certificate that can be read. The text says what there is instead, and what to do."""


@dataclass(frozen=True, slots=True)
class CertificateFacts:
    """One certificate. Names are RFC 4514 strings; times are aware and in UTC; the fingerprint is SHA-256, in hex.

    `key_usage` and `extended_key_usage` are empty when the certificate does not limit its use. `is_ca` is what its
    basic constraints say.
    """

    subject: str
    issuer: str
    serial: str
    sans: tuple[str, ...]
    not_before: datetime
    not_after: datetime
    key_type: str
    key_usage: tuple[str, ...]
    extended_key_usage: tuple[str, ...]
    is_ca: bool
    fingerprint: str


def inspect(contents: bytes) -> list[CertificateFacts]:
    """The facts of each certificate of a PEM text, in its order, or of the one that is DER. Raises NoCertificate."""
    blocks = [found[0] for found in _BLOCK.finditer(contents)]
    if not blocks and b"-----BEGIN " not in contents:
        return [_read(x509.load_der_x509_certificate, contents, _what_else(contents[:32]))]
    if not blocks:
        raise NoCertificate(_what_else(contents))
    return [
        _read(x509.load_pem_x509_certificate, block, f"certificate {place} of {len(blocks)} in it cannot be read")
        for place, block in enumerate(blocks, 1)
    ]


def _read(load: Callable[[bytes], x509.Certificate], text: bytes, otherwise: str) -> CertificateFacts:
    try:
        with warnings.catch_warnings():
            # A serial number that is 0 or negative: old authorities have them, and the number is shown.
            warnings.simplefilter("ignore", CryptographyDeprecationWarning)
            return _facts(load(text))
    except ValueError as exc:
        raise NoCertificate(otherwise) from exc


def _what_else(contents: bytes) -> str:
    return next((says for begin, says in _OTHERS if begin in contents), _NOTHING)


def _facts(certificate: x509.Certificate) -> CertificateFacts:
    extensions = {type(extension.value): extension.value for extension in certificate.extensions}
    constraints = extensions.get(x509.BasicConstraints)
    usage = extensions.get(x509.KeyUsage)
    extended = extensions.get(x509.ExtendedKeyUsage)
    return CertificateFacts(
        subject=certificate.subject.rfc4514_string(),
        issuer=certificate.issuer.rfc4514_string(),
        serial=f"{certificate.serial_number:x}",
        sans=_sans(extensions.get(x509.SubjectAlternativeName)),
        not_before=certificate.not_valid_before_utc,
        not_after=certificate.not_valid_after_utc,
        key_type=_key_type(certificate),
        key_usage=tuple(word for attribute, word in _USAGES.items() if usage and getattr(usage, attribute)),
        extended_key_usage=tuple(
            _EXTENDED_USAGES.get(oid.dotted_string, oid.dotted_string)
            for oid in (extended if isinstance(extended, x509.ExtendedKeyUsage) else ())
        ),
        is_ca=isinstance(constraints, x509.BasicConstraints) and constraints.ca,
        fingerprint=certificate.fingerprint(hashes.SHA256()).hex(),
    )


def _sans(names: x509.ExtensionType | None) -> tuple[str, ...]:
    if not isinstance(names, x509.SubjectAlternativeName):
        return ()
    return tuple(_san(name) for name in names)


def _san(name: x509.GeneralName) -> str:
    match name:
        case x509.DNSName():
            return f"DNS:{name.value}"
        case x509.IPAddress():
            return f"IP:{name.value}"
        case x509.RFC822Name():
            return f"email:{name.value}"
        case x509.UniformResourceIdentifier():
            return f"URI:{name.value}"
        case _:
            return f"other:{name.value}"


def _key_type(certificate: x509.Certificate) -> str:
    try:
        key = certificate.public_key()
    except UnsupportedAlgorithm:
        return "unknown"
    match key:
        case ec.EllipticCurvePublicKey():
            return f"EC {key.curve.name}"
        case rsa.RSAPublicKey():
            return f"RSA {key.key_size}"
        case ed25519.Ed25519PublicKey():
            return "Ed25519"
        case ed448.Ed448PublicKey():
            return "Ed448"
        case dsa.DSAPublicKey():
            return f"DSA {key.key_size}"
        case _:
            return type(key).__name__
