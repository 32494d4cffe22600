"""Naming in the page to explore, in a real browser: what is typed comes out of `dff run` again."""

import hashlib
import json
import re
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from PIL import Image
from playwright.sync_api import Browser, Locator, Page, expect

import stages.report.explore as explore
from browser import needs_browser, opened, ready, violations
from pipeline.registry import STAGES
from stages.artifacts.factors import Factors
from stages.naming.labels import packed, read_labels
from stages.naming.names import directions_of
from stages.report.packed import base64_of, script
from tools import draw, edit, run_dff, small_project

pytestmark = [pytest.mark.xdist_group("explore"), needs_browser]

HOSTILE = 'it\'s <b>"no"\u2028: ['
NAMES = [
    'a "quoted" \\ one', "it's", "</script><script>alert(1)</script>", "\u2028line", "no", "7",
    "null", "~", "1e3", "- a", "a: b # c", "\U0001f98a\u200d\U0001f525",
    "\u05e8\u05d0\u05e9 \u200f!", "&amp; <img src=x onerror=alert(1)>", "n" * 300,
    "A\u0308rmel, links", "{{x}}", "%TAG", "__proto__",
]  # fmt: skip
K = (1, 2, 3)


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A whole run of two sets: one with annotated parts, one of an unkind name."""
    folder = tmp_path_factory.mktemp("named")
    root = folder / "photographs"
    for name, count in (("discs", 6), (HOSTILE, 4)):
        for i in range(count):
            mask = draw(root / "images" / name / f"{i}.png", i)
            if name == "discs":
                half = mask.copy()
                half[int(np.flatnonzero(mask.any(axis=1)).mean()) :] = False
                for part, bits in (("upper", half), ("lower", mask & ~half)):
                    path = root / "parts" / name / str(i) / f"{part}.png"
                    path.parent.mkdir(parents=True, exist_ok=True)
                    Image.fromarray(bits).save(path)
    made = small_project(folder / "project", root)
    edit(made, "k: [1, 2]", "k: [1, 2, 3]")
    for stage in STAGES:
        assert run_dff(stage.name, "--project", str(made)).exit_code == 0
    return made


@pytest.fixture
def copied(project: Path, tmp_path: Path) -> Path:
    """The project, for tests that change it."""
    return shutil.copytree(project, tmp_path / "copied", symlinks=True)


def page_of(project: Path) -> Path:
    return project / "artifacts/report/explore.html"


@contextmanager
def at(browser: Browser, project: Path, where: str, **context: Any) -> Iterator[Page]:
    with opened(browser, page_of(project), where, **context) as page:
        yield ready(page)


def go(page: Page, project: Path, where: str) -> None:
    """Another view, by opening the page anew: what is kept is all there is."""
    page.goto("about:blank")
    page.goto(page_of(project).as_uri() + where)
    ready(page)


def rank_of(project: Path, name: str) -> int:
    return list(Factors.open(project / "artifacts/factors.zarr").sets).index(name)


def named(page: Page, rank: int, k: int) -> list[str]:
    found: list[str] = page.evaluate("([r, k]) => Names.list(r, k).map(Names.text)", [rank, k])
    return found


def fields(page: Page) -> Locator:
    return page.locator(".naming input[role=combobox]")


def values(page: Page) -> list[str]:
    return [one.input_value() for one in fields(page).all()]


def save(page: Page, path: Path) -> Path:
    with page.expect_download() as saved:
        page.get_by_role("button", name="Save labels.yaml").click()
    assert saved.value.suggested_filename == "labels.yaml"
    saved.value.save_as(path)
    return path


def said(page: Page) -> Locator:
    return page.locator(".naming-said")


def bring(page: Page, path: Path) -> str:
    """What the page says of a file that is opened in it."""
    said(page).evaluate("one => { one.textContent = ''; }")
    page.locator("input[type=file]").set_input_files(path)
    expect(said(page)).to_contain_text(path.name)
    return said(page).inner_text()


def test_everything_by_keyboard(browser: Browser, project: Path) -> None:
    rank = rank_of(project, "discs")
    with at(browser, project, f"#/s{rank}/names?k=3") as page:
        press = page.keyboard.press
        expect(page.locator(".naming .crop")).to_have_count(3 * 6)
        for _ in range(30):
            press("Tab")
            if page.evaluate("document.activeElement.getAttribute('role')") == "combobox":
                break
        page.keyboard.type("head")
        press("Enter")
        page.keyboard.type("He")
        option = page.get_by_role("option", name="head")
        expect(option).to_be_visible()
        press("ArrowDown")
        expect(option).to_have_attribute("aria-selected", "true")
        press("Enter")
        page.keyboard.type("left leg + tail")
        press("Enter")
        assert named(page, rank, 3) == ["head", "head", "left leg + tail"]
        expect(page.get_by_text("3 of 3 named", exact=True)).to_be_visible()
        press("ArrowUp")
        expect(fields(page).nth(1)).to_be_focused()
        slots = page.locator(".legend bdi").all_inner_texts()
        assert slots == ["lower", "upper", "object", "background", "head", "left leg", "tail"]
        press("Alt+Digit2")  # and to the next field
        assert named(page, rank, 3)[1] == slots[1]
        expect(fields(page).nth(2)).to_be_focused()
        press("Control+z")
        assert named(page, rank, 3)[1] == "head"
        press("Control+y")
        assert named(page, rank, 3)[1] == slots[1]
        press("Escape")
        expect(page.locator(".naming").nth(1)).to_be_focused()
        press("Digit5")
        press("Delete")
        assert named(page, rank, 3) == ["head", "head", ""]
        press("u")
        press("u")
        assert named(page, rank, 3) == ["head", slots[1], "left leg + tail"]
        press("Shift+U")
        assert named(page, rank, 3) == ["head", "head", "left leg + tail"]
        press("Home")
        for _ in range(2):  # the first and the second are one
            press("x")
            press("ArrowDown")
        press("m")
        page.keyboard.type("disc")
        press("Enter")
        assert named(page, rank, 3) == ["disc", "disc", "left leg + tail"]
        press("End")
        press("Delete")
        press("Home")
        press("n")
        expect(page.locator(".naming").nth(2)).to_be_focused()
        press("Enter")
        expect(fields(page).nth(2)).to_be_focused()
        page.keyboard.type("typed, then left")
        press("Escape")
        assert named(page, rank, 3)[2] == "" and values(page)[2] == ""


def test_everything_by_mouse(browser: Browser, project: Path) -> None:
    rank = rank_of(project, "discs")
    with at(browser, project, "#/names?sort=k2") as page:
        assert len(values(page)) == 4
        fields(page).first.fill("one")
        fields(page).nth(1).click()
        page.get_by_role("button", name=re.compile("^5 one")).click()
        assert named(page, 0, 2) == ["one", "one"]
        boxes = page.locator(".naming-mark input")
        boxes.nth(1).check()
        boxes.nth(2).check()
        page.get_by_label("One name for all that are marked").fill("both + of them")
        page.get_by_role("button", name="name them").click()
        assert values(page) == ["one", "both + of them", "both + of them", ""]
        assert not boxes.nth(1).is_checked()
        page.get_by_role("button", name="undo").click()
        assert values(page) == ["one", "one", "", ""]
        page.get_by_role("button", name="redo").click()
        page.get_by_role("button", name="No name for").first.click()
        assert values(page) == ["", "both + of them", "both + of them", ""]
        page.get_by_label("only those without a name").check()
        assert page.locator(".naming:visible").count() == 2
        page.get_by_label("only those without a name").uncheck()
        page.get_by_label("k", exact=True).select_option("k3")
        expect(page.locator(".naming")).to_have_count(6)
        ready(page)
        page.get_by_role("link", name="discs").click()
        page.wait_for_selector("main[data-view=names]")
        expect(page.locator(".naming")).to_have_count(3)
        # the part that fits, and what a factor splits from
        page.locator(".naming-hints button", has_text="fits").first.click()
        part = next(name for name in named(page, rank, 3) if name)
        assert part in ("upper", "lower", "object", "background")
        page.get_by_role("link", name="k = 2: ").click()
        expect(page.locator(".naming")).to_have_count(2)
        expect(page.get_by_role("link", name="k = 3: 1 of 3")).to_be_visible()


def test_names_are_shown_at_once_and_kept(browser: Browser, project: Path) -> None:
    rank = rank_of(project, "discs")
    with at(browser, project, f"#/s{rank}?k=2") as page:
        page.get_by_role("button", name="Name factor 1").click()
        page.keyboard.type("<i>ear</i>")
        page.keyboard.press("Enter")
        expect(page.get_by_role("link", name="<i>ear</i>", exact=True)).to_be_visible()
        expect(page.get_by_role("button", name="Name 1 <i>ear</i>")).to_be_focused()
        assert page.locator("option", has_text="mask of 1 <i>ear</i>").count() == 2
        expect(page.get_by_role("link", name="names 1 of 2")).to_be_visible()
        page.get_by_role("link", name="<i>ear</i>", exact=True).click()
        page.wait_for_selector("main[data-view=concept]")
        ready(page)
        assert page.locator("h1").inner_text().startswith("1\n1 <i>ear</i>")
        assert "1 <i>ear</i>" in page.locator(".crumbs").inner_text()
        page.get_by_role("button", name="Name 1 <i>ear</i>").click()
        page.keyboard.press("Control+a")
        page.keyboard.type("eye")
        page.keyboard.press("Tab")
        assert "1 eye" in page.locator("h1").inner_text()
        assert "1 eye" in page.locator(".crumbs").inner_text()
        go(page, project, f"#/s{rank}/i0?k=2")
        assert "eye" in page.locator(".readout").inner_text()
        go(page, project, f"#/s{rank}?k=2")
        page.get_by_label("k", exact=True).focus()
        page.keyboard.press("ArrowRight")
        page.keyboard.press("ArrowLeft")
        page.keyboard.press("ArrowLeft")
        page.get_by_role("link", name="names 0 of 1").click()
        page.wait_for_url("**/names?k=1")
        go(page, project, f"#/s{rank}/names?k=2")
        assert values(page) == ["", "eye"]
        fields(page).first.click()
        page.keyboard.type("typed last")
        go(page, project, f"#/s{rank}/names?k=2")
        assert values(page) == ["typed last", "eye"]
        # in two tabs at once
        beside = page.context.new_page()
        go(beside, project, f"#/s{rank}?k=2")
        fields(page).first.fill("nose")
        fields(page).first.press("Enter")
        expect(beside.get_by_role("link", name="nose", exact=True)).to_be_visible()
        beside.close()
        assert page.locator("option, .note:visible").count() == 0


REFUSED = "Storage.prototype.setItem = () => { throw new DOMException('full'); };"


def test_where_nothing_is_kept_that_is_said(browser: Browser, project: Path) -> None:
    with opened(browser, page_of(project)) as page:
        page.add_init_script(REFUSED)
        go(page, project, "#/s0/names?k=2")
        fields(page).first.fill("ear")
        page.keyboard.press("Enter")
        expect(page.get_by_text("This browser keeps nothing for this page")).to_be_visible()
        assert named(page, 0, 2) == ["ear", ""]
        page.get_by_role("button", name="undo").click()
        assert named(page, 0, 2) == ["", ""]


def give(page: Page, rank: int, k: int, names: list[str]) -> None:
    """Type names as `names` are, one field after the other."""
    for j, name in enumerate(names):
        fields(page).nth(j).fill(name)
        fields(page).nth(j).press("Enter")
    assert named(page, rank, k) == names


def test_from_the_page_into_the_project_and_back(
    browser: Browser, copied: Path, tmp_path: Path
) -> None:
    rank, hostile = rank_of(copied, "discs"), rank_of(copied, HOSTILE)
    command = ("--project", str(copied))
    with at(browser, copied, f"#/s{hostile}/names?k=3") as page:
        give(page, hostile, 3, ["head", "left + right", HOSTILE.replace("\u2028", " ")])
        go(page, copied, f"#/s{rank}/names?k=2")
        give(page, rank, 2, ["upper", "no"])
        path = save(page, tmp_path / "labels.yaml")
        expect(said(page)).to_contain_text("dff label --from")

        factors = Factors.open(copied / "artifacts/factors.zarr")
        labels = read_labels(path)
        assert (labels.factors, labels.layer, labels.seed) == (
            factors.fingerprint, "features.5", 0,
        )  # fmt: skip
        assert labels.sets[HOSTILE][3][:2] == (("head",), ("left", "right"))
        assert labels.sets["discs"] == {1: ((),), 2: (("upper",), ("no",)), 3: ((), (), ())}
        for name, by_k in directions_of(factors, "features.5", 0).items():
            for k, W in by_k.items():
                cosines = (labels.directions[name][k] * W).sum(axis=1)
                assert cosines.min() > 0.999 and packed(W) in path.read_text(encoding="utf-8")

        result = run_dff("label", "--from", str(path), *command)
        assert result.exit_code == 0 and "5 new names" in result.stdout
        for stage in STAGES[-3:]:
            assert run_dff(stage.name, *command).exit_code == 0
        go(page, copied, f"#/s{hostile}/names?k=3")
        assert page.evaluate("Names.typed.size") == 0, "labels.yaml has them"
        assert values(page)[:2] == ["head", "left + right"]
    with at(browser, copied, f"#/s{rank}?k=2") as page:
        assert page.locator(".concept .name").all_inner_texts() == ["upper", "no"]
        go(page, copied, f"#/s{rank}/names?k=2")
        fields(page).nth(1).fill("")
        fields(page).nth(1).press("Enter")
        fields(page).nth(0).fill("lower")
        fields(page).nth(0).press("Enter")
        path = save(page, tmp_path / "labels.yaml")
        result = run_dff("label", "--from", str(path), *command)
        assert result.exit_code == 0, "who typed it saw the names that go"
        assert "1 replaced, 1 taken away" in result.stdout
        assert read_labels(copied / "labels.yaml").sets["discs"][2] == (("lower",), ())
        assert read_labels(copied / "labels.yaml.before").sets["discs"][2] == (("upper",), ("no",))


def test_a_file_means_the_same_to_every_reader(
    browser: Browser, project: Path, tmp_path: Path
) -> None:
    places = [(name, k, j) for name in ("discs", HOSTILE) for k in K for j in range(k)]
    ranks = {name: rank_of(project, name) for name in ("discs", HOSTILE)}
    path = tmp_path / "saved.yaml"
    typed = """([places, names]) => {
        Names.assign(names.map((name, n) => [Names.place(...places[n]), Names.parse(name)]));
        return names.map(Names.parse);
    }"""

    def all_named(page: Page) -> list[str]:
        return [name for of in ranks.values() for k in K for name in named(page, of, k)]

    told = [" ".join(name.split()) for name in NAMES]
    for first in range(0, len(NAMES), len(places)):
        some, expected = NAMES[first : first + len(places)], told[first : first + len(places)]
        asked = [[ranks[name], k, j] for name, k, j in places]
        with at(browser, project, "#/names") as page:
            assert page.evaluate(typed, [asked, some]) == [[one] for one in expected]
            save(page, path)
            kept = all_named(page)
        assert kept == expected + [""] * (len(places) - len(some))
        read, text = read_labels(path).sets, path.read_text(encoding="utf-8")
        plain = yaml.safe_load(text)["sets"]
        for (name, k, j), one in zip(places, expected, strict=False):
            assert read[name][k][j] == (one,)
            assert plain[name][k][j] == one
        assert not {"\u2028", "\u200f", "\u200d"} & set(text)
        with at(browser, project, "#/names") as page:
            bring(page, path)
            assert all_named(page) == kept
            fields(page).first.focus()
            page.keyboard.press("Control+z")
            assert set(all_named(page)) == {""}


HAND = """# by hand
sets:
  discs:
    2: [no, ~]          # a name, and none
    3: ["null", [7, 1e3], null]
    9: [a, b, c, d, e, f, g, h, i]
  dsics: {1: [disc]}
"""


def test_a_file_by_hand_is_read(browser: Browser, project: Path, tmp_path: Path) -> None:
    rank = rank_of(project, "discs")
    path = tmp_path / "mine.yml"
    path.write_text(HAND)
    with at(browser, project, f"#/s{rank}/names?k=2") as page:
        give(page, rank, 2, ["ear", "eye"])
        line = bring(page, path)
        assert "3 names, of which 3 are new here, 1 in the place of others" in line
        assert "image set dsics is not there; did you mean discs?" in line
        assert "discs: k 9 is not there; there are 1, 2, 3" in line
        assert named(page, rank, 2) == ["no", "eye"], "null takes no name away"
        assert named(page, rank, 3) == ["null", "7 + 1e3", ""]
        # the same by dropping it on the page
        page.get_by_role("button", name="undo").click()
        assert named(page, rank, 2) == ["ear", "eye"]
        page.evaluate("""text => {
            const data = new DataTransfer();
            data.items.add(new File([text], "dropped.yaml"));
            for (const type of ["dragover", "drop"])
                document.body.dispatchEvent(
                    new DragEvent(type, {dataTransfer: data, bubbles: true, cancelable: true}));
        }""", HAND)  # fmt: skip
        expect(said(page)).to_contain_text("dropped.yaml: 3 names")
        assert named(page, rank, 3) == ["null", "7 + 1e3", ""]


WRONG = {
    "sets: [}": "not valid YAML in line 1: ",
    "a photograph": "not a labels.yaml: it has no entry `sets`",
    "": "not a labels.yaml",
    "stes: {}": "stes: unknown key, did you mean sets?",
    "layer: features.5": "names no factor",
    "sets: {discs: {2: [a]}}": "sets.discs.2: must be a list of 2 names",
    "sets: {discs: {1: [{a: b}]}}": "sets.discs.1: neither a name, nor a list",
    "sets: {discs: [a]}": "sets.discs: must have a list of names for each k",
    "sets: {discs: {two: [a, b]}}": "two is not a whole number",
    "factors: abc\nsets: {discs: {1: [a]}}": "of other factors than this report",
    "layer: other\nsets: {discs: {1: [a]}}": "of layer other",
    "seed: 3\nsets: {discs: {1: [a]}}": "of seed 3",
    "sets: {discs: {1: [a]}, discs: {1: [b]}}": "not valid YAML in line 1: duplicated",
}


def test_a_wrong_file_is_one_line_and_changes_nothing(
    browser: Browser, project: Path, tmp_path: Path
) -> None:
    path = tmp_path / "wrong.yaml"
    rank = rank_of(project, "discs")
    with at(browser, project, f"#/s{rank}/names?k=1") as page:
        give(page, rank, 1, ["disc"])
        for text, expected in WRONG.items():
            path.write_text(text)
            line = bring(page, path)
            assert line.startswith("wrong.yaml: ") and expected in line and "\n" not in line, text
            assert named(page, rank, 1) == ["disc"], text


def payload_of(path: Path) -> tuple[str, Any]:
    key, text = re.fullmatch(r'DFF\.put\("([^"]+)",(.*)\);\n', path.read_text()).groups()  # type: ignore[union-attr]
    return key, json.loads(text)


def change(path: Path, how: Any) -> None:
    """Change a payload of a report."""
    key, payload = payload_of(path)
    how(payload)
    path.write_bytes(script(key, payload))


def test_other_names_in_labels_yaml_are_not_lost_silently(browser: Browser, copied: Path) -> None:
    index = copied / "artifacts/report/data/index.js"
    with at(browser, copied, "#/s0/names?k=3") as page:
        give(page, 0, 3, ["head", "leg", "tail"])
        change(index, lambda p: p["naming"]["names"][0].update({"3": [["skull"], [], ["tail"]]}))
        go(page, copied, "#/s0/names?k=3")
        note = page.locator(".note:visible")
        expect(note).to_have_count(1)
        expect(note).to_contain_text("other names by now for 1 of the factors")
        expect(note).to_contain_text("factor 0: here head, there skull")
        expect(page.get_by_role("link", name="1 disputed")).to_be_visible()
        assert named(page, 0, 3) == ["head", "leg", "tail"]
        page.get_by_role("button", name="Take those of labels.yaml").click()
        assert named(page, 0, 3) == ["skull", "leg", "tail"]
        expect(note).to_have_count(0)
        page.get_by_role("button", name="undo").click()
        assert named(page, 0, 3) == ["head", "leg", "tail"]
        change(index, lambda p: p["naming"]["names"][0].update({"3": [["skin"], [], ["tail"]]}))
        go(page, copied, "#/s0/names?k=3")
        page.get_by_role("button", name="Keep mine").click()
        expect(note).to_have_count(0)
        go(page, copied, "#/s0/names?k=3")
        assert named(page, 0, 3) == ["head", "leg", "tail"]
        expect(note).to_have_count(0)


def test_names_of_factors_that_are_gone_can_be_saved(
    browser: Browser, copied: Path, tmp_path: Path
) -> None:
    index = copied / "artifacts/report/data/index.js"
    fingerprint = Factors.open(copied / "artifacts/factors.zarr").fingerprint
    with at(browser, copied, "#/s0/names?k=2") as page:
        give(page, 0, 2, ["head", "leg"])
        change(index, lambda p: p["naming"].update(factors="others"))
        go(page, copied, "#/s0/names?k=2")
        assert values(page) == ["", ""]
        with page.expect_download() as saved:
            page.get_by_role("button", name="Save these as labels.yaml").click()
        saved.value.save_as(tmp_path / "old.yaml")
        labels = read_labels(tmp_path / "old.yaml")
        assert labels.factors == fingerprint and labels.counts == (2, 2)
        (by_k,) = labels.directions.values()
        assert by_k[2].shape[0] == 2
        page.get_by_role("button", name="Forget them").click()
        go(page, copied, "#/s0/names?k=2")
        expect(page.locator(".note:visible")).to_have_count(0)


def make_many(folder: Path, k: int) -> None:
    """Make the first set one of many factors."""

    def index(payload: Any) -> None:
        payload["ks"], payload["sets"] = [k], payload["sets"][:1]
        payload["sets"][0].update(k=k, suggested=None)
        payload["naming"]["names"] = [{}]

    def facts(payload: Any) -> None:
        one = payload["layers"][0]["ks"][0]
        factors = [{**one["factors"][0], "parent": None, "tops": [0, 1]} for _ in range(k)]
        payload["layers"][0]["ks"] = [{**one, "k": k, "factors": factors}]

    change(folder / "data/index.js", index)
    change(folder / "data/set-000/set.js", facts)
    count = len(payload_of(folder / "data/set-000/set.js")[1]["images"])
    where = folder / f"data/set-000/l0-k{k}"
    where.mkdir()
    stats = {name: base64_of(np.zeros((count, k), np.uint16))
             for name in ("means", "raw", "refined", "x", "y")}  # fmt: skip
    tops = {"at": [0, 1], "grids": [[3, 3], [3, 3]],
            "peaks": base64_of(np.full((2, k), 65535, np.uint16)),
            "levels": base64_of(np.full((2, k, 9), 99, np.uint8))}  # fmt: skip
    (folder / "data/set-000/names.js").write_bytes(script("set-000/names", {str(k): "eJw="}))
    for name, payload in (("stats", stats), ("tops", tops)):
        (where / f"{name}.js").write_bytes(script(f"set-000/l0-k{k}/{name}", payload))


COUNT = 120  # a photograph or two each: more than are in sight


def test_many_factors_by_keyboard(browser: Browser, copied: Path) -> None:
    make_many(copied / "artifacts/report", COUNT)
    with at(browser, copied, "#/s0/names") as page:
        assert page.locator(".naming").count() == COUNT
        assert 2 < page.locator(".crop").count() < 100, "only what is in sight is drawn"
        fields(page).first.focus()
        for n in range(9):
            page.keyboard.type(f"name {n}")
            page.keyboard.press("Enter")
        page.keyboard.press("Escape")
        assert len(set(named(page, 0, COUNT)[:9])) == 9
        for n in range(9, COUNT):
            page.keyboard.press(f"Digit{n % 8 + 1}")
        expect(page.get_by_text(f"{COUNT} of {COUNT} named", exact=True)).to_be_visible()
        names = named(page, 0, COUNT)
        slots = page.locator(".legend bdi").all_inner_texts()
        assert names[9:] == [slots[n % 8] for n in range(9, COUNT)]
        expect(page.locator(".naming").last).to_be_focused()
        expect(page.locator(".naming").last.locator(".crop")).to_have_count(2)
        page.keyboard.press("u")
        expect(page.get_by_text(f"{COUNT - 1} of {COUNT} named", exact=True)).to_be_visible()
        go(page, copied, "#/s0/names")
        assert named(page, 0, COUNT)[: COUNT - 1] == names[: COUNT - 1]


def test_a_phone_has_room_for_names(browser: Browser, project: Path) -> None:
    phone = {"viewport": {"width": 390, "height": 844}, "has_touch": True, "is_mobile": True}
    with at(browser, project, "#/names", **phone) as page:
        for where in ("#/names", "#/s0/names?k=3", "#/s1/names?k=3"):
            go(page, project, where)
            fields(page).first.fill("a long name of many words that does not fit " * 3)
            fields(page).first.press("Enter")
            page.locator(".naming-mark input").first.tap()
            page.get_by_text("Keys, and what names do").tap()
            assert page.evaluate("document.documentElement.scrollWidth") <= 390, where
            target = page.get_by_role("button", name="No name for").first.bounding_box()
            assert target and target["height"] >= 24 and target["width"] >= 24


def test_axe_finds_nothing(browser: Browser, project: Path) -> None:
    with at(browser, project, "#/names") as page:
        for where in ("#/names", "#/s0/names?k=3"):
            go(page, project, where)
            page.get_by_text("Keys, and what names do").click()
            page.locator(".naming-mark input").first.check()
            fields(page).first.fill("head")
            fields(page).first.press("Enter")
            page.keyboard.type("he")
            expect(page.locator(".suggestions li:visible").first).to_be_visible()
            assert violations(page) == []
            expect(page.locator(".suggestions li:visible").first).to_be_visible()


def test_scripts_of_others_are_as_published(project: Path) -> None:
    """The digest is that of the file in the package that npm has."""
    vendor = explore.PAGE / explore.VENDOR
    table = (vendor / "README.md").read_text(encoding="utf-8")
    for path in vendor.glob("*.js"):
        (row,) = (line for line in table.splitlines() if line.startswith(f"| {path.name} |"))
        assert hashlib.sha256(path.read_bytes()).hexdigest() in row
        licence = vendor / "js-yaml.LICENSE"
        assert licence.name in row and "MIT" in row
        for one in (path, licence):
            inside = project / "artifacts/report/explore/vendor" / one.name
            assert inside.read_bytes() == one.read_bytes()
