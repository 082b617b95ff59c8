"""Debian's Chromium, driven as a person would: a new profile each time, and everything it was told is kept."""

from __future__ import annotations

from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple
from urllib.parse import urlsplit

from playwright.sync_api import sync_playwright

if TYPE_CHECKING:
    from collections.abc import Iterator

    from playwright.sync_api import Page

#: Where the pictures of a run are kept; git ignores it.
SHOTS = Path(__file__).resolve().parents[2] / "build" / "screenshots"
_EXECUTABLE = "/usr/bin/chromium"
#: Nothing of it talks to anybody but the page; without a sandbox it may be started by root.
_FLAGS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--no-proxy-server",
]


class Seen(NamedTuple):
    """An answer that the browser got."""

    status: int
    path: str


class Tab:
    """One page. `answers` and `complaints` (console errors, failed requests) are all since it was opened."""

    def __init__(self, page: Page) -> None:
        self.page = page
        self.answers: list[Seen] = []
        self.complaints: list[str] = []
        page.on("response", lambda answer: self.answers.append(Seen(answer.status, urlsplit(answer.url).path)))
        page.on("console", lambda said: self.complaints.append(said.text) if said.type == "error" else None)
        page.on("pageerror", lambda error: self.complaints.append(str(error)))
        page.on("requestfailed", lambda request: self.complaints.append(f"{request.url}: {request.failure}"))

    def shoot(self, name: str) -> Path:
        """Keep a picture of what is to be seen now."""
        SHOTS.mkdir(parents=True, exist_ok=True)
        file = SHOTS / f"{name}.png"
        self.page.screenshot(path=file)
        return file


@contextmanager
def tab(user: str | None = None, password: str = "") -> Iterator[Tab]:
    """A tab of somebody who, when asked, gives this name and password; without one, who closes the question."""
    credentials = {"username": user, "password": password} if user else None
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=_EXECUTABLE, args=_FLAGS)
        # The authority is our own: what a person does once, and the flag does here.
        context = browser.new_context(
            http_credentials=credentials,  # type: ignore[arg-type]  # a TypedDict that is not exported
            ignore_https_errors=True,
            viewport={"width": 1200, "height": 800},
        )
        try:
            yield Tab(context.new_page())
        finally:
            browser.close()
