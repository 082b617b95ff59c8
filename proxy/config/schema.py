"""Every option, once: its kind, its default as one would write it, and what it does.

`read` fills these sections from a file, `build` says what they mean together, docs/configuration.md is made
from them (`python -m proxy.config.docs`). Key names are Prometheus' own wherever it has one.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, NamedTuple

from proxy.config.shape import REQUIRED, Kind, ListOf, MapOf, Refused, Section, Table, choice, option, whole
from proxy.config.units import Address, parse_duration, parse_listen, parse_size, parse_upstream
from proxy.gate.snapshot import Upstream

if TYPE_CHECKING:
    from pathlib import Path


class Tls(NamedTuple):
    """Certificate and key of the listeners; `min_version` is TLS12 or TLS13."""

    cert_file: Path
    key_file: Path
    min_version: str


class AccessLog(NamedTuple):
    """Where the access log goes (None: stderr) and how a line looks (logfmt or json)."""

    file: Path | None
    format: str


class Settings(NamedTuple):
    """What the process needs beside the Snapshot. Paths are absolute. `store` is the SQLite file, None without one."""

    path: Path
    listen: tuple[Address, ...]
    tls: Tls | None
    store: Path | None
    access_log: AccessLog


def _text(text: str) -> str:
    if not text or text != text.strip() or not text.isprintable():
        raise ValueError("a printable text without white space around it is wanted")
    return text


def _file(text: str) -> str:
    if "\0" in text or not text.strip():
        raise ValueError("the name of a file is wanted")
    return text


def _word(text: str) -> str:
    if re.fullmatch(r"[A-Za-z0-9_.-]{1,64}", text, re.ASCII) is None:
        raise ValueError(f"{text[:80]!a} is not a name; letters, digits, '_', '.' and '-' are taken, up to 64")
    return text


def _switch(text: str) -> bool:
    if text not in {"true", "false"}:
        raise ValueError(f"write true or false, not {text[:80]!a}")
    return text == "true"


def _span(text: str) -> float:
    seconds = parse_duration(text)
    if seconds <= 0:
        raise ValueError("must be longer than 0: without it a peer could hold a connection for ever")
    return seconds


def _rate(text: str) -> float:
    if re.fullmatch(r"[0-9]{1,9}(\.[0-9]{1,9})?", text, re.ASCII) is None or float(text) == 0:
        raise ValueError(f"{text[:80]!a} is not a rate; a number above 0 is wanted")
    return float(text)


def _size(text: str) -> int:
    size = int(text) if re.fullmatch(r"[0-9]{1,18}", text, re.ASCII) else parse_size(text)
    if size == 0:
        raise ValueError("must be more than 0")
    return size


def _method(text: str) -> bytes:
    if text in {"TRACE", "TRACK", "CONNECT"}:
        raise ValueError(f"{text} is never relayed: it shows headers or opens a tunnel (RFC 9110 9.3.6, 9.3.8)")
    if re.fullmatch(r"[A-Z][A-Z_-]{0,31}", text, re.ASCII) is None:
        hint = f"; methods are written in capitals: {text.upper()}" if text.isascii() and text.isalpha() else ""
        raise ValueError(f"{text[:80]!a} is not a method{hint}")
    return text.encode()


def _store(text: str) -> str:
    taken = "a store is written sqlite:////absolute/path.db or sqlite:///path-beside-this-file.db"
    scheme, separator, path = text.partition(":///")
    if scheme != "sqlite" or not separator or not path.strip("/") or not path.isprintable():
        raise ValueError(taken)
    return path


TEXT = Kind("text", _text, "")
NAME = Kind("name", _word, "")
IDENTITY = Kind("identity", _text, "")
FILE = Kind("file", _file, "")
JSON = Kind("JSON", str, "")
HASH = Kind("bcrypt hash", str, "")  # judged in `build`, which never repeats it
SWITCH = Kind("`true` or `false`", _switch, False)
DURATION = Kind("duration", parse_duration, 0.0)
SPAN = Kind("duration", _span, 1.0)
RATE = Kind("number", _rate, 1.0)
SIZE = Kind("size", _size, 1)
METHOD = Kind("method", _method, b"")
ADDRESS = Kind("address", parse_listen, Address("localhost", 0))
UPSTREAM = Kind("URL", parse_upstream, Upstream("", 0))
STORE = Kind("store URL", _store, "")

_OLD_TLS = "RFC 8996 ends TLS 1.0 and 1.1; write TLS12 or TLS13"
_NO_CLIENT_CA = "client certificates are not asked for, so there is nothing to hold against it; leave it out"
_UNVERIFIED = "Python's ssl cannot ask for a certificate without verifying it; NoClientCert is taken"
_VERIFIED = "a listener does not ask for client certificates; NoClientCert is taken"


class TlsServerConfig(Section):
    """Prometheus' own keys, so that a `web-config.yml` can be pasted. What is not honoured is refused by name."""

    cert_file: str = option(FILE, REQUIRED, "Certificate chain in PEM, the server's own certificate first.")
    key_file: str = option(FILE, REQUIRED, "Private key in PEM, without a passphrase.")
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
            but={
                "RequestClientCert": _UNVERIFIED,
                "RequireAnyClientCert": _UNVERIFIED,
                "VerifyClientCertIfGiven": _VERIFIED,
                "RequireAndVerifyClientCert": _VERIFIED,
            },
        ),
        "NoClientCert",
        "Whether a client shows a certificate.",
    )
    client_ca_file = option(Refused(_NO_CLIENT_CA), None, "")
    client_ca = option(Refused(_NO_CLIENT_CA), None, "")
    client_allowed_sans = option(Refused(_NO_CLIENT_CA), None, "")
    cert = option(Refused("Python's ssl reads certificates from files only; write cert_file"), None, "")
    key = option(Refused("Python's ssl reads keys from files only; write key_file"), None, "")
    cipher_suites = option(
        Refused("the suites are fixed (forward secret, authenticated encryption; docs/tls.md names them)"), None, ""
    )
    curve_preferences = option(Refused("the groups are those of OpenSSL; leave it out"), None, "")
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


class Tokens(Section):
    """The tokens that promgate checks itself, and the times of their rotation."""

    store: str | None = option(
        STORE,
        None,
        "SQLite file of the tokens: `sqlite:////absolute/path.db`, or with three slashes a path relative to the "
        "configuration. It is made when it is not there. Without it no route may take tokens.",
    )
    overlap_period: float = option(
        DURATION, "24h", "How long the previous token is accepted after a rotation. Under 5m a warning is given."
    )
    max_overlap: float = option(DURATION, "7d", "The longest overlap that a rotation may ask for.")
    retry_grace: float = option(
        DURATION,
        "1h",
        "For this long after its end, a retired token gets 503 and Retry-After on a `remote_write` route, not 401: "
        "nothing is let in, and a sender keeps its batch instead of dropping it.",
    )


class Jwt(Section):
    """Whose signed tokens are believed. `iss` and `aud` must be exactly these."""

    issuer: str = option(TEXT, REQUIRED, "The `iss` claim.")
    audience: str = option(TEXT, REQUIRED, "A member of the `aud` claim.")
    jwks: str = option(JSON, REQUIRED, "The issuer's public keys, as the JSON of a JWK set.", has_file=True)
    algorithms: tuple[str, ...] = option(
        ListOf(
            choice(
                "ES256",
                "RS256",
                but={
                    "none": "a token without a signature proves nothing",
                    **dict.fromkeys(("HS256", "HS384", "HS512"), "a shared secret is no public key (RFC 8725 3.2)"),
                },
            ),
            or_one=True,
        ),
        ["ES256", "RS256"],
        "Signature algorithms that are believed.",
    )


class TimeoutsOf(Section):
    """Deadlines of the data plane. docs/behaviour.md tells what each one answers or cuts."""

    tls_handshake: float = option(SPAN, "10s", "From accept to the end of the TLS handshake.")
    header: float = option(SPAN, "10s", "From the first byte of a request to the end of its head.")
    idle: float = option(SPAN, "330s", "Between two requests of a kept-alive client. Go's clients close at 5m.")
    body: float = option(SPAN, "30s", "For a request body; it grows by 1s with each `limits.body_min_rate` bytes.")
    connect: float = option(SPAN, "3s", "To connect to the upstream, retries included.")
    response: float = option(SPAN, "5m", "From the end of a request to the head of the upstream's answer.")
    stream: float = option(SPAN, "1h", "Between two pieces of the upstream's answer.")
    send: float = option(SPAN, "60s", "For a peer to take any of what waits to be sent to it.")
    linger: float = option(SPAN, "2s", "For a refused client to stop sending before its connection is cut.")
    upstream_idle: float = option(SPAN, "55s", "For an unused connection to the upstream to be kept.")
    drain: float = option(SPAN, "30s", "For requests under way to finish after SIGTERM.")


class Guesses(Section):
    """How many unknown credentials one IP address may show before it has to wait."""

    rate: float = option(RATE, "10", "Guesses for each `interval`.")
    interval: float = option(SPAN, "1s", "The time that `rate` counts for.")
    burst: int = option(whole(1, 1_000_000), "20", "Guesses at once.")


class Limits(Section):
    """How much of anything one peer, or all together, may hold."""

    body_min_rate: int = option(
        SIZE, "500B", "Bytes a second below which a request body is given up, once `timeouts.body` is over."
    )
    max_connections: int = option(whole(1, 1_000_000), "20000", "Client connections at once.")
    max_connections_per_ip: int = option(whole(1, 1_000_000), "2000", "Client connections at once from one address.")
    guesses: Guesses = option(Table(Guesses), {}, "Brake on guessing credentials, for each IP address.")


class AccessLogOf(Section):
    """One line for each request."""

    file: str = option(FILE, "stderr", "A file to append to, or `stderr`.")
    format: str = option(choice("logfmt", "json"), "logfmt", "How a line is written.")


class RateLimitOf(Section):
    """Requests for each `interval`, `burst` at once (GCRA: evenly spread, no windows)."""

    rate: float = option(RATE, REQUIRED, "Requests for each `interval`.")
    interval: float = option(SPAN, "1s", "The time that `rate` counts for.")
    burst: int = option(whole(1, 1_000_000), REQUIRED, "Requests at once.")
    by: str = option(choice("identity", "ip"), "identity", "Who is counted: the identity or the IP address.")
    mode: str = option(choice("reject", "delay"), "reject", "What happens over the rate; only known peers are delayed.")
    max_delay: float | None = option(SPAN, None, "With `mode: delay`, the longest wait (10s) before a refusal.")


class AllowRule(Section):
    """A role that may pass. A lone word is a rule for that role and every method of the route."""

    role: str = option(NAME, REQUIRED, "A role of `roles`; or `write`, which every write token has of itself.")
    methods: tuple[bytes, ...] | None = option(
        ListOf(METHOD, or_one=True), None, "Methods that the role may use here; all that the route takes if left out."
    )


_WAYS = choice(
    "write_token",
    "bearer",
    "basic",
    "jwt",
    "none",
    but={
        "oauth2": "there is no login page; people come with basic",
        "client_cert": "client certificates are not asked for",
        "introspection": "tokens are checked here, or as jwt",
    },
)


class RouteOf(Section):
    """A prefix of the public listener. The longest prefix of whole segments wins; nothing matches by default."""

    name: str = option(NAME, REQUIRED, "How logs and metrics call the route.")
    path: str = option(
        TEXT, REQUIRED, "Prefix in whole segments: `/prometheus` takes `/prometheus/graph`, not `/prometheusX`."
    )
    upstream: Upstream = option(UPSTREAM, REQUIRED, "Where requests go: `http://host:port`. The path is kept.")
    kind: str = option(
        choice("plain", "remote_write"),
        "plain",
        "`remote_write`: answers never make a sender drop samples (no redirect, no 408, no 429).",
    )
    methods: tuple[bytes, ...] | None = option(
        ListOf(METHOD, or_one=True), None, "Methods taken; others get 405. Left out: any but CONNECT, TRACE and TRACK."
    )
    auth: tuple[str, ...] = option(
        ListOf(_WAYS, or_one=True),
        REQUIRED,
        "Ways in: `write_token`, `bearer` (reader tokens), `basic`, `jwt`; or `none` alone, written out. "
        "A token may also be shown as the password of basic auth, with any user name.",
    )
    allow: tuple[AllowRule, ...] | None = option(
        ListOf(Table(AllowRule, short="role"), or_one=True),
        None,
        "Who may pass: roles, or rules of role and methods. May be left out only where `auth` is `none`.",
    )
    rate_limit: RateLimitOf | None = option(Table(RateLimitOf), None, "Limit for each peer on this route.")
    max_body_bytes: int = option(SIZE, "32MB", "Largest request body; a larger one gets 413.")


class Config(Section):
    """The whole file."""

    version: str = option(choice("1"), "1", "Version of this format.")
    listen: tuple[Address, ...] = option(
        ListOf(ADDRESS, or_one=True),
        ["127.0.0.1:9443"],
        "Addresses of the public listener: `host:port`, `[v6]:port`, or `:port` for all.",
    )
    tls_server_config: TlsServerConfig | None = option(
        Table(TlsServerConfig), None, "TLS of the listeners. Without it they may be loopback only."
    )
    insecure_plaintext: bool = option(
        SWITCH, "false", "Let listeners that other machines reach speak without TLS. Secrets then cross in clear."
    )
    basic_auth_users: dict[str, tuple[str, ...]] = option(
        MapOf("user", ListOf(HASH, or_one=True)),
        {},
        "User -> bcrypt hash (`promgate hash-password`), or a list of hashes while a password is rotated.",
    )
    roles: dict[str, tuple[str, ...]] = option(
        MapOf("role", ListOf(IDENTITY, or_one=True)),
        {},
        "Role -> identities that have it: `basic:USER`, `token:NAME`, `jwt:SUBJECT`.",
    )
    tokens: Tokens = option(Table(Tokens), {}, "Tokens and their rotation.")
    jwt: tuple[Jwt, ...] = option(ListOf(Table(Jwt), or_one=True), [], "Issuers of JSON web tokens.")
    timeouts: TimeoutsOf = option(Table(TimeoutsOf), {}, "Deadlines.")
    limits: Limits = option(Table(Limits), {}, "Bounds.")
    access_log: AccessLogOf = option(Table(AccessLogOf), {}, "The access log.")
    routes: tuple[RouteOf, ...] = option(ListOf(Table(RouteOf)), REQUIRED, "What stands behind the listener.")
    http_server_config: HttpServerConfig | None = option(
        Table(HttpServerConfig), None, "Taken so that a web config can be pasted."
    )
    rate_limit = option(Refused("a limit belongs to a route here; write routes[].rate_limit"), None, "")
