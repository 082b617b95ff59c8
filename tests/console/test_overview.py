"""The console's page: what it says of the asker, and that no name of anybody becomes markup."""

from __future__ import annotations

from proxy.console.asker import Asker, read_asker
from proxy.console.html import page, tag
from proxy.console.overview import Seen, render_overview
from proxy.gate.decision import Identity
from proxy.gate.guessers import Guessers, Refused
from proxy.gate.snapshot import CONTROL, Concurrency, RateLimit, Route, Rule, Telling, Upstream, Way
from proxy.gate.telling import tell
from proxy.tokens.configured import build_configured
from proxy.tokens.lifecycle import Summary, summarize_all
from proxy.tokens.token import TokenKind, TokenState

NOW = 1_700_000_000.0
EVIL = "<script>alert(1)</script>"
UP = Upstream("127.0.0.1", 9090)
ROUTES = (
    Route("read", "/prometheus", UP, ways=frozenset({Way.BASIC}), rules=(
        Rule("viewer", frozenset({b"GET"})), Rule("viewer", frozenset({b"POST"}), (b"/prometheus/api/v1/query",))),
        rate_limit=RateLimit(5, 1.0, 9), concurrency=Concurrency(3)),
    Route("write", "/prometheus/api/v1/write", UP, ways=frozenset({Way.WRITE_TOKEN}), rules=(Rule("write"),)),
    Route("console", "/-/console", CONTROL, ways=frozenset({Way.BASIC}), rules=(Rule("viewer"),)),
)  # fmt: skip


def asker(identity="basic:ann", way="basic", roles=("viewer",)):
    return Asker(identity, way, frozenset(roles), "", "192.0.2.1")


def rendered(who=None, *, missing=(), tokens=None, guessers=None):
    seen = Seen(who or asker(), ROUTES, missing, tokens, "1.2.3", NOW, guessers)
    return render_overview(seen, "/-/console/style.css")


def summary(name="agent", previous=1):
    return Summary(name, TokenKind.WRITE, "AbCd1234", TokenState.CURRENT, NOW - 7200, None, previous, NOW + 600)


def test_it_says_who_is_asking_and_what_they_may_do():
    text = rendered()
    for said in ("basic:ann", "a password", "viewer", "192.0.2.1", "ready", "promgate 1.2.3"):
        assert f">{said}<" in text
    assert "/prometheus<" in text
    assert "GET; POST" in text
    assert "everywhere; /api/v1/query" in text
    assert "5 in 1 s, 9 at once, 3 under way" in text
    assert "promgate itself" in text
    assert "/prometheus/api/v1/write" not in text, "nothing of what others may do"


def test_a_rule_of_which_the_route_leaves_no_method_is_none():
    reading = frozenset({b"GET", b"HEAD"})
    silences = Route("s", "/silences", UP, ways=frozenset({Way.BASIC}), methods=frozenset({b"POST"}), rules=(
        Rule("viewer", reading), Rule("admin")))  # fmt: skip
    mixed = Route("m", "/mixed", UP, ways=frozenset({Way.BASIC}), methods=frozenset({b"POST", b"GET"}), rules=(
        Rule("viewer", reading), Rule("viewer", frozenset({b"DELETE"}), (b"/mixed/x",))))  # fmt: skip
    text = render_overview(Seen(asker(), (silences, mixed), (), None, "1", NOW, None), "/style.css")
    assert "/silences" not in text
    assert ">GET<" in text
    assert ">everywhere<" in text
    assert ">any<" not in text
    admin = render_overview(Seen(asker(roles=("admin",)), (silences,), (), None, "1", NOW, None), "/style.css")
    assert ">POST<" in admin


def test_what_is_missing_is_named():
    assert "not ready: the token store cannot be read" in rendered(missing=["the token store cannot be read"])


def test_tokens_are_for_those_who_are_given_them():
    assert "Tokens" not in rendered()
    text = rendered(tokens=[summary(), summary("grafana", previous=0)])
    assert ">agent<" in text
    assert ">1, the last for 10 min more<" in text
    assert ">2 h ago<" in text
    assert "promgate token create" in rendered(tokens=[])
    assert "The first 500 of 501 names." in rendered(tokens=[summary(f"n{i}") for i in range(501)])


def test_who_guesses_too_much_is_on_the_page_of_admins():
    assert "Too many guesses" not in rendered()
    assert ">Nobody is refused for that just now.<" in rendered(guessers=Guessers())
    text = rendered(guessers=Guessers((Refused("192.0.2.9", 2.0),), (Refused(EVIL, 3.0),), 40, 1, 3))
    for told in ("192.0.2.9", "2 s", "3 names of no user", "39 more"):
        assert f">{told}<" in text
    assert "<script" not in text


def test_no_name_becomes_markup():
    text = rendered(asker(EVIL, EVIL, [EVIL]), missing=[EVIL], tokens=[summary(EVIL)])
    assert "<script" not in text
    assert text.count("&lt;script&gt;") >= 4


def test_attributes_are_escaped_too():
    assert tag("a", "x", title='"><script>') == '<a title="&quot;&gt;&lt;script&gt;">x</a>'
    assert '<link rel="stylesheet" href="/s">' in page("t", "/s")


def test_whoever_it_is_crosses_in_fields_that_hold_any_name():
    identity = Identity("basic:Zoë, the <boss>", frozenset({"a", "b"}), Way.BASIC, "AbCd1234")
    lines = tell(Telling(identity=True, quoted=True), identity, {})
    assert lines.isascii()
    fields = dict(line.split(": ", 1) for line in lines.decode().strip().split("\r\n"))
    assert read_asker({**fields, "X-Forwarded-For": "192.0.2.1, 10.0.0.1"}) == Asker(
        "basic:Zoë, the <boss>", "basic", frozenset({"a", "b"}), "AbCd1234", "192.0.2.1"
    )
    assert read_asker({}) == Asker("", "", frozenset(), "", "")


def test_a_token_of_the_configuration_was_minted_nobody_knows_when():
    listed = summarize_all(build_configured("edge", (b"1" * 32, b"2" * 32)), NOW)
    text = rendered(tokens=listed)
    for said in ("edge", "sha256:313131313131", "in the configuration", "1"):
        assert f">{said}<" in text
