"""A small certificate authority in a directory: ca.crt and ca.key, and leaf certificates NAME.crt and NAME.key.

It may sign leaves only (pathlen 0), and a leaf may not sign (RFC 5280 sections 4.2.1.3 and 4.2.1.9). All keys are
P-256: a signature costs 30 us where RSA-2048 takes 600. A key file is 0600 from its first byte; a pair is written key
first, and each file appears whole or not at all.
"""

from __future__ import annotations

import ipaddress
import os
import re
import tempfile
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Final

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

if TYPE_CHECKING:
    from collections.abc import Sequence
    from datetime import datetime

#: Within what Mozilla's intermediate guideline asks (366); nobody wants to be woken by a leaf of ten years either.
LEAF_DAYS: Final = 365
CA_DAYS: Final = 3652
#: A machine whose clock is a little behind takes a certificate that was just made.
CLOCK_SKEW: Final = timedelta(hours=1)

_NAME: Final = re.compile(r"[A-Za-z0-9](?:[A-Za-z0-9._-]{0,62}[A-Za-z0-9])?")
#: A DNS name, or one with a wildcard as its whole first label (RFC 6125 section 6.4.3). The underscore is not of host
#: names, but of those that containers and exporters have; Go's and OpenSSL's verifiers take it.
_DNS: Final = re.compile(
    r"(?=.{1,253}\Z)(?:\*\.)?(?:[a-z0-9_](?:[a-z0-9_-]{0,61}[a-z0-9_])?\.)*[a-z0-9_](?:[a-z0-9_-]{0,61}[a-z0-9_])?",
    re.IGNORECASE,
)


class AuthorityError(Exception):
    """Nothing was made. The text names the file or the value, and says what to do."""


@dataclass(frozen=True, slots=True)
class Leaf:
    """What to issue. With no DNS name and no address, the name itself is the only SAN."""

    name: str
    dns: Sequence[str] = ()
    addresses: Sequence[str] = ()
    server: bool = True
    client: bool = False
    days: int = LEAF_DAYS


@dataclass(frozen=True, slots=True)
class Pair:
    """Where a certificate and its key were put."""

    cert_file: Path
    key_file: Path


def make_authority(directory: Path, now: datetime, *, force: bool = False) -> Pair:
    """Make the authority's own key and certificate. Raises AuthorityError."""
    pair = _place(directory, "ca", force=force)
    key = ec.generate_private_key(ec.SECP256R1())
    serial = x509.random_serial_number()
    # The serial in the name: two authorities made one after the other must not be taken for one.
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, f"promgate CA {serial:x}"[:28])])
    certificate = (
        x509.CertificateBuilder(name, name, key.public_key(), serial)
        .not_valid_before(now - CLOCK_SKEW)
        .not_valid_after(now + timedelta(days=CA_DAYS))
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(_usage(signs=True), critical=True)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
        .sign(key, hashes.SHA256())
    )
    _put(pair, certificate, key)
    return pair


def issue(directory: Path, leaf: Leaf, now: datetime, *, force: bool = False) -> Pair:
    """Issue a leaf certificate with a new key, signed by the directory's authority. Raises AuthorityError."""
    names = _subject_names(leaf)
    usages = [ExtendedKeyUsageOID.SERVER_AUTH] * leaf.server + [ExtendedKeyUsageOID.CLIENT_AUTH] * leaf.client
    if not usages:
        raise AuthorityError(f"{leaf.name}: neither for a server nor for a client: say --server or --client")
    if leaf.name == "ca":
        raise AuthorityError("ca: this is the authority's own name: choose another")
    if not 1 <= leaf.days <= CA_DAYS:
        raise AuthorityError(f"{leaf.name}: --days must be from 1 to {CA_DAYS}, which is the authority's own life")
    issuer, issuer_key = _load_authority(directory)
    not_after = now + timedelta(days=leaf.days)
    if not_after > issuer.not_valid_after_utc:
        raise AuthorityError(
            f"{directory / 'ca.crt'}: ends on {issuer.not_valid_after_utc:%Y-%m-%d}, before {leaf.days} days are over: "
            "ask for fewer --days, or make a new authority with `promgate certs init --force`"
        )
    pair = _place(directory, leaf.name, force=force)
    key = ec.generate_private_key(ec.SECP256R1())
    issuer_id = issuer.extensions.get_extension_for_class(x509.SubjectKeyIdentifier).value
    certificate = (
        x509.CertificateBuilder()
        .subject_name(x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, leaf.name)]))
        .issuer_name(issuer.subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(max(now - CLOCK_SKEW, issuer.not_valid_before_utc))
        .not_valid_after(not_after)
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(_usage(signs=False), critical=True)
        .add_extension(x509.ExtendedKeyUsage(usages), critical=False)
        .add_extension(x509.SubjectAlternativeName(names), critical=False)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
        .add_extension(x509.AuthorityKeyIdentifier.from_issuer_subject_key_identifier(issuer_id), critical=False)
        .sign(issuer_key, hashes.SHA256())
    )
    _put(pair, certificate, key)
    return pair


def _subject_names(leaf: Leaf) -> list[x509.GeneralName]:
    if not _NAME.fullmatch(leaf.name):
        raise AuthorityError(f"{leaf.name!r}: a name is up to 64 of A-Z a-z 0-9 . _ -, and becomes the file's name")
    dns, addresses = list(leaf.dns), list(leaf.addresses)
    if not dns and not addresses:
        (addresses if _is_address(leaf.name) else dns).append(leaf.name)
    names: list[x509.GeneralName] = []
    for name in dns:
        if not _DNS.fullmatch(name) or _is_address(name):
            remedy = "give an address with --ip" if _is_address(name) else "give one with --dns"
            raise AuthorityError(f"{name!r}: not a DNS name: {remedy}")
        names.append(x509.DNSName(name.lower()))
    for address in addresses:
        if not _is_address(address):
            raise AuthorityError(f"{address!r}: not an IP address: give a name with --dns")
        names.append(x509.IPAddress(ipaddress.ip_address(address)))
    return names


def _is_address(text: str) -> bool:
    try:
        ipaddress.ip_address(text)
    except ValueError:
        return False
    return True


def _load_authority(directory: Path) -> tuple[x509.Certificate, ec.EllipticCurvePrivateKey]:
    cert_file, key_file = directory / "ca.crt", directory / "ca.key"
    for file in (cert_file, key_file):
        if not file.is_file():
            raise AuthorityError(f"{file}: does not exist: make the authority with `promgate certs init` first")
    try:
        certificate = x509.load_pem_x509_certificate(cert_file.read_bytes())
        key = serialization.load_pem_private_key(key_file.read_bytes(), password=None)
    except OSError as exc:
        raise AuthorityError(f"{exc.filename}: cannot be read: {exc.strerror}") from exc
    except (ValueError, TypeError) as exc:
        raise AuthorityError(f"{cert_file}, {key_file}: not a certificate and its unencrypted key: {exc}") from exc
    if not isinstance(key, ec.EllipticCurvePrivateKey) or key.public_key() != certificate.public_key():
        raise AuthorityError(f"{key_file}: not the elliptic-curve key of {cert_file}: restore the two together")
    return certificate, key


def _place(directory: Path, name: str, *, force: bool) -> Pair:
    pair = Pair(directory / f"{name}.crt", directory / f"{name}.key")
    for file in (pair.cert_file, pair.key_file):
        if not force and os.path.lexists(file):
            raise AuthorityError(f"{file}: exists: say --force to replace it")
    try:
        directory.mkdir(mode=0o700, parents=True, exist_ok=True)
    except OSError as exc:
        raise AuthorityError(f"{directory}: cannot be made: {exc.strerror}") from exc
    return pair


def _put(pair: Pair, certificate: x509.Certificate, key: ec.EllipticCurvePrivateKey) -> None:
    secret = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    try:
        _write(pair.key_file, secret)
        _write(pair.cert_file, certificate.public_bytes(serialization.Encoding.PEM))
    except OSError as exc:
        raise AuthorityError(f"{pair.cert_file.parent}: cannot be written: {exc.strerror}") from exc


def _write(path: Path, contents: bytes) -> None:
    """Replace the file whole: a reader sees the old one or the new one, also after a loss of power. It is 0600."""
    fd, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")  # 0600, O_EXCL
    try:
        with os.fdopen(fd, "wb") as file:
            file.write(contents)
            file.flush()
            os.fsync(fd)
        Path(temporary).replace(path)
    except BaseException:
        Path(temporary).unlink(missing_ok=True)
        raise
    directory = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(directory)
    finally:
        os.close(directory)


def _usage(*, signs: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=not signs,
        key_cert_sign=signs,
        crl_sign=signs,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        encipher_only=False,
        decipher_only=False,
    )
