"""What stands behind a route, in Prometheus' own words for an HTTP client (`tls_config`, `basic_auth`, ...).

The options and what they mean together: files are opened here, so that what is wrong with one is told with the rest.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

from proxy.config import files
from proxy.config.problem import printable
from proxy.config.shape import REQUIRED, ListOf, Refused, Section, Table, choice, option
from proxy.config.words import FILE, HOST, PATH, SECRET, TEXT, UPSTREAM
from proxy.gate.snapshot import Upstream, UpstreamLogin, UpstreamTls

if TYPE_CHECKING:
    from proxy.config.problem import Report

#: unix(7): 108 bytes with the NUL at the end.
_MAX_SOCKET_BYTES = 107
_INLINE = "write it to a file and name that: it is read again when it changes"


class UpstreamTlsOf(Section):
    """How an `https://` upstream is judged; its certificate is always verified. Changed files are taken."""

    ca_file: str | None = option(FILE, None, "Authorities that sign its certificate; left out: the system's.")
    cert_file: str | None = option(FILE, None, "Certificate that promgate shows it.")
    key_file: str | None = option(FILE, None, "Private key of `cert_file`, in PEM, without a passphrase.")
    server_name: bytes | None = option(HOST, None, "The name in its certificate, where that is not the host of `url`.")
    min_version: str = option(
        choice("TLS12", "TLS13", but=dict.fromkeys(("TLS10", "TLS11"), "RFC 8996 ends TLS 1.0 and 1.1")),
        "TLS12",
        "Lowest version of TLS taken.",
    )
    insecure_skip_verify = option(
        Refused("whoever answers in its place would read every credential; write ca_file", harmless="false"), None, ""
    )
    ca = option(Refused(_INLINE), None, "")
    cert = option(Refused(_INLINE), None, "")
    key = option(Refused(_INLINE), None, "")


class BasicAuthOf(Section):
    """What promgate shows the upstream. The client's own credential is never passed on."""

    username: str = option(TEXT, REQUIRED, "Name.")
    password: str = option(SECRET, REQUIRED, "Password. The file is read again when it changes.", has_file=True)


class AuthorizationOf(Section):
    """A bearer token that promgate shows the upstream."""

    type: str = option(choice("Bearer"), "Bearer", "Scheme.")
    credentials: str = option(SECRET, REQUIRED, "Token. The file is read again when it changes.", has_file=True)


class UpstreamOf(Section):
    """Where the requests of a route go."""

    url: tuple[Upstream, ...] = option(
        ListOf(UPSTREAM, or_one=True),
        REQUIRED,
        "Where requests go: `http://host:port`, `https://host:port`, or a unix socket: `unix:///run/p.sock`, "
        "`unix:p.sock` by this file. Of several, one that cannot be reached is passed over.",
    )
    balance: str = option(
        choice("least_busy", "first_available"),
        "least_busy",
        "Which of several serves a request: the one with the fewest under way, or the first in the list that is there.",
    )
    health_path: str | None = option(
        PATH, None, "What answers 2xx while a server is well: `/-/ready`. Left out: taking connections is enough."
    )
    tls_config: UpstreamTlsOf | None = option(Table(UpstreamTlsOf), None, "TLS of `https://` servers.")
    basic_auth: BasicAuthOf | None = option(Table(BasicAuthOf), None, "Log in with a password.")
    authorization: AuthorizationOf | None = option(Table(AuthorizationOf), None, "Log in with a token.")


def build_upstreams(
    written: UpstreamOf, whole: str, report: Report, base: Path, *, open_files: bool
) -> tuple[Upstream, ...]:
    """Every server of a route, in the order of the file, at least one; `whole` is the path of the option.

    `base` is where relative paths start.
    """
    at = f"{whole}.url" if f"{whole}.url" in report.lines else whole
    if not written.url and report.is_sound(at, whole):
        report.problem(at, "at least one server is needed")
    tls, login = _build_tls(written, at, report, base), _build_login(written, report)
    health = (written.health_path or "").encode()
    built: list[Upstream] = []
    for index, each in enumerate(written.url):
        place = f"{at}[{index}]" if f"{at}[{index}]" in report.lines else at
        one = _placed(each, place, report, base)._replace(tls=each.tls and tls, login=login, health_path=health)
        if one in built and report.is_sound(place):
            report.problem(place, f"{one.authority} is written twice")
        built.append(one)
    if open_files:
        _check_files(written, tls, report)
    return tuple(built) or (Upstream("", 0),)


def _placed(upstream: Upstream, at: str, report: Report, base: Path) -> Upstream:
    """The same, with the absolute path of its socket."""
    if not upstream.socket:
        return upstream
    socket = str(base / upstream.socket)
    if len(os.fsencode(socket)) > _MAX_SOCKET_BYTES and report.is_sound(at):
        report.problem(at, f"{printable(socket)} is longer than the {_MAX_SOCKET_BYTES} bytes of a unix socket's path")
    return upstream._replace(socket=socket)


def _build_tls(written: UpstreamOf, at: str, report: Report, base: Path) -> UpstreamTls:
    config = written.tls_config
    if config is None:
        return UpstreamTls()
    if not any(each.tls for each in written.url) and report.is_sound(at, config.at):
        report.problem(config.at, "without effect: no url begins with https://")
    for given, missing in (("cert_file", "key_file"), ("key_file", "cert_file")):
        alone = getattr(config, given) is not None and getattr(config, missing) is None
        if alone and report.is_sound(f"{config.at}.{missing}"):
            report.problem(f"{config.at}.{given}", f"needs {missing} beside it")
    named = [getattr(config, name) for name in ("ca_file", "cert_file", "key_file")]
    ca, cert, key = ("" if name is None else str(base / name) for name in named)
    return UpstreamTls(ca, cert, key, (config.server_name or b"").decode(), config.min_version)


def _check_files(written: UpstreamOf, tls: UpstreamTls, report: Report) -> None:
    at = written.tls_config.at if written.tls_config is not None else ""
    if tls.ca_file and report.is_sound(f"{at}.ca_file"):
        files.check_authorities(Path(tls.ca_file), f"{at}.ca_file", report)
    if tls.cert_file and tls.key_file and report.is_sound(f"{at}.cert_file", f"{at}.key_file"):
        files.check_key_pair(Path(tls.cert_file), Path(tls.key_file), at, report)


def _build_login(written: UpstreamOf, report: Report) -> UpstreamLogin | None:
    basic, bearer = written.basic_auth, written.authorization
    if basic is not None and bearer is not None and report.is_sound(basic.at, bearer.at):
        report.problem(bearer.at, "basic_auth and authorization exclude each other; write one of them")
    if basic is not None:
        if ":" in basic.username and report.is_sound(f"{basic.at}.username"):
            report.problem(f"{basic.at}.username", "a user name of basic auth has no ':' (RFC 7617 2)")
        return UpstreamLogin(basic.username, basic.password, basic.files.get("password", ""))
    if bearer is not None:
        return UpstreamLogin("", bearer.credentials, bearer.files.get("credentials", ""))
    return None
