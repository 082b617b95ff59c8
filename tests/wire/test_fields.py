from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.gate.edits import IDENTITY_FIELDS
from proxy.wire import fields as f
from proxy.wire.fields import REQUEST_FIELDS, FieldMemo, field_name, listed, split_field
from proxy.wire.unlawful import Unlawful
from tests.wire.play import refusal, verdict


def judge(line):
    return FieldMemo(REQUEST_FIELDS, IDENTITY_FIELDS)[line]


@pytest.mark.parametrize(
    ("line", "sent"),
    [
        (b"Accept: */*", b"Accept: */*\r\n"),
        (b"accept:*/*", b"accept: */*\r\n"),
        (b"X-A: \t b c \t", b"X-A: b c\r\n"),
        (b"X-A:", b"X-A: \r\n"),
        (b"X-A: a:b", b"X-A: a:b\r\n"),
        (b"X-A: \xe9\x80\xff", b"X-A: \xe9\x80\xff\r\n"),  # H24: obs-text keeps its bytes
        (b"!#$%&'*+-.^`|~0: 1", b"!#$%&'*+-.^`|~0: 1\r\n"),
    ],
)
def test_a_lawful_line_goes_on(line, sent):
    assert judge(line) == sent


@pytest.mark.parametrize(
    "line",
    [
        b"", b":", b": x", b"X", b" X: y", b"\tX: y", b"X : y", b"X\t: y", b"X Y: z", b"\x00: y", b"X\xe9: y",
        b"(X): y", b"X: a\x00b", b"X: a\rb", b"X: a\nb", b"X: \x0b", b"X: \x0c", b"X: \x1f", b"X: \x7f", b"X: \x08",
    ],
)  # fmt: skip
def test_what_is_no_field_is_refused(line):
    assert refusal(judge, line) == 400


@pytest.mark.parametrize(
    ("line", "kind"),
    [
        (b"Content-Length: 5", f.LENGTH),
        (b"content-length:5", f.LENGTH),
        (b"TRANSFER-ENCODING: Chunked", f.ENCODING),
        (b"Authorization: Bearer x", f.AUTHORIZATION),
        (b"Keep-Alive: timeout=5", f.DROP),
        (b"TE: trailers", f.DROP),
        (b"HTTP2-Settings: x", f.DROP),
        (b"Upgrade: h2c", f.UPGRADE),
        (b"Transfer_Encoding: chunked", f.DROP),  # H11, S2
        (b"Content_Length: 5", f.DROP),
        (b"Authorization_: Bearer x", f.DROP),
        (b"X_Forwarded_User: admin", f.DROP),
        (b"_: x", f.DROP),
    ],
)
def test_special_fields_are_known_in_any_case(line, kind):
    assert judge(line)[0] == kind


LENGTHS = [
    b"+5", b"-5", b"0x5", b"0_5", b"5e0", b"5.0", b"5 5", b"5, 6", b"5, 5", b"5,", b"", b'"5"', b"\xa05", b"5;",
    b"five", b"\xd9\xa5", b"\xb2", b"9" * 16, b"1" * 30, b"18446744073709551621",
]  # fmt: skip


@pytest.mark.parametrize("value", LENGTHS)
@pytest.mark.parametrize("name", [b"Content-Length: ", b"content-length:", b"CONTENT-LENGTH: "])
def test_a_length_is_plain_digits(name, value):
    assert refusal(judge, name + value) == 400


CODINGS = [
    b"xchunked", b"chunkedx", b"cow", b"gzip", b"identity", b"", b'"chunked"', b"chunked;q=1", b"chunked, chunked",
    b"chunked, identity", b"chunked,", b",chunked", b"gzip, chunked", b"\xa0chunked", b"chunked\xff",
]  # fmt: skip


@pytest.mark.parametrize("value", CODINGS)
def test_chunked_is_the_one_coding(value):
    assert refusal(judge, b"Transfer-Encoding: " + value) in {400, 501}


@pytest.mark.parametrize("host", [b"", b"a b", b"a/b", b"u@a", b"a:b", b"a:65536", b"a:-1", b"[::1", b"::1", b"a,b"])
def test_a_host_is_an_authority(host):
    assert refusal(judge, b"Host: " + host) == 400


@pytest.mark.parametrize("host", [b"a", b"a:", b"a:443", b"A.b-c", b"[::1]", b"[::1]:9090", b"127.0.0.1:9090", b"a_b"])
def test_lawful_hosts(host):
    assert judge(b"Host: " + host) == (f.HOST, host, b"Host: " + host + b"\r\n")


def test_a_line_has_its_bound():
    assert refusal(judge, b"X: " + b"a" * f.MAX_LINE_BYTES) == 431
    assert refusal(judge, b"X: " + b"a" * (f.MAX_LINE_BYTES - 3)) is None


def test_nothing_is_remembered_until_the_sender_may_be_trusted():
    memo = FieldMemo(REQUEST_FIELDS)
    assert memo[b"X: 1"] == b"X: 1\r\n"
    assert dict(memo) == {}
    memo.keep()
    assert dict(memo) == {b"X: 1": b"X: 1\r\n"}
    assert memo.fresh == []


@pytest.mark.parametrize(
    "line",
    [
        b"Authorization: Bearer secret",
        b"AUTHORIZATION:Basic c2VjcmV0",
        b"Proxy-Authorization: Basic c2VjcmV0",
        b"Cookie: session=secret",
        b"set-cookie: session=secret",
        b"X-Forwarded-Access-Token: secret",
        b"Content-Length: 5",
        b"content-length: 5",
        b"X: " + b"a" * 600,
    ],
)
def test_what_is_secret_or_rare_is_never_remembered(line):
    memo = FieldMemo(REQUEST_FIELDS, IDENTITY_FIELDS)
    assert memo[line]
    memo.keep()
    assert dict(memo) == {}


def test_the_memory_is_bounded():
    memo = FieldMemo(REQUEST_FIELDS)
    for number in range(20_000):
        assert memo[b"X: %d" % number]
        memo.keep()
    assert 0 < len(memo) <= 4097


@given(st.binary(max_size=40) | st.from_regex(rb"[A-Za-z_-]{1,12}:[ -~]{0,12}", fullmatch=True))
def test_a_line_is_judged_the_same_again(line):
    memo = FieldMemo(REQUEST_FIELDS, IDENTITY_FIELDS)
    cold = verdict(memo.__getitem__, line)
    memo.keep()
    assert verdict(memo.__getitem__, line) == cold


@given(st.binary(max_size=40))
def test_what_passes_is_one_line_of_one_field(line):
    try:
        name, value = split_field(line)
    except Unlawful:
        return
    assert name
    assert not set(name) & set(b" \t\r\n:\x00")
    assert not set(value) & set(b"\r\n\x00")
    assert value == value.strip(b" \t")


def test_lists_and_names():
    assert listed(b" Close, ,X-A ,\t") == [b"close", b"x-a"]
    assert field_name(b"X-A: b: c\r\n") == b"x-a"
