"""O11: where somebody who has logged in is sent. Nothing that leads to another site, however it is written."""

from __future__ import annotations

from pathlib import Path
from urllib.parse import unquote, urljoin, urlsplit

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.gate.returning import return_path

OWN = "/-/login"

GOOD = [
    "/",
    "/prometheus/graph",
    "/prometheus/graph?g0.expr=up&g0.range_input=1h",
    "/prometheus/classic/graph?next=https://evil.example//x",
    "/a?b=%2F%2Fevil.example",
    "/alertmanager/",
    "/a:b@c",
    "/-/console",
    "/x?%5c%09",
]

EVIL = "evil.example"
ATTACKS = [
    "", " ", "evil.example", "//evil.example", "///evil.example", "////evil.example", "https://evil.example",
    "http:evil.example", "https:/evil.example", "https:///evil.example", "HTTPS://evil.example", "ftp://evil.example",
    "javascript:alert(1)", "JaVaScRiPt:alert(1)", "data:text/html,x", "vbscript:x", "file:///etc/passwd", "blob:x",
    "/\\evil.example", "\\/evil.example", "\\\\evil.example", "/\\/evil.example", "/\\\\evil.example", "\\evil.example",
    "/%5cevil.example", "/%5Cevil.example", "/%5c%5cevil.example", "/%2f%2fevil.example", "/%2Fevil.example",
    "%2f%2fevil.example", "%2fevil.example", "/%2f/evil.example", "//%2fevil.example", "/%2e/%2fevil.example",
    "/.//evil.example", "/..//evil.example", "/./\\evil.example", "/x/..//evil.example", "/x/../../evil.example",
    "/%2e%2e//evil.example", "/%2e//evil.example", "/x/%2e%2e/%2fevil.example", "/;//evil.example", "/x//evil.example",
    "/\t/evil.example", "/\n/evil.example", "/\r/evil.example", "/\r\n/evil.example", "\t//evil.example",
    "\n//evil.example", "\r//evil.example", " //evil.example", "/ /evil.example", "/\x00/evil.example",
    "/\x0b/evil.example", "/\x0c/evil.example", "/\x7f/evil.example", "/\x1b/evil.example", "\x00//evil.example",
    "/%09/evil.example", "/%0a/evil.example", "/%0d/evil.example", "/%0d%0aLocation:%20//evil.example", "/%00/evil",
    "/%0b/evil.example", "/%0c/evil.example", "/%7f/evil.example", "/%1b/evil.example", "/x%0d%0aSet-Cookie:a=b",
    "/x\r\nSet-Cookie: a=b", "/x?y\r\nSet-Cookie: a=b", "/x?\t", "/x y", "/x#frag", "/#//evil.example", "#", "?", "?x",
    "/\u2028/evil.example", "/\u2029/evil.example", "/\u00a0/evil.example", "/\u200b/evil.example", "/\ufeff/evil",
    "/\u2215evil.example", "/\u2044evil.example", "/\uff0fevil.example", "\uff0f\uff0fevil.example", "/\uff3cevil",
    "/\u29f8evil.example", "/\u2571evil.example", "/\u3002evil", "/\u0085/evil.example", "/\u180e/evil.example",
    "//user@evil.example", "//user:pw@evil.example", "/@//evil.example", "@evil.example", ".evil.example",
    "//evil%E3%80%82example", "//%65vil.example", "//[::1]", "//[::ffff:1.2.3.4]", "//127.1", "//2130706433",
    "//localhost", "//evil.example:443", "//evil.example/%2f..", "//evil.example//", "/.evil.example//x",
    "https:evil.example", "https:\\\\evil.example", "https:/\\evil.example", "x://evil.example", "://evil.example",
    ":/evil.example", "/%", "/%2", "/%zz", "/%u002fevil", "/%c0%af%c0%afevil\\", "/%252f%252fevil\\", "/..;//evil",
    "/%2e%2e%2f", "/x/%2e%2e", "/x/..", "/x/.", "..", ".", "./x", "../x", "x", "-/login",
    OWN, OWN + "/", OWN + "/corp", OWN + "/corp?rd=/x", "/-/logout", "/-/logout?x", "/-/callback/corp", "/%2d/logout",
    "/" + "a" * 3000,
]  # fmt: skip


#: What others have found (testdata/README.md), one a line.
LISTED = (Path(__file__).parent / "testdata" / "openredirects.txt").read_text("utf-8").split("\n")
#: Those of them that are a path of any host, with something of another's in their query.
HERE = ("/?url=", "/redirect?url=", "/ReceiveAutoRedirect/false?desiredLocationUrl=")


def stays_here(told):
    """By the rules of a browser: white space within is taken out, and a backslash is a slash (URL Standard 4.4)."""
    read = "".join(told.split()).replace("\\", "/")
    return urlsplit(urljoin("https://noc.example", read)).netloc == "noc.example"


@pytest.mark.parametrize("asked", GOOD)
def test_a_path_of_ours_is_where_it_leads(asked):
    assert return_path(asked, OWN) == asked


@pytest.mark.parametrize("asked", ATTACKS, ids=ascii)
def test_o11_what_is_no_path_of_ours_leads_to_us(asked):
    assert return_path(asked, OWN) == OWN


@pytest.mark.parametrize("spelt", [str, unquote], ids=["as it is", "unquoted"])
def test_o11_none_of_the_known_ones_leads_off_the_site(spelt):
    """As it stands, and as it is read out of a query."""
    assert len(LISTED) > 500
    taken = {asked for asked in LISTED if return_path(spelt(asked), OWN) != OWN}
    assert all(asked.startswith(HERE) for asked in taken), taken
    assert all(stays_here(return_path(spelt(asked), OWN)) for asked in LISTED)


def test_it_is_told_in_one_spelling():
    assert return_path("/%70rometheus", OWN) == "/prometheus"
    assert return_path("/p%7e?%70", OWN) == "/p~?%70"


#: What browsers and attackers make of slashes.
_PIECES = st.sampled_from(
    ["/", "\\", "%2f", "%5c", "%09", "\t", "\r", "\n", ".", "%2e", "evil.example", "@", ":", "?", "#", "//", "https:",
     "\u2215", "\uff0f", "a", ";", "%", "%25", "\x00", " "]
)  # fmt: skip


@given(st.lists(_PIECES, max_size=12).map("".join))
def test_o11_whatever_is_asked_stays_here(asked):
    told = return_path(asked, OWN)
    assert stays_here(told)
    assert told.startswith("/")
    assert not told.startswith("//")
    assert told.isascii()
    assert told.isprintable()
