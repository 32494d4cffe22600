"""Two sides of an image, of one run or of two, in a real browser."""

import re
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from playwright.sync_api import Browser, Page, expect

from browser import needs_browser, opened, papers, pixels, ready, turn_to, violations
from pipeline.beside import beside
from reported import run_stages
from stages.artifacts.concept_maps import ConceptMaps
from stages.artifacts.factors import Factors
from stages.drawing.palette import palettes
from stages.report.packed import read_script, script
from tools import draw

pytestmark = [pytest.mark.xdist_group("explore compare"), needs_browser]

HOSTILE = "<img src=x onerror=alert(1)>\u2028\"'&amp;"
FACTOR = "</script><script>alert(2)</script>"
RUN = "<b>../B & \u2029</b><script>alert(4)</script>"
SHAPES = ((64, 44), (44, 64), (56, 56))  # no larger than thumbnails


def photographs(root: Path, sets: dict[str, list[int]]) -> Path:
    """Photographs by number: of one number they are the same; discs have masks."""
    for name, numbers in sets.items():
        for i in numbers:
            mask = draw(root / "images" / name / f"{i}.png", i, SHAPES[i % 3])
            if name == "discs":
                target = root / "masks" / name / f"{i}.png"
                target.parent.mkdir(parents=True, exist_ok=True)
                Image.fromarray(mask).save(target)
    return root


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """Reports of two runs on almost the same photographs, by other layers and k."""
    folder = tmp_path_factory.mktemp("compared")
    a = photographs(folder / "a", {"discs": [*range(9)], HOSTILE: [0, 1, 2], "a only": [3, 4]})
    b = photographs(folder / "b", {"discs": [0, 2, 5, 6, 7, 8, 11], HOSTILE: [0, 1, 2]})
    layers, labels = ("features.5", "features.8"), {HOSTILE: {2: [FACTOR, "ear"]}}
    first = run_stages(a, folder / "first", layers, (1, 2, 4), (0,), labels)
    second = run_stages(b, folder / "second", layers[1:], (1, 3, 4), (0,))
    return first, second


@pytest.fixture(scope="module")
def both(runs: tuple[Path, Path]) -> Path:
    """The folder with both."""
    folder = runs[0].parents[2] / "beside"
    page = beside([str(one) for one in runs], folder.parent, folder, ("A run", RUN))
    assert page == folder / "index.html"
    return folder


def rank_of(report: Path, name: str = "discs") -> int:
    return list(Factors.open(report.parent / "factors.zarr").sets).index(name)


def names_of(report: Path, name: str = "discs") -> list[str]:
    factors = Factors.open(report.parent / "factors.zarr")
    return [factors.images[int(factors.image_ids[e])] for e in factors.sets[name]]


def one_run(browser: Browser, report: Path, where: str, **context: Any) -> Any:
    return opened(browser, report / "explore.html", where, **context)


def two_runs(browser: Browser, both: Path, where: str = "", **context: Any) -> Any:
    return opened(browser, both / "index.html", where, **context)


def line_at(page: Page) -> float:
    """Where the line is, per cent of the picture's width, as it is seen."""
    handle, picture = (page.locator(one).bounding_box() for one in (".handle", ".swipe"))
    return 100 * (handle["x"] + handle["width"] / 2 - picture["x"]) / picture["width"]


def test_the_line_moves_by_mouse_touch_and_keys(browser: Browser, runs: tuple[Path, Path]) -> None:
    where = f"#/s{rank_of(runs[0])}/i3/vs?k=4&k2=2"
    with one_run(browser, runs[0], where, has_touch=True) as page:
        ready(page)
        handle = page.get_by_role("slider", name="Where side B begins")
        assert handle.get_attribute("aria-valuenow") == "50" and abs(line_at(page) - 50) < 0.5
        box = page.locator(".swipe").bounding_box()

        def point(share: float) -> tuple[float, float]:
            return box["x"] + share * box["width"], box["y"] + 0.7 * box["height"]

        page.mouse.move(*point(0.5))
        page.mouse.down()
        page.mouse.move(*point(0.3), steps=4)
        assert abs(line_at(page) - 30) < 0.5
        page.mouse.move(box["x"] - 50, box["y"])
        assert handle.get_attribute("aria-valuenow") == "0"
        page.mouse.move(*point(0.25))
        page.mouse.up()
        page.mouse.move(*point(0.9))
        assert abs(line_at(page) - 25) < 0.5, "let go, it stays"
        over = page.locator(".over")
        clip = over.evaluate("one => getComputedStyle(one).clipPath")
        assert float(re.search(r"([\d.]+)%\)$", clip).group(1)) == pytest.approx(25, abs=0.5)

        page.touchscreen.tap(*point(0.8))
        assert abs(line_at(page) - 80) < 0.5
        handle.focus()
        for key, expected in (("ArrowLeft", 78), ("PageDown", 68), ("ArrowUp", 70), ("Home", 0),
                              ("ArrowLeft", 0), ("End", 100), ("PageUp", 100)):  # fmt: skip
            page.keyboard.press(key)
            assert abs(float(handle.get_attribute("aria-valuenow")) - expected) < 0.5, key
        assert handle.get_attribute("aria-valuetext") == "A to 100 %, then B"
        assert "/i3/vs" in page.url, "the line's keys do not go to another image"
        page.wait_for_url("**at=100")
        nameless = page.evaluate("""() => [...document.querySelectorAll("input, select, button, a")]
            .filter(one => !(one.getAttribute("aria-label") || one.textContent.trim()
                || (one.labels && one.labels[0] && one.labels[0].textContent.trim())))
            .map(one => one.outerHTML)""")
        assert nameless == []


def test_a_side_is_what_the_view_of_one_run_shows(
    browser: Browser, runs: tuple[Path, Path], both: Path
) -> None:
    first, second = runs
    other = 4
    name = names_of(second)[other]
    image = names_of(first).index(name)
    assert image != other
    rank, single = rank_of(first), "main > div > .line figure:nth-child({}) canvas"
    seen = {}
    for report, layer, k, i, of in (
        (first, 1, 4, image, "a"),
        (second, 0, 3, other, "b"),
    ):
        with one_run(browser, report, f"#/s{rank_of(report)}/i{i}?k={k}&l={layer}") as page:
            ready(page)
            for mode, place in (("heat", 2), ("raw", 3), ("refined", 4), ("truth", 5)):
                seen[of, mode] = pixels(page, single.format(place))
    compared = f"#/s{rank}/i{image}/vs?l=1&k=4&k2=3"
    with two_runs(browser, both, compared) as page:
        for mode in ("heat", "raw", "refined", "truth"):
            page.goto("about:blank")
            page.goto((both / "index.html").as_uri() + f"{compared}&m={mode}&m2={mode}")
            ready(page)
            for of, place in (("a", ".under canvas"), ("b", ".over canvas")):
                found = pixels(page, place)
                assert found.shape == seen[of, mode].shape and found[:, :, 3].any()
                one = seen[of, mode]
                if mode == "truth":  # fainter there
                    found, one = found[:, :, 3] > 0, one[:, :, 3] > 0
                assert np.array_equal(found, one), (of, mode)
        alts = page.locator(".swipe img").evaluate_all("some => some.map(one => one.alt)")
        assert alts == [Path(name).name] * 2
        sources = page.locator(".swipe img").evaluate_all("some => some.map(one => one.src)")
        assert "/a/large/" in sources[0] and "/b/large/" in sources[1]


def test_the_overlap_is_that_of_what_is_painted(browser: Browser, runs: tuple[Path, Path]) -> None:
    where = f"#/s{rank_of(runs[0])}/i4/vs?m=raw&k=4&l=1&off=1&m2=raw&k2=4&off2=0&t2=80"
    with one_run(browser, runs[0], where) as page:
        ready(page)
        a, b = (pixels(page, f".{one} canvas")[:, :, 3] for one in ("under", "over"))
        said = page.locator(".agreement").inner_text()
        # a mask is filled half, with a line around it; beyond it is a fainter line
        one, other = (np.isin(alpha, (127, 128, 255)) for alpha in (a, b))
        shares = [(one & other).mean(), (one & ~other).mean(), (other & ~one).mean()]
        shares.append((one & other).sum() / (one | other).sum())
        assert min(shares) > 0
        found = [float(text) for text in re.findall(r"([\d.]+) %", said)]
        np.testing.assert_allclose(found, 100 * np.array(shares), atol=0.051)
        page.get_by_label("Side B").get_by_text("Heat").click()
        expect(page.locator(".agreement")).to_be_hidden()


def test_from_image_to_image_both_sides_stay(browser: Browser, runs: tuple[Path, Path]) -> None:
    rank = rank_of(runs[0])
    with one_run(browser, runs[0], f"#/s{rank}/i2?k=4&m=refined&off=1") as page:
        ready(page)
        page.get_by_role("link", name="compare").click()
        page.wait_for_selector("main[data-view=versus]")
        ready(page)
        side_a, side_b = (page.get_by_label(f"Side {one}", exact=True) for one in "AB")
        assert side_a.get_by_label("Raw masks").is_checked()
        assert side_b.get_by_label("Refined").is_checked()
        assert not side_a.get_by_label("A: show factor 1").is_checked()
        page.get_by_label("B: k").select_option("2")
        expect(page.get_by_label("B: k")).to_be_focused()
        expect(side_b.locator(".legend li")).to_have_count(2)
        page.get_by_label("A: layer").select_option("features.8")
        expect(page.get_by_label("A: layer")).to_be_focused()
        page.get_by_label("A: show factor 2").uncheck()
        side_a.get_by_label("mask from").focus()
        page.keyboard.press("PageUp")
        page.get_by_text("Side by side").click()
        page.locator("h1").click()
        page.keyboard.press("ArrowRight")
        page.wait_for_url("**/i3/vs?**")
        ready(page)
        address = page.url
        for part in ("l=1", "k2=2", "off=2", "t=", "as=two"):
            assert part in address, part

        def shown() -> list[Any]:
            ready(page)
            canvases = [pixels(page, f".two figure:nth-child({n}) canvas") for n in (1, 2)]
            return [page.locator("figcaption").all_inner_texts(), *map(bytes, canvases)]

        before = shown()
        assert before[0] == ["A: features.8, k = 4, raw masks", "B: features.5, k = 2, refined"]
        page.goto("about:blank")
        page.goto(address)
        assert shown() == before, "the address restores the view"
        page.get_by_role("button", name="swap").click()
        page.wait_for_url("**k=2**")
        after = shown()
        assert after[1:] == [before[2], before[1]]
        page.get_by_role("link", name="← previous").click()
        page.wait_for_url("**/i2/vs?**")
        ready(page)
        page.keyboard.press("Escape")
        page.wait_for_selector("main[data-view=pairs]")
        ready(page)
        assert page.locator(".both summary").inner_text().startswith("A: features.5, k = 2, ref")
        page.get_by_role("link", name="the set alone").click()
        page.wait_for_selector("main[data-view=set]")


def areas(report: Path, layer: str, k: int) -> tuple[np.ndarray, np.ndarray]:
    """Shares of the images of discs in raw and refined masks, ``[images, k]``."""
    factors = Factors.open(report.parent / "factors.zarr")
    entries, rank = factors.sets["discs"], list(factors.sets).index("discs")
    raw, refined = (
        ConceptMaps.open(report.parent / name, report.parent / "evaluation/measured.zarr")[layer]
        for name in ("heatmaps.zarr", "refined.zarr")
    )
    columns = list(palettes(factors, raw, rank)[k].columns)
    return tuple(  # type: ignore[return-value]
        maps.areas[entries][:, columns] / maps.maps.grid_hw[entries].prod(axis=1)[:, None]
        for maps in (raw, refined)
    )


def test_the_grid_has_both_and_is_sorted_by_how_much_they_differ(
    browser: Browser, runs: tuple[Path, Path], both: Path
) -> None:
    first, second = runs
    names = [Path(name).name for name in names_of(first)]
    raw, refined = areas(first, "features.5", 4)
    order = np.argsort(-np.abs(raw - refined).sum(axis=1), kind="stable")
    with one_run(browser, first, f"#/s{rank_of(first)}/vs?k=4&k2=4") as page:
        ready(page)
        assert page.locator(".cell .name").all_inner_texts() == names
        assert page.locator(".cell").first.locator("canvas").count() == 2
        page.get_by_label("sort by").select_option("d")
        ready(page)
        assert page.locator(".cell .name").all_inner_texts() == [names[i] for i in order]
        page.locator(".cell").nth(1).click()
        page.wait_for_selector("main[data-view=versus]")
        ready(page)
        assert "2 of 9" in page.locator(".steps").inner_text(), "in the order of the grid"
        page.get_by_label("A: show factor 0").uncheck()
        page.keyboard.press("Escape")

    # factors of two runs are others: all of a side together
    mine, theirs = areas(first, "features.5", 2)[1], areas(second, "features.8", 3)[1]
    here = [i for i, name in enumerate(names_of(first)) if name in names_of(second)]
    there = [names_of(second).index(names_of(first)[i]) for i in here]
    apart = np.abs(mine[here].sum(axis=1) - theirs[there].sum(axis=1))
    order = np.argsort(-apart, kind="stable")
    with two_runs(browser, both, f"#/s{rank_of(first)}/vs?k=2&k2=3&sort=d") as page:
        ready(page)
        assert page.locator(".cell .name").all_inner_texts() == [names[here[i]] for i in order]
        assert [text.split("\n") for text in page.locator("details").all_inner_texts()[1:]] == [
            ["Only in A run (3)"], [f"Only in {RUN} (1)"],
        ]  # fmt: skip
        page.get_by_text("Only in A run").click()
        left_out = page.locator("details:not(.both) li").all_text_contents()
        assert left_out == [
            *(name for name in names_of(first) if name not in names_of(second)),
            *(name for name in names_of(second) if name not in names_of(first)),
        ]
        page.get_by_label("Side A").get_by_text("Heat").click()
        expect(page.locator("option[value=d]")).to_have_count(0)


def test_two_runs_begin_with_what_differs(
    browser: Browser, runs: tuple[Path, Path], both: Path
) -> None:
    indexes = [read_script(report / "data/index.js", "index") for report in runs]
    scores = [
        next(one for one in index["sets"] if one["name"] == "discs")["scores"] for index in indexes
    ]
    a = next(one for one in scores[0] if (one["layer"], one["k"]) == (1, 4))
    b = next(one for one in scores[1] if one["k"] == 4)
    with two_runs(browser, both) as page:
        ready(page)
        lines = [row.split("\t") for row in page.locator(".differ").inner_text().split("\n")]
        differ = {name: values for name, *values in lines}
        assert differ["Layer"] == ["features.5, features.8", "features.8"]
        assert differ["Factors k"] == ["1, 2, 4", "1, 3, 4"]
        assert differ["Images"] == ["14", "10"] and "Network" not in differ
        assert page.get_by_text("Params are compared where both are known").count() == 1
        page.get_by_label("k", exact=True).select_option("4")
        page.get_by_label("layer of A").select_option("features.8")
        row = page.locator(".scores tbody tr", has_text="discs")
        assert row.count() == 1
        cells = row.locator("td:not(.k)").evaluate_all(
            "some => some.map(one => [...one.querySelectorAll('.number')].map(n => n.textContent))"
        )
        for (before, after, difference), name, digits in zip(
            cells, ("explained", "stability", "object"), (1, 2, 1), strict=True
        ):
            assert (before, after) == (f"{a[name]:.{digits}f}", f"{b[name]:.{digits}f}"), name
            gain = round(b[name] - a[name], digits)
            expected = f"{gain:+.{digits}f}".replace("-", "−") if gain else "same"
            assert difference == expected, name
        page.get_by_label("k", exact=True).select_option("3")
        numbers = page.locator(".scores tbody tr", has_text="discs").locator(".number")
        assert numbers.all_inner_texts()[:3] == ["–", f"{scores[1][1]['explained']:.1f}", ""]
        page.get_by_text("Image sets only in A run (1)").click()
        expect(page.get_by_text("a only")).to_be_visible()
        assert "discs: 6 in both, 3 only in A, 1 only in B" in page.locator("main").inner_text()
        page.get_by_label("k", exact=True).select_option("4")
        page.locator(".scores a", has_text="discs").click()
        page.wait_for_selector("main[data-view=pairs]")
        ready(page)
        title = page.locator(".both summary").inner_text()
        assert "A run, features.8, k = 4" in title and f"{RUN}, k = 4" in title
        expect(page.locator(".cell")).to_have_count(6)
        # a side may be of the other run, too
        page.get_by_label("B: run").select_option("0")
        ready(page)
        assert "r2=0" in page.url
        assert page.locator(".both summary").inner_text().count("A run") == 2
        page.get_by_role("link", name="A alone").click()
        page.wait_for_selector("main[data-view=set]")
        assert page.url.split("#")[0].endswith("/a/explore.html")
        assert f"/s{rank_of(runs[0])}?" in page.url


def test_names_are_text(browser: Browser, runs: tuple[Path, Path], both: Path) -> None:
    rank = rank_of(runs[0], HOSTILE)
    for where in ("#/all", f"#/s{rank}/vs?k=2", f"#/s{rank}/i1/vs?k=2"):
        with two_runs(browser, both, where) as page:
            ready(page)
            assert page.locator("main b b, main script, h1 img, table img").count() == 0
            text = page.locator("main").evaluate("one => one.textContent")
            assert RUN in text and HOSTILE in text
            assert (FACTOR in text) == (where != "#/all")
            if where == "#/all":
                assert page.title() == f"A run and {RUN.replace(chr(0x2029), ' ')} · concepts" or (
                    RUN.split(" & ")[0] in page.title()
                )


def test_axe_finds_nothing(browser: Browser, runs: tuple[Path, Path], both: Path) -> None:
    rank = rank_of(runs[0])
    with two_runs(browser, both) as page:
        for view in ("#/all", f"#/s{rank}/vs", f"#/s{rank}/i2/vs?m=raw", f"#/s{rank}/i2/vs?as=two"):
            turn_to(page, view)
            assert violations(page) == [], view


def test_a_phone_does_not_scroll_sideways(
    browser: Browser, runs: tuple[Path, Path], both: Path
) -> None:
    phone = {"viewport": {"width": 390, "height": 844}}
    discs, hostile = rank_of(runs[0]), rank_of(runs[0], HOSTILE)
    views = [f"#/s{discs}/vs", f"#/s{hostile}/vs", f"#/s{discs}/i2/vs?m=raw&m2=heat",
             f"#/s{hostile}/i1/vs?as=two", f"#/s{discs}/i2/vs?as=two&m=truth"]  # fmt: skip
    for page_of, more in (
        (runs[0] / "explore.html", []),
        (both / "index.html", ["#/all"]),
    ):
        with opened(browser, page_of, views[0], **phone) as page:
            for view in views + more:
                turn_to(page, view)
                assert page.evaluate("document.documentElement.scrollWidth") <= 390, view
                if "as=two" in view:
                    a, b = (one.bounding_box() for one in page.locator(".two figure").all())
                    assert b["y"] >= a["y"] + a["height"], "one below the other"
            paper = papers(page)
            assert paper["dark"] < 300 < paper["light"]


def test_an_image_or_set_of_one_run_alone_is_said(
    browser: Browser, runs: tuple[Path, Path], both: Path
) -> None:
    alone = next(i for i, name in enumerate(names_of(runs[0])) if name not in names_of(runs[1]))
    for where, said in (
        (f"#/s{rank_of(runs[0])}/i{alone}/vs", "only A run has this image"),
        (f"#/s{rank_of(runs[0], 'a only')}/vs", "a only: only A run has this image set"),
    ):
        with pytest.raises(AssertionError, match="console"), two_runs(browser, both, where) as page:
            expect(page.get_by_role("alert")).to_contain_text(said)


def test_data_of_another_format_are_refused(browser: Browser, both: Path, tmp_path: Path) -> None:
    copy = tmp_path / "both"
    shutil.copytree(both, copy)
    index = read_script(copy / "b/data/index.js", "index")
    (copy / "b/data/index.js").write_bytes(script("index", {**index, "format": 99}))
    said = "b/data/ has format 99, and this page reads 1: run `dff report` again"
    with pytest.raises(AssertionError, match="format 99"), two_runs(browser, copy) as page:
        expect(page.get_by_role("alert")).to_contain_text(said)


def test_without_scripts_there_are_both_reports(browser: Browser, both: Path) -> None:
    with two_runs(browser, both, java_script_enabled=False) as page:
        page.get_by_role("link", name="B", exact=True).click()
        assert page.url.endswith("/b/index.html")
        assert page.get_by_text("Which parts light up").count() == 1
