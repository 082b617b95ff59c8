from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.wire.response import MAX_FIELDS, MAX_HEAD_BYTES, ResponseHead, ResponseMemo, admit_response
from proxy.wire.unlawful import Unlawful
from tests.wire.play import refusal


def admit(*fields, line=b"HTTP/1.1 200 OK", memo=None):
    data = b"\r\n".join([line, *fields])
    return admit_response(data, len(data), ResponseMemo() if memo is None else memo)


def test_an_answer_goes_on_in_its_order():
    head = admit(b"date: x", b"Content-Length: 5", b"X-A: 1", b"Keep-Alive: timeout=5", b"Retry-After: 7")
    assert head.sent == b"HTTP/1.1 200 OK\r\ndate: x\r\nContent-Length: 5\r\nX-A: 1\r\nRetry-After: 7\r\n"
    assert (head.status, head.length, head.chunked, head.close) == (200, 5, False, False)


@pytest.mark.parametrize(
    ("line", "status", "sent"),
    [
        (b"HTTP/1.1 204 No Content", 204, b"HTTP/1.1 204 No Content\r\n"),
        (b"HTTP/1.1 200 ", 200, b"HTTP/1.1 200 \r\n"),
        (b"HTTP/1.1 200", 200, b"HTTP/1.1 200 \r\n"),
        (b"HTTP/1.0 404 No", 404, b"HTTP/1.1 404 No\r\n"),
        (b"HTTP/1.1 599 \xe9", 599, b"HTTP/1.1 599 \xe9\r\n"),
    ],
)
def test_lawful_status_lines(line, status, sent):
    head = admit(line=line)
    assert (head.status, head.sent) == (status, sent)
    assert head.close is line.startswith(b"HTTP/1.0")


@pytest.mark.parametrize(
    "line",
    [
        b"", b"200 OK", b"HTTP/1.1", b"HTTP/1.1 ", b"HTTP/1.1 20", b"HTTP/1.1 2000 OK", b"HTTP/1.1 000 OK",  # U1
        b"HTTP/1.1 -20 OK", b"HTTP/1.1 600 X", b"HTTP/1.1 1000", b"HTTP/1.1  200 OK", b"HTTP/2 200 OK",
        b"HTTP/0.9 200 OK",
        b"http/1.1 200 OK", b"HTTP/1.2 200 OK", b"ICY 200 OK", b"<html>", b"HTTP/1.1 200 \x00", b"HTTP/1.1 200 a\rb",
        b"HTTP/1.1 2\xb20 OK", b"HTTP/1.1 200\tOK",
    ],
)  # fmt: skip
def test_what_is_no_status_line_is_refused(line):
    assert refusal(admit, line=line) is not None


@pytest.mark.parametrize(
    "fields",
    [
        [b"Content-Length: 5", b"Content-Length: 5"],  # U1
        [b"Content-Length: 5, 5"],
        [b"Content-Length: -5"],
        [b"Content-Length: +5"],
        [b"Content-Length: five"],
        [b"Content-Length: " + b"9" * 30],
        [b"Transfer-Encoding: gzip"],
        [b"Transfer-Encoding: chunked, chunked"],
        [b"Transfer-Encoding: chunked", b"Transfer-Encoding: chunked"],
        [b"Transfer-Encoding: chunked", b"Content-Length: 5"],  # U2
        [b"Content-Length: 5", b"Transfer-Encoding: chunked"],
        [b"X: a\x00b"],
        [b"X: a\rb"],
        [b"X: a\nb"],
        [b"X : a"],
        [b" folded"],
        [b"nothing"],
        [b"X: 1"] * (MAX_FIELDS + 1),
        [b"X: " + b"a" * 16_000] * 5,
    ],
)
def test_an_unlawful_answer_is_refused(fields):
    assert refusal(admit, *fields) is not None


def test_the_bounds():
    assert admit(*[b"X: 1"] * MAX_FIELDS).status == 200
    lines = [b"X: " + b"a" * 16_000] * 4
    assert sum(map(len, lines)) < MAX_HEAD_BYTES
    assert admit(*lines).status == 200


def test_an_answer_of_old_http_has_no_chunks():
    assert refusal(admit, b"Transfer-Encoding: chunked", line=b"HTTP/1.0 200 OK") is not None


@pytest.mark.parametrize(
    ("connection", "close", "gone"),
    [
        (b"close", True, set()),
        (b"Keep-Alive", False, set()),
        (b"X-A", False, {b"X-A"}),  # U10
        (b"x-a, close", True, {b"X-A"}),
    ],
)
def test_connection(connection, close, gone):
    head = admit(b"X-A: 1", b"X-B: 2", b"Connection: " + connection)
    assert head.close is close
    assert {line.partition(b":")[0] for line in head.sent.splitlines()[1:]} == {b"X-A", b"X-B"} - gone


FIELDS = st.sampled_from(
    [
        b"Date: x", b"Content-Length: 5", b"content-length: 6", b"Transfer-Encoding: chunked", b"Connection: close",
        b"Connection: X-A", b"X-A: 1", b"Set-Cookie: a=b", b"bad", b"X: \x00", b"Transfer-Encoding: gzip", b"TE: x",
    ]
)  # fmt: skip
LINES = st.sampled_from([b"HTTP/1.1 200 OK", b"HTTP/1.0 200 OK", b"HTTP/1.1 503 Busy", b"HTTP/1.1 99 X"])


@given(st.lists(st.tuples(LINES, st.lists(FIELDS, max_size=5)), min_size=1, max_size=5))
def test_memory_never_changes_a_verdict(answers):
    def outcome(line, fields, memo):
        try:
            head = admit(*fields, line=line, memo=memo)
        except Unlawful as wrong:
            return wrong.text
        return {name: getattr(head, name) for name in ResponseHead.__slots__}

    warm = ResponseMemo()
    for line, fields in [*answers, *answers]:
        assert outcome(line, fields, warm) == outcome(line, fields, ResponseMemo())
        assert not any(b"Cookie" in known for known in [*warm.fields, *warm.heads])


@pytest.mark.parametrize("fields", [[b"Content-Length: 5"], [b"Transfer-Encoding: chunked"]])
def test_a_204_announces_no_body(fields):
    """RFC 9110 15.3.5: its octets, come a moment later, would be taken for the next answer."""
    assert refusal(admit, *fields, line=b"HTTP/1.1 204 No Content")
    assert admit(b"Content-Length: 0", line=b"HTTP/1.1 204 No Content").status == 204
