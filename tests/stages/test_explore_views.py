"""More of the page to explore: the map, curves, cut-outs, large pictures, tables, accessibility."""

import csv
import json
import re
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
import yaml
from PIL import Image
from playwright.sync_api import Browser, expect

from browser import at, needs_browser, opened, ready, turn_to, violations
from reported import run_stages
from stages.artifacts.concept_maps import SIDES, ConceptMaps
from stages.artifacts.evaluation import Evaluation
from stages.artifacts.factors import Factors
from stages.drawing.palette import palettes
from stages.evaluate.params import EvaluateParams
from stages.evaluate.stage import EVALUATE
from stages.frame.execute import execute
from stages.frame.resources import Resources
from stages.report import explore, explore_parts
from stages.report.params import ReportParams
from stages.report.stage import REPORT
from tools import draw

pytestmark = [pytest.mark.xdist_group("explore views"), needs_browser]

LAYER, IMAGES, K = "features.5", 10, (1, 3, 10)
PARAMS = ReportParams(images=3, top=3, long_side=64, large_side=100, large_most=IMAGES)


@pytest.fixture(scope="module")
def report(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A report on one set, all but the last of its images annotated."""
    root = tmp_path_factory.mktemp("viewed") / "root"
    (root / "masks/discs").mkdir(parents=True)
    for i in range(IMAGES):
        mask = draw(root / "images/discs" / f"{i}.png", i, (120, 90))
        if i < IMAGES - 1:
            Image.fromarray(mask).save(root / "masks/discs" / f"{i}.png")
    project = root.parent / "project"
    run_stages(root, project, (LAYER,), K, (0,))
    execute(REPORT, PARAMS, project, Resources(workers=2))
    return project / REPORT.writes


def maps_of(report: Path, k: int) -> tuple[ConceptMaps, ConceptMaps, list[int]]:
    """Raw and refined maps, and the columns of a factorization."""
    raw, refined = (
        ConceptMaps.open(report.parent / name, report.parent / "evaluation/measured.zarr")[LAYER]
        for name in ("heatmaps.zarr", "refined.zarr")
    )
    factors = Factors.open(report.parent / "factors.zarr")
    return raw, refined, list(palettes(factors, raw, 0)[k].columns)


def test_the_map_lies_along_the_directions_of_most_variation(
    browser: Browser, report: Path
) -> None:
    raw, _, columns = maps_of(report, 3)
    full = palettes(Factors.open(report.parent / "factors.zarr"), raw, 0)[3].full
    strengths = np.clip(raw.means[:, columns] / full, 0, 1)
    centred = strengths - strengths.mean(axis=0)
    directions = np.linalg.svd(centred)[2][:2]
    expected = centred @ directions.T
    with at(browser, report, "#/s0/map?k=3") as page:
        ready(page)
        found = page.evaluate(
            "() => App.run.set(0).then(set => new Axes(set.factorization(0, 3)))"
            ".then(axes => ['a', 'b'].map(name => Array.from(axes.values(name))))"
        )
        ends = page.evaluate(
            "() => App.run.set(0).then(set => new Axes(set.factorization(0, 3)).ends('a'))"
        )
    for axis, values in zip(expected.T, np.array(found), strict=True):
        assert np.ptp(axis) > 0.01
        sign = np.sign(axis @ values)
        np.testing.assert_allclose(sign * values, axis, atol=2e-4)
    named = {int(re.findall(r"factor (\d)", end)[0]) for end in ends if "factor" in end}
    assert int(np.abs(directions[0]).argmax()) in named


def test_the_map_by_keyboard_mouse_and_address(browser: Browser, report: Path) -> None:
    with at(browser, report, "#/s0/map?k=3&x=f0&y=m1") as page:
        ready(page)
        assert page.get_by_label("across").input_value() == "f0"
        expect(page.locator(".cell")).to_have_count(IMAGES)
        page.locator(".scatter").focus()
        for _ in range(8):
            page.keyboard.press("+")
        ready(page)
        near = page.locator(".cell").count()
        assert near < IMAGES
        assert f"{near} image" in page.locator("h2").last.inner_text()
        page.keyboard.press("0")
        expect(page.locator(".cell")).to_have_count(IMAGES)
        page.get_by_label("up", exact=True).select_option("f2")
        assert "y=f2" in page.url
        x, y = page.evaluate("() => { const s = App.shown.scatter; return s.at(4); }")
        box = page.locator(".scatter").bounding_box()
        page.mouse.move(box["x"] + x, box["y"] + y)
        expect(page.locator(".tip")).to_be_visible()
        page.mouse.click(box["x"] + x, box["y"] + y)
        page.wait_for_selector("main[data-view=image]")
        assert "/i" in page.url


def test_curves_and_the_tree_lead_to_their_k(browser: Browser, report: Path) -> None:
    evaluation = Evaluation.open(report.parent / "evaluation")
    with at(browser, report, "#/s0?k=3") as page:
        ready(page)
        page.locator(".more summary").click()
        expect(page.locator(".family a")).to_have_count(sum(K))
        parents = len(evaluation.links)
        expect(page.locator(".family line")).to_have_count(parents)
        losses = evaluation.loss[evaluation.loss["k"] == 3]["relative_error"]
        assert page.evaluate("App.shown.now().loss") == pytest.approx(list(losses), abs=1e-4)
        curve = page.locator(".curve", has_text="energy explained")
        curve.get_by_role("link", name=re.compile("k = 10")).click()
        page.wait_for_url("**k=10*")
        ready(page)
        expect(page.locator(".concept")).to_have_count(10)
        page.locator(".more summary").click()
        page.get_by_role("link", name="k = 3, factor 2", exact=True).click()
        page.wait_for_selector("main[data-view=concept]")
        ready(page)
        assert page.url.endswith(("/c2", "/c2?k=3"))
        assert page.locator(".crops.loose .crop:visible").count() > 0


def test_a_picture_opens_as_large_as_its_file(browser: Browser, report: Path) -> None:
    with at(browser, report, "#/s0/i2?k=3") as page:
        ready(page)
        button = page.get_by_role("button", name="Show heat of 2.png large").first
        button.click()
        dialog = page.get_by_role("dialog")
        expect(dialog).to_be_visible()
        ready(page)
        image = dialog.locator("img")
        assert "/large/" in image.evaluate("one => one.src")
        size = image.evaluate("one => [one.naturalWidth, one.naturalHeight, one.width, one.height]")
        assert size == [100, 75, 100, 75]
        dialog.get_by_text("Refined").click()
        ready(page)
        assert dialog.locator("canvas").evaluate(
            "one => one.getContext('2d').getImageData(0, 0, one.width, one.height).data"
            ".some(value => value > 0)"
        )
        page.keyboard.press("Escape")
        expect(page.locator("dialog")).to_have_count(0)
        assert button.evaluate("one => one === document.activeElement")


def test_of_many_images_none_is_kept_large(report: Path, tmp_path: Path) -> None:
    assert len(list((report / "large").iterdir())) == IMAGES
    project = report.parents[1]
    few = ReportParams(images=3, top=3, long_side=64, large_side=100, large_most=IMAGES - 1)
    kept = json.loads((report / "artifact.json").read_text())
    out = execute(REPORT, few, project, Resources(workers=1))
    try:
        assert not (out / "large").exists()
    finally:
        execute(REPORT, PARAMS, project, Resources(workers=1))
    assert json.loads((report / "artifact.json").read_text()) == kept


def test_more_than_eight_concepts_are_shown_apart(browser: Browser, report: Path) -> None:
    with at(browser, report, "#/s0?k=10") as page:
        ready(page)
        page.get_by_label("sort by").scroll_into_view_if_needed()
        page.mouse.wheel(0, 3000)
        expect(page.locator(".cell .picture.apart")).to_have_count(IMAGES)
        for j in range(2):
            page.get_by_label(f"Show factor {j}").uncheck()
        page.mouse.wheel(0, 3000)
        ready(page)
        expect(page.locator(".cell .picture.apart")).to_have_count(0)
        expect(page.locator(".cell .picture.faded")).to_have_count(IMAGES)


def test_agreement_and_boxes_are_those_of_the_masks(browser: Browser, report: Path) -> None:
    _, refined, columns = maps_of(report, 3)
    with at(browser, report, "#/s0?k=3") as page:
        ready(page)
        found = page.evaluate("""() => App.run.set(0).then(async set => {
            const of = set.factorization(0, 3);
            await of.openAgreement();
            return Promise.all(Array.from({length: set.count}, async (_, i) => {
                await of.needMask(i);
                return [0, 1, 2].map(j => [of.agreed(i, j), of.box(i, j)]);
            }));
        })""")
        page.get_by_label("sort by").select_option("g0")
        ready(page)
        shown = page.locator(".cell .name").all_inner_texts()
    names = Factors.open(report.parent / "factors.zarr").images
    boxes = refined.boxes
    compared = 0
    for i, by_factor in enumerate(found):
        for j, (agreed, box) in enumerate(by_factor):
            mask = refined.masks(i)[columns[j]]
            mine = boxes[
                (boxes["entry"] == i) & (boxes["column"] == columns[j]) & (boxes["rank"] == 0)
            ]
            assert (box is None) == (not mask.any())
            if box is not None:
                h, w = mask.shape
                pixels = np.array(box) * [h, w, h, w]
                np.testing.assert_allclose(pixels, mine[list(SIDES)].to_numpy()[0], atol=0.01)
            if i == IMAGES - 1:
                assert agreed is None
                continue
            path = report.parents[2] / "root/masks/discs" / Path(names[i]).name
            truth = Image.open(path).convert("L").resize(mask.shape[::-1], Image.Resampling.BOX)
            whole = np.asarray(truth) >= 128
            iou = (mask & whole).sum() / max(1, (mask | whole).sum())
            assert abs(agreed - iou) < 0.05  # by way of the thumbnail's size
            compared += 0.1 < iou < 0.9
    assert compared > 3
    agreed = [by_factor[0][0] for by_factor in found]
    order = sorted(range(IMAGES), key=lambda i: (2 if agreed[i] is None else agreed[i], i))
    assert shown == [Path(names[i]).name for i in order]


def test_every_table_is_linked_and_is_evaluates(browser: Browser, report: Path) -> None:
    evaluation = report.parent / "evaluation"
    with at(browser, report, "#/all") as page:
        ready(page)
        links = page.locator(".files a")
        hrefs = [link.get_attribute("href") for link in links.all()]
    static = (report / "index.html").read_text()
    for href in hrefs:
        path = report / href
        assert path.is_file() and f'href="{href}"' in static
        if path.suffix == ".csv":
            rows = len(list(csv.reader(path.read_text().splitlines())))
            assert rows - 1 == pq.read_metadata(evaluation / f"{path.stem}.parquet").num_rows
    having = [one.stem for one in evaluation.glob("*.parquet") if pq.read_metadata(one).num_rows]
    assert {Path(href).stem for href in hrefs} == {*having, "metrics"}


def test_naming_leaves_what_was_written_of_the_images(
    report: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    project = report.parents[1]
    lasting = sorted(path for pattern in explore.LASTING for path in report.rglob(pattern))
    before = {path: path.read_bytes() for path in lasting}
    assert len(before) == len(K) * 3 + 1  # coefficients, masks, agreement by k; the annotation
    (project / "labels.yaml").write_text(yaml.safe_dump({"sets": {"discs": {1: ["ball"]}}}))
    parts = explore_parts.Parts.write
    monkeypatch.setattr(explore_parts.Parts, "write", lambda *_: pytest.fail("written again"))
    try:
        for stage, params in ((EVALUATE, EvaluateParams()), (REPORT, PARAMS)):
            execute(stage, params, project, Resources(workers=1))
        assert b"ball" in (report / "data/set-000/set.js").read_bytes()
        assert {path: path.read_bytes() for path in lasting} == before
        monkeypatch.setattr(explore_parts.Parts, "write", parts)
        other = ReportParams(images=3, top=3, long_side=48, large_side=0)
        execute(REPORT, other, project, Resources(workers=1))
        assert any(path.read_bytes() != content for path, content in before.items())
    finally:
        (project / "labels.yaml").unlink()
        for stage, params in ((EVALUATE, EvaluateParams()), (REPORT, PARAMS)):
            execute(stage, params, project, Resources(workers=1))
    assert {path: path.read_bytes() for path in lasting} == before


VIEWS = ["#/all", "#/s0?k=3", "#/s0?k=10&m=refined", "#/s0/c1?k=3", "#/s0/i1?k=3", "#/s0/map?k=3"]


def test_the_page_without_scripts_is_as_wide_as_its_window(browser: Browser, report: Path) -> None:
    for width in (390, 1200):
        page = browser.new_page(viewport={"width": width, "height": 900})
        page.goto((report / "index.html").as_uri())
        assert page.locator(".plots .scroll table").count() == 1
        assert page.evaluate("document.documentElement.scrollWidth") <= width
        page.close()


@pytest.mark.parametrize("width", [390, 1400])
def test_axe_finds_nothing(browser: Browser, report: Path, width: int) -> None:
    context = {"viewport": {"width": width, "height": 900}}
    with at(browser, report, VIEWS[0], **context) as page:
        for view in VIEWS:
            turn_to(page, view)
            if page.locator(".more summary").count():
                page.locator(".more summary").click()
            assert page.evaluate("document.documentElement.scrollWidth") <= width, view
            assert violations(page) == [], view
        page.locator(".scatter").focus()
    with opened(browser, report / "index.html", **context) as page:
        assert violations(page) == []


def test_no_picture_is_blown_up(browser: Browser, report: Path) -> None:
    wide = {"viewport": {"width": 2560, "height": 900}}
    with opened(browser, report / "index.html", **wide) as page:
        sizes = page.evaluate(
            "[...document.images].map(one => [one.width, Number(one.getAttribute('width'))])"
        )
    assert len(sizes) > 10
    assert all(shown <= own for shown, own in sizes)


def test_pointing_at_one_of_many_photographs_reads_it_there(browser: Browser, report: Path) -> None:
    read = []
    with at(browser, report, "#/s0/i1?k=10") as page:
        ready(page)
        for place, columns in ((page.locator(".panels .picture").first, 1),
                               (page.locator(".panels .picture.apart").first, 4)):  # fmt: skip
            box = place.bounding_box()
            for share in (0.3, 0.7):
                # in the second photograph of a row, where there are several
                across, down = (share + (columns > 1)) / columns, share / columns
                page.mouse.move(box["x"] + across * box["width"], box["y"] + down * box["height"])
                read.append(page.locator(".readout .value").all_inner_texts())
    values = np.array([[int(text.split()[0]) for text in texts] for texts in read])
    assert np.ptp(values[:2], axis=0).max() > 5
    assert np.abs(values[2:] - values[:2]).max() <= 12  # gaps between them take a pixel or two
