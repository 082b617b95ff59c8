from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from proxy.wire.framing import ChunkedBody, LengthBody
from proxy.wire.unlawful import Unlawful

END = b"0\r\n\r\n"


def feed(body, *pieces):
    """(what goes on, the octets after the body, whether it ended); Unlawful passes through."""
    sent = b""
    rest = b""
    ended = False
    for piece in pieces:
        if ended:
            rest += piece
            continue
        out, at = body.feed(piece)
        sent += bytes(out)
        if at >= 0:
            ended = True
            rest = piece[at:]
    return sent, rest, ended


def chunked(*pieces):
    return feed(ChunkedBody(), *pieces)


@pytest.mark.parametrize(
    ("data", "sent"),
    [
        (END, END),
        (b"5\r\nhello\r\n" + END, b"5\r\nhello\r\n" + END),
        (b"1A\r\n" + b"x" * 26 + b"\r\n" + END, b"1A\r\n" + b"x" * 26 + b"\r\n" + END),
        (b"5\r\n0\r\n\r\n\r\n" + END, b"5\r\n0\r\n\r\n\r\n" + END),
        # H15: what is not plain is written anew
        (b"5 \r\nhello\r\n" + END, b"5\r\nhello\r\n" + END),
        (b"0005\t\r\nhello\r\n" + END, b"5\r\nhello\r\n" + END),
        (b"5\r\nhello\r\n000\r\n\r\n", b"5\r\nhello\r\n" + END),
        # H16, H19: extensions and trailers have no reader behind us
        (b'5;a=1;b="c d"\r\nhello\r\n0;x\r\n\r\n', b"5\r\nhello\r\n" + END),
        (b"5 ; a\r\nhello\r\n" + END, b"5\r\nhello\r\n" + END),
        (b"0\r\nContent-Length: 9\r\nX: y\r\n\r\n", END),
    ],
)
def test_lawful_bodies(data, sent):
    assert chunked(data) == (sent, b"", True)
    assert chunked(data + b"GET / HTTP/1.1\r\n") == (sent, b"GET / HTTP/1.1\r\n", True)


SIZES = [
    b"0x5", b"+5", b"-5", b"_5", b" 5", b"\t5", b"5x", b"Z", b"", b"5.0", b"5 5", b"20 F", b"-0", b"0x0", b"5_0",
    b"\xb2", b"10000000000000005", b"F" * 16, b"5\x0b", b"5\x00", b"5\xa0", b"5\r", b"\r5",
]  # fmt: skip


@pytest.mark.parametrize("size", SIZES)
def test_a_size_is_plain_hex(size):
    with pytest.raises(Unlawful):
        chunked(size + b"\r\n" + b"x" * 64 + b"\r\n" + END)


@pytest.mark.parametrize(
    "data", [b"5;\r\n", b"5; \r\n", b"5;a\rb\r\n", b"5;a\x00\r\n", b"5;a\n", b"5 a\r\n", b'5;"\xff"\r\n']
)
def test_an_extension_is_visible_ascii(data):
    with pytest.raises(Unlawful):
        chunked(data + b"hello\r\n" + END)


@pytest.mark.parametrize(
    "data",
    [
        b"5\r\nhell\r\n0\r\n\r\n",  # H18: under-run,
        b"5\r\nhello!\r\n0\r\n\r\n",  # over-run,
        b"5\r\nhello\n0\r\n\r\n",  # bare line ends,
        b"5\nhello\r\n0\r\n\r\n",
        b"5\r\nhello\r\n\r\n0\r\n\r\n",  # an empty line in between,
        b"5\r\nhello\rX",
        b"0\r\nXX\r\n\r\n",  # trailers that are no fields
        b"0\r\nA: \x00\r\n\r\n",
        b"0\r\n A: b\r\n\r\n",
        b"0\r\nA : b\r\n\r\n",
        b"0\r\nA: b\n\r\n",
        b"0\r\n\n",
    ],
)
def test_what_is_misframed_is_refused(data):
    with pytest.raises(Unlawful):
        chunked(data)


@pytest.mark.parametrize(
    "data",
    [
        b"5;" + b"x" * 65536 + b"\r\nhello\r\n",  # H17
        (b"1;" + b"x" * 4096 + b"\r\ny\r\n") * 400,
        (b"1" + b" " * 4096 + b"\r\ny\r\n") * 400,
        (b"0" * 4096 + b"1\r\ny\r\n") * 400,
        b"0" * 100_000,
        b"0\r\n" + b"A: b\r\n" * 10_000,
        b"0\r\nA: " + b"b" * 20_000,
    ],
    ids=["extension", "extensions", "spaces", "zeros", "size line", "trailers", "trailer"],
)
def test_padding_is_bounded(data):
    with pytest.raises(Unlawful):
        chunked(*(data[at : at + 1000] for at in range(0, len(data), 1000)))


def test_the_end_goes_on_only_when_the_body_is_whole():
    """A body that is cut must not look ended to the upstream (H20)."""
    whole = b"5\r\nhello\r\n0\r\nA: b\r\n\r\n"
    for cut in range(len(whole)):
        sent, _, ended = chunked(whole[:cut])
        assert not ended
        assert b"0\r\n" not in sent


def test_size_is_known_before_the_content_is_here():
    body = ChunkedBody()
    body.feed(b"5\r\nhello\r\nffff\r\nx")
    assert body.size == 5 + 0xFFFF


EXTENSIONS = st.sampled_from([b"", b"", b"", b" ", b";a", b"; a=b", b";", b";\x00"])
LINE_ENDS = st.sampled_from([b"\r\n"] * 12 + [b"\n", b"\r", b""])
CONTENT = st.binary(max_size=20) | st.sampled_from([b"0\r\n\r\n", b"\r\n", b"5\r\n"])


@st.composite
def bodies(draw):
    """Chunked bodies, most of them lawful, and what comes after."""
    out = []
    for content in draw(st.lists(CONTENT.filter(len), max_size=4)):
        size = draw(st.sampled_from([b"%x", b"%X", b"0%x", b"%x "])) % len(content)
        off = draw(st.sampled_from([b""] * 9 + [b"x"]))
        out += [size, draw(EXTENSIONS), draw(LINE_ENDS), content, off, draw(LINE_ENDS)]
    out += [draw(st.sampled_from([b"0", b"0", b"000", b""])), draw(EXTENSIONS), draw(LINE_ENDS)]
    out += draw(st.lists(st.sampled_from([b"A: b\r\n", b"A: b\n", b" A: b\r\n"]), max_size=1))
    return b"".join([*out, draw(LINE_ENDS), draw(st.sampled_from([b"", b"GET /", b"\r\n"]))])


def split(data, cuts):
    places = sorted({0, len(data), *(cut % (len(data) + 1) for cut in cuts)})
    return [data[start:end] for start, end in pairwise(places)]


@given(bodies() | st.binary(max_size=60), st.lists(st.integers(0, 500), max_size=8))
@example(b"1A\r\n" + b"x" * 26 + b"\r\n" + END, [1])
@example(b"5\r\nhello\r\n" + END, [8, 9])
@example(b"5\r\nhello\rX", [9])
def test_how_a_body_is_cut_into_reads_changes_nothing(data, cuts):
    def outcome(pieces):
        try:
            return chunked(*pieces)
        except Unlawful as wrong:
            return wrong.status, wrong.text

    whole = outcome([data])
    assert outcome(split(data, cuts)) == whole
    assert outcome([data[at : at + 1] for at in range(len(data))]) == whole


@given(st.binary(max_size=40), st.integers(0, 40), st.lists(st.integers(0, 80), max_size=5))
def test_a_body_of_known_length_ends_where_it_was_said(data, size, cuts):
    sent, rest, ended = feed(LengthBody(size), *split(data, cuts))
    assert sent == data[:size]
    assert rest == (data[size:] if ended else b"")
    assert ended == (len(data) >= size and len(data) > 0)


@pytest.mark.parametrize("body", [LengthBody(5), ChunkedBody()])
def test_a_body_may_begin_inside_what_was_read(body):
    content = b"hello" if isinstance(body, LengthBody) else b"5\r\nhello\r\n0\r\n\r\n"
    out, at = body.feed(b"HEAD" + content + b"NEXT", 4)
    assert (bytes(out), at) == (content, 4 + len(content))
