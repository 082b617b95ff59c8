from __future__ import annotations

import re

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from proxy.wire.target import canonical_path, split_target
from proxy.wire.unlawful import Unlawful
from tests.wire.play import refusal, verdict


@pytest.mark.parametrize(
    ("target", "path", "query"),
    [
        (b"/", b"/", b""),
        (b"/api/v1/query?query=up", b"/api/v1/query", b"?query=up"),
        (b"/a?", b"/a", b"?"),
        (b"/a??b?c", b"/a", b"??b?c"),
        (b"/%61%7E%2D%5f", b"/a~-_", b""),
        (b"/%c3%a9", b"/%C3%A9", b""),
        (b"/a%20b", b"/a%20b", b""),
        (b"/%25%32%66", b"/%252f", b""),  # a percent sign stays encoded, or the next server would decode again
        (b"/a/", b"/a/", b""),
        (b"/a.b/..c/c../.d", b"/a.b/..c/c../.d", b""),
        (b"/...", b"/...", b""),
        (b"/a:b@c;d=1,2!$&'()*+", b"/a:b@c;d=1,2!$&'()*+", b""),
        # the query keeps its bytes, whatever they are (P11)
        (b"/q?a=%zz&b=%00&c=../..//\\%2F%0d%0a", b"/q", b"?a=%zz&b=%00&c=../..//\\%2F%0d%0a"),
        # P2: a label name may hold a slash, and nothing else may
        (b"/api/v1/label/a%2fb/values", b"/api/v1/label/a%2Fb/values", b""),
        (b"/p/api/v1/label/%61%2F%62%2Fc/values?x", b"/p/api/v1/label/a%2Fb%2Fc/values", b"?x"),
        (b"/api/v1/label/job/values", b"/api/v1/label/job/values", b""),
        # H31
        (b"http://a/x?y", b"/x", b"?y"),
        (b"HTTPS://A", b"/", b""),
        (b"http://a?q", b"/", b"?q"),
    ],
)
def test_one_canonical_form(target, path, query):
    assert split_target(target, b"a") == (path, query)


@pytest.mark.parametrize(
    "target",
    [
        b"", b"x", b"a:80", b"*", b"//", b"/a//b", b"/a//", b"//a/b", b"?x", b"#", b"/a#b", b"/a?b#c",  # H32
        b"/a b", b"/a\tb", b"/\x00", b"/\x7f", b"/\xc3\xa9", b"/a?\xff", b"/a?\r\n", b"/a\n",
        b"/%", b"/%4", b"/%zz", b"/%4z", b"/%+1", b"/% 1", b"/%00", b"/%0d%0a", b"/%1f", b"/%7F",  # H33
        b"/a%2fb", b"/a%2Fb", b"/a%5cb", b"/a%5C", b"/a\\b", b"/\\",
        b"/.", b"/..", b"/a/.", b"/a/..", b"/a/../b", b"/a/./b", b"/%2e", b"/%2e%2e/", b"/.%2E/b", b"/a/%2e./b",
        b"/..;", b"/a/..;/b", b"/.;x=1/b", b"/a/..%3b/b", b"/a/..%3B",
        b"/api/v1/label/..%2fx/values", b"/api/v1/label/a%2f..%2f..%2fb/values", b"/api/v1/label/%2e%2E%2Fx/values",
        b"/api/v1/label/a%2f/values", b"/api/v1/label/%2fa/values", b"/api/v1/label/a%2f%2fb/values",
        b"/api/v1/label/a%5cb/values", b"/api/v1/label/a%2fb/values/", b"/api/v1/label/a%2fb", b"/label/a%2fb/values",
        b"/../api/v1/label/a%2fb/values", b"/x%2fapi/v1/label/a%2fb/values", b"/api/v1/label/a%2fb%00/values",
        b"http://b/", b"http://a:81/", b"http://u@a/", b"http:///x", b"http:/a", b"http:a", b"file:///etc/passwd",
        b"gopher://a/", b"unix:/x", b"https://a\\x", b"http://[::1/", b"http://a:99999/",  # H31
    ],
)  # fmt: skip
def test_what_could_be_read_in_two_ways_is_refused(target):
    assert refusal(split_target, target, b"a") == 400


PATHS = st.lists(
    st.sampled_from([b"/", b"/", b".", b"..", b"%2e", b"%2F", b"%5c", b"%41", b"%7e", b"%c3", b";", b"%3b", b"a"])
    | st.sampled_from([b"%25", b"/api/v1/label/", b"/values", b"%", b"\\", b"-_~"]),
    max_size=9,
).map(lambda parts: b"/" + b"".join(parts))


@given(PATHS)
@example(b"/api/v1/label/a%2fb/values")
@example(b"/%2561")
def test_a_canonical_path_is_its_own_canonical_form(path):
    try:
        canonical = canonical_path(path)
    except Unlawful:
        return
    assert canonical_path(canonical) == canonical


@given(PATHS)
def test_nobody_who_decodes_finds_another_path(path):
    """What passes has no dot segment, however often it is decoded; and no slash that was not there, but in a label."""
    try:
        canonical = canonical_path(path)
    except Unlawful:
        return
    decoded = re.sub(rb"%([0-9A-F]{2})", lambda match: bytes.fromhex(match[1].decode()), canonical)
    assert not {b".", b".."} & {segment.partition(b";")[0] for segment in decoded.split(b"/")}
    assert b"//" not in decoded
    assert decoded.count(b"/") == canonical.count(b"/") or re.search(rb"/api/v1/label/[^/]+%2F[^/]+/values", canonical)


@given(st.binary(max_size=30))
def test_any_bytes_may_come(target):
    match verdict(split_target, target, None):
        case int(status), str():
            assert status == 400
        case path, query:
            assert path[:1] == b"/"
            assert query[:1] in {b"", b"?"}
