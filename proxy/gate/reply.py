"""The ONE table from a reason to what a client is told.

Senders decide by the status what happens to their data (docs/behaviour.md): on a remote_write route "not now" is
503 + Retry-After and "never" is 401, 403 or 413; no redirect, no 408, no 429, no HTML. The first line of the
text appears in a sender's log: it says what to do. The text is the same for every kind of wrong credential.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from proxy.gate.authorize import METHODS
from proxy.gate.decision import Reason
from proxy.gate.edits import with_line
from proxy.gate.snapshot import RouteKind, Way

if TYPE_CHECKING:
    from proxy.gate.decision import Deny
    from proxy.gate.snapshot import Route

#: OK, GRANTED, CLIENT_GONE, CLIENT_LATE and TUNNEL_IDLE have no entry: there is nothing, or nobody, to tell.
_CREDENTIAL = "promgate: no valid credential; check the token or password that this client sends"
_STORE_NEW = (
    "promgate: the token store was made anew and does not know this token; restore the lost store, or give this "
    "sender a token of 'promgate token create'"
)
_INQUIRY = (
    "promgate: say whose request it is and which, each once: X-Forwarded-For; and X-Original-URL and -Method, "
    "or X-Forwarded-Uri and -Method"
)
_FOREIGN = (
    "promgate: a page of another site may not do this here; if it is this site by another name, as before a proxy that "
    "changes Host, set external_url to that"
)
_TEXT: dict[Reason, tuple[int, str]] = {
    Reason.HEALTH: (200, "ok"),
    Reason.OPTIONS: (204, ""),
    Reason.REDIRECTED: (308, "promgate: this page is at the https URL"),
    Reason.PLAIN_HTTP: (403, "promgate: this port only sends browsers on; use the https URL"),
    Reason.PLAIN_WRITE: (503, "promgate: send this to the https URL; its token came in clear: rotate it"),
    Reason.NO_ROUTE: (404, "promgate: no route for this path; check the URL's prefix"),
    Reason.WRONG_HOST: (421, "promgate: no route for this host; check the host in the URL"),
    Reason.BLOCKED: (403, "promgate: this endpoint is closed"),
    Reason.METHOD_UNKNOWN: (501, "promgate: unknown method"),
    Reason.METHOD_NOT_TAKEN: (405, "promgate: this route does not take this method"),
    Reason.LOGIN_NEEDED: (302, "promgate: log in at this location"),
    Reason.SESSION_ENDED: (401, "promgate: this session has ended; log in again"),
    Reason.NO_CREDENTIAL: (401, "promgate: a credential is needed; none was sent"),
    Reason.BAD_CREDENTIAL: (401, _CREDENTIAL),
    Reason.WAY_NOT_OPEN: (401, _CREDENTIAL),
    Reason.TOKEN_ENDED: (401, _CREDENTIAL),
    Reason.TOKEN_REVOKED: (401, _CREDENTIAL),
    Reason.NOT_ALLOWED: (403, "promgate: this identity may not do this here"),
    Reason.ADDRESS_NOT_ALLOWED: (403, "promgate: this route is closed to this address"),
    Reason.SOURCE_NOT_ALLOWED: (403, "promgate: this identity is not taken from where it comes; ask who runs promgate"),
    Reason.NOT_A_PROXY: (403, "promgate: only a proxy in trusted_proxies may ask about requests"),
    Reason.NO_INQUIRY: (400, _INQUIRY),
    Reason.IDENTITY_UNFIT: (403, "promgate: this identity's name cannot be told to the upstream; use one in ASCII"),
    Reason.FOREIGN_ORIGIN: (403, _FOREIGN),
    Reason.NO_TENANT: (403, "promgate: this identity has no tenant here"),
    Reason.TOKEN_RETIRED: (503, "promgate: this token was replaced; give this sender the new one to let its data flow"),
    Reason.TOKEN_LEAKED: (503, "promgate: this token was replaced; give this sender the new one to let its data flow"),
    Reason.JWT_EXPIRED: (503, "promgate: this token has just expired; send a fresh one"),
    Reason.JWT_EARLY: (503, "promgate: this token is not valid yet; compare the clocks of its issuer and of promgate"),
    Reason.KEY_LATE: (503, "promgate: the key that signed this token is not known here yet; try again"),
    Reason.PROVIDER_UNREACHABLE: (503, "promgate: the token's provider cannot be asked; see promgate's log"),
    Reason.CERTIFICATE_ENDED: (401, "promgate: this connection's certificate has ended; connect again with a good one"),
    Reason.STORE_EMPTY: (503, "promgate: no token is known here yet; create one with 'promgate token create'"),
    Reason.STORE_NEW: (503, _STORE_NEW),
    Reason.STORE_UNREADABLE: (503, "promgate: the token store cannot be read; see promgate's log"),
    Reason.SESSIONS_UNREADABLE: (503, "promgate: sessions cannot be read; see promgate's log"),
    Reason.TOO_MANY_GUESSES: (429, "promgate: too many failed attempts; wait"),
    Reason.OVER_RATE: (429, "promgate: too many requests; slow down"),
    Reason.TOO_MANY_AT_ONCE: (429, "promgate: too many requests at once; wait for some to end"),
    Reason.BUSY: (503, "promgate: too many logins at once; try again"),
    Reason.BODY_TOO_LARGE: (413, "promgate: the body is larger than this route takes"),
    Reason.UNLAWFUL: (400, "promgate: malformed request"),
    Reason.UPSTREAM_REFUSED: (502, "promgate: the upstream cannot be reached"),
    Reason.UPSTREAM_BROKE: (502, "promgate: the upstream broke off or sent what is not HTTP"),
    Reason.UPSTREAM_REDIRECTS: (502, "promgate: the upstream redirects writes; correct the upstream's URL or prefix"),
    Reason.UPSTREAM_LOGIN: (502, "promgate: the upstream does not take promgate's own login; see promgate's log"),
    Reason.UPSTREAM_LATE: (504, "promgate: the upstream did not answer in time"),
    Reason.DRAINING: (503, "promgate: shutting down; try again"),
}
#: Told otherwise where a sender would drop its data for it.
_WRITE_STATUS = {
    Reason.LOGIN_NEEDED: 401,
    # A good credential from a network that is new, or forgotten in the configuration: nothing is let in, nothing lost.
    Reason.SOURCE_NOT_ALLOWED: 503,
    **dict.fromkeys(
        (Reason.TOO_MANY_GUESSES, Reason.OVER_RATE, Reason.CERTIFICATE_ENDED, Reason.TOO_MANY_AT_ONCE), 503
    ),
}

_PHRASE = {
    200: "OK", 204: "No Content", 302: "Found", 308: "Permanent Redirect",
    400: "Bad Request", 401: "Unauthorized", 403: "Forbidden", 404: "Not Found",
    405: "Method Not Allowed", 411: "Length Required", 413: "Content Too Large", 414: "URI Too Long",
    417: "Expectation Failed", 421: "Misdirected Request", 429: "Too Many Requests",
    500: "Internal Server Error", 431: "Request Header Fields Too Large",
    501: "Not Implemented", 502: "Bad Gateway", 503: "Service Unavailable", 504: "Gateway Timeout",
    505: "HTTP Version Not Supported",
}  # fmt: skip
#: The seconds that a sender may be told to wait. It takes them literally, and they block its shard: never under 5.
RETRY_AFTER_S = (5.0, 30.0)


def status_of(reason: Reason, route: Route | None) -> int:
    if route is not None and route.kind is RouteKind.REMOTE_WRITE and reason in _WRITE_STATUS:
        return _WRITE_STATUS[reason]
    return _TEXT[reason][0]


def text_of(reason: Reason) -> str:
    """The line that a client is told."""
    return _TEXT[reason][1]


def build_denial(deny: Deny, *, jitter: float, close: bool, head_only: bool) -> tuple[int, bytes]:
    """(status, the whole answer). `jitter` in 0..1 spreads Retry-After over 5 to 30 s; a body is left out for HEAD."""
    route = deny.route
    status = status_of(deny.reason, route)
    fields = []
    if status == 401:
        fields.append(f"WWW-Authenticate: {_challenge(route)}")
    elif status == 302:
        fields += [f"Location: {deny.location}", "Cache-Control: no-store"]
    elif status == 405 and route is not None:
        fields.append(_allow(route.methods or METHODS))
    elif status in {429, 502, 503, 504}:
        wait_s = deny.retry_after_s
        if route is not None and route.kind is RouteKind.REMOTE_WRITE:
            wait_s = min(wait_s, RETRY_AFTER_S[1])
        fields.append(f"Retry-After: {_retry_after(wait_s, jitter)}")
    return status, build_answer(status, _TEXT[deny.reason][1], fields, close=close, head_only=head_only)


def build_answer(status: int, text: str, fields: list[str], *, close: bool, head_only: bool = False) -> bytes:
    """An answer of our own: one line of plain text, never HTML, never a cookie."""
    body = f"{text}\n".encode() if text else b""
    lines = [f"HTTP/1.1 {status} {_PHRASE[status]}", *fields]
    if status != 204:
        lines += ["Content-Type: text/plain; charset=utf-8", f"Content-Length: {len(body)}"]
    if close:
        lines.append("Connection: close")
    return "\r\n".join([*lines, "", ""]).encode() + (b"" if head_only else body)


def build_grant(told: bytes, *, close: bool, head_only: bool) -> tuple[int, bytes]:
    """The answer to a proxy whose request may pass, with the lines `told`. 200: some take no other 2xx for a yes."""
    return 200, with_line(build_answer(200, "", [], close=close, head_only=head_only), told)


def build_refusal(status: int, text: str) -> bytes:
    """The answer to bytes that are not a lawful request; the connection ends with it."""
    return build_answer(status, f"promgate: {text}", [], close=True)


def build_local(reason: Reason, *, close: bool, head_only: bool, location: str = "") -> tuple[int, bytes]:
    """The answer that promgate gives itself: to health checks, to `OPTIONS *`, and to people at a plain port."""
    status, text = _TEXT[reason]
    fields = [_allow(METHODS)] if reason is Reason.OPTIONS else []
    if location:
        fields.append(f"Location: {location}")
    return status, build_answer(status, text, fields, close=close, head_only=head_only)


def _allow(methods: frozenset[bytes]) -> str:
    return "Allow: " + ", ".join(sorted(method.decode() for method in methods))


def _retry_after(wait_s: float, jitter: float) -> int:
    """Whole seconds, spread over that time; longer only where a limit says so."""
    low, high = RETRY_AFTER_S
    return max(math.ceil(wait_s), round(low + (high - low) * jitter)) if wait_s <= high else math.ceil(wait_s)


def _challenge(route: Route | None) -> str:
    """RFC 9110 11.6.1; a browser asks for a password only where one is taken, and there is no page to ask for it."""
    if route is not None and Way.BASIC in route.ways and Way.OAUTH2 not in route.ways:
        return 'Basic realm="promgate", charset="UTF-8"'
    return 'Bearer realm="promgate"'
