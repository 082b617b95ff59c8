"""What changes in a head on its way: the names that no client may set, and the lines we add ourselves."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from proxy.wire.head import RequestHead

#: Names by which upstreams learn who is asking or where from: only we may say so. With `*` go the names of such a
#: beginning that nobody has thought of yet: each is a family of another proxy's (Grafana's auth proxy, Authelia,
#: oauth2-proxy, authentik, AWS, Google, Azure, Cloudflare, Pomerium, Vouch, Kong, Tailscale; RFC 9440).
IDENTITY_FIELDS = frozenset(
    name.encode()
    for name in """
    forwarded x-forwarded x-forwarded-* x-real-ip x-client-ip x-cluster-client-ip client-ip true-client-ip
    cf-connecting-ip x-original-url x-original-uri x-original-host x-rewrite-url x-host
    x-promgate-* x-scope-orgid thanos-tenant
    remote-* x-remote-* x-user x-username x-user-* x-auth-request-* x-authenticated-* x-webauth-* x-authentik-*
    x-amzn-oidc-* x-goog-* x-ms-client-principal* x-ms-token-* cf-access-* x-pomerium-* x-vouch-* x-consumer-*
    tailscale-user-* x-ssl-client-* ssl-client-* x-client-cert* client-cert* x-tls-client-*
    x-http-method-override x-http-method x-method-override
    """.split()
)

def upstream_head(head: RequestHead, line: bytes, told: bytes, peer_lines: bytes) -> list[bytes | memoryview]:
    """The head for the upstream in pieces; framing is written by us, from what was decided and not what was said.

    `line` is the request line as it goes on, `told` are the lines of `telling`; `peer_lines` the X-Forwarded lines of
    the connection and the blank line, made once per connection.
    """
    framing = b""
    if head.length >= 0:
        framing = b"Content-Length: %d\r\n" % head.length
    elif head.chunked:
        framing = b"Transfer-Encoding: chunked\r\n"
    if head.minor == 0:
        framing += b"Connection: close\r\n"
    return [line, head.fields, framing, told, peer_lines]


def peer_lines(ip: str, scheme: str) -> bytes:
    return f"X-Forwarded-For: {ip}\r\nX-Forwarded-Proto: {scheme}\r\n\r\n".encode()


def with_line(answer: bytes, line: bytes) -> bytes:
    """An answer with one more field line, which ends with its CRLF (or is empty), behind its status line."""
    if not line:
        return answer
    first, end, rest = answer.partition(b"\r\n")
    return first + end + line + rest
