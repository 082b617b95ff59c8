"""Which page asks? A browser sends a session, a password or a certificate along with whatever any page makes it ask.

It says which by Sec-Fetch-Site, which no script can set (Fetch Metadata), and by Origin (RFC 6454 7), which every
browser sends with what is no GET or HEAD. A session is a browser's: what changes something must be known to come from a
page of ours. Programs show passwords and certificates as well, and say neither: from them it must not say otherwise.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from proxy.wire.fields import values_of

if TYPE_CHECKING:
    from proxy.wire.head import RequestHead

_DEFAULT_PORTS = {b"https": b":443", b"http": b":80"}
#: `none`: a person, by the address bar or a bookmark. A page of the `same-site` is another's all the same.
_OWN_SITES = frozenset({b"same-origin", b"none"})
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
    sites, origins = _said(head)
    if says_foreign(sites, origins, head.host, external_url):
        return False
    return bool(origins) or sites == [b"same-origin"]


def is_foreign_page(head: RequestHead, external_url: str) -> bool:
    """Whether it says itself that another's page asks. What says nothing of its page is taken for a program."""
    text = head.fields.lower()
    if b"origin" not in text and b"sec-fetch-site" not in text:
        return False
    return says_foreign(*_said(head), head.host, external_url)


def says_foreign(sites: list[bytes], origins: list[bytes], host: bytes | None, external_url: str) -> bool:
    """By all values of Sec-Fetch-Site and of Origin; of two nobody knows which the browser means."""
    if len(sites) > 1 or len(origins) > 1 or not _OWN_SITES.issuperset(sites):
        return True
    return bool(origins) and not is_ours(origins[0], host, external_url)


def _said(head: RequestHead) -> tuple[list[bytes], list[bytes]]:
    lines = head.fields.split(b"\r\n")
    return list(values_of(lines, b"sec-fetch-site")), list(values_of(lines, b"origin"))
