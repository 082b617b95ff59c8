import os
import subprocess
from datetime import UTC, datetime, timedelta

import pytest
from cryptography import x509

from proxy.pki.authority import AuthorityError, Leaf, issue, make_authority
from proxy.pki.inspect import inspect

NOW = datetime(2030, 6, 1, 12, tzinfo=UTC)


@pytest.fixture
def directory(tmp_path):
    make_authority(tmp_path, NOW)
    return tmp_path


def facts(path):
    (one,) = inspect(path.read_bytes())
    return one


def verify(directory, name, *options, at=NOW):
    """OpenSSL's judgement, as strict as it can be."""
    when = ["-attime", str(int(at.timestamp()))]
    command = ["openssl", "verify", "-x509_strict", *when, "-CAfile", directory / "ca.crt", *options]
    return subprocess.run([*command, directory / f"{name}.crt"], capture_output=True, text=True)


def test_the_authority_signs_leaves_only(directory):
    ca = facts(directory / "ca.crt")
    assert ca.is_ca
    assert ca.key_usage == ("keyCertSign", "cRLSign")
    assert ca.key_type == "EC secp256r1"
    assert (ca.not_after - NOW).days == 3652
    certificate = x509.load_pem_x509_certificate((directory / "ca.crt").read_bytes())
    assert certificate.extensions.get_extension_for_class(x509.BasicConstraints).value.path_length == 0


@pytest.mark.parametrize(
    ("server", "client", "purposes"),
    [(True, False, {"sslserver"}), (False, True, {"sslclient"}), (True, True, {"sslserver", "sslclient"})],
)
def test_a_leaf_is_good_for_what_it_was_issued_for(directory, server, client, purposes):
    issue(directory, Leaf("leaf", dns=["prom.example"], addresses=["::1"], server=server, client=client), NOW)
    for purpose in ("sslserver", "sslclient", "crlsign"):
        assert (verify(directory, "leaf", "-purpose", purpose).returncode == 0) == (purpose in purposes)
    assert verify(directory, "leaf", "-verify_hostname", "prom.example").returncode == 0
    assert verify(directory, "leaf", "-verify_hostname", "leaf").returncode != 0
    assert verify(directory, "leaf", "-verify_ip", "::1").returncode == 0
    assert verify(directory, "leaf", at=NOW + timedelta(days=364)).returncode == 0
    assert verify(directory, "leaf", at=NOW + timedelta(days=366)).returncode != 0
    leaf = facts(directory / "leaf.crt")
    assert leaf.key_usage == ("digitalSignature",)
    assert not leaf.is_ca


@pytest.mark.parametrize(
    ("name", "sans"), [("server", ("DNS:server",)), ("10.0.0.7", ("IP:10.0.0.7",)), ("a.b-c.d", ("DNS:a.b-c.d",))]
)
def test_the_name_is_the_only_san_when_none_is_given(directory, name, sans):
    issue(directory, Leaf(name), NOW)
    assert facts(directory / f"{name}.crt").sans == sans


def test_keys_are_for_their_owner_and_serials_are_their_own(directory):
    old = os.umask(0)
    try:
        pairs = [issue(directory, Leaf(name), NOW) for name in ("one", "two")]
    finally:
        os.umask(old)
    for pair in pairs:
        assert pair.key_file.stat().st_mode & 0o777 == 0o600
        assert pair.cert_file.stat().st_mode & 0o777 == 0o600
    assert len({facts(path).serial for path in directory.glob("*.crt")}) == 3
    assert sorted(path.name for path in directory.iterdir()) == sorted(
        f"{name}.{kind}" for name in ("ca", "one", "two") for kind in ("crt", "key")
    ), "no temporary file is left"


def test_nothing_is_replaced_without_force(directory):
    issue(directory, Leaf("one"), NOW)
    before = {path.name: path.read_bytes() for path in directory.iterdir()}
    for make in (make_authority, lambda d, now, **o: issue(d, Leaf("one"), now, **o)):
        with pytest.raises(AuthorityError, match="exists: say --force"):
            make(directory, NOW)
        assert {path.name: path.read_bytes() for path in directory.iterdir()} == before
    issue(directory, Leaf("one"), NOW, force=True)
    assert (directory / "one.key").read_bytes() != before["one.key"]
    assert verify(directory, "one").returncode == 0


@pytest.mark.parametrize(
    ("leaf", "says"),
    [
        (Leaf("../up"), "a name is up to 64"),
        (Leaf(""), "a name is up to 64"),
        (Leaf("ca"), "the authority's own name"),
        (Leaf("x", dns=["a b"]), "'a b': not a DNS name"),
        (Leaf("x", dns=["ex*mple.org"]), "not a DNS name"),
        (Leaf("x", dns=["10.0.0.1"]), "not a DNS name: give an address with --ip"),
        (Leaf("dash-.x"), "not a DNS name: give one with --dns"),
        (Leaf("x", addresses=["host"]), "not an IP address: give a name with --dns"),
        (Leaf("x", server=False), "say --server or --client"),
        (Leaf("x", days=0), "--days must be from 1 to 3652"),
        (Leaf("x", days=3652), r"ca\.crt: ends on 2040-05-31, before 3652 days are over"),
        (Leaf("x", days=10**10), "--days must be from 1"),
    ],
)
def test_what_cannot_be_issued_says_why_and_leaves_nothing(directory, leaf, says):
    before = sorted(directory.iterdir())
    with pytest.raises(AuthorityError, match=says):
        issue(directory, leaf, NOW + timedelta(days=1))
    assert sorted(directory.iterdir()) == before


def test_without_an_authority(tmp_path):
    with pytest.raises(AuthorityError, match=r"ca\.crt: does not exist: make the authority with"):
        issue(tmp_path, Leaf("x"), NOW)


def test_an_authority_whose_key_is_another_s(directory, tmp_path_factory):
    other = tmp_path_factory.mktemp("other")
    make_authority(other, NOW)
    (other / "ca.key").replace(directory / "ca.key")
    with pytest.raises(AuthorityError, match=r"ca\.key: not the elliptic-curve key of"):
        issue(directory, Leaf("x"), NOW)


def test_a_failed_write_leaves_no_key_behind(directory, monkeypatch):
    before = sorted(directory.iterdir())

    def full(_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.fsync", full)
    with pytest.raises(AuthorityError, match="No space left"):
        issue(directory, Leaf("x"), NOW)
    assert sorted(directory.iterdir()) == before
