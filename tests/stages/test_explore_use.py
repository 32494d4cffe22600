"""The page to explore as a person uses it: fast hands, keys, phones, what is shown first."""

import json
from pathlib import Path

import pandas as pd
import pytest
import yaml
from PIL import Image
from playwright.sync_api import Browser, Page, expect

from browser import at, needs_browser, ready
from reported import PARAMS, run_stages
from stages.evaluate.params import EvaluateParams
from stages.evaluate.stage import EVALUATE
from stages.frame.execute import execute
from stages.frame.resources import Resources
from stages.report.packed import read_script
from stages.report.params import ReportParams
from stages.report.pictures import FOLDER
from stages.report.stage import REPORT
from tools import draw

pytestmark = pytest.mark.xdist_group("explore use")

K = (1, 2, 3, 10)


@pytest.fixture(scope="module")
def report(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A report on one set, without ground truth."""
    root = tmp_path_factory.mktemp("used") / "root"
    for i in range(12):
        draw(root / "discs" / f"{i}.png", i, (120, 90))
    return run_stages(root, root.parent / "project", ("features.5",), K, (0,))


def slow(page: Page, part: str) -> None:
    """Let what has this in its name arrive late, as from a slow disk."""
    page.evaluate(
        """part => {
            const load = App.run.load.bind(App.run);
            App.run.load = async (key) => {
                if (key.includes(part)) await new Promise((go) => setTimeout(go, 600));
                return load(key);
            };
        }""",
        part,
    )


@needs_browser
def test_the_k_that_the_slider_is_left_at_is_shown(browser: Browser, report: Path) -> None:
    with at(browser, report, "#/s0?k=3") as page:
        ready(page)
        slow(page, "k10/")
        slider = page.get_by_role("slider", name="k", exact=True)
        slider.focus()
        slider.press("End")
        slider.press("Home")
        slider.press("ArrowRight")
        page.wait_for_timeout(1000)
        ready(page)
        expect(page.locator("h2").first).to_have_text("2 concepts")
        assert "k=10" not in page.url
        # and a k that one comes back to is that k
        slider.press("End")
        slider.press("End")
        expect(page.locator("h2").first).to_have_text("10 concepts")


@needs_browser
def test_keys_over_a_large_picture_are_its_own(browser: Browser, report: Path) -> None:
    with at(browser, report, "#/s0/i3?k=3") as page:
        ready(page)
        page.locator("button.enlarge").first.click()
        page.get_by_role("button", name="Close").focus()
        page.keyboard.press("ArrowRight")
        page.keyboard.press("Escape")
        expect(page.locator("dialog")).to_have_count(0)
        page.wait_for_timeout(200)
        assert page.locator("main").get_attribute("data-view") == "image"
        expect(page.locator("h1")).to_have_text("discs/11.png")  # the fourth by name
        page.keyboard.press("Escape")  # now it is the page's
        expect(page.locator("main")).to_have_attribute("data-view", "set")


@needs_browser
def test_the_three_masks_of_a_concept_stand_side_by_side_on_a_phone(
    browser: Browser, report: Path
) -> None:
    with at(browser, report, "#/s0/i3?k=3", viewport={"width": 390, "height": 844}) as page:
        ready(page)
        tops = "of => [...of.querySelectorAll('figure')].map(one => one.offsetTop)"
        for line in page.locator(".lines .line").all():
            found = line.evaluate(tops)
            assert len(found) == 3 and len(set(found)) == 1
        assert page.evaluate("document.documentElement.scrollWidth") <= 390


@needs_browser
@pytest.mark.parametrize("width", [390, 1400])
def test_photographs_at_the_edge_of_the_map_are_whole(
    browser: Browser, report: Path, width: int
) -> None:
    with at(browser, report, "#/s0/map?k=3", viewport={"width": width, "height": 900}) as page:
        ready(page)
        places = page.evaluate("Array.from(App.shown.scatter.x, (_, i) => App.shown.scatter.at(i))")
        wide, tall = page.evaluate("[App.shown.scatter.wide, App.shown.scatter.tall]")
    xs, ys = zip(*places, strict=True)
    half = 23 + 2  # of a photograph of 46 pixels and its frame
    assert min(xs) >= half and max(xs) <= wide - half
    assert min(ys) >= half and max(ys) <= tall - half


@needs_browser
def test_small_pictures_show_no_more_concepts_than_colours_tell_apart(
    browser: Browser, report: Path
) -> None:
    with at(browser, report, "#/s0/i3?k=10") as page:
        ready(page)
        assert page.locator(".line .picture.apart").count() == 3  # the large ones of all concepts
        assert page.locator(".row .picture").count() == 8
        assert page.locator(".row .picture.apart").count() == 0


@needs_browser
def test_without_a_suggestion_the_most_stable_k_is_shown_first(
    browser: Browser, report: Path
) -> None:
    """And never one whose concepts no colours tell apart only because it is the largest."""
    project = report.parents[1]
    table = project / "artifacts/evaluation/choice.parquet"
    before = table.read_bytes()
    try:
        for top, stability, first in (
            (3, [0.99, 0.6, 0.8, 0.7], 3),  # of one factor there is nothing to tell apart
            (4, [None] * 4, 3),  # not measured: the largest of at most eight
        ):
            choice = pd.read_parquet(table)
            choice = choice.assign(suggested=False, reason="none is", stability=stability)
            choice.astype({"stability": float}).to_parquet(table)
            params = ReportParams(images=3, top=top, long_side=64)
            execute(REPORT, params, project, Resources(workers=2))
            (of,) = read_script(report / "data/index.js", "index")["sets"]
            assert (of["k"], of["suggested"]) == (first, None)
            with at(browser, report, "#/s0") as page:
                ready(page)
                expect(page.get_by_text("no k is suggested: none is")).to_have_count(1)
    finally:
        table.write_bytes(before)
        execute(REPORT, PARAMS, project, Resources(workers=2))


def test_pictures_of_another_name_are_not_painted_again(report: Path) -> None:
    project = report.parents[1]
    record = json.loads((report / "artifact.json").read_text())
    kept = sorted((report / FOLDER).iterdir())[0]
    with Image.open(kept) as picture:
        shape = picture.size
    Image.new("RGB", shape, "red").save(kept)  # to know it by
    painted = kept.read_bytes()
    labels = {"sets": {"discs": {3: ["disc", None, None]}}}
    (project / "labels.yaml").write_text(yaml.safe_dump(labels))
    execute(EVALUATE, EvaluateParams(), project, Resources(workers=2))
    execute(REPORT, PARAMS, project, Resources(workers=2))
    now = json.loads((report / "artifact.json").read_text())
    assert now["fingerprint"] != record["fingerprint"]
    assert "disc" in (report / "index.html").read_text()
    assert (report / FOLDER / kept.name).read_bytes() == painted
    # at another size they are others
    execute(REPORT, ReportParams(images=3, top=2, long_side=72), project, Resources(workers=2))
    assert (report / FOLDER / kept.name).read_bytes() != painted
