"""The page to explore, in a real browser: factors that are divided further, and the way back."""

from pathlib import Path

import pytest
from playwright.sync_api import Browser, expect

from browser import needs_browser, opened, ready, turn_to, violations
from reported import run_stages
from tools import draw

pytestmark = [pytest.mark.xdist_group("explore"), needs_browser]

HOSTILE = "<img src=x onerror=alert(1)>"
INSIDE, DEEPER = f"{HOSTILE}/2/1", f"{HOSTILE}/2/1/4/0"


@pytest.fixture(scope="module")
def report(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("within") / "root"
    for name in (HOSTILE, "discs"):
        for i in range(4):
            draw(root / name / f"{i}.png", i)
    within = (INSIDE, DEEPER)
    project = root.parent / "project"
    return run_stages(root, project, ("features.5",), (1, 2, 4), (0,), None, within)


def test_the_tree_leads_there_and_back(browser: Browser, report: Path) -> None:
    with opened(browser, report / "explore.html", "#/all") as page:
        ready(page)
        expect(page.locator("h1")).to_have_text("2 image sets")
        expect(page.locator("article.card")).to_have_count(2)
        card = page.locator("article.card").filter(has_text=HOSTILE)
        assert card.locator(".divided a").all_inner_texts() == [INSIDE, DEEPER]
        card.locator("h2 a").click()
        ready(page)
        rank = int(page.url.partition("#/s")[2].partition("?")[0])
        turn_to(page, f"#/s{rank}?k=2")
        expect(page.locator(".concept .inside")).to_have_count(1)
        page.locator("details.more summary").click()
        branch = page.locator(".family a.branch")
        expect(branch).to_have_count(1)
        said = branch.get_attribute("aria-label")
        assert said is not None and said.startswith("k = 2, factor 1: split into ")
        branch.click()
        ready(page)
        expect(page.locator("h1")).to_have_text(INSIDE)
        expect(page.locator(".crumbs a").nth(1)).to_have_text(HOSTILE)
        back = page.locator(".part-of a")
        expect(back).to_have_text(f"{HOSTILE}, k = 2, factor 1")
        back.click()
        ready(page)
        expect(page.locator("h1 bdi")).to_have_text("factor 1")
        # the concept's own way there, and on into what lies within that
        page.locator("dd a.inside").click()
        ready(page)
        expect(page.locator("h1")).to_have_text(INSIDE)
        page.locator("input[aria-label=k]").fill("2")  # the third of 1, 2 and 4
        expect(page.locator(".concept .inside")).to_have_count(1)
        page.locator(".concept .inside").click()
        ready(page)
        expect(page.locator("h1")).to_have_text(DEEPER)
        expect(page.locator(".part-of a")).to_have_text(f"{INSIDE}, k = 4, factor 0")


def test_names_are_asked_for_below_the_set(browser: Browser, report: Path) -> None:
    with opened(browser, report / "explore.html", "#/names") as page:
        ready(page)
        heads = page.locator("main h2 a").all_inner_texts()
        assert heads.index(INSIDE) == heads.index(HOSTILE) + 1
        assert heads.index(DEEPER) == heads.index(INSIDE) + 1
        assert sorted(heads) == sorted([HOSTILE, "discs", INSIDE, DEEPER])


@pytest.mark.parametrize("width", [390, 1400])
def test_nothing_is_too_wide_or_unreadable(browser: Browser, report: Path, width: int) -> None:
    with opened(
        browser, report / "explore.html", "#/s2?k=2", viewport={"width": width, "height": 900}
    ) as page:
        ready(page)
        page.locator("details.more summary").click()
        assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")
        assert violations(page) == []
