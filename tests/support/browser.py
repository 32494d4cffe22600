"""A real browser on pages from disk, for tests: Debian's Chromium, driven by Playwright."""

import re
import shutil
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Browser, Page, sync_playwright

NAMES = ("chromium", "chromium-browser", "google-chrome", "chrome")
FOUND = next((path for path in map(shutil.which, NAMES) if path), None)
SCHEMES: tuple[Literal["light", "dark"], ...] = ("light", "dark")
needs_browser = pytest.mark.skipif(FOUND is None, reason=f"none of {', '.join(NAMES)} is installed")


@contextmanager
def chromium() -> Iterator[Browser]:
    """The browser that is installed; none is downloaded."""
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=FOUND)
        try:
            yield browser
        finally:
            browser.close()


@contextmanager
def opened(browser: Browser, path: Path, where: str = "", **context: Any) -> Iterator[Page]:
    """A page from disk, of which everything is said that it should not do.

    Raises
    ------
    AssertionError
        In the end, when it wrote to the console, raised something, asked a question, or asked for
        anything beyond the folder it lies in.
    """
    wrong: list[str] = []
    folder = path.parent.resolve().as_uri() + "/"
    inside = browser.new_context(**{"viewport": {"width": 1400, "height": 900}, **context})
    try:
        page = inside.new_page()
        page.on("console", lambda message: wrong.append(f"console: {message.text}"))
        page.on("pageerror", lambda error: wrong.append(f"error: {error}"))
        page.on("dialog", lambda dialog: wrong.append(f"dialog: {dialog.message}"))
        page.on(
            "request",
            lambda request: request.url.startswith(folder) or wrong.append(f"asks {request.url}"),
        )
        page.goto(path.resolve().as_uri() + where)
        yield page
    finally:
        inside.close()
    if wrong:
        raise AssertionError("; ".join(wrong))


DRAWN = """!Later.running && !Later.loading
    && Number(document.getElementById("content").dataset.ready) === App.turn"""
TURN = """where => new Promise(done => {
    addEventListener("hashchange", () => done(null), {once: true});
    location.hash = where;
})"""


def ready(page: Page) -> Page:
    """The page when its view is there and all that was begun is drawn."""
    page.wait_for_selector("main[data-ready]")
    for _ in range(1000):  # Playwright's own way to wait evaluates text, which the page forbids
        if page.evaluate(DRAWN):
            return page
        page.wait_for_timeout(20)
    raise AssertionError("still drawing")


def turn_to(page: Page, where: str) -> Page:
    """Another view of the same page, as a link in it leads there: half the time of loading it."""
    if not page.url.endswith(where):
        page.evaluate(TURN, where)
    return ready(page)


PIXELS = """canvas => {
    const {width, height} = canvas;
    const {data} = canvas.getContext("2d").getImageData(0, 0, width, height);
    return {width, height, data: Array.from(data)};
}"""


def pixels(page: Page, selector: str) -> np.ndarray:
    """What is on a canvas, uint8 ``[h, w, 4]``."""
    found = page.locator(selector).evaluate(PIXELS)
    flat = np.array(found["data"], np.uint8)
    return flat.reshape(found["height"], found["width"], 4)


def papers(page: Page) -> dict[str, int]:
    """How bright a page's ground is in each scheme of colours: the sum of red, green and blue."""
    found = {}
    for scheme in SCHEMES:
        page.emulate_media(color_scheme=scheme)
        colour = page.evaluate("getComputedStyle(document.body).backgroundColor")
        found[scheme] = sum(map(int, re.findall(r"\d+", colour)[:3]))
    return found


COLOURS = ["color-contrast", "link-in-text-block"]  # axe's rules that look at them
# colours go over into each other
SETTLED = "Promise.all(document.getAnimations().map(one => one.finished)).then(() => null)"


def violations(page: Page) -> list[str]:
    """What axe-core finds in each scheme of colours, a line each.

    The page is the same in both, only its style sheet knows of them: in the second the rules that
    look at colours are asked, the others would say the same again.
    """
    options: dict[str, Any] = {"preload": False}
    options["resultTypes"] = ["violations"]  # what passed is thousands of nodes
    lines = []
    for scheme in SCHEMES:
        page.emulate_media(color_scheme=scheme)
        page.evaluate(SETTLED)
        found = Axe().run(page, options=options).response["violations"]
        for one in found:
            nodes = [node["html"][:200] for node in one["nodes"][:3]]
            lines.append(f"{scheme}: {one['id']}: {one['help']}: {nodes}")
        options["runOnly"] = {"type": "rule", "values": COLOURS}
    return lines


def at(browser: Browser, report: Path, where: str, **context: Any) -> AbstractContextManager[Page]:
    """A report's page to explore, `opened` at a view."""
    return opened(browser, report / "explore.html", where, **context)
