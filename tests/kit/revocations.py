"""What an authority has revoked: the list that `client_crl_file` reads, which `promgate certs` does not make."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePrivateKey

if TYPE_CHECKING:
    from datetime import datetime
    from pathlib import Path


def revoke(authority: Path, names: list[str], now: datetime) -> Path:
    """`crl.pem` in the directory of an authority, with the certificates NAME.crt that it has revoked."""
    ca = x509.load_pem_x509_certificate((authority / "ca.crt").read_bytes())
    key = serialization.load_pem_private_key((authority / "ca.key").read_bytes(), None)
    assert isinstance(key, EllipticCurvePrivateKey)
    made = x509.CertificateRevocationListBuilder(ca.subject, now - timedelta(days=1), now + timedelta(days=30))
    for name in names:
        serial = x509.load_pem_x509_certificate((authority / f"{name}.crt").read_bytes()).serial_number
        one = x509.RevokedCertificateBuilder().serial_number(serial).revocation_date(now - timedelta(days=1))
        made = made.add_revoked_certificate(one.build())
    file = authority / "crl.pem"
    file.write_bytes(made.sign(key, hashes.SHA256()).public_bytes(serialization.Encoding.PEM))
    return file
