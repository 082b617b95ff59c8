"""A PEM file -> the facts of its certificates, each a plain value. It judges nothing: that is the reader's work."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import dsa, ec, ed448, ed25519, rsa

if TYPE_CHECKING:
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


class NoCertificate(Exception):
    """The text holds no certificate that can be read."""


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


def inspect_pem(pem: bytes) -> list[CertificateFacts]:
    """The facts of each certificate of a PEM text, in its order. Raises NoCertificate."""
    try:
        return [_facts(certificate) for certificate in x509.load_pem_x509_certificates(pem)]
    except ValueError as exc:
        raise NoCertificate(str(exc)) from exc


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
    key = certificate.public_key()
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
