from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.gate.edits import IDENTITY_FIELDS, peer_lines, upstream_head
from tests.wire.play import admit, request

PEER = peer_lines("192.0.2.7", "https")
WRITE_LINE = b"POST /api/v1/write HTTP/1.1"


def sent(*fields, line=WRITE_LINE):
    """The head that the upstream gets, as lines."""
    head = admit(request(*fields, line=line))
    data = b"".join(upstream_head(head, head.line.sent, b"", PEER))
    assert data.endswith(b"\r\n\r\n")
    return data[:-4].split(b"\r\n")


def test_the_head_for_the_upstream_to_the_letter():
    assert sent(
        b"User-Agent: Prometheus/2.53",
        b"Content-Length: 7",
        b"Content-Encoding: snappy",
        b"Authorization: Bearer t",
        b"X-Prometheus-Remote-Write-Version: 0.1.0",
        b"Retry-Attempt: 2",
        b"X-Forwarded-For: 10.9.8.7",
        b"Connection: keep-alive",
    ) == [
        b"POST /api/v1/write HTTP/1.1",
        b"Host: a",
        b"User-Agent: Prometheus/2.53",
        b"Content-Encoding: snappy",
        b"X-Prometheus-Remote-Write-Version: 0.1.0",
        b"Retry-Attempt: 2",
        b"Content-Length: 7",
        b"X-Forwarded-For: 192.0.2.7",
        b"X-Forwarded-Proto: https",
    ]


@pytest.mark.parametrize(
    ("fields", "line", "framing"),
    [
        ([], WRITE_LINE, []),
        ([b"Content-Length: 0"], WRITE_LINE, [b"Content-Length: 0"]),
        ([b"content-length: 007"], WRITE_LINE, [b"Content-Length: 7"]),
        ([b"transfer-encoding: CHUNKED"], WRITE_LINE, [b"Transfer-Encoding: chunked"]),
        ([b"Content-Length: 3"], b"POST / HTTP/1.0", [b"Content-Length: 3", b"Connection: close"]),
        ([], b"GET / HTTP/1.0", [b"Connection: close"]),
        ([b"Transfer_Encoding: chunked", b"Content_Length: 9"], WRITE_LINE, []),
    ],
)
def test_framing_is_written_by_us(fields, line, framing):
    lines = sent(*fields, line=line)
    assert lines[2:-2] == framing


CASES = st.sampled_from([bytes.lower, bytes.upper, bytes.title, bytes.swapcase])
SPELLINGS = st.sampled_from([lambda name: name, lambda name: name.replace(b"-", b"_"), lambda name: name + b"_"])
UNHEARD_OF = [b"x-forwarded-anything", b"x-promgate-anything"]
KNOWN = st.sampled_from([*sorted(IDENTITY_FIELDS), *UNHEARD_OF])
NAMES = st.builds(lambda name, case, spell: case(spell(name)), KNOWN, CASES, SPELLINGS)


@given(st.lists(NAMES, min_size=1, max_size=8), st.booleans())
def test_only_we_say_who_is_asking(names, is_named):
    """S1, S2, H38: in any case, with `_`, twice, and also where Connection names it."""
    fields = [name + b": admin" for name in names]
    if is_named:
        fields.append(b"Connection: " + b", ".join(names))
    lines = sent(*fields)
    assert b"admin" not in b"".join(lines)
    assert lines == [WRITE_LINE, b"Host: a", b"X-Forwarded-For: 192.0.2.7", b"X-Forwarded-Proto: https"]


def test_what_connection_names_does_not_take_ours_away():
    named = b"Connection: X-Forwarded-For, X-Forwarded-Proto, Host, Content-Length, close"
    assert sent(named, b"Content-Length: 5")[1:] == [
        b"Host: a",
        b"Content-Length: 5",
        b"X-Forwarded-For: 192.0.2.7",
        b"X-Forwarded-Proto: https",
    ]


def test_no_credential_goes_on():
    lines = sent(b"Authorization: Basic eDp5", b"Proxy-Authorization: Basic eDp5")
    assert not any(b"eDp5" in line for line in lines)
