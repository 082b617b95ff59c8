"""A person with a browser: asked for a password, then Prometheus' own pages, whole, in both styles of a prefix."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest
from playwright.sync_api import Error

from tests.kit.browser import Tab, tab
from tests.kit.fetch import fetch
from tests.kit.http_server import HttpServer, Reply
from tests.kit.promgate import Promgate
from tests.kit.styled import STYLES, styled_alertmanager, styled_prometheus
from tests.kit.users import htpasswd, write_private
from tests.kit.wait import wait_for

if TYPE_CHECKING:
    from pathlib import Path

    from tests.kit.styled import Styled

pytestmark = pytest.mark.real

#: A browser starts slowly on a machine that is busy with other tests.
PATIENCE_MS = 60_000
#: Whether a line is drawn over a good part of the graph's width, which is 1,060 pixels.
IS_DRAWN = """() => [...document.querySelectorAll('.rickshaw_graph svg path')]
    .some(line => line.getBoundingClientRect().width > 200)"""
PAGES = ("/prometheus/classic/graph", "/prometheus/classic/targets")
#: Those in which the program knows the address at which people find it.
told_styles = pytest.mark.parametrize("style", list(STYLES)[:2])


def _guarded(directory: Path, program: Styled) -> Promgate:
    """promgate before the program: ann may look, bob may not."""
    write_private(directory / "promgate" / "users", htpasswd("ann", "bob"))
    route = program.route(auth=["basic"], allow=["viewer"])
    config = {"htpasswd_file": "users", "roles": {"viewer": ["basic:ann"]}, "routes": [route]}
    return Promgate(directory / "promgate", config)


def _scrapes(program: Styled) -> int:
    """How often it has scraped itself."""
    below = "" if program.strips else program.prefix
    answer = fetch(f"{program.upstream}{below}/api/v1/query?query=count_over_time(up[1m])")
    result = json.loads(answer.body)["data"]["result"]
    return int(result[0]["value"][1]) if result else 0


def _draw(seen: Tab, base: str, program: Styled) -> None:
    """Ask for a graph, and wait until it is there."""
    page = seen.page
    page.set_default_timeout(PATIENCE_MS)
    page.goto(base + PAGES[0], wait_until="networkidle")
    page.fill("textarea[name=expr]", "prometheus_http_requests_total")
    page.click("input[name=submit]")
    page.click(".nav-tabs a:has-text('Graph')")
    page.fill("input[name=range_input]", "10s")
    page.fill("input[name=step_input]", "1")
    wait_for(lambda: _scrapes(program) >= 5, "five scrapes")
    page.click("input[name=submit]")
    page.wait_for_function(IS_DRAWN)


def _all_went_well(seen: Tab, prefix: str, bare: Tab) -> None:
    """Every answer is a success or a redirect below the prefix, and the console has no error that `bare` has not.

    `bare` has seen the same pages with no promgate before them.
    """
    assert set(seen.complaints) <= set(bare.complaints)
    assert seen.answers
    assert {answer for answer in seen.answers if not 200 <= answer.status < 400} == set()
    assert {answer for answer in seen.answers if not answer.path.startswith(prefix + "/")} == set()


@told_styles
def test_a_query_is_drawn(tmp_path: Path, style: str) -> None:
    with styled_prometheus(tmp_path / "prometheus", style) as program, _guarded(tmp_path, program) as promgate:
        with tab("ann", "ann") as seen:
            page = seen.page
            page.goto(f"{promgate.base}/prometheus/", wait_until="networkidle", timeout=PATIENCE_MS)
            assert page.url.startswith(f"{promgate.base}/prometheus/")
            assert "Prometheus" in page.title()
            _draw(seen, promgate.base, program)
            seen.shoot(f"prometheus-graph-{style}")
            page.goto(promgate.base + PAGES[1], wait_until="networkidle")
            page.wait_for_selector("text=self (1/1 up)")
            seen.shoot(f"prometheus-targets-{style}")
        queries = [line for line in promgate.requests() if line["path"].endswith("/api/v1/query_range")]
        assert {(line["identity"], line["status"]) for line in queries} == {("basic:ann", 200)}

    # Debian's Prometheus loads a script as what it is not, and its console says so whoever stands before it.
    with styled_prometheus(tmp_path / "bare", "kept") as program, tab() as bare:
        _draw(bare, program.upstream, program)
        bare.page.goto(program.upstream + PAGES[1], wait_until="networkidle")
    _all_went_well(seen, "/prometheus", bare)


@told_styles
def test_alertmanager_as_far_as_it_is_packaged(tmp_path: Path, style: str) -> None:
    with styled_alertmanager(tmp_path / "alertmanager", style) as program, _guarded(tmp_path, program) as promgate:
        with tab("ann", "ann") as seen:
            seen.page.set_default_timeout(PATIENCE_MS)
            seen.page.goto(f"{promgate.base}/alertmanager/", wait_until="networkidle")
            seen.shoot(f"alertmanager-{style}")
            said = seen.page.inner_text("body")
            answer = seen.page.goto(f"{promgate.base}/alertmanager/api/v2/status", wait_until="networkidle")
            assert answer is not None
            assert '"cluster"' in answer.text()
        assert "amtool" in said

    # No page of Debian's Alertmanager names an icon, so that a browser asks for one at the root.
    with styled_alertmanager(tmp_path / "bare", "kept") as program, tab() as bare:
        bare.page.goto(f"{program.upstream}/alertmanager/", wait_until="networkidle", timeout=PATIENCE_MS)
    _all_went_well(seen, "/alertmanager", bare)


def test_a_person_is_asked(tmp_path: Path) -> None:
    """A browser without a screen cannot show the question: it says that it had nothing to answer."""
    with styled_prometheus(tmp_path / "prometheus", "kept") as program, _guarded(tmp_path, program) as promgate:
        with tab() as seen, pytest.raises(Error, match="ERR_INVALID_AUTH_CREDENTIALS"):
            seen.page.goto(f"{promgate.base}/prometheus/", timeout=PATIENCE_MS)
        line = promgate.wait_request(lambda line: line["path"] == "/prometheus/", "the question in the log")
        assert (line["status"], line["reason"]) == (401, "no_credential")


@pytest.mark.parametrize(("user", "status"), [("bob", 403), ("nobody", 401)])
def test_nobody_else_sees_anything(tmp_path: Path, user: str, status: int) -> None:
    with styled_prometheus(tmp_path / "prometheus", "kept") as program, _guarded(tmp_path, program) as promgate:
        with tab(user, user) as seen:
            answer = seen.page.goto(f"{promgate.base}/prometheus/classic/graph", timeout=PATIENCE_MS)
            assert answer is not None
            assert answer.status == status
            assert seen.page.locator("textarea").count() == 0
        wait_for(lambda: status in {line["status"] for line in promgate.requests()}, "the refusal in the log")
        assert 200 not in {line["status"] for line in promgate.requests() if line["path"] != "/-/healthy"}


def test_the_console_in_a_browser(tmp_path: Path) -> None:
    """Nothing of it is blocked by its own policy, it is no wider than a phone, and no foreign page can act by it."""
    write_private(tmp_path / "promgate" / "users", htpasswd("ann", "root"))
    route = {"name": "p", "path": "/p", "upstream": "http://127.0.0.1:1", "auth": "basic", "allow": "viewer"}
    roles = {"viewer": ["basic:ann"], "admin": ["basic:root"]}
    config = {"htpasswd_file": "users", "roles": roles, "console": {}, "routes": [route]}
    with Promgate(tmp_path / "promgate", config) as promgate:
        promgate.token("create", "agent")
        with tab("root", "root") as seen:
            seen.page.context.set_default_timeout(PATIENCE_MS)
            seen.page.goto(f"{promgate.base}/-/console")
            assert seen.page.locator("td", has_text="agent").is_visible()
            seen.page.emulate_media(color_scheme="dark")
            seen.page.set_viewport_size({"width": 360, "height": 740})
            assert seen.page.evaluate("document.documentElement.scrollWidth") == 360, "nothing sticks out on a phone"
            seen.shoot("console-phone-dark")
            assert seen.complaints == []
            assert {answer.status for answer in seen.answers} <= {200, 401}

            foreign = "<form id=f method=post enctype=text/plain action={}/-/api/v1/tokens/agent/revoke></form>"
            with HttpServer(lambda _: Reply(200, foreign.format(promgate.base).encode(), "text/html")) as elsewhere:
                seen.page.goto(elsewhere.base)
                seen.page.locator("#f").evaluate("form => form.submit()")
                seen.page.wait_for_url("**/revoke")
            assert "another site" in seen.page.content()
        assert '"current"' in promgate.token("show", "agent", "--output=json")
