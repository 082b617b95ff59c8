"""What changes in a head on its way: the names that no client may set, and the lines we add ourselves."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from proxy.wire.head import RequestHead

#: Names by which upstreams learn who is asking or where from: only we may say so. With `*` go the names of such a
#: beginning that nobody has thought of yet.
IDENTITY_FIELDS = frozenset(
    name.encode()
    for name in """
    forwarded x-forwarded x-forwarded-for x-forwarded-host x-forwarded-port x-forwarded-proto x-forwarded-protocol
    x-forwarded-scheme x-forwarded-ssl x-forwarded-server x-forwarded-prefix x-forwarded-uri x-forwarded-path
    x-forwarded-method x-forwarded-user x-forwarded-email x-forwarded-groups x-forwarded-preferred-username
    x-forwarded-access-token x-forwarded-client-cert x-real-ip x-client-ip x-cluster-client-ip client-ip
    true-client-ip cf-connecting-ip x-original-url x-original-uri x-original-host x-rewrite-url x-host
    x-remote-user remote-user x-user x-auth-request-user x-auth-request-email x-auth-request-groups
    x-webauth-user x-scope-orgid thanos-tenant
    x-forwarded-* x-promgate-* x-promgate-identity x-promgate-roles x-promgate-token-id x-promgate-request-id
    x-ssl-client-cert x-client-cert ssl-client-cert x-http-method-override x-http-method x-method-override
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
