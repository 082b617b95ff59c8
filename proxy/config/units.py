"""One word of the configuration -> one value: durations, sizes, addresses. Each parser returns or raises ValueError.

The text of the error is for the operator: it says what is taken. A word that may carry a secret (a URL
with a password) is never repeated in it.
"""

from __future__ import annotations

import re
import socket
from typing import NamedTuple

from proxy.gate.snapshot import Upstream, UpstreamTls
from proxy.wire.grammar import TARGET

# Prometheus' own grammar (common/model/time.go, ParseDuration): units from large to small, each at most once.
# A year is 365 days there, and "0" needs no unit.
_DURATION_MS = {
    "y": 31_536_000_000, "w": 604_800_000, "d": 86_400_000, "h": 3_600_000, "m": 60_000, "s": 1_000, "ms": 1,
}  # fmt: skip
_DURATION = re.compile("".join(rf"(?:([0-9]{{1,19}}){unit})?" for unit in _DURATION_MS), re.ASCII)
# Go's time.Duration is a signed 64-bit count of nanoseconds; Prometheus refuses what does not fit.
_MAX_DURATION_MS = (2**63 - 1) // 1_000_000

# Prometheus' units.Base2Bytes (alecthomas/units): KB and KiB are both 1024, MB and MiB both 1024*1024.
_SIZE = re.compile(r"([0-9]{1,18})(?:([KMGTP])i?)?B", re.ASCII)
_BYTES = re.compile("[0-9]{1,18}", re.ASCII)
_SIZE_POWER = {None: 0, "K": 1, "M": 2, "G": 3, "T": 4, "P": 5}

_HOST_NAME = re.compile(r"(?!-)[A-Za-z0-9_-]{1,63}(?:\.[A-Za-z0-9_-]{1,63})*\.?", re.ASCII)
_DIGITS = re.compile(r"[0-9]{1,5}", re.ASCII)


class Address(NamedTuple):
    """Where to listen. `host` "": every address of the machine, of both families; port 0: the system chooses."""

    host: str
    port: int

    def __str__(self) -> str:
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


def parse_duration(text: str) -> float:
    """Seconds of `30s`, `5m`, `24h`, `90d`, `1h30m`, `250ms`: the grammar of Prometheus."""
    if text == "0":
        return 0.0
    match = _DURATION.fullmatch(text)
    if not text or match is None:
        raise ValueError(
            f"{text!r} is not a duration; write a number and a unit (ms, s, m, h, d, w, y), large before small: "
            "30s, 5m, 1h30m, 90d"
        )
    total_ms = sum(int(count) * ms for count, ms in zip(match.groups(), _DURATION_MS.values(), strict=True) if count)
    if total_ms > _MAX_DURATION_MS:
        raise ValueError(f"{text!r} is longer than 292 years")
    return total_ms / 1000


def format_duration(seconds: float) -> str:
    """The shortest lawful way to write `seconds` (>= 0, rounded to milliseconds); `parse_duration` reads it back."""
    rest = round(seconds * 1000)
    parts = []
    for unit, ms in _DURATION_MS.items():
        # Years and weeks are read but not written: an operator says 90d and 365d.
        if unit not in "yw":
            count, rest = divmod(rest, ms)
            parts.append(f"{count}{unit}" if count else "")
    return "".join(parts) or "0s"


def parse_size(text: str) -> int:
    """Bytes of `32MB`, `16KiB`, `500B` or a plain number. As in Prometheus, MB is 1024*1024, just like MiB."""
    if _BYTES.fullmatch(text):
        return int(text)
    match = _SIZE.fullmatch(text)
    if match is None:
        raise ValueError(
            f"{text!r} is not a size; write a whole number and a unit (B, KB, MB, GB, TB; 1KB is 1024 bytes): 32MB"
        )
    return int(match[1]) * (1 << 10 * _SIZE_POWER[match[2]])


def parse_listen(text: str) -> Address:
    """`127.0.0.1:9443`, `[::1]:9443`, `localhost:9443`, or `:9443` for every address."""
    host, port = _split_authority(text, f"{text!r} is not an address; write host:port, [v6]:port or :port")
    if port is None:
        raise ValueError(f"{text!r} has no port; write for example {text or '127.0.0.1'}:9443")
    return Address(host, port)


#: Of an upstream: its usual port, and how its certificate is judged.
_SCHEMES: dict[str, tuple[int, UpstreamTls | None]] = {"http": (80, None), "https": (443, UpstreamTls())}


def parse_upstream(text: str) -> Upstream:
    """The server behind a route: `http://host:port` or `https://host:port` (80 and 443 if it is left out),
    `unix:///absolute.sock` or `unix:beside/the/configuration.sock` (gRPC's names), and nothing after it.
    """
    taken = "an upstream is written http://host:port"
    if text.startswith("unix:"):
        return Upstream("", 0, _parse_socket(text))
    scheme, separator, rest = text.partition("://")
    if not separator:
        raise ValueError(f"{taken}; 'http://' is missing")
    if scheme not in _SCHEMES:
        raise ValueError(f"{taken}, https://host:port or unix:///path.sock; {scheme + '://'!r} is not taken")
    if "@" in rest:
        raise ValueError(f"{taken}, with no user or password in it")
    authority = re.split(r"[/?#]", rest, maxsplit=1)[0]
    if authority != rest:
        raise ValueError(f"{taken}, with nothing after the port: a request keeps its own path; write {scheme}://{authority}")
    host, port = _split_authority(authority, f"{taken}; {authority!r} is not host:port")
    if not host or port == 0:
        raise ValueError(f"{taken}; {authority!r} names no {'host' if not host else 'port to connect to'}")
    default, tls = _SCHEMES[scheme]
    return Upstream(host, default if port is None else port, tls=tls)


def parse_endpoint(text: str) -> str:
    """A URL that promgate itself asks: `https://host[:port][/path]`, or with `http://`. It stands in logs."""
    taken = "a URL is written https://host:port/path"
    scheme, separator, rest = text.partition("://")
    if not separator or scheme not in _SCHEMES:
        raise ValueError(f"{taken}; it begins with https:// or http://")
    if "@" in rest:
        raise ValueError(f"{taken}, with no user or password in it")
    if "?" in rest or rest.encode().translate(None, TARGET):
        raise ValueError(f"{taken}: visible ASCII, without query and fragment, for it stands in logs")
    authority = rest.partition("/")[0]
    host, port = _split_authority(authority, f"{taken}; {authority!r} is not host:port")
    if not host or port == 0:
        raise ValueError(f"{taken}; {authority!r} names no {'host' if not host else 'port to connect to'}")
    return text


def _parse_socket(text: str) -> str:
    """The path of a unix socket, which may be relative to the configuration."""
    path = text.removeprefix("unix:")
    if path.startswith("//") and not path.startswith("///"):
        raise ValueError(
            f"{text[:80]!r} is not taken: unix:///run/p.sock is an absolute path, unix:run/p.sock one relative to "
            "this file"
        )
    path = path.removeprefix("//")
    if not path.strip("/") or path.endswith("/") or not path.isprintable():
        raise ValueError("a unix socket is written unix:///absolute/path.sock or unix:path-beside-this-file.sock")
    return path


def is_loopback(host: str) -> bool:
    """Whether only this machine can reach a listener on `host`."""
    if host == "localhost":
        return True
    if ":" in host:
        return socket.inet_pton(socket.AF_INET6, host) == b"\0" * 15 + b"\1"
    return _is_ipv4(host) and host.startswith("127.")


def _split_authority(text: str, refusal: str) -> tuple[str, int | None]:
    """`host[:port]` or `[v6][:port]`; the host may be empty."""
    bracketed = re.fullmatch(r"\[([^\]]*)\](?::(.*))?", text)
    if bracketed is not None:
        host, port = bracketed[1], bracketed[2]
        if not _is_ipv6(host):
            raise ValueError(f"{refusal}; {host!r} is not an IPv6 address")
    else:
        host, separator, after = text.partition(":")
        port = after if separator else None
        if ":" in after:
            raise ValueError(f"{refusal}; an IPv6 address stands in brackets")
        if host and not _is_ipv4(host) and (_HOST_NAME.fullmatch(host) is None or re.fullmatch(r"[0-9.]+", host)):
            raise ValueError(f"{refusal}; {host!r} is neither an IP address nor a host name")
    if port is None:
        return host, None
    if _DIGITS.fullmatch(port) is None or int(port) > 65535:
        raise ValueError(f"{refusal}; a port is a number up to 65535")
    return host, int(port)


def _is_ipv4(host: str) -> bool:
    try:
        socket.inet_pton(socket.AF_INET, host)
    except (OSError, ValueError):
        return False
    return True


def _is_ipv6(host: str) -> bool:
    try:
        socket.inet_pton(socket.AF_INET6, host)
    except (OSError, ValueError):
        return False
    return True
