"""What must reach the upstream, told once more from RFC 9110, 9112, 3986 and docs/behaviour.md: slow and plain.

It shares no code with proxy/: a mistake would have to be made twice. It reads a whole stream of bytes as one client
sent it to a route that is open to anyone, and says which requests go up, byte for byte, and in which order. Where the
RFCs leave both ways open (a chunk size with leading zeros) a request is marked: it may be refused, but not changed.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field

TOKEN = re.compile(rb"[!#$%&'*+.^_`|~0-9A-Za-z-]+")  # RFC 9110 5.6.2
VALUE = re.compile(rb"[\t\x20-\x7e\x80-\xff]*")  # RFC 9110 5.5: VCHAR, obs-text, SP, HTAB
TARGET = re.compile(rb"[\x21\x22\x24-\x7e]+")  # visible ASCII without `#`
UNRESERVED = rb"A-Za-z0-9._~\-"  # RFC 3986 2.3
# RFC 3986 3.2.2 and 3.2.3, with no percent-encoding: a name or an IP literal, and a port.
AUTHORITY = re.compile(rb"(?:[%b!$&'()*+;=]+|\[[0-9A-Fa-f:.]+\])(?::([0-9]*))?" % UNRESERVED)
PLAIN_PATH = re.compile(rb"(?:[%b!$&'()*+,;=:@/]|%%[0-9A-F]{2})*" % UNRESERVED)
QUERY = re.compile(rb"[%b!$&'()*+,;=:@/?%%]*" % UNRESERVED)
LABEL_VALUES = re.compile(rb"(.*/api/v1/label/)([^/]+)(/values)")
# RFC 9112 7.1.1, read leniently: any visible text after the semicolon.
EXTENSION = re.compile(rb"([0-9A-Fa-f]+)[ \t]*(;[\t\x20-\x7e\x80-\xff]*)?")
VALUED = rb'%b|"[^"\\\x80-\xff]*"' % TOKEN.pattern
LAWFUL_EXTENSION = re.compile(rb"(?:[ \t]*;[ \t]*%b(?:[ \t]*=[ \t]*(?:%b))?)*" % (TOKEN.pattern, VALUED))

METHODS = {b"GET", b"HEAD", b"POST", b"PUT", b"PATCH", b"DELETE", b"OPTIONS"}
HOP_BY_HOP = {
    b"connection", b"keep-alive", b"te", b"trailer", b"transfer-encoding", b"upgrade", b"proxy-connection",
    b"proxy-authorization", b"proxy-authenticate", b"http2-settings",
}  # fmt: skip
NEVER_SENT = HOP_BY_HOP | {b"content-length", b"expect", b"authorization"}
# Of the names that tell who is asking, those that the strategies write.
IDENTITY = {b"x-real-ip", b"forwarded", b"x-original-url", b"x-scope-orgid", b"x-http-method-override"}
MAX_TARGET, MAX_LINE, MAX_SECTION, MAX_FIELDS = 16 * 1024, 16 * 1024, 32 * 1024, 128
MAX_EXTENSIONS, MAX_TRAILERS = 16 * 1024, 16 * 1024
FORWARDED = b"X-Forwarded-For: 127.0.0.1\r\nX-Forwarded-Proto: http\r\n\r\n"


class Refused(Exception):
    """No request, and nothing after it."""


class Unfinished(Exception):
    """The bytes end before the request does."""


@dataclass
class Reading:
    """`up` are whole requests as the upstream sees them; the relay may also stop after one of the `stops`."""

    up: list[bytes] = field(default_factory=list)
    stops: set[int] = field(default_factory=set)
    end: str = "open"  # open | closed | refused | unfinished | denied

    def agrees(self, seen: list[bytes]) -> bool:
        """Whether the upstream may have seen exactly this."""
        return seen == self.up[: len(seen)] and (len(seen) == len(self.up) or len(seen) in self.stops)


@dataclass
class Head:
    method: bytes
    target: bytes
    version: bytes
    fields: list[tuple[bytes, bytes]]
    doubtful: bool = False  # lawful to refuse

    def values(self, name: bytes) -> list[bytes]:
        return [value for found, value in self.fields if found.lower() == name]

    def listed(self, name: bytes) -> list[bytes]:
        items = b",".join(self.values(name)).split(b",")
        return [item.strip(b" \t").lower() for item in items if item.strip(b" \t")]


def read_stream(data: bytes) -> Reading:
    """All that must go up of what one client sent."""
    reading = Reading()
    at = 0
    while True:
        if data.startswith(b"\r\n", at):  # RFC 9112 2.2: one empty line is forgiven
            at += 2
        if at >= len(data):
            return reading
        try:
            head, at = read_head(data, at)
            raw, at = read_request(head, data, at)
        except Refused:
            reading.end = "refused"
            return reading
        except Unfinished:
            reading.end = "unfinished"
            return reading
        if raw is None:  # answered here: the connection may live on or not
            reading.stops.add(len(reading.up))
        else:
            if head.doubtful:
                reading.stops.add(len(reading.up))
            reading.up.append(raw)
        if head.version == b"HTTP/1.0" or b"close" in head.listed(b"connection"):
            reading.end = "closed"
            return reading


def read_head(data: bytes, at: int) -> tuple[Head, int]:
    """RFC 9112 2.1: request line, field lines, an empty line; each ends in CRLF and holds no other CR or LF."""
    end = data.find(b"\r\n\r\n", at)
    if end < 0:
        raise Unfinished
    first, *lines = data[at:end].split(b"\r\n")
    words = first.split(b" ")
    if len(words) != 3:
        raise Refused
    method, target, version = words
    if version not in {b"HTTP/1.1", b"HTTP/1.0"} or not TOKEN.fullmatch(method) or len(method) > 32:
        raise Refused
    if not TARGET.fullmatch(target) or len(target) > MAX_TARGET:
        raise Refused
    fields = []
    for line in lines:
        name, colon, value = line.partition(b":")
        if not colon or not TOKEN.fullmatch(name) or not VALUE.fullmatch(value) or len(line) > MAX_LINE:
            raise Refused
        fields.append((name, value.strip(b" \t")))
    if len(fields) > MAX_FIELDS or sum(len(line) + 2 for line in lines) > MAX_SECTION:
        raise Refused
    return Head(method, target, version, fields), end + 4


def read_request(head: Head, data: bytes, at: int) -> tuple[bytes | None, int]:
    """(the request as it goes up or None if it is answered here, where the next one begins)."""
    check_host(head)
    length, chunked = read_framing(head)
    if any(value.lower() != b"100-continue" for value in head.values(b"expect")):
        raise Refused
    if len(head.values(b"expect")) > 1:
        head.doubtful = True
    if len(head.values(b"authorization")) > 1:
        raise Refused
    local = head.target == b"*"
    if local and head.method != b"OPTIONS":
        raise Refused
    target = b"*" if local else read_target(head)
    body, at = read_chunks(head, data, at) if chunked else read_length(data, at, length or 0)
    if local or head.method not in METHODS:
        return None, at
    return write_head(head, target, length, chunked=chunked) + body, at


def check_host(head: Head) -> None:
    """RFC 9112 3.2: exactly one, valid; HTTP/1.0 may have none."""
    hosts = head.values(b"host")
    if len(hosts) > 1 or (not hosts and head.version == b"HTTP/1.1"):
        raise Refused
    if not hosts:
        return
    found = AUTHORITY.fullmatch(hosts[0])
    if not found or int(found[1] or b"0") > 65535 or len(hosts[0]) > 255 or not is_address(hosts[0]):
        raise Refused
    if found[1] is not None and (not found[1] or found[1].startswith(b"0")):
        head.doubtful = True
    if re.search(rb"[!$&'()*+;=]", hosts[0]):
        head.doubtful = True


def is_address(host: bytes) -> bool:
    return not host.startswith(b"[") or host.count(b":") >= 2


def read_framing(head: Head) -> tuple[int | None, bool]:
    """RFC 9112 6: one Content-Length of digits, or one Transfer-Encoding that is `chunked`, or neither."""
    lengths, codings = head.values(b"content-length"), head.values(b"transfer-encoding")
    if len(lengths) + len(codings) > 1:
        raise Refused
    if codings:
        items = head.listed(b"transfer-encoding")
        if items != [b"chunked"] or head.version == b"HTTP/1.0":
            raise Refused
        if codings[0].lower() != b"chunked":
            head.doubtful = True
        return None, True
    if lengths:
        if not re.fullmatch(rb"[0-9]+", lengths[0]) or len(lengths[0].lstrip(b"0")) > 7:  # over every bound here
            raise Refused
        if lengths[0] != b"0" and lengths[0].startswith(b"0"):
            head.doubtful = True
        return int(lengths[0]), False
    return None, False


def read_length(data: bytes, at: int, length: int) -> tuple[bytes, int]:
    if len(data) - at < length:
        raise Unfinished
    return data[at : at + length], at + length


def read_chunks(head: Head, data: bytes, at: int) -> tuple[bytes, int]:
    """RFC 9112 7.1. What goes up has plain sizes, no extensions and no trailers."""
    body = b""
    spent = 0
    while True:
        line, at = read_line(data, at)
        found = EXTENSION.fullmatch(line)
        if not found:
            raise Refused
        digits = found[1].lstrip(b"0")
        extension = line[len(found[1]) :]
        if found[1] != digits and found[1] != b"0":
            head.doubtful = True
        if extension and not (LAWFUL_EXTENSION.fullmatch(extension) and b";" in extension):
            head.doubtful = True
        spent += len(line) - len(digits)
        if spent > MAX_EXTENSIONS or len(digits) > 7:
            raise Refused
        size = int(digits or b"0", 16)
        if not size:
            break
        chunk = data[at : at + size]
        ending = data[at + size : at + size + 2]
        if not b"\r\n".startswith(ending):
            raise Refused
        if len(ending) < 2:
            raise Unfinished
        at += size + 2
        body += digits + b"\r\n" + chunk + b"\r\n"
    trailers = 0
    while True:
        line, at = read_line(data, at)
        if not line:
            return body + b"0\r\n\r\n", at
        name, colon, value = line.partition(b":")
        trailers += len(line)
        if not colon or not TOKEN.fullmatch(name) or not VALUE.fullmatch(value) or trailers > MAX_TRAILERS:
            raise Refused


def read_line(data: bytes, at: int) -> tuple[bytes, int]:
    """One line that ends in CRLF; a CR or LF of its own ends all."""
    end = at
    while end < len(data) and data[end] not in b"\r\n":
        end += 1
    ending = data[end : end + 2]
    if not b"\r\n".startswith(ending):
        raise Refused
    if len(ending) < 2:
        raise Unfinished
    return data[at:end], end + 2


def read_target(head: Head) -> bytes:
    """Origin-form with one spelling of the path (RFC 3986 6.2.2) and the query as it came."""
    target = head.target
    absolute = re.fullmatch(rb"(?i:https?)://([^/?]*)(.*)", target)
    if absolute:
        hosts = head.values(b"host")
        authority = absolute[1]
        found = AUTHORITY.fullmatch(authority)
        if not found or int(found[1] or b"0") > 65535 or not is_address(authority):
            raise Refused
        if hosts and authority.lower() != hosts[0].lower():
            raise Refused
        if not hosts or authority != hosts[0]:
            head.doubtful = True
        target = absolute[2] if absolute[2].startswith(b"/") else b"/" + absolute[2]
    if not target.startswith(b"/"):
        raise Refused
    path, mark, query = target.partition(b"?")
    if not QUERY.fullmatch(query):
        head.doubtful = True
    path = read_path(path)
    if not PLAIN_PATH.fullmatch(path):
        head.doubtful = True
    return path + mark + query


def read_path(path: bytes) -> bytes:
    """Unreserved octets decoded; whatever two servers could read as two paths is refused."""
    label = LABEL_VALUES.fullmatch(path)
    if label and re.search(rb"%2[fF]", label[2]):
        names = [decode(part) for part in re.split(rb"%2[fF]", label[2])]
        check_segments(decode(label[1])[:-1] + b"".join(b"/" + name for name in names) + label[3])
        return decode(label[1]) + b"%2F".join(names) + label[3]
    path = decode(path)
    check_segments(path)
    return path


def decode(path: bytes) -> bytes:
    out = b""
    at = 0
    while at < len(path):
        octet = path[at : at + 1]
        at += 1
        if octet == b"\\":
            raise Refused
        if octet != b"%":
            out += octet
            continue
        digits = path[at : at + 2]
        at += 2
        if not re.fullmatch(rb"[0-9A-Fa-f]{2}", digits):
            raise Refused
        octet = bytes([int(digits, 16)])
        if octet in b"/\\\x7f" or octet < b" ":
            raise Refused
        out += octet if re.fullmatch(rb"[%b]" % UNRESERVED, octet) else b"%" + digits.upper()
    return out


def check_segments(path: bytes) -> None:
    segments = path.split(b"/")[1:]
    for segment in segments:
        if re.split(rb";|%3B", segment)[0] in {b".", b".."}:
            raise Refused
    if b"" in segments[:-1]:
        raise Refused


def write_head(head: Head, target: bytes, length: int | None, *, chunked: bool) -> bytes:
    """What the upstream sees before the body."""
    named = set(head.listed(b"connection")) - {b"host", b"user-agent", b"close", b"keep-alive"}
    lines = [b"%b %b %b\r\n" % (head.method, target, head.version)]
    for name, value in head.fields:
        lower = name.lower()
        ours = lower.startswith((b"x-forwarded-", b"x-promgate-"))
        if lower in NEVER_SENT or lower in IDENTITY or lower in named or ours or b"_" in name:
            continue
        lines.append(name + b": " + value + b"\r\n")
    if chunked:
        lines.append(b"Transfer-Encoding: chunked\r\n")
    elif length is not None:
        lines.append(b"Content-Length: %d\r\n" % length)
    if head.version == b"HTTP/1.0":
        lines.append(b"Connection: close\r\n")
    return b"".join(lines) + FORWARDED
