"""Forward auth: a proxy that holds a request asks what we would do with it, and relays it itself.

Only peers in `trusted_proxies` may ask, for they choose the request and the address that is charged. The request is put
together anew from what the proxy says (X-Original-URL and X-Original-Method; or X-Forwarded-Uri, -Method and -Host; or
the path behind ours and the method of the inquiry) and from the client's own fields, and then it is judged like any
other: by the grammar of `wire/`, with `Gate.decide`. What is missing, said twice or said in two ways is refused.
A certificate of the connection is the proxy's and stands for nobody.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from proxy.gate.credentials import LastShown
from proxy.gate.decision import Deny, Forward, Inquiry, Reason, Ruling
from proxy.gate.snapshot import CONTROL, Telling
from proxy.gate.telling import tell
from proxy.wire.fields import field_name, values_of
from proxy.wire.head import admit_request
from proxy.wire.unlawful import Unlawful

if TYPE_CHECKING:
    from proxy.gate.decision import Identity, Inquire, Verdict
    from proxy.gate.forwarded import Proxies
    from proxy.gate.snapshot import Route
    from proxy.gate.tenants import Tenants
    from proxy.wire.head import RequestHead, RequestMemo

#: Of the inquiry's own message, and not of the request that it is about. Without Accept nobody is taken for a person,
#: who would be sent elsewhere: the answer is for a program, whoever its client is. X-Forwarded-For is kept: the
#: request was passed on, and what is exempt for neighbours alone (`exempt`) is not for it.
_NOT_COPIED = frozenset(
    b"""
    host content-length transfer-encoding connection keep-alive expect upgrade te trailer accept
    x-original-url x-original-method x-forwarded-uri x-forwarded-method x-forwarded-host
    """.split()
)


class _Unclear(Exception):
    """What is asked cannot be told for sure."""


def read_inquiry(
    asked: Inquire, raw: bytes, head: RequestHead, proxies: Proxies | None, peer: str, memo: RequestMemo
) -> Inquiry | Deny:
    """The request that the lawful head `raw` is about. `peer` is who is at the other end, and never its client."""
    route = asked.route
    if proxies is None or not proxies.trust(peer):
        return Deny(Reason.NOT_A_PROXY, route)
    if not proxies.names_client(raw, peer):
        return Deny(Reason.NO_INQUIRY, route)
    lines = raw.split(b"\r\n")[1:]
    try:
        method, target, host = _subject(lines, head, route)
        kept = [line for line in lines if field_name(line) not in _NOT_COPIED]
        text = b"\r\n".join([b"%b %b HTTP/1.1" % (method, target), *host, *kept, b"", b""])
        about = admit_request(text, len(text) - 4, memo)
    except _Unclear:
        return Deny(Reason.NO_INQUIRY, route)
    except Unlawful:
        return Deny(Reason.UNLAWFUL, route)
    return Inquiry(route, about, LastShown().read(about))


def rule(inquiry: Inquiry, verdict: Verdict, tenants: Tenants) -> Ruling:
    """What the proxy is told once the gate has said what would become of the request."""
    if isinstance(verdict, Forward) and verdict.route.upstream != CONTROL:
        told = _tell_always(verdict.route, verdict.identity, tenants)
        if isinstance(told, bytes):
            return Ruling(inquiry.head, verdict.route, verdict.identity, told)
        verdict = Deny(told, verdict.route, identity=verdict.identity)
    elif not isinstance(verdict, Deny):
        verdict = Deny(Reason.NO_ROUTE)  # promgate itself would answer it (to anybody, a login page), and no upstream
    return Ruling(inquiry.head, verdict.route, verdict.identity, deny=verdict)


def _tell_always(route: Route, identity: Identity, tenants: Tenants) -> bytes | Reason:
    """As the route's upstream is told, with the identity also where the route does not ask for it."""
    telling = route.telling or Telling()
    always = Telling(identity=True, tenant_header=telling.tenant_header, tenant=telling.tenant)
    return tell(always, identity, tenants)


def _subject(lines: list[bytes], head: RequestHead, route: Route) -> tuple[bytes, bytes, list[bytes]]:
    """(Method, request target, the Host line) of the request that is asked about."""
    url, url_method = _only(lines, b"x-original-url"), _only(lines, b"x-original-method")
    uri, uri_method = _only(lines, b"x-forwarded-uri"), _only(lines, b"x-forwarded-method")
    said = _only(lines, b"x-forwarded-host")
    behind = head.path[len(route.path) :]
    if url is not None and url_method is not None and uri is uri_method is None and not behind:
        method, target = url_method, url
        named = _authority(url)
        if named is not None and said is not None and named.lower() != said.lower():
            raise _Unclear
        said = said if named is None else named
    elif uri is not None and uri_method is not None and url is url_method is None and not behind:
        method, target = uri_method, uri
        if not uri.startswith(b"/"):
            raise _Unclear
    elif behind and url is url_method is uri is uri_method is None:
        method, target = head.method, behind + head.line.query
    else:
        raise _Unclear
    host = head.host if said is None else said
    return method, target, [] if host is None else [b"Host: " + host]


def _only(lines: list[bytes], name: bytes) -> bytes | None:
    """The value of a field that may be there once."""
    values = list(values_of(lines, name))
    if len(values) > 1:
        raise _Unclear
    return values[0] if values else None


def _authority(url: bytes) -> bytes | None:
    """That of an absolute URL, as it is written; None where there is only a path. Whether it is one is for `wire/`."""
    if url.startswith(b"/"):
        return None
    scheme, _, rest = url.partition(b"://")
    if scheme.lower() not in {b"http", b"https"}:
        raise _Unclear
    return rest.partition(b"/")[0].partition(b"?")[0]
