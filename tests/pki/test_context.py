import contextlib
import errno
import os
import ssl
import subprocess

import pytest

from proxy.pki.context import PairError, build_server_context

TLS12 = ssl.TLSVersion.TLSv1_2
TLS13 = ssl.TLSVersion.TLSv1_3


def shake_hands(server, client, name="localhost"):
    """Both ends of a handshake in memory."""
    to_server, to_client = ssl.MemoryBIO(), ssl.MemoryBIO()
    ends = [client.wrap_bio(to_client, to_server, server_hostname=name)]
    with contextlib.suppress(ssl.SSLWantReadError):
        ends[0].do_handshake()
    hello = to_server.read()
    to_server.write(hello)
    ends.append(server.choose(memoryview(hello)).wrap_bio(to_server, to_client, server_side=True))
    for end in (1, 0) * 3:
        with contextlib.suppress(ssl.SSLWantReadError):
            ends[end].do_handshake()
    return ends


def client_of(made, **options):
    context = ssl.create_default_context(cafile=made / "ca.crt")
    for name, value in options.items():
        setattr(context, name, value)
    return context


@pytest.mark.parametrize("lowest", [TLS12, TLS13])
def test_a_pair_is_served(made, lowest):
    server = build_server_context(made / "one.crt", made / "one.key", lowest)
    client, _ = shake_hands(server, client_of(made))
    assert client.version() == "TLSv1.3"
    client.context.set_alpn_protocols(["h2", "http/1.1"])
    client, _ = shake_hands(server, client.context)
    assert client.selected_alpn_protocol() == "http/1.1"


def test_the_lowest_version_holds(made):
    server = build_server_context(made / "one.crt", made / "one.key", TLS13)
    with pytest.raises(ssl.SSLError):
        shake_hands(server, client_of(made, maximum_version=TLS12))


def test_tls_12_is_forward_secret_and_authenticated(made):
    """T2."""
    server = build_server_context(made / "one.crt", made / "one.key", TLS12)
    ciphers = [cipher for cipher in server.p256.get_ciphers() if cipher["protocol"] != "TLSv1.3"]
    assert {cipher["kea"] for cipher in ciphers} == {"kx-ecdhe"}
    assert all(cipher["aead"] for cipher in ciphers)


@pytest.mark.parametrize(("group", "half"), [(None, "x25519"), ("prime256v1", "p256"), ("secp521r1", "p256")])
def test_the_hello_picks_the_context(made, group, half):
    """T1: and the group with it, which no client has a say in."""
    server = build_server_context(made / "one.crt", made / "one.key", TLS12)
    client = client_of(made)
    if group:
        client.set_ecdh_curve(group)
    hello = ssl.MemoryBIO()
    with contextlib.suppress(ssl.SSLWantReadError):
        client.wrap_bio(ssl.MemoryBIO(), hello, server_hostname="localhost").do_handshake()
    assert server.choose(memoryview(hello.read())) is getattr(server, half)
    if group == "secp521r1":
        with pytest.raises(ssl.SSLError, match="NO_SUITABLE_KEY_SHARE"):
            shake_hands(server, client)
    else:
        shake_hands(server, client)


def test_below_tls_12_is_refused(made):
    """T1."""
    with pytest.raises(PairError, match="min_version"):
        build_server_context(made / "one.crt", made / "one.key", ssl.TLSVersion.MINIMUM_SUPPORTED)


def encrypted(made, path):
    command = ["openssl", "pkcs8", "-topk8", "-in", made / "one.key", "-out", path, "-passout", "pass:secret"]
    subprocess.run(command, check=True)


def short_rsa(path):
    command = ["openssl", "req", "-x509", "-newkey", "rsa:1024", "-nodes", "-subj", "/CN=x"]
    subprocess.run([*command, "-keyout", path, "-out", path.with_suffix(".crt")], check=True, capture_output=True)


@pytest.mark.parametrize(
    ("cert", "key", "says"),
    [
        ("none.crt", "one.key", r"none\.crt: the certificate file does not exist: create it"),
        ("one.crt", "none.key", r"none\.key: the key file does not exist: create it"),
        ("one.crt", "two.key", r"two\.key: not the key of .*one\.crt: give the two"),
        ("one.key", "one.key", r"one\.key: no certificate in it"),
        ("one.crt", "one.crt", r"one\.crt: no private key in it"),
        ("one.crt", "encrypted.key", r"encrypted\.key: the key is encrypted.*store it decrypted"),
        ("one.crt", "broken.key", r"broken\.key: OpenSSL cannot use them \("),
        ("broken.crt", "one.key", r"broken\.crt, .*: OpenSSL cannot use them \("),
        ("one.crt", "writable.key", r"writable\.key: anyone on this machine may write the key: chmod 600"),
        ("one.crt", "", r"the key file cannot be read: Is a directory"),
        ("one.crt", "huge.key", r"huge\.key: too large"),
        ("short.crt", "short.key", r"short\.crt: refused as too weak.*issue one"),
    ],
)
def test_a_bad_pair_is_named_with_its_remedy(made, cert, key, says):
    encrypted(made, made / "encrypted.key")
    short_rsa(made / "short.key")
    (made / "broken.key").write_text("-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n")
    (made / "broken.crt").write_text("-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n")
    (made / "writable.key").write_bytes((made / "one.key").read_bytes())
    (made / "writable.key").chmod(0o666)
    (made / "huge.key").write_bytes(b"x" * (1 << 21))
    with pytest.raises(PairError, match=says):
        build_server_context(made / cert, made / key, TLS12)


@pytest.mark.parametrize("refused", [0, 8])
def test_files_of_memory_on_kernels_old_and_strict(made, monkeypatch, refused):
    """Before Linux 6.3 the flag of MFD_NOEXEC_SEAL is unknown; with vm.memfd_noexec=2 nothing goes without it."""
    real = os.memfd_create

    def strange(name, flags):
        if flags & 8 == refused:
            raise OSError(errno.EINVAL if refused else errno.EACCES, "refused")
        return real(name, flags & ~8)

    monkeypatch.setattr(os, "memfd_create", strange)
    shake_hands(build_server_context(made / "one.crt", made / "one.key", TLS12), client_of(made))


def test_a_file_that_may_not_be_read(made, monkeypatch):
    def refuse(self, *_):
        raise PermissionError(13, "Permission denied", str(self))

    monkeypatch.setattr("pathlib.Path.open", refuse)  # the superuser, who runs tests in containers, may read all
    with pytest.raises(PairError, match=r"one\.crt: the certificate file may not be read: give it to the user"):
        build_server_context(made / "one.crt", made / "one.key", TLS12)
