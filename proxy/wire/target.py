"""One canonical path, or a refusal: the string that is authorised is the string that is forwarded.

Percent-encoded unreserved octets are decoded (RFC 3986 6.2.2.2) and nothing else; whatever two programs
could read as two different paths (dot segments, encoded slashes, empty segments) is refused.
The query takes part in nothing and keeps its bytes.
"""

from __future__ import annotations

import re

from proxy.wire.grammar import PLAIN_PATH, TARGET, UNRESERVED, is_authority
from proxy.wire.unlawful import Unlawful

_ENCODED = re.compile(rb"%(.{0,2})", re.DOTALL)
_ABSOLUTE = re.compile(rb"https?://([^/?]*)(.*)", re.IGNORECASE | re.DOTALL).fullmatch
#: A dot segment, also with the parameters that some servers cut off before they look (`/..;x/`).
_dot_segment = re.compile(rb"/\.\.?(?:[/;]|%3B|\Z)").search
#: Prometheus takes label names with a slash as %2F here, and only here (web/api/v1: label/:name/values).
_LABEL_VALUES = re.compile(rb"(.*/api/v1/label/)([^/]+)(/values)", re.DOTALL).fullmatch


def split_target(target: bytes, host: bytes | None) -> tuple[bytes, bytes]:
    """(canonical path, query with its `?` or nothing) of a request target in origin or absolute form.

    `host` is the value of the Host field: the authority of an absolute form must be the same
    (RFC 9112 3.2.2 would let it win; two names for one request is one too many).
    """
    if target.translate(None, TARGET):
        raise Unlawful("invalid character in the request target")
    if target[:1] != b"/":
        target = _origin_form(target, host)
    path, mark, query = target.partition(b"?")
    return canonical_path(path), mark + query


def _origin_form(target: bytes, host: bytes | None) -> bytes:
    match = _ABSOLUTE(target)
    if match is None:
        raise Unlawful("the request target must begin with /")
    if not is_authority(match[1]) or (host is not None and match[1].lower() != host.lower()):
        raise Unlawful("the request target and Host name different authorities")
    rest: bytes = match[2]
    return rest if rest[:1] == b"/" else b"/" + rest


def canonical_path(path: bytes) -> bytes:
    """The one spelling of `path`, or Unlawful."""
    if not path.translate(None, PLAIN_PATH) and b"//" not in path and b"/." not in path:
        return path
    label = _LABEL_VALUES(path)
    if label is not None:
        # The name is judged with its slashes decoded, as the upstream will, and sent with them in place.
        head, name, tail = label.groups()
        parts = re.split(rb"%2[Ff]", name)
        canonical = canonical_path_strict(head + b"/".join(parts) + tail)
        if len(parts) > 1:
            return canonical_path_strict(head[:-1]) + b"/" + b"%2F".join(map(_decoded, parts)) + tail
        return canonical
    return canonical_path_strict(path)


def canonical_path_strict(path: bytes) -> bytes:
    """As canonical_path, with no exception for label names."""
    path = _decoded(path)
    if b"\\" in path or b"//" in path:
        raise Unlawful("ambiguous path")
    if _dot_segment(path):
        raise Unlawful("dot segment in the path")
    return path


def _decoded(path: bytes) -> bytes:
    return _ENCODED.sub(_decode_one, path) if b"%" in path else path


def _decode_one(match: re.Match[bytes]) -> bytes:
    digits = match[1]
    try:
        octet = bytes.fromhex(digits.decode("ascii"))
    except ValueError:
        octet = b""
    if len(octet) != 1 or len(digits) != 2:
        raise Unlawful("malformed percent-encoding in the path")
    if octet in UNRESERVED:
        return octet
    if octet < b" " or octet in b"\x7f/\\":
        raise Unlawful("ambiguous percent-encoding in the path")
    return b"%" + digits.upper()
