"""Streams of requests for Hypothesis: lawful by grammar, then hurt in places where parsers differ."""

from __future__ import annotations

import re

from hypothesis import strategies as st

METHODS = [b"GET", b"POST", b"PUT", b"HEAD", b"DELETE", b"OPTIONS"]
TARGETS = [
    b"/", b"/x", b"/x?q=1", b"/a/b;c/d", b"/%7ea", b"/a%20b?%zz", b"/x/", b"/api/v1/label/a%2Fb/values",
    b"http://promgate.test/x", b"http://promgate.test", b"/caf%c3%a9", b"/a?b?c#d", b"/%2e%2e/x", b"//x", b"*",
]  # fmt: skip
FIELDS = [
    b"A: 1", b"a:2", b"User-Agent: x y", b"X: caf\xe9", b"Empty:", b"Spaces: \t a  b\t ", b"Accept: */*", b"X_Y: 1",
    b"Connection: keep-alive", b"Connection: close", b"Connection: A, x-none", b"Keep-Alive: 5", b"TE: trailers",
    b"Upgrade: h2c", b"X-Forwarded-For: 10.0.0.1", b"X-Real-IP: 10.0.0.1", b"X-Forwarded-Thing: 1", b"Forwarded: for=a",
    b"Expect: 100-continue", b"Authorization: Bearer x", b"Cookie: a=b", b"Content-Type: text/plain",
]  # fmt: skip
# What a mutation puts anywhere,
SPLINTERS = [
    b"\r", b"\n", b"\r\n", b"\0", b" ", b"\t", b"\x0b", b"\x7f", b"\xa0", b":", b",", b";", b"=", b"+", b"-", b"_",
    b"0", b"0x", b"%", b"%2e", b"%2f", b"%00", b"/", b"..", b"\\", b"#", b"?", b"@", b"*", b'"', b"x", b"F", b"5",
    b" HTTP/1.1", b"\r\n\r\n", b"\r\n ", b"0\r\n\r\n", b"chunked", b", chunked",
    b"GET /leak HTTP/1.1\r\nHost: promgate.test\r\n\r\n",
]  # fmt: skip
# and what it puts between two lines: into a head, into trailers, between a chunk and the next.
LINES = [
    b"Content-Length: 5", b"Content-Length: 0", b"Content-Length: +5", b"Transfer-Encoding: chunked",
    b"Transfer-Encoding: identity", b"Transfer_Encoding: chunked", b"Host: evil.test", b"Host: promgate.test",
    b"Connection: close", b"Expect: x", b"no colon", b"X : a", b": a", b" folded", b"X: a\0b", b"5", b"0", b"5;a=b",
    b"Authorization: Basic YTpi", b"Authorization: Bearer x",
]  # fmt: skip
# `#` and friends make some targets unlawful on purpose, but rarely.
_TARGET = st.one_of(st.sampled_from(TARGETS[:11]), st.sampled_from(TARGETS[:11]), st.sampled_from(TARGETS))
_BODY = st.binary(max_size=12) | st.sampled_from([b"hello", b"GET /leak HTTP/1.1\r\n\r\n", b"0\r\n\r\n", b"\r\n", b""])
_EXTENSION = st.sampled_from([b"", b"", b"", b";a", b";a=b", b' ; a="b;c"', b";", b" "])


@st.composite
def chunks(draw: st.DrawFn) -> bytes:
    """A chunked body."""
    out = b""
    for data in draw(st.lists(_BODY.filter(bool), max_size=3)):
        size = draw(st.sampled_from([b"%x", b"%X", b"%x", b"%x", b"0%x"])) % len(data)
        out += size + draw(_EXTENSION) + b"\r\n" + data + b"\r\n"
    trailer = draw(st.sampled_from([b"", b"", b"", b"X-Sum: 1\r\n", b"Content-Length: 5\r\nHost: evil\r\n"]))
    return out + b"0" + draw(_EXTENSION) + b"\r\n" + trailer + b"\r\n"


@st.composite
def request(draw: st.DrawFn) -> bytes:
    """One request, nearly always lawful."""
    method, target = draw(st.sampled_from(METHODS)), draw(_TARGET)
    old = draw(st.integers(0, 15)) == 15
    fields = draw(st.lists(st.sampled_from(FIELDS), max_size=4))
    fields.insert(draw(st.integers(0, len(fields))), b"Host: promgate.test")
    kind = draw(st.sampled_from(["none", "length", "chunked", "chunked"]))
    body = b""
    if kind == "length":
        body = draw(_BODY)
        fields.insert(draw(st.integers(0, len(fields))), b"Content-Length: %d" % len(body))
    elif kind == "chunked" and not old:
        body = draw(chunks())
        coding = draw(st.sampled_from([b"Transfer-Encoding: chunked", b"transfer-encoding:  CHUNKED "]))
        fields.insert(draw(st.integers(0, len(fields))), coding)
    version = b"HTTP/1.0" if old else b"HTTP/1.1"
    return b"\r\n".join([b"%b %b %b" % (method, target, version), *fields, b"", body])


@st.composite
def streams(draw: st.DrawFn) -> bytes:
    """What one client sends: up to three requests, and every other time something that does not belong."""
    data = b"".join(draw(st.lists(request(), min_size=1, max_size=3)))
    for _ in range(draw(st.sampled_from([0, 0, 0, 1, 1, 2]))):
        at = draw(st.integers(0, len(data)))
        match draw(st.sampled_from(["line", "line", "insert", "replace", "delete", "double", "cut"])):
            case "line":
                ends = [found.start() for found in re.finditer(b"\r\n", data)] or [0]
                at = draw(st.sampled_from(ends))
                data = data[:at] + b"\r\n" + draw(st.sampled_from(LINES)) + data[at:]
            case "insert":
                data = data[:at] + draw(st.sampled_from(SPLINTERS)) + data[at:]
            case "replace":
                data = data[:at] + draw(st.sampled_from(SPLINTERS)) + data[at + 1 :]
            case "delete":
                data = data[:at] + data[at + draw(st.integers(1, 4)) :]
            case "double":
                data = data[:at] + data[at : at + draw(st.integers(1, 30))] + data[at:]
            case "cut":
                data = data[: max(at, 1)]
    return data


def cut_up(data: bytes, cuts: list[int] | None) -> list[bytes]:
    """`data` in pieces, cut at the given places; None: everywhere."""
    places = sorted({cut for cut in (range(len(data)) if cuts is None else cuts) if 0 < cut < len(data)})
    return [data[a:b] for a, b in zip([0, *places], [*places, len(data)], strict=True)]
