"""The prefix that is taken off on the way in, and put back before a redirect."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.gate.prefix import restore_location, strip_line
from proxy.wire.head import RequestLine

SEGMENT = st.sampled_from([b"api", b"v1", b"a%2Fb", b"x.y", b"prometheus", b"~"])


@pytest.mark.parametrize(
    ("path", "query", "sent"),
    [
        (b"/prometheus", b"", b"GET / HTTP/1.1\r\n"),
        (b"/prometheus", b"?a=/prometheus/x", b"GET /?a=/prometheus/x HTTP/1.1\r\n"),
        (b"/prometheus/", b"", b"GET / HTTP/1.1\r\n"),
        (b"/prometheus/api/v1/query", b"?query=up", b"GET /api/v1/query?query=up HTTP/1.1\r\n"),
        (b"/prometheus/prometheus/x", b"", b"GET /prometheus/x HTTP/1.1\r\n"),
        (b"/prometheus/api/v1/label/a%2Fb/values", b"", b"GET /api/v1/label/a%2Fb/values HTTP/1.1\r\n"),
    ],
)
def test_strip(path, query, sent):
    assert strip_line(RequestLine(b"GET", path, query, 1, b""), b"/prometheus") == sent


@given(st.lists(SEGMENT, max_size=5), st.booleans())
def test_one_result_that_begins_with_one_slash(segments, is_open):
    rest = b"".join(b"/" + segment for segment in segments) + (b"/" if is_open else b"")
    line = strip_line(RequestLine(b"POST", b"/prometheus" + rest, b"?q", 0, b""), b"/prometheus")
    assert line == b"POST " + (rest or b"/") + b"?q HTTP/1.0\r\n"
    assert b"//" not in line.split(b" ")[1]


@pytest.mark.parametrize(
    ("location", "restored"),
    [
        (b"/", b"/prometheus/"),
        (b"/graph", b"/prometheus/graph"),
        (b"/graph?a=/b#c", b"/prometheus/graph?a=/b#c"),
        (b"/prometheusX", b"/prometheus/prometheusX"),
        (b"/prometheus", b"/prometheus"),
        (b"/prometheus/graph", b"/prometheus/graph"),
        (b"/prometheus?x", b"/prometheus?x"),
        (b"graph", b"graph"),
        (b"./graph", b"./graph"),
        (b"", b""),
        (b"?x", b"?x"),
        (b"//elsewhere/graph", b"//elsewhere/graph"),
        (b"/\\elsewhere", b"/\\elsewhere"),
        (b"https://elsewhere/graph", b"https://elsewhere/graph"),
    ],
)
@pytest.mark.parametrize("name", [b"Location", b"location", b"LOCATION"])
def test_restore(location, restored, name):
    head = b"HTTP/1.1 302 Found\r\nX-Location: /x\r\n%b: %b\r\nContent-Location: /y\r\n"
    assert restore_location(head % (name, location), b"/prometheus") == head % (name, restored)
