from __future__ import annotations

import base64

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.gate.credentials import Malformed, ShownJwt, ShownPassword, ShownToken, read_credential
from proxy.tokens.secret import digest
from tests.gate.play import GRAFANA_SECRET, SENDER_SECRET

CUT = SENDER_SECRET[:-1]
JWT = b"eyJhbGciOiJFUzI1NiJ9.eyJzdWIiOiJ4In0.c2ln"


def basic(clear):
    return b"Basic " + base64.b64encode(clear)


@pytest.mark.parametrize(
    ("value", "shown"),
    [
        (b"Bearer " + SENDER_SECRET, ShownToken(digest(SENDER_SECRET), minted=True)),
        (b"Bearer " + GRAFANA_SECRET, ShownToken(digest(GRAFANA_SECRET), minted=True)),
        (b"Bearer from-elsewhere", ShownToken(digest(b"from-elsewhere"), minted=False, text=b"from-elsewhere")),
        (b"Bearer " + CUT, ShownToken(digest(CUT), minted=False, text=CUT)),
        # A3: the scheme's case is of no account, nor is white space after it
        (b"bearer x", ShownToken(digest(b"x"), minted=False, text=b"x")),
        (b"BEARER   x  ", ShownToken(digest(b"x"), minted=False, text=b"x")),
        (b"bAsIc " + base64.b64encode(b"ann:pw"), ShownPassword("ann", b"pw")),
        # A11: what is shown picks the method
        (b"Bearer " + JWT, ShownJwt(JWT, digest(JWT))),
        (b"Bearer eyJ", ShownToken(digest(b"eyJ"), minted=False, text=b"eyJ")),
        (b"Bearer eyJ.a", ShownToken(digest(b"eyJ.a"), minted=False, text=b"eyJ.a")),
        (b"Bearer eyJ.a.b.c", ShownToken(digest(b"eyJ.a.b.c"), minted=False, text=b"eyJ.a.b.c")),
        (b"Bearer a.b.c", ShownToken(digest(b"a.b.c"), minted=False, text=b"a.b.c")),
        (basic(b"ann:pw"), ShownPassword("ann", b"pw")),
        (basic(b"ann:"), ShownPassword("ann", b"")),
        (basic(b":pw"), ShownPassword("", b"pw")),
        (basic(b"ann:p:w"), ShownPassword("ann", b"p:w")),
        (basic("jürgen:pässword".encode()), ShownPassword("jürgen", "pässword".encode())),
        (basic(b"ann:" + b"x" * 100), ShownPassword("ann", b"x" * 100)),
        (basic(b"x:" + SENDER_SECRET), ShownToken(digest(SENDER_SECRET), minted=True)),
        (basic(b":" + SENDER_SECRET), ShownToken(digest(SENDER_SECRET), minted=True)),
        (basic(b"ann:" + SENDER_SECRET[:-1]), ShownPassword("ann", SENDER_SECRET[:-1])),
        (basic(b"ann:" + JWT), ShownPassword("ann", JWT)),
    ],
)
def test_what_was_shown(value, shown):
    assert read_credential(value) == shown


@pytest.mark.parametrize(
    "value",
    [
        b"", b"Bearer", b"Bearer ", b"Bearer   ", b"Basic", b"Basic ", b"Digest username=x", b"Negotiate abc", b"x",
        SENDER_SECRET, b"Bearer\t" + SENDER_SECRET, b"Bearerx y", b"Basic: eDp5",
        b"Basic !!!", b"Basic YQ", b"Basic eDp5=", b"Basic eDp5 eDp5", b"Basic eDp5\xff", b"Basic eDp5\n",  # A4
        b"Basic x:y", b"Basic eDp5====", b"Basic eDp6eR==", b"Basic Og=",
        basic(b"nocolon"), basic(b""), basic(b"a\0b:c"), basic(b"a:b\0"), basic(b"a\r:b"), basic(b"a:b\nc"),
        basic(b"\xff:x"), basic(b"x:\xff"), basic(b"x:\xc3"), b"Bearer " + b"x" * 4096, basic(b"x:" + b"y" * 4000),
    ],
)  # fmt: skip
def test_what_no_method_can_take(value):
    assert read_credential(value) == Malformed()


@given(st.binary(max_size=60) | st.binary(max_size=60).map(basic) | st.binary(max_size=60).map(b"Bearer ".__add__))
def test_anything_may_be_shown(value):
    assert read_credential(value) == read_credential(value)


@given(st.text(max_size=20).filter(lambda user: ":" not in user), st.text(max_size=20))
def test_basic_is_read_as_it_was_written(user, password):
    clear = f"{user}:{password}"
    expected = Malformed() if set(clear) & set("\0\r\n") else ShownPassword(user, password.encode())
    assert read_credential(basic(clear.encode())) == expected


def test_no_secret_prints():
    for value in (basic(b"ann:hunter2"), b"Bearer " + JWT, b"Bearer hunter2"):
        shown = repr(read_credential(value))
        assert "hunter2" not in shown
        assert JWT.decode() not in shown
