import subprocess

import pytest
from cryptography import x509

from proxy.pki.validity import find_ends

BEGIN, END = "-----BEGIN CERTIFICATE-----", "-----END CERTIFICATE-----"


def test_as_cryptography_reads_it(made):
    for name in ("ca", "one", "two"):
        pem = (made / f"{name}.crt").read_text()
        expected = x509.load_pem_x509_certificate(pem.encode()).not_valid_after_utc.timestamp()
        assert find_ends(pem) == [expected]
        assert find_ends("Bag Attributes\n" + pem + pem) == [expected, expected]


@pytest.mark.parametrize(("days", "kind"), [("100", "UTCTIME"), ("29220", "GENERALIZEDTIME")])
@pytest.mark.parametrize("version", ["v3", "v1"])
def test_as_openssl_writes_it(tmp_path, days, kind, version):
    key, cert = tmp_path / "k", tmp_path / "c"
    command = ["openssl", "req", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-subj", "/CN=x"]
    subprocess.run([*command, "-keyout", key, "-out", tmp_path / "r"], check=True, capture_output=True)
    extensions = tmp_path / "e"
    extensions.write_text("basicConstraints=CA:FALSE\n" if version == "v3" else "")
    sign = ["openssl", "x509", "-req", "-in", tmp_path / "r", "-signkey", key, "-days", days, "-out", cert]
    if version == "v3":
        sign += ["-extfile", extensions]
    subprocess.run(sign, check=True, capture_output=True)
    parsed = subprocess.run(["openssl", "asn1parse", "-in", cert], check=True, capture_output=True, text=True).stdout
    assert parsed.count(kind) >= 1
    expected = x509.load_pem_x509_certificate(cert.read_bytes()).not_valid_after_utc.timestamp()
    assert find_ends(cert.read_text()) == [expected]


@pytest.mark.parametrize("text", ["", "no PEM", BEGIN, f"{BEGIN}\nAAAA\n{END}"])
def test_nothing_to_read(text):
    assert find_ends(text) == []


def test_any_cut_is_nothing_or_a_time(made):
    lines = (made / "one.crt").read_text().splitlines()
    for end in range(1, len(lines) - 1):
        find_ends("\n".join([*lines[:end], lines[-1]]))
