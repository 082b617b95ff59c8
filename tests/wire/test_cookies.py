"""Promgate's own cookies: taken out of a request for the gate, and out of the answers of others."""

from __future__ import annotations

import pytest

from proxy.wire.cookies import login_line, sets_own, take_own
from proxy.wire.head import RequestMemo, admit_request
from proxy.wire.response import ResponseMemo, admit_response
from tests.wire.play import admit, request


@pytest.mark.parametrize(
    ("value", "others", "own"),
    [
        (b"a=1; b=2", b"a=1; b=2", ()),
        (b"__Host-promgate=x", b"", ((b"__Host-promgate", b"x"),)),
        (b"promgate=x", b"", ((b"promgate", b"x"),)),
        (b"a=1; __Host-promgate=x; b=2", b"a=1; b=2", ((b"__Host-promgate", b"x"),)),
        (b"__Host-promgate=x; a=1", b"a=1", ((b"__Host-promgate", b"x"),)),
        (b"a=1;__Host-promgate=x", b"a=1", ((b"__Host-promgate", b"x"),)),
        (b"a=1;  __Host-promgate = x ;b=2", b"a=1;b=2", ((b"__Host-promgate", b"x"),)),
        (b"__Host-promgate=", b"", ((b"__Host-promgate", b""),)),
        (b"__Host-promgate", b"", ((b"__Host-promgate", b""),)),
        (b"__Host-promgate=x=y", b"", ((b"__Host-promgate", b"x=y"),)),
        (b"promgate=1; promgate=2", b"", ((b"promgate", b"1"), (b"promgate", b"2"))),
        (b"__Host-promgate-login=s", b"", ((b"__Host-promgate-login", b"s"),)),
        (b"a=1; promgate-login=s; b=2", b"a=1; b=2", ((b"promgate-login", b"s"),)),
        (b"promgate2=x; xpromgate=y; PROMGATE=z", b"promgate2=x; xpromgate=y; PROMGATE=z", ()),
        (b"a=__Host-promgate=x", b"a=__Host-promgate=x", ()),
        (b'a="q; promgate=x"', b'a="q', ((b"promgate", b'x"'),)),
        (b"", b"", ()),
        (b";;;", b";;;", ()),
    ],
)
def test_own_cookies_are_taken_out(value, others, own):
    assert take_own(value) == (others, own)


def test_a_login_under_way_comes_to_those_who_began_it_and_a_session_to_nobody():
    own = ((b"__Host-promgate", b"s"), (b"__Host-promgate-login", b"x"), (b"promgate-login", b"y"))
    assert login_line(own) == b"Cookie: __Host-promgate-login=x; promgate-login=y\r\n"
    assert login_line(own[:1]) == login_line(()) == b""


def test_the_rest_of_the_cookies_goes_on():
    head = admit(request(b"Cookie: a=1; __Host-promgate=x", b"cookie: promgate=y", b"COOKIE: c=3"))
    assert b"COOKIE: c=3\r\n" in head.fields
    assert b"Cookie: a=1\r\n" in head.fields
    assert b"promgate" not in head.fields
    assert head.fields.lower().count(b"cookie") == 2
    assert head.cookies == ((b"__Host-promgate", b"x"), (b"promgate", b"y"))


def test_a_head_with_a_cookie_is_never_remembered():
    memo = RequestMemo(frozenset())
    for value in (b"one", b"two"):
        raw = request(b"Cookie: __Host-promgate=" + value)
        head = admit_request(raw, raw.index(b"\r\n\r\n"), memo)
        assert head.cookies == ((b"__Host-promgate", value),)
        memo.keep()
    assert not memo.sections


@pytest.mark.parametrize(
    ("value", "own"),
    [
        (b"__Host-promgate=x; Path=/", True),
        (b"__host-PROMGATE=x; Secure", True),
        (b"promgate=x", True),
        (b"__Host-promgate-login=x", True),
        (b"promgate-login=", True),
        (b" promgate =x", True),
        (b"promgate", True),
        (b"=promgate=x", True),
        (b"=__Host-promgate", True),
        (b"session=promgate", False),
        (b"promgate2=x", False),
        (b"xpromgate=x", False),
        (b"a=1; promgate=x", False),
        (b"", False),
    ],
)
def test_u11_nobody_else_sets_our_cookies(value, own):
    assert sets_own(value) is own
    raw = b"HTTP/1.1 200 OK\r\nSet-Cookie: " + value + b"\r\nContent-Length: 0"
    kept = admit_response(raw, len(raw), ResponseMemo()).sent
    assert (b"Set-Cookie" in kept) is not own
    assert b"Set-Cookie" in admit_response(raw, len(raw), ResponseMemo(may_set_own=True)).sent
