"""One line: all that is said is in it, nothing of it is a line or a colour of its own, and no secret is there."""

from __future__ import annotations

import json
from hashlib import sha256

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.audit.record import GENESIS, MAX_LINE, build_line, hash_line, read_line

ODD = 'a\r\nb\x1b[31m\u2028\u2029\u202e\x00\x7f\x9b\ud800ü,"\\'


def test_a_line_is_json_with_the_hash_of_the_one_before():
    first = build_line(1, GENESIS, 1_700_000_000.25, {"action": "rotate", "name": "prom"})
    second = build_line(2, hash_line(first), 1_700_000_001.0, {"action": "revoke", "name": "prom"})
    assert json.loads(first) == {
        "seq": 1,
        "at": "2023-11-14T22:13:20.250000Z",
        "action": "rotate",
        "name": "prom",
        "prev": GENESIS,
    }
    assert json.loads(second)["prev"] == sha256(first).hexdigest()
    link, fields = read_line(second)
    assert link == (2, sha256(first).hexdigest(), sha256(second).hexdigest())
    assert fields["action"] == "revoke"


@given(st.dictionaries(st.text(max_size=8), st.text() | st.lists(st.dictionaries(st.text(max_size=8), st.text()))))
def test_whatever_is_said_is_one_line_of_printable_ascii(said):
    line = build_line(1, GENESIS, 0.0, {f"x{key}": value for key, value in said.items()})
    assert line.endswith(b"\n")
    assert all(0x20 <= byte < 0x7F for byte in line[:-1])
    assert read_line(line) is not None


def test_odd_texts_are_told_and_harmless():
    line = build_line(1, GENESIS, 0.0, {"identity": ODD, "changes": [{"text": ODD}]})
    assert line.count(b"\n") == 1
    assert json.loads(line)["identity"] == ODD
    assert json.loads(line)["changes"] == [{"text": ODD}]


def test_a_token_that_was_written_where_a_name_is_wanted_is_not_told():
    secret = "pgw_AbCd1234_" + "s3cr3t" * 8 + "x"
    line = build_line(1, GENESIS, 0.0, {"text": f"{secret!r} is not a name", "changes": [{"text": f"x {secret}"}]})
    assert b"s3cr3t" not in line
    assert b"pgw_AbCd1234_<secret>" in line


def test_a_line_has_a_bound():
    line = build_line(1, GENESIS, 0.0, {"text": "x" * 100_000, "changes": [{"what": "y" * 1000}] * 100})
    assert len(line) < MAX_LINE
    assert json.loads(line)["changes"] == [{"what": "more than a line can hold"}]


@pytest.mark.parametrize(
    "line",
    [b"", b"\n", b"{}\n", b"[]\n", b"1\n", b'{"seq":1}\n', b'{"seq":"1","prev":"x"}\n', b'{"seq":true,"prev":"x"}\n',
     b'{"seq":1,"prev":"x"}', b"[" * 100_000 + b"\n", b"\xff\n"],
)  # fmt: skip
def test_what_is_no_record_is_not_read(line):
    assert read_line(line) is None
