import ssl
import subprocess

import pytest

from proxy.pki.inspect import NoCertificate, inspect


def test_a_chain_in_its_order(made):
    chain = inspect((made / "one.crt").read_bytes() + (made / "ca.crt").read_bytes())
    assert [facts.is_ca for facts in chain] == [False, True]
    assert chain[0].issuer == chain[1].subject
    assert chain[0].sans == ("DNS:localhost",)


def openssl_certificate(path, *options):
    command = ["openssl", "req", "-x509", "-nodes", "-keyout", path / "k", "-out", path / "c", "-days", "29220"]
    subprocess.run([*command, *options], check=True, capture_output=True)
    return (path / "c").read_bytes()


@pytest.mark.parametrize(
    ("newkey", "key_type"),
    [
        (("ec", "-pkeyopt", "ec_paramgen_curve:P-384"), "EC secp384r1"),
        (("rsa:2048",), "RSA 2048"),
        (("ed25519",), "Ed25519"),
    ],
)
def test_as_openssl_says(tmp_path, newkey, key_type):
    names = "subjectAltName=DNS:a.example,IP:10.0.0.1,email:a@b.example,URI:spiffe://a/b"
    usage = "extendedKeyUsage=clientAuth,1.2.3.4"
    pem = openssl_certificate(tmp_path, "-newkey", *newkey, "-subj", "/O=A, B/CN=x", "-addext", names, "-addext", usage)
    (facts,) = inspect(pem)
    assert facts.key_type == key_type
    assert facts.subject == facts.issuer == "CN=x,O=A\\, B"
    assert facts.sans == ("DNS:a.example", "IP:10.0.0.1", "email:a@b.example", "URI:spiffe://a/b")
    assert facts.extended_key_usage == ("clientAuth", "1.2.3.4")
    printed = subprocess.run(
        ["openssl", "x509", "-noout", "-fingerprint", "-sha256", "-serial"], input=pem, capture_output=True, check=True
    ).stdout.decode()
    assert facts.fingerprint.upper() in printed.replace(":", "")
    assert f"serial={int(facts.serial, 16):X}" in printed.replace("serial=0", "serial=")


def test_the_classic_exercise_has_a_common_name_only(tmp_path):
    pem = openssl_certificate(
        tmp_path, "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-subj", "/CN=me", "-config", "/dev/null"
    )
    (facts,) = inspect(pem)
    assert (facts.subject, facts.sans, facts.key_usage, facts.extended_key_usage) == ("CN=me", (), (), ())
    assert facts.not_after.year > 2100


def test_der_is_one_certificate(made):
    pem = (made / "one.crt").read_bytes()
    assert inspect(ssl.PEM_cert_to_DER_cert(pem.decode())) == inspect(pem)


def test_what_stands_around_a_certificate_is_passed_over(made):
    one, key, ca = ((made / name).read_bytes() for name in ("one.crt", "one.key", "ca.crt"))
    assert inspect(b"Bag Attributes\n    friendlyName: x\n" + one + key + b"\n\nthe authority:\n" + ca) == [
        *inspect(one),
        *inspect(ca),
    ]


@pytest.mark.parametrize(
    ("command", "says"),
    [
        ("crl2pkcs7 -nocrl -certfile one.crt", r"PKCS#7.*openssl pkcs7 -print_certs"),
        ("crl2pkcs7 -nocrl -certfile one.crt -outform DER", r"PKCS#7.*-inform DER"),
        ("pkcs12 -export -in one.crt -inkey one.key -passout pass:x", r"PKCS#12.*openssl pkcs12 -nokeys"),
        ("pkey -in one.key", "a key and no certificate"),
        ("req -new -key one.key -subj /CN=x", "a request for a certificate"),
    ],
)
def test_another_kind_of_file_is_named(made, command, says):
    contents = subprocess.run(["openssl", *command.split()], cwd=made, check=True, capture_output=True).stdout
    with pytest.raises(NoCertificate, match=says):
        inspect(contents)


@pytest.mark.parametrize("text", [b"", b"junk", b"-----BEGIN PUBLIC KEY-----\nAAAA\n-----END PUBLIC KEY-----\n"])
def test_no_certificate(text):
    with pytest.raises(NoCertificate, match="no certificate in it: give a file with BEGIN CERTIFICATE"):
        inspect(text)


@pytest.mark.parametrize("broken", [b"AAAA\n-----END CERTIFICATE-----\n", b"-----END CERTIFICATE-----\n", b"MIIB", b""])
def test_one_of_a_chain_that_is_broken_is_named(made, broken):
    one, ca = ((made / name).read_bytes() for name in ("one.crt", "ca.crt"))
    with pytest.raises(NoCertificate, match="certificate 3 of 3 in it cannot be read"):
        inspect(one + ca + b"-----BEGIN CERTIFICATE-----\n" + broken)


def test_a_serial_number_of_an_old_authority(tmp_path, recwarn):
    """0 and less are in the bundles of systems. It is shown, and nothing is said of our libraries."""
    pem = openssl_certificate(tmp_path, "-newkey", "rsa:2048", "-subj", "/CN=old", "-set_serial", "0")
    (facts,) = inspect(pem)
    assert facts.serial == "0"
    assert not recwarn.list
