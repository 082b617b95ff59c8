import json
import subprocess

import pytest

from proxy.cli import main


@pytest.fixture
def certs(tmp_path, capsys):
    """Run `promgate certs ...`: its exit code, stdout lines and stderr."""

    def certs(*words):
        code = main(["certs", *map(str, words)])
        printed = capsys.readouterr()
        return code, printed.out.splitlines(), printed.err

    return certs


def test_an_authority_and_its_leaves_as_openssl_judges_them(certs, tmp_path):
    place = tmp_path / "new" / "certs"
    assert certs("init", "--dir", place) == (0, [str(place / "ca.crt"), str(place / "ca.key")], "")
    code, printed, err = certs("issue", "server", "--dns", "localhost", "--ip", "127.0.0.1", "--dir", place)
    assert (code, printed, err) == (0, [str(place / "server.crt"), str(place / "server.key")], "")
    assert certs("issue", "agent", "--client", "--days", 30, "--dir", place)[0] == 0
    assert place.stat().st_mode & 0o777 == 0o700

    def verify(name, *options):
        command = ["openssl", "verify", "-x509_strict", "-CAfile", place / "ca.crt", *options, place / f"{name}.crt"]
        return subprocess.run(command, capture_output=True).returncode == 0

    assert verify("server", "-purpose", "sslserver", "-verify_ip", "127.0.0.1")
    assert verify("server", "-verify_hostname", "localhost")
    assert not verify("server", "-purpose", "sslclient")
    assert verify("agent", "-purpose", "sslclient")
    assert not verify("agent", "-purpose", "sslserver")


def test_refuses_to_replace_without_force(certs, tmp_path):
    certs("init", "--dir", tmp_path)
    key = (tmp_path / "ca.key").read_bytes()
    code, printed, err = certs("init", "--dir", tmp_path)
    assert (code, printed) == (1, [])
    assert "ca.crt: exists: say --force" in err
    assert (tmp_path / "ca.key").read_bytes() == key
    assert certs("init", "--dir", tmp_path, "--force")[0] == 0
    assert (tmp_path / "ca.key").read_bytes() != key


def test_show(certs, tmp_path):
    certs("init", "--dir", tmp_path)
    certs("issue", "one", "--dir", tmp_path, "--client", "--server")
    chain = tmp_path / "chain.pem"
    chain.write_bytes((tmp_path / "one.crt").read_bytes() + (tmp_path / "ca.crt").read_bytes())
    code, printed, _ = certs("show", chain, "--output=json")
    assert code == 0
    leaf, ca = json.loads("\n".join(printed))
    assert leaf["subject"] == "CN=one"
    assert leaf["extended_key_usage"] == ["serverAuth", "clientAuth"]
    assert leaf["issuer"] == ca["subject"]
    assert leaf["not_after"].endswith("Z")
    code, printed, _ = certs("show", chain)
    assert code == 0
    assert [line.split(None, 1)[1] for line in printed if line.startswith("SUBJECT ")] == ["CN=one", ca["subject"]]


def test_show_does_not_let_a_name_write_to_the_terminal(certs, tmp_path):
    command = ["openssl", "req", "-x509", "-newkey", "ed25519", "-nodes", "-subj", "/CN=a\x1b[2Jb\nSUBJECT CN=other"]
    subprocess.run([*command, "-keyout", tmp_path / "k", "-out", tmp_path / "c"], check=True, capture_output=True)
    code, printed, _ = certs("show", tmp_path / "c")
    assert code == 0
    assert "\x1b" not in "".join(printed)
    assert len([line for line in printed if line.startswith("SUBJECT")]) == 1


@pytest.mark.parametrize(("contents", "says"), [(None, "cannot be read: No such file"), (b"x", "no certificate in it")])
def test_show_of_nothing(certs, tmp_path, contents, says):
    if contents is not None:
        (tmp_path / "c").write_bytes(contents)
    code, printed, err = certs("show", tmp_path / "c")
    assert (code, printed) == (1, [])
    assert says in err


def test_wrong_usage(certs, tmp_path):
    assert certs("issue", "--dir", tmp_path)[0] == 2
    assert certs("issue", "x", "--days", "many", "--dir", tmp_path)[0] == 2
