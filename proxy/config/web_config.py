"""The options of Prometheus' own web config: pasted here, each key is honoured or refused by name."""

from __future__ import annotations

from proxy.config.shape import REQUIRED, ListOf, Refused, Section, Table, choice, option
from proxy.config.words import FILE, TEXT

#: Every key of the web config as exporter-toolkit has it (docs/web-configuration.md there), in its order.
PROMETHEUS_KEYS = (
    *(
        f"tls_server_config.{key}"
        for key in (
            "cert_file",
            "cert",
            "key_file",
            "key",
            "client_auth_type",
            "client_ca_file",
            "client_ca",
            "client_allowed_sans",
            "min_version",
            "max_version",
            "cipher_suites",
            "prefer_server_cipher_suites",
            "curve_preferences",
        )
    ),
    "http_server_config.http2",
    "http_server_config.headers",
    "basic_auth_users",
    "rate_limit",
)

_OLD_TLS = "RFC 8996 ends TLS 1.0 and 1.1; write TLS12 or TLS13"
_UNVERIFIED = "Python's ssl cannot ask for a certificate without verifying it; write VerifyClientCertIfGiven"


class CertificateOf(Section):
    """A certificate for the DNS names in it: whoever asks for one of them (SNI) gets it. Changed files are taken."""

    cert_file: str = option(FILE, REQUIRED, "Certificate chain in PEM, the server's own certificate first.")
    key_file: str = option(FILE, REQUIRED, "Private key in PEM, without a passphrase.")


class TlsServerConfig(Section):
    """Prometheus' own keys, so that a `web-config.yml` can be pasted. What is not honoured is refused by name."""

    cert_file: str = option(FILE, REQUIRED, "Certificate chain in PEM, the server's own certificate first.")
    key_file: str = option(FILE, REQUIRED, "Private key in PEM, without a passphrase.")
    certificates: tuple[CertificateOf, ...] = option(
        ListOf(Table(CertificateOf)),
        [],
        "More certificates, each for its names. Who asks for another name gets `cert_file`. (promgate's own key.)",
    )
    min_version: str = option(
        choice("TLS12", "TLS13", but={"TLS10": _OLD_TLS, "TLS11": _OLD_TLS}), "TLS12", "Lowest version of TLS taken."
    )
    max_version: str = option(
        choice("TLS13", but=dict.fromkeys(("TLS10", "TLS11", "TLS12"), "a listener always offers TLS 1.3")),
        "TLS13",
        "Highest version of TLS taken.",
    )
    client_auth_type: str = option(
        choice(
            "NoClientCert",
            "VerifyClientCertIfGiven",
            "RequireAndVerifyClientCert",
            but=dict.fromkeys(("RequestClientCert", "RequireAnyClientCert"), _UNVERIFIED),
        ),
        "NoClientCert",
        "Whether a client shows a certificate: it may (`VerifyClientCertIfGiven`), or must to be heard at all.",
    )
    client_ca_file: str | None = option(
        FILE, None, "Authorities that sign client certificates; several while one is replaced. Changes are taken."
    )
    client_allowed_sans: tuple[str, ...] = option(
        ListOf(TEXT, or_one=True), [], "Take only certificates with one of these subject alternative names."
    )
    client_crl_file: str | None = option(
        FILE, None, "Certificates that their authority has revoked, in PEM. Changes are taken. (promgate's own key.)"
    )
    client_ca = option(Refused("Python's ssl reads authorities from files here; write client_ca_file"), None, "")
    cert = option(Refused("Python's ssl reads certificates from files only; write cert_file"), None, "")
    key = option(Refused("Python's ssl reads keys from files only; write key_file"), None, "")
    cipher_suites = option(
        Refused("the suites are fixed (forward secret, authenticated encryption; docs/tls.md names them)"), None, ""
    )
    curve_preferences = option(Refused("the groups are fixed (X25519 and P-256); leave it out"), None, "")
    prefer_server_cipher_suites = option(
        Refused("without effect in Prometheus since Go 1.17, and here; leave it out"), None, ""
    )


class HttpServerConfig(Section):
    """The other half of Prometheus' web config; nothing in it changes what promgate does."""

    http2 = option(
        Refused("HTTP/2 is not offered to clients; write false or leave it out", harmless="false"), None, ""
    )
    headers = option(
        Refused("an answer keeps the headers of the upstream; set them with the upstream's --web.config.file"), None, ""
    )
