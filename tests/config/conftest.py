"""Certificates for the configurations that need them, made once for all tests."""

from __future__ import annotations

import datetime as dt

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec


@pytest.fixture(scope="session")
def certs(tmp_path_factory):
    """A directory with server.crt and server.key, other.key (of nobody) and encrypted.key."""
    directory = tmp_path_factory.mktemp("certs")
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "localhost")])
    now = dt.datetime.now(dt.UTC)
    certificate = (
        x509.CertificateBuilder(name, name, key.public_key(), x509.random_serial_number())
        .not_valid_before(now)
        .not_valid_after(now + dt.timedelta(days=1))
        .sign(key, hashes.SHA256())
    )
    (directory / "server.crt").write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
    _write_key(directory / "server.key", key, serialization.NoEncryption())
    _write_key(directory / "other.key", ec.generate_private_key(ec.SECP256R1()), serialization.NoEncryption())
    _write_key(directory / "encrypted.key", key, serialization.BestAvailableEncryption(b"passphrase"))
    return directory


def _write_key(path, key, encryption):
    form = serialization.PrivateFormat.PKCS8
    path.write_bytes(key.private_bytes(serialization.Encoding.PEM, form, encryption))
    path.chmod(0o600)
