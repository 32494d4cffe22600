"""The page to explore, in a real browser: what it shows is what the artifacts say."""

import re
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from playwright.sync_api import Browser, expect

from browser import at, needs_browser, opened, papers, pixels, ready, turn_to
from reported import run_stages
from stages.algorithms.heatmap import upsample
from stages.artifacts.concept_maps import ConceptMaps
from stages.artifacts.factors import Factors
from stages.drawing.colours import css
from stages.drawing.overlays import GAMMA, OPACITY
from stages.drawing.palette import Palette, palettes
from stages.report.packed import base64_of, script
from tools import draw

pytestmark = [pytest.mark.xdist_group("explore"), needs_browser]

HOSTILE = "<img src=x onerror=alert(1)>\u2028\"'&amp;"
FACTOR = "</script><script>alert(2)</script>"
IMAGE = "<script>alert(3)<"  # a name may hold slashes, so that a whole element fits into one
K = (1, 2, 4)
SHAPES = ((96, 64), (64, 96), (80, 80))


@pytest.fixture(scope="module")
def report(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A report on two sets, one of nine images with objects annotated, with hostile names."""
    root = tmp_path_factory.mktemp("explored") / "root"
    for name, count in (("discs", 9), (HOSTILE, 3)):
        for i in range(count):
            mask = draw(root / "images" / name / f"{i}.png", i, SHAPES[i % 3])
            if name == "discs":
                target = root / "masks" / name / f"{i}.png"
                target.parent.mkdir(parents=True, exist_ok=True)
                Image.fromarray(mask).save(target)
    draw(root / "images" / HOSTILE / IMAGE / "script>.png", 9)
    labels = {HOSTILE: {2: [FACTOR, "ear"]}}
    return run_stages(root, root.parent / "project", ("features.5",), K, (0,), labels)


def number(report: Path, name: str) -> int:
    return list(Factors.open(report.parent / "factors.zarr").sets).index(name)


def of_discs(report: Path, k: int) -> tuple[Factors, ConceptMaps, ConceptMaps, Palette, int]:
    """What the stages say of one factorization, and the set's number."""
    artifacts = report.parent
    factors = Factors.open(artifacts / "factors.zarr")
    heatmaps, refined = (
        ConceptMaps.open(artifacts / name, artifacts / "evaluation/measured.zarr")["features.5"]
        for name in ("heatmaps.zarr", "refined.zarr")
    )
    rank = list(factors.sets).index("discs")
    return factors, heatmaps, refined, palettes(factors, heatmaps, rank)[k], rank


def test_heat_on_the_canvas_is_what_the_coefficients_say(browser: Browser, report: Path) -> None:
    factors, heatmaps, _, palette, rank = of_discs(report, 4)
    image = 5
    entry = int(factors.sets["discs"][image])
    grid = factors.at("features.5").coefficients.map(entry)[:, :, list(palette.columns)]
    with at(browser, report, f"#/s{rank}/i{image}?k=4") as page:
        ready(page)
        all_of_them = pixels(page, "main > div > .line figure:nth-child(2) canvas")
        each = [pixels(page, f".lines .line:nth-child({j + 1}) figure:first-child canvas")
                for j in range(4)]  # fmt: skip
    h, w = all_of_them.shape[:2]
    assert min(h, w) > 32
    rows = torch.from_numpy(grid.reshape(-1, 4).copy())
    maps = upsample(rows, grid.shape[:2], each[0].shape[:2]).numpy()
    scale = heatmaps.scale[rank][palette.columns][:, None, None]
    heat = palette.strength((maps / scale).astype(np.float32)) ** GAMMA
    assert heat.max() > 0.9
    for j in range(4):
        expected = 255 * OPACITY * heat[j]
        assert np.abs(each[j][:, :, 3] - expected).max() <= 2
        seen = each[j][expected > 128]
        # a canvas keeps colours multiplied by their opacity, in whole numbers
        assert np.abs(seen[:, :3].astype(int) - palette.colours[j]).max(initial=0) <= 2
    together = upsample(rows, grid.shape[:2], (h, w)).numpy()
    heat = palette.strength((together / scale).astype(np.float32)) ** GAMMA
    assert np.abs(all_of_them[:, :, 3] - 255 * OPACITY * heat.max(axis=0)).max() <= 2
    shares = heat**2 / np.maximum((heat**2).sum(axis=0), 1e-9)
    tint = np.einsum("fhw,fc->hwc", shares, np.array(palette.colours, float))
    strong = all_of_them[:, :, 3] > 150
    assert strong.any()
    assert np.abs(all_of_them[strong][:, :3] - tint[strong]).max() <= 4


LABELS = """([rank, k, i]) => App.run.set(rank).then(async set => {
    const of = await set.factorization(0, k).open();
    const mask = await of.needMask(i), truth = await set.truthOf(i);
    const bits = one => Array.from(Draw.runLabels(one, [{number: 0}]).labels);
    return {
        size: [mask.height, mask.width],
        masks: mask.runs.map(runs => bits({...mask, runs: [runs]})),
        truth: truth && bits(truth),
        truthSize: truth && [truth.height, truth.width],
    };
})"""


def test_masks_are_those_of_the_artifacts(browser: Browser, report: Path) -> None:
    factors, _, refined, palette, rank = of_discs(report, 4)
    image = 4
    entry = int(factors.sets["discs"][image])
    with at(browser, report, f"#/s{rank}?k=4&m=refined") as page:
        ready(page)
        found = page.evaluate(LABELS, [rank, 4, image])
        areas = page.evaluate(
            "([rank, i]) => App.run.set(rank).then(s => s.factorization(0, 4).open())"
            ".then(of => [0, 1, 2, 3].map(j => of.stat('refined', i, j)))",
            [rank, image],
        )
    masks = refined.masks(entry)[list(palette.columns)]
    assert found["size"] == list(masks.shape[1:])
    drawn = np.array(found["masks"], bool).reshape(masks.shape)
    assert masks.any() and not masks.all()
    np.testing.assert_array_equal(drawn, masks)
    np.testing.assert_allclose(areas, masks.mean(axis=(1, 2)), atol=1e-4)
    truth = np.array(found["truth"], bool).reshape(found["truthSize"])
    name = Path(factors.images[int(factors.image_ids[entry])]).name
    annotated = np.asarray(
        Image.open(report.parents[2] / "root" / "masks" / "discs" / name).convert("L")
    )
    assert abs(truth.mean() - (annotated > 0).mean()) < 0.01
    assert truth.any()


def test_names_are_text(browser: Browser, report: Path) -> None:
    rank = number(report, HOSTILE)
    with at(browser, report, "#/all") as page:
        ready(page)
        expect(page.get_by_role("link", name=re.compile("onerror"))).to_be_visible()
        page.goto((report / "explore.html").as_uri() + f"#/s{rank}?k=2")
        ready(page)
        heading = page.locator("h1")
        assert heading.evaluate("one => one.textContent") == HOSTILE
        assert page.locator("main h1 img, main script").count() == 0
        assert page.locator(".concept .name", has_text=FACTOR).count() == 1
        cell = page.locator(".cell", has_text="script>.png")
        assert cell.get_attribute("title").endswith(f"{IMAGE}/script>.png")
        cell.click()
        page.wait_for_selector("main[data-view=image]")
        assert IMAGE in page.locator("h1").inner_text()
    for path in (report / "data").rglob("*.js"):
        content = path.read_bytes()
        assert content.isascii() and b"<" not in content
        assert content.startswith(b"DFF.put(") and content.count(b"\n") == 1


def test_the_slider_of_k_keeps_colours_and_the_address(browser: Browser, report: Path) -> None:
    *_, palette, rank = of_discs(report, 4)
    fewer = of_discs(report, 2)[3]
    with at(browser, report, f"#/s{rank}?k=4") as page:
        ready(page)
        rows = page.locator(".concept .swatch")
        seen = [page.evaluate("one => one.style.backgroundColor", row.element_handle())
                for row in rows.all()]  # fmt: skip
        assert seen == [f"rgb{colour}" for colour in palette.colours]
        assert css(palette.colours[0]).startswith("#")
        page.get_by_label("k", exact=True).focus()
        page.keyboard.press("ArrowLeft")
        expect(page.locator(".concept")).to_have_count(2)
        seen = [row.evaluate("one => one.style.backgroundColor") for row in rows.all()]
        assert seen == [f"rgb{colour}" for colour in fewer.colours]
        assert page.get_by_label("k", exact=True).evaluate("one => one === document.activeElement")
        page.get_by_label("Show factor 1").uncheck()
        page.get_by_text("Raw masks").click()
        page.get_by_label("name has").fill("3")
        expect(page.locator(".cell")).to_have_count(1)
        address = page.url
        assert "k=2" in address and "off=1" in address and "m=raw" in address
        page.goto("about:blank")
        page.goto(address)
        ready(page)
        assert page.locator(".concept").count() == 2
        assert not page.get_by_label("Show factor 1").is_checked()
        expect(page.locator(".cell")).to_have_count(1)


def test_a_higher_threshold_makes_masks_smaller(browser: Browser, report: Path) -> None:
    rank = number(report, "discs")
    with at(browser, report, f"#/s{rank}?k=1&m=raw&t=20") as page:
        ready(page)

        def masked() -> list[int]:
            ready(page)
            texts = page.locator(".cell .value").all_inner_texts()
            return [int(text.split()[0]) for text in texts]

        before = masked()
        assert len(before) == 9 and max(before) > 10
        slider = page.get_by_label("mask from")
        slider.focus()
        for _ in range(6):
            page.keyboard.press("PageUp")
        after = masked()
        assert all(a <= b for a, b in zip(after, before, strict=True)) and sum(after) < sum(before)
        page.get_by_role("button", name="reset").click()
        assert "t=" not in page.url
        assert masked() != after


def test_images_are_sorted_by_a_concepts_strength(browser: Browser, report: Path) -> None:
    factors, heatmaps, _, palette, rank = of_discs(report, 4)
    entries = factors.sets["discs"]
    order = np.argsort(-heatmaps.means[entries][:, palette.columns[2]], kind="stable")
    names = [Path(factors.images[int(factors.image_ids[e])]).name for e in entries[order]]
    with at(browser, report, f"#/s{rank}?k=4") as page:
        ready(page)
        page.get_by_label("sort by").select_option("f2")
        ready(page)
        assert page.locator(".cell .name").all_inner_texts() == names


def test_everything_by_keyboard(browser: Browser, report: Path) -> None:
    rank = number(report, "discs")
    with at(browser, report, f"#/s{rank}?k=2") as page:
        ready(page)
        page.keyboard.press("Tab")
        assert page.evaluate("document.activeElement.id") == "skip"
        nameless = page.evaluate("""() => [...document.querySelectorAll("input, select, button, a")]
            .filter(one => !(one.getAttribute("aria-label") || one.textContent.trim()
                || (one.labels && one.labels[0] && one.labels[0].textContent.trim())))
            .map(one => one.outerHTML)""")
        assert nameless == []
        page.locator(".cell[tabindex='0']").focus()
        page.keyboard.press("ArrowRight")
        page.keyboard.press("ArrowRight")
        page.keyboard.press("Enter")
        page.wait_for_selector("main[data-view=image]")
        ready(page)
        assert page.url.endswith("/i2?k=2")
        page.keyboard.press("ArrowRight")
        page.wait_for_url("**/i3?k=2")
        ready(page)
        page.keyboard.press("ArrowLeft")
        page.wait_for_url("**/i2?k=2")
        ready(page)
        page.keyboard.press("Escape")
        page.wait_for_selector("main[data-view=set]")


def test_a_point_tells_its_coefficients(browser: Browser, report: Path) -> None:
    factors, heatmaps, _, palette, rank = of_discs(report, 2)
    entry = int(factors.sets["discs"][0])
    grid = factors.at("features.5").coefficients.map(entry)[:, :, list(palette.columns)]
    h, w = grid.shape[:2]
    with at(browser, report, f"#/s{rank}/i0?k=2") as page:
        ready(page)
        picture = page.locator(".panels .picture").first
        box = picture.bounding_box()
        # in the middle of a cell, where nothing is interpolated
        page.mouse.move(box["x"] + box["width"] * 2.5 / w, box["y"] + box["height"] * 3.5 / h)
        texts = page.locator(".readout .value").all_inner_texts()
    full = heatmaps.scale[rank][palette.columns] * palette.full
    said = [int(text.split()[0]) for text in texts]
    np.testing.assert_allclose(said, 100 * grid[3, 2] / full, atol=3)


def test_a_phone_shows_every_view_without_scrolling_sideways(
    browser: Browser, report: Path
) -> None:
    views = ["#/all", *(f"#/s{rank}{view}" for rank in (0, 1) for view in ("", "/c0", "/i0"))]
    phone = {"viewport": {"width": 390, "height": 844}}
    with at(browser, report, views[0], **phone) as page:
        for view in views:
            turn_to(page, view)
            assert page.evaluate("document.documentElement.scrollWidth") <= 390, view
        paper = papers(page)
        assert paper["dark"] < 300 < paper["light"]


def test_without_scripts_there_are_todays_pages(browser: Browser, report: Path) -> None:
    for works in (True, False):
        with opened(browser, report / "index.html", java_script_enabled=works) as page:
            assert page.get_by_role("link", name="Explore").count() == works
            assert page.get_by_text("Which parts light up").count() == 1
    with at(browser, report, "", java_script_enabled=False) as page:
        page.get_by_role("link", name="the report").click()
        assert page.url.endswith("index.html")


def test_an_incomplete_folder_is_said(browser: Browser, report: Path, tmp_path: Path) -> None:
    copy = tmp_path / "report"
    shutil.copytree(report, copy)
    shutil.rmtree(copy / "data" / "set-000")
    said = "is the report's folder complete?"
    with pytest.raises(AssertionError, match="FILE_NOT_FOUND"), at(browser, copy, "#/s0") as page:
        expect(page.get_by_role("alert")).to_contain_text(said)


def make_large(folder: Path, count: int) -> None:
    """Make the first set one of many images: the payloads, with the thumbnails that are there."""
    thumbs = sorted(path.name for path in (folder / "thumbs").iterdir())
    rng = np.random.default_rng(0)

    def put(key: str, payload: object) -> None:
        path = folder / "data" / f"{key}.js"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(script(key, payload))

    factor = {"name": "", "colour": "#3366ff", "energy": 100.0, "full": 1.0, "start": 0.5,
              "stability": None, "nonzero": 50.0,
              "tops": [], "part": "", "iou": None, "parent": None}  # fmt: skip
    one = {"k": 1, "explained": 50.0, "stability": None, "suggested": True, "reason": "",
           "object": None, "part": None, "loss": [0.5, 0.4], "factors": [factor]}  # fmt: skip
    put("set-000/set", {
        "name": "many", "images": [f"{i:05d}.png" for i in range(count)],
        "thumbs": [thumbs[i % len(thumbs)] for i in range(count)],
        "sizes": base64_of(np.full((count, 2), 64, np.uint16)), "largeSizes": None,
        "annotated": False, "part": 64,
        "layers": [{"name": "drawn", "ks": [one]}],
    })  # fmt: skip
    values = rng.integers(0, 65536, (5, count)).astype(np.uint16)
    names = ("means", "raw", "refined", "x", "y")
    put("set-000/l0-k1/stats", {n: base64_of(v) for n, v in zip(names, values, strict=True)})
    nothing = {"at": [], "grids": [], "peaks": "", "levels": ""}
    put("set-000/l0-k1/tops", nothing)
    for part, first in enumerate(range(0, count, 64)):
        some = list(range(first, min(first + 64, count)))
        put(f"set-000/l0-k1/part-{part:03d}", {
            "at": some, "grids": [[13, 13]] * len(some),
            "peaks": base64_of(np.full(len(some), 65535, np.uint16)),
            "levels": base64_of(rng.integers(0, 256, len(some) * 169).astype(np.uint8)),
        })  # fmt: skip
    index = (folder / "data" / "index.js").read_text()
    index = re.sub(r'"ks":\[[\d,]+\]', '"ks":[1]', index)
    index = re.sub(r'"count":\d+', f'"count":{count}', index, count=1)
    index = re.sub(r'"k":\d+,"suggested":(null|\d+)', '"k":1,"suggested":1', index)
    (folder / "data" / "index.js").write_text(index)


def test_of_five_thousand_images_few_are_there_at_once(
    browser: Browser, report: Path, tmp_path: Path
) -> None:
    copy = tmp_path / "report"
    shutil.copytree(report, copy)
    make_large(copy, 5000)
    with at(browser, copy, "#/s0") as page:
        ready(page)
        most = 0
        for _ in range(70):
            page.evaluate("scrollBy(0, 3000)")
            page.wait_for_timeout(25)
            most = max(most, page.locator(".cell").count())
        assert 10 < most < 150
        ready(page)
        assert page.evaluate("scrollY + innerHeight > document.body.scrollHeight - 3000")
        inside = page.context.new_cdp_session(page)
        inside.send("HeapProfiler.collectGarbage")
        inside.send("Performance.enable")
        metrics = inside.send("Performance.getMetrics")["metrics"]
        held = {one["name"]: one["value"] for one in metrics}["JSHeapUsedSize"]
        assert 1e6 < held < 60e6, "after everything was in sight"
        page.locator(".cell[tabindex='0'], .cell").first.focus()
        page.keyboard.press("End")
        ready(page)
        expect(page.locator(".cell", has_text="04999.png")).to_be_focused()
        assert page.locator(".cell").count() < 150
        assert pixels(page, ".slot[aria-posinset='5000'] canvas")[:, :, 3].max() > 100
        page.get_by_label("name has").fill("0042")
        expect(page.locator(".cell")).to_have_count(11)
