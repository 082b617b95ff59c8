"""Cookies (RFC 6265): promgate's own are told from all others by their names, and the others are left as they are.

Ours is a credential: no upstream sees it, and none may set one by its name. What a cookie says is judged elsewhere.
"""

from __future__ import annotations

import re

#: Of a session; with the prefix that binds it to this host and to https (RFC 6265bis 4.1.3.2), and on plain loopback.
SECURE_SESSION, PLAIN_SESSION = b"__Host-promgate", b"promgate"
_SESSIONS = frozenset({SECURE_SESSION, PLAIN_SESSION})
#: These, and those of a login under way.
_OWN = rb"(?:__Host-)?promgate(?:-[a-z-]+)?"
_is_sent = re.compile(_OWN).fullmatch  # back, in the case in which it was set
_is_own = re.compile(_OWN, re.IGNORECASE).fullmatch  # user agents compare the prefix without case

Pairs = tuple[tuple[bytes, bytes], ...]


def take_own(value: bytes) -> tuple[bytes, Pairs]:
    """(the value of a Cookie field less promgate's own cookies, name and value of these). Other octets are kept."""
    if b"promgate" not in value:
        return value, ()
    others: list[bytes] = []
    own: list[tuple[bytes, bytes]] = []
    for part in value.split(b";"):
        name, _, said = part.partition(b"=")
        name = name.strip(b" \t")
        if _is_sent(name):
            own.append((name, said.strip(b" \t")))
        else:
            others.append(part)
    return (b";".join(others).strip(b" \t"), tuple(own)) if own else (value, ())


def login_line(own: Pairs) -> bytes:
    """The field line, with its CRLF, that brings the cookies of a login under way to the pages that set them."""
    pairs = [b"%b=%b" % pair for pair in own if pair[0] not in _SESSIONS]
    return b"Cookie: %b\r\n" % b"; ".join(pairs) if pairs else b""


def sets_own(value: bytes) -> bool:
    """Whether a Set-Cookie field is for one of ours. A nameless one is sent as its value alone (RFC 6265bis 5.8.3)."""
    pair = value.partition(b";")[0]
    name, equals, said = pair.partition(b"=")
    name = name.strip(b" \t")
    return _is_own(name) is not None or ((not equals or not name) and b"promgate" in (said or pair).lower())
