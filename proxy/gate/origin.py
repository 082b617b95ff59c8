"""Which page asks? A browser sends a session along with whatever any page makes it ask (cross-site request forgery).

So what changes something must be known to come from a page of ours: by Sec-Fetch-Site, which no script can set (Fetch
Metadata), or by Origin (RFC 6454 7), which every browser sends with what is no GET or HEAD.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from proxy.wire.fields import values_of

if TYPE_CHECKING:
    from proxy.wire.head import RequestHead

_DEFAULT_PORTS = {b"https": b":443", b"http": b":80"}
#: RFC 9110 9.2.1. What only reads may be asked by a link on any page.
SAFE = frozenset({b"GET", b"HEAD", b"OPTIONS"})


def is_ours(origin: bytes, host: bytes | None, external_url: str) -> bool:
    """Host and port; the scheme is not known here where something before us ends TLS."""
    scheme, _, authority = origin.lower().partition(b"://")
    port = _DEFAULT_PORTS.get(scheme)
    if port is None:
        return False  # `null`, an extension, a file
    place, own = authority.removesuffix(port), external_url.encode()
    here = (host or b"").lower().removesuffix(port)
    return place == here or b"%b://%b" % (scheme, place) == own.removesuffix(port)


def is_own_page(head: RequestHead, external_url: str) -> bool:
    """Whether it is certain that a page of ours asks. What says nothing of its page is taken for another's."""
    lines = head.fields.split(b"\r\n")
    sites, origins = list(values_of(lines, b"sec-fetch-site")), list(values_of(lines, b"origin"))
    if len(sites) > 1 or len(origins) > 1 or not (sites or origins):
        return False
    if origins and not is_ours(origins[0], head.host, external_url):
        return False
    if sites == [b"same-origin"]:
        return True
    return bool(origins) and sites in ([], [b"none"])
