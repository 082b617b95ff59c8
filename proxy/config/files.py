"""The files that a configuration names: there, readable, what they should be, and not open to everybody.

Mounted secrets are often 0644 or 0440 (Kubernetes), so wider modes than 0600 are a warning at most;
a file that anybody can write is refused.
"""

from __future__ import annotations

import os
import stat
from typing import TYPE_CHECKING

from proxy.config.problem import printable
from proxy.pair import explain_pair

if TYPE_CHECKING:
    from pathlib import Path

    from proxy.config.problem import Report

_MAX_PEM_BYTES = 1024 * 1024


def check_key_pair(cert: Path, key: Path, at: str, report: Report) -> None:
    """Report what would keep a TLS listener from starting with `cert` and `key`."""
    report.certificates[f"{at}.cert_file"] = cert
    chain = _read_pem(cert, f"{at}.cert_file", report)
    if chain is not None and b"-----BEGIN CERTIFICATE-----" not in chain:
        report.problem(f"{at}.cert_file", f"{printable(cert)} holds no certificate in PEM")
    secret = _read_pem(key, f"{at}.key_file", report, private=True)
    if secret is not None and b"PRIVATE KEY-----" not in secret:
        report.problem(f"{at}.key_file", f"{printable(key)} holds no private key in PEM")
    elif secret is not None and (b"ENCRYPTED" in secret):
        report.problem(f"{at}.key_file", f"{printable(key)} is encrypted; a server cannot be asked for a passphrase")
    if report.is_sound(f"{at}.cert_file", f"{at}.key_file"):
        _check_match(cert, key, at, report)


def check_authorities(path: Path, at: str, report: Report) -> None:
    """Report what would keep the file from being used as a bundle of authorities."""
    report.certificates[at] = path
    bundle = _read_pem(path, at, report)
    if bundle is None or not report.is_sound(at):
        return
    import ssl  # noqa: PLC0415 - 10 ms that only TLS needs to pay

    try:
        ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT).load_verify_locations(cadata=bundle.decode("ascii", "replace"))
    except (ssl.SSLError, ValueError):
        report.problem(at, f"{printable(path)} holds no certificate in PEM")


def check_revocations(path: Path, at: str, report: Report) -> None:
    """Report what would keep the file from being used as a list of revoked certificates."""
    crl = _read_pem(path, at, report)
    if crl is not None and b"-----BEGIN X509 CRL-----" not in crl:
        report.problem(at, f"{printable(path)} holds no CRL in PEM")


def _read_pem(path: Path, at: str, report: Report, *, private: bool = False) -> bytes | None:
    report.reads(path)
    try:
        with path.open("rb") as file:
            mode = os.fstat(file.fileno()).st_mode
            pem = file.read(_MAX_PEM_BYTES)
    except OSError as error:
        report.problem(at, f"{printable(path)} cannot be read: {error.strerror}")
        return None
    _judge_mode(path, mode, at, report, private=private)
    return pem


def check_secret(path: Path, at: str, report: Report) -> None:
    """Report when the file, which is read anew whenever its secret is used, is not there or anybody can change it."""
    try:
        with path.open("rb") as file:
            _judge_mode(path, os.fstat(file.fileno()).st_mode, at, report, private=True)
    except OSError as error:
        report.problem(at, f"{printable(path)} cannot be read: {error.strerror}")


def check_mode(path: Path, at: str, report: Report) -> None:
    """Report when others than its owner can change the file, or read it: it holds what is worth guessing."""
    _judge_mode(path, path.stat().st_mode, at, report, private=True)


def _judge_mode(path: Path, mode: int, at: str, report: Report, *, private: bool) -> None:
    shown = f"{printable(path)} (mode {stat.S_IMODE(mode):04o})"
    if mode & stat.S_IWOTH:
        report.problem(at, f"anybody on this machine can change {shown}; run chmod o-w")
    elif private and mode & stat.S_IROTH:
        report.warning(at, f"anybody on this machine can read {shown}; run chmod o-r")


def _check_match(cert: Path, key: Path, at: str, report: Report) -> None:
    import ssl  # noqa: PLC0415 - 10 ms that only a listener with TLS needs to pay

    try:
        # The password is never used (an encrypted key was refused above), but without one OpenSSL would
        # ask the terminal.
        ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER).load_cert_chain(cert, key, password="")
    except ssl.SSLError as error:
        fault = explain_pair(error, printable(cert), printable(key))
        report.problem(f"{at}.{'key_file' if fault.is_of_key else 'cert_file'}", fault.text)
