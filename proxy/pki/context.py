"""Certificate files -> the contexts of listeners and upstreams, or an error that names file and remedy.

The choices: TLS 1.2 at least; in 1.2 only ECDHE with AEAD (Mozilla's intermediate list); the client's order of ciphers,
since all are strong and it knows what its machine does fast; two groups (`groups`); no renegotiation; no tickets:
senders keep their connections, Go's clients take none (10 us of a handshake each), and a resumed session skips what a
whole one checks.
(OpenSSL resumes TLS 1.2 by session id all the same, within one context: Python has no switch for that.)
"""

from __future__ import annotations

import contextlib
import errno
import os
import ssl
import stat
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Final, NoReturn

from proxy.pair import explain_pair
from proxy.pki.groups import ServerContext, use_p256, use_x25519

if TYPE_CHECKING:
    from collections.abc import Iterator

    from proxy.gate.snapshot import ClientTrust, UpstreamTls

#: What the Python default adds, CBC with SHA-2 (Lucky Thirteen), is left out. TLS 1.3's three suites are always on.
TLS12_CIPHERS: Final = (
    "ECDHE-ECDSA-AES128-GCM-SHA256:ECDHE-RSA-AES128-GCM-SHA256"
    ":ECDHE-ECDSA-AES256-GCM-SHA384:ECDHE-RSA-AES256-GCM-SHA384"
    ":ECDHE-ECDSA-CHACHA20-POLY1305:ECDHE-RSA-CHACHA20-POLY1305"
)

#: <linux/memfd.h>: of Linux 6.3, unknown before (EINVAL); vm.memfd_noexec=2 refuses files without it.
_MFD_NOEXEC_SEAL: Final = 8
#: A certificate file with a whole chain is some 10 KB.
MAX_PEM_BYTES: Final = 1 << 20


class PairError(Exception):
    """A certificate and key that cannot be served. The text names the file and says what to do."""


@dataclass(frozen=True)
class Pair:
    """A chain of certificates and its key as they were read, so that they can be served after their files went bad."""

    cert_file: Path
    key_file: Path
    cert: bytes = field(repr=False)
    key: bytes = field(repr=False)


@dataclass(frozen=True)
class Trusted:
    """What clients' certificates are judged by, as it was read; `crl` None: no list of the revoked."""

    trust: ClientTrust
    ca: bytes = field(repr=False)
    crl: bytes | None = field(repr=False)


def read_pair(cert_file: Path, key_file: Path) -> Pair:
    """Raises PairError; whether the two belong together is found out when a context is built of them."""
    return Pair(cert_file, key_file, _check_cert_file(cert_file), _check_key_file(key_file))


def read_trust(trust: ClientTrust) -> Trusted:
    """Raises PairError when there is nothing in the files by which OpenSSL could judge."""
    crl = _read(Path(trust.crl_file), "CRL") if trust.crl_file else None
    trusted = Trusted(trust, _read(Path(trust.ca_file), "CA"), crl)
    _ask_clients(ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER), trusted)
    return trusted


def build_server_context(
    cert_file: Path, key_file: Path, min_version: ssl.TLSVersion, trust: ClientTrust | None = None
) -> ServerContext:
    """Read the files and build the context of a listener; raises PairError. `trust` None: no client is asked."""
    return build_context(read_pair(cert_file, key_file), min_version, None if trust is None else read_trust(trust))


def build_context(pair: Pair, min_version: ssl.TLSVersion, trusted: Trusted | None) -> ServerContext:
    """Build the context of a listener of what was read; raises PairError."""
    if min_version < ssl.TLSVersion.TLSv1_2:
        raise PairError("the lowest TLS version that is served is 1.2: set min_version to TLS12 or TLS13")
    x25519, p256 = (_build_half(pair, min_version, trusted) for _ in range(2))
    use_x25519(x25519)
    use_p256(p256)
    return ServerContext(x25519, p256)


def _build_half(pair: Pair, min_version: ssl.TLSVersion, trusted: Trusted | None) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = min_version
    context.set_ciphers(TLS12_CIPHERS)
    context.options |= ssl.OP_NO_RENEGOTIATION | ssl.OP_NO_COMPRESSION | ssl.OP_NO_TICKET
    context.options &= ~ssl.OP_CIPHER_SERVER_PREFERENCE
    context.num_tickets = 0
    context.set_alpn_protocols(["http/1.1"])
    try:
        with _as_file(pair.cert) as cert, _as_file(pair.key) as key:
            context.load_cert_chain(cert, key, password=_refuse_password)
    except (OSError, ValueError) as exc:  # ssl.SSLError is an OSError
        raise PairError(explain_pair(exc, str(pair.cert_file), str(pair.key_file)).text) from exc
    if trusted is not None:
        _ask_clients(context, trusted)
    return context


@contextlib.contextmanager
def _as_file(text: bytes) -> Iterator[str]:
    """A path at which OpenSSL finds the text, which it takes in no other way: of memory alone (memfd_create(2))."""
    try:
        number = os.memfd_create("pem", os.MFD_CLOEXEC | _MFD_NOEXEC_SEAL)
    except OSError as exc:
        if exc.errno != errno.EINVAL:
            raise
        number = os.memfd_create("pem", os.MFD_CLOEXEC)
    with os.fdopen(number, "wb") as file:
        file.write(text)
        file.flush()
        yield f"/proc/self/fd/{file.fileno()}"


def _ask_clients(context: ssl.SSLContext, trusted: Trusted) -> None:
    """Verify client certificates: chain, times, purpose (as OpenSSL does by itself) and, with a list, revocation."""
    trust = trusted.trust
    context.verify_mode = ssl.CERT_REQUIRED if trust.is_required else ssl.CERT_OPTIONAL
    # A client's own certificate may be its authority, as in the usual exercise for exporters.
    context.verify_flags |= ssl.VERIFY_X509_PARTIAL_CHAIN
    _trust(context, trust.ca_file, trusted.ca)
    if trusted.crl is not None:
        try:
            with _as_file(trusted.crl) as crl:
                context.load_verify_locations(crl)
        except (OSError, ValueError) as exc:
            raise PairError(f"{trust.crl_file}: no CRL in it that OpenSSL can use: it must be PEM") from exc
        context.verify_flags |= ssl.VERIFY_CRL_CHECK_LEAF


def _trust(context: ssl.SSLContext, ca_file: str, ca: bytes) -> None:
    try:
        context.load_verify_locations(cadata=ca.decode("ascii", "replace"))
    except (ssl.SSLError, ValueError) as exc:
        raise PairError(f"{ca_file}: no authority in it that OpenSSL can use: it must be PEM") from exc


def build_client_context(tls: UpstreamTls) -> ssl.SSLContext:
    """What an upstream is reached with: its certificate and its name are verified. Blocks; raises PairError."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.minimum_version = ssl.TLSVersion.TLSv1_3 if tls.min_version == "TLS13" else ssl.TLSVersion.TLSv1_2
    context.set_ciphers(TLS12_CIPHERS)
    context.set_alpn_protocols(["http/1.1"])
    if tls.ca_file:
        _trust(context, tls.ca_file, _read(Path(tls.ca_file), "CA"))
    else:
        context.load_default_certs()
    if tls.cert_file:
        cert_file, key_file = Path(tls.cert_file), Path(tls.key_file)
        _check_cert_file(cert_file)
        _check_key_file(key_file)
        try:
            context.load_cert_chain(cert_file, key_file, password=_refuse_password)
        except (OSError, ValueError) as exc:
            raise PairError(explain_pair(exc, str(cert_file), str(key_file)).text) from exc
    return context


def _check_cert_file(path: Path) -> bytes:
    text = _read(path, "certificate")
    if b"-----BEGIN CERTIFICATE-----" not in text:
        raise PairError(f"{path}: no certificate in it: it must be PEM, the server's own certificate first")
    return text


def _check_key_file(path: Path) -> bytes:
    text = _read(path, "key")
    if b"PRIVATE KEY-----" not in text:
        raise PairError(f"{path}: no private key in it: it must be PEM (BEGIN PRIVATE KEY or BEGIN EC PRIVATE KEY)")
    if b"ENCRYPTED" in text:
        raise PairError(f"{path}: the key is encrypted, and nobody is there to type its password: store it decrypted")
    if path.stat().st_mode & stat.S_IWOTH:
        raise PairError(f"{path}: anyone on this machine may write the key: chmod 600 {path}")
    return text


def _read(path: Path, what: str) -> bytes:
    try:
        with path.open("rb") as file:
            text = file.read(MAX_PEM_BYTES + 1)
    except FileNotFoundError:
        remedy = "create it with `promgate certs issue`, or correct the path in the configuration"
        raise PairError(f"{path}: the {what} file does not exist: {remedy}") from None
    except PermissionError:
        raise PairError(f"{path}: the {what} file may not be read: give it to the user promgate runs as") from None
    except OSError as exc:
        raise PairError(f"{path}: the {what} file cannot be read: {exc.strerror}") from exc
    if len(text) > MAX_PEM_BYTES:
        raise PairError(f"{path}: too large for a {what} file (over {MAX_PEM_BYTES} bytes)")
    return text


def _refuse_password() -> NoReturn:
    raise ValueError("the key is encrypted")  # never ask on a terminal
