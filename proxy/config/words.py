"""The kinds of words that options hold: what each takes, and what it says of what it does not take.

The text of an error is for the operator: it says what is taken, and never repeats what may be a secret.
"""

from __future__ import annotations

import re
from typing import Any

from proxy.config.shape import Kind, choice
from proxy.config.units import Address, parse_duration, parse_endpoint, parse_listen, parse_size, parse_upstream
from proxy.gate.snapshot import Upstream
from proxy.wire.grammar import TARGET, is_authority
from proxy.wire.target import canonical_path
from proxy.wire.unlawful import Unlawful
from proxy.wire.url import is_safe_url

_DIGESTS = "`promgate token digest` makes what stands here"
#: SHA-256 of an empty string (FIPS 180-4).
_OF_NOTHING = bytes.fromhex("e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855")


def _text(text: str) -> str:
    if not text or text != text.strip() or not text.isprintable():
        raise ValueError("a printable text without white space around it is wanted")
    return text


def _file(text: str) -> str:
    if "\0" in text or not text.strip():
        raise ValueError("the name of a file is wanted")
    return text


def _origin(text: str) -> str:
    """Scheme and authority, as a browser's Origin (RFC 6454 7)."""
    match = re.fullmatch(r"(https?)://([A-Za-z0-9._-]+|\[[0-9A-Fa-f:.]+\])(:[0-9]{1,5})?/?", text, re.ASCII)
    if match is None:
        raise ValueError("an origin is written https://host or https://host:port, with no path and no user in it")
    return text.removesuffix("/").lower()


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
    size = parse_size(text)
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


def _host(text: str) -> bytes:
    """A name as it stands in Host, without its port, in the spelling in which it is compared."""
    name = text.lower().removesuffix(".").encode("ascii", "replace")
    if b":" in name.rpartition(b"]")[2]:
        raise ValueError(f"{text[:80]!a}: a host is named without its port")
    if not is_authority(name) or b"*" in name:
        raise ValueError(f"{text[:80]!a} is not a host name; write it as it stands in the URL: prometheus.example.net")
    return name


def _strip(text: str) -> str:
    """`true` stands for itself; nothing for `false`."""
    if text in {"true", "false"}:
        return "" if text == "false" else text
    if not text.startswith("/"):
        raise ValueError(f"write true, false or a prefix that begins with '/', not {text[:80]!a}")
    return text


def _store(text: str) -> str:
    taken = "a store is written sqlite:////absolute/path.db or sqlite:///path-beside-this-file.db"
    scheme, separator, path = text.partition(":///")
    if scheme != "sqlite" or not separator or not path.strip("/") or not path.isprintable():
        raise ValueError(taken)
    return path


def _below(text: str) -> str:
    """A path below a route's prefix, in the one form in which requests are matched."""
    if not text.startswith("/"):
        raise ValueError(f"a path begins with '/'; write {'/' + text[:80]!a}")
    if "?" in text or text.encode().translate(None, TARGET):
        raise ValueError("a path is visible ASCII, without a query: '?', '#', spaces and the like are not taken")
    try:
        canonical = canonical_path(text.encode()).decode()
    except Unlawful as error:
        raise ValueError(f"no request could match it: {error}") from None
    if canonical != text:
        raise ValueError(f"requests are matched in canonical form; write {canonical!a}")
    return text


def _prefix(text: str) -> str:
    path = _below(text)
    if path != "/" and path.endswith("/"):
        raise ValueError(f"a prefix has no '/' at its end; write {path.rstrip('/')!a}")
    return path


def _network(text: str) -> Any:
    import ipaddress  # noqa: PLC0415 - 3 ms that only a route with networks needs to pay

    try:
        network = ipaddress.ip_network(text, strict=False)
    except ValueError:
        raise ValueError(
            f"{text[:80]!a} is neither an address nor a network; write 10.0.0.0/8, 192.0.2.7 or 2001:db8::/32"
        ) from None
    if "/" in text and ipaddress.ip_interface(text).ip != network.network_address:
        raise ValueError(f"{text} has bits beyond its prefix; write {network}")
    if network.version == 6 and network.network_address.ipv4_mapped is not None:
        raise ValueError(f"{text} is IPv4 in IPv6 clothes; write it as IPv4, which is how it is matched")
    return network


def _provider_url(text: str) -> str:
    if not is_safe_url(text):
        raise ValueError("an https URL without a user is wanted, or http to this machine: it decides who is let in")
    return text


def _tenant(text: str) -> str:
    # Mimir's and Loki's grammar; `|` joins tenants for a query over all of them.
    if re.fullmatch(r"[A-Za-z0-9!_.*'()|-]{1,150}", text, re.ASCII) is None or {".", "..", ""} & set(text.split("|")):
        raise ValueError(f"{text[:80]!a} is not a tenant; letters, digits and !-_.*'() are taken, up to 150")
    return text


def _digest(text: str) -> bytes:
    algorithm, colon, digits = text.partition(":")
    if not colon and re.fullmatch(r"[0-9A-Fa-f]{64}", text, re.ASCII) is not None:
        raise ValueError("if <secret> is a digest, write sha256: before it; if it is the token itself, " + _DIGESTS)
    if algorithm != "sha256":
        raise ValueError("<secret> is not a digest; a clear token does not belong here: " + _DIGESTS)
    if re.fullmatch(r"[0-9A-Fa-f]{64}", digits, re.ASCII) is None:
        raise ValueError("sha256: is followed by 64 hexadecimal digits and nothing else; " + _DIGESTS)
    if bytes.fromhex(digits) == _OF_NOTHING:
        raise ValueError("this is the digest of nothing: was a variable empty, or a file? " + _DIGESTS)
    return bytes.fromhex(digits)


def _variable(text: str) -> str:
    if re.fullmatch(r"[A-Za-z_][A-Za-z0-9_]{0,127}", text, re.ASCII) is None:
        raise ValueError(f"{text[:80]!a} is not the name of an environment variable; its value is not written here")
    if text.startswith("PROMGATE_"):
        raise ValueError("names that begin with PROMGATE_ are promgate's own: they say what is handed over")
    return text


TEXT = Kind("text", _text, "")
NAME = Kind("name", _word, "")
VARIABLE = Kind("name", _variable, "")
IDENTITY = Kind("identity", _text, "")
FILE = Kind("file", _file, "")
JSON = Kind("JSON", str, "")
HASH = Kind("bcrypt hash", str, "")  # judged in `users`, which never repeats it
DIGEST = Kind("`sha256:` digest", _digest, b"")
SWITCH = Kind("`true` or `false`", _switch, False)
DURATION = Kind("duration", parse_duration, 0.0)
SPAN = Kind("duration", _span, 1.0)
RATE = Kind("number", _rate, 1.0)
SIZE = Kind("size", _size, 1)
METHOD = Kind("method", _method, b"")
ADDRESS = Kind("address", parse_listen, Address("localhost", 0))
HOST = Kind("host name", _host, b"")
STRIP = Kind("`true`, `false` or prefix", _strip, "")
UPSTREAM = Kind("URL", parse_upstream, Upstream("", 0))
ORIGIN = Kind("origin", _origin, "")
ENDPOINT = Kind("URL", parse_endpoint, "")
SECRET = Kind("text", _text, "")
STORE = Kind("store URL", _store, "")
HTPASSWD = Kind("htpasswd lines", str, "")  # judged in `users`, which never repeats them
PATH = Kind("path", _below, "/")
PREFIX = Kind("path", _prefix, "/")
PROVIDER_URL = Kind("URL", _provider_url, "")
NETWORK = Kind("network", _network, None)
TENANT = Kind("tenant", _tenant, "")
ALGORITHM = choice(
    "ES256",
    "RS256",
    "PS256",
    "EdDSA",
    but={
        "none": "a token without a signature proves nothing",
        **dict.fromkeys(("HS256", "HS384", "HS512"), "a shared secret is no public key (RFC 8725 3.2)"),
    },
)
