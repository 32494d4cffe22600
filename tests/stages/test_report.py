"""The report: pages that open from disk, say what happened, and trust no name."""

import json
import shutil
from dataclasses import replace
from pathlib import Path
from random import Random
from typing import Any
from urllib.parse import unquote, urlsplit

import numpy as np
import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from page import Page
from reported import PARAMS, run_stages
from stages.artifacts.evaluation import Evaluation
from stages.drawing.colours import colour, css, follow_concepts
from stages.drawing.overlays import heat_picture, mask_picture, spotlight_picture
from stages.evaluate.params import EvaluateParams
from stages.evaluate.stage import EVALUATE
from stages.frame.execute import execute
from stages.frame.resources import Resources
from stages.report import pictures
from stages.report.page import by_content, spread
from stages.report.params import ReportParams
from stages.report.stage import REPORT
from tools import draw

pytestmark = pytest.mark.xdist_group("report")  # one worker makes its project

SET = "<b>\"Tiere\" & 'Söhne' {{ 7*7 }} $x_1$"
OTHER = "plain"
# a name may hold slashes, so that a whole script element fits into one
IMAGE = "<script>alert(1)<"


@pytest.fixture(scope="module")
def annotated(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A report on two sets at two layers: object masks, hostile names, damaged files."""
    root = tmp_path_factory.mktemp("annotated") / "root"
    for seed in range(4):
        mask = draw(root / "images" / SET / f"{seed}.png", seed, (64, 48 + 8 * seed))
        for part, half in (("head", np.s_[:24]), ("tail <i>", np.s_[24:])):
            drawn = np.zeros_like(mask)
            drawn[half] = mask[half]
            target = root / "parts" / SET / str(seed) / f"{part}.png"
            target.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(drawn).save(target)
    draw(root / "images" / SET / IMAGE / "script>.png", 9)
    draw(root / "images" / OTHER / "0.png", 10)
    draw(root / "images" / OTHER / "1.png", 11)
    (root / "images" / OTHER / "bro<i>ken.png").write_bytes(b"no image")
    damaged = root / "masks" / OTHER / "1.png"
    damaged.parent.mkdir(parents=True)
    damaged.write_bytes(b"no mask")
    layers = ("features.5", "features.12")
    return run_stages(root, root.parent / "project", layers, (1, 3), (0, 1))


@pytest.fixture(scope="module")
def bare(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A report on one set at one layer, with nothing annotated."""
    root = tmp_path_factory.mktemp("bare") / "discs"
    for seed in range(4):
        draw(root / f"{seed}.png", seed)
    return run_stages(root, root.parent / "project", ("features.12",), (2,), (0,))


def pages(report: Path) -> list[Page]:
    """The pages of a report that need no script, parsed; their tags are in balance."""
    found = sorted(path for path in report.rglob("*.html") if path.name != "explore.html")
    return [Page(path) for path in found]


@pytest.mark.parametrize("name", ["annotated", "bare"])
def test_pages_load_only_what_lies_beside_them(name: str, request: pytest.FixtureRequest) -> None:
    report = request.getfixturevalue(name)
    for page in pages(report):
        assert "script" not in page.tags
        assert "url(" not in page.path.read_text(encoding="utf-8").replace("url(#", "")
        assert len(set(page.ids)) == len(page.ids)
        for reference in page.loads:
            parts = urlsplit(reference)
            assert (parts.scheme, parts.netloc, parts.query) == ("", "", "")
            if not parts.path:
                assert parts.fragment in page.ids
                continue
            target = (page.path.parent / unquote(parts.path)).resolve()
            assert target.is_relative_to(report.resolve())
            assert target.is_file()


def test_every_picture_is_shown_and_the_first_page_has_some(annotated: Path, bare: Path) -> None:
    for report in (annotated, bare):
        shown = {(page.path.parent / one).resolve() for page in pages(report) for one in page.loads}
        files = {path.resolve() for path in (report / "pictures").iterdir()}
        assert files <= shown
        assert any("pictures/" in one for one in Page(report / "index.html").loads)
        assert all(path.name.isascii() and path.name.endswith(".jpg") for path in files)


def test_names_are_text(annotated: Path) -> None:
    index, hostile, _ = pages(annotated)
    assert hostile.path.name == "set-000.html"
    for page in (index, hostile):
        assert SET in page.text
        assert '<b>"' not in page.path.read_text(encoding="utf-8")
    assert "script>.png" in hostile.text
    assert any("script>.png" in alt for alt in hostile.alts)
    assert "tail <i>" in hostile.text
    assert "<script" not in hostile.path.read_text(encoding="utf-8")


def test_what_failed_is_listed(annotated: Path) -> None:
    text = Page(annotated / "index.html").text
    assert "Images that could not be used 1" in text
    assert "bro<i>ken.png" in text
    assert "Annotations that could not be read 1" in text


def test_scores_layers_and_seeds(annotated: Path) -> None:
    index, hostile, plain = pages(annotated)
    assert "object IoU, %" in index.text
    assert "mean over sets" in index.text
    assert "standard deviation" in index.text
    assert "squeezenet1_1" in index.text
    for layer in ("features.5", "features.12"):
        assert f"Layer {layer}" in index.text
        assert f"Layer {layer}" in hostile.text
    assert {"l0-k1", "l0-k3", "l1-k1", "l1-k3"} <= set(hostile.ids)
    assert "Which factor covers which part" in hostile.text
    assert "3 of 5 images shown, from all over the set" in hostile.text
    assert "Which factor covers which part" not in plain.text


def test_no_ground_truth(bare: Path) -> None:
    (page,) = pages(bare)
    assert "No masks are annotated" in page.text
    assert "best-part" not in page.text
    assert "object IoU, %" not in page.text
    assert "could not be" not in page.text
    assert "l0-k2" in page.ids


def test_names_are_everywhere_with_no_ground_truth(bare: Path, tmp_path: Path) -> None:
    project = tmp_path / "project"
    shutil.copytree(bare.parents[1], project)
    names = ["<script>alert('x')</script> & \"y\"", "頭 👒"]
    labels = project / "labels.yaml"
    labels.write_text(yaml.safe_dump({"sets": {"discs": {2: names}}}, allow_unicode=True))
    for stage, params in ((EVALUATE, EvaluateParams()), (REPORT, PARAMS)):
        execute(stage, params, project, Resources(workers=2))
    page = Page(project / REPORT.writes / "index.html")
    html = page.path.read_text(encoding="utf-8")
    assert "<script" not in html
    for factor, name in enumerate(names):
        assert f"factor {factor} {name}" in page.text
        assert f"Where factor {factor} {name} is strongest" in page.text
        assert any(f"factor {factor} ({name})" in alt for alt in page.alts)
    form = page.text[page.text.index("# Names of factors") :]
    assert "sets:" in form and names[1] in form and "directions:" in form


def test_energy_and_norms_are_told_apart(bare: Path) -> None:
    page = Page(bare / "index.html")
    loss = Evaluation.open(bare.parents[1] / EVALUATE.writes).loss.iloc[-1]["relative_error"]
    assert f"{100 * (1 - loss**2):.1f} % of the activations’ energy explained" in page.text
    assert f"(relative error {loss:.4f})" in page.text


def test_no_machine_and_no_path(annotated: Path, bare: Path) -> None:
    for report in (annotated, bare):
        for path in [*report.rglob("*.html"), report / "artifact.json"]:
            assert str(report.parents[3]) not in path.read_text(encoding="utf-8")


def test_same_inputs_same_bytes(annotated: Path) -> None:
    before = {p.relative_to(annotated): p.read_bytes() for p in annotated.rglob("*.*")}
    project = annotated.parents[1]
    execute(REPORT, PARAMS, project, Resources(workers=1))
    after = {p.relative_to(annotated): p.read_bytes() for p in annotated.rglob("*.*")}
    assert before == after
    assert len(json.loads(after[Path("artifact.json")])["fingerprint"]) == 64


@pytest.mark.parametrize("values", [{"images": 0}, {"top": -1}, {"long_side": 8}])
def test_params_are_checked(values: dict[str, int]) -> None:
    with pytest.raises(ValueError, match=f"^{next(iter(values))}: "):
        ReportParams(**values)


def test_a_concept_keeps_its_colour() -> None:
    axes = np.eye(4, dtype=np.float32)
    slots = follow_concepts({1: axes[:1], 2: axes[[3, 0]], 3: axes[[1, 0, 3]]})
    assert slots == {1: [0], 2: [1, 0], 3: [2, 0, 1]}
    many = [css(colour(slot)) for slot in range(24)]
    assert len(set(many)) == 24


def test_spread_is_even_and_holds_both_ends() -> None:
    assert spread(3, 12) == [0, 1, 2]
    assert spread(328, 3) == [0, 164, 327]
    assert spread(1, 5) == [0]
    assert spread(10, 1) == [0]


@given(st.integers(1, 40), st.integers(0, 5), st.integers(1, 12), st.randoms())
def test_images_that_come_take_few_places(
    count: int, more: int, wanted: int, random: Random
) -> None:
    contents = np.frombuffer(random.randbytes(32 * (count + more)), np.uint8).reshape(-1, 32)
    at = sorted(random.sample(range(count + more), count))  # those that were there
    before = {at[i] for i in by_content(contents[at], wanted)}
    after = by_content(contents, wanted)
    assert after == sorted(set(after)) and len(after) == min(wanted, count + more)
    assert len(set(after) - before) <= more


def test_pictures_of_the_same_content_are_taken_over(
    bare: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    project, names = bare.parents[1], sorted(path.name for path in (bare / "pictures").iterdir())
    before = {name: (bare / "pictures" / name).read_bytes() for name in names}
    painted: list[int] = []
    paint = pictures.heat_picture

    def counted(*given: Any) -> Image.Image:
        painted.append(1)
        return paint(*given)

    monkeypatch.setattr(pictures, "heat_picture", counted)
    fewer = replace(PARAMS, top=PARAMS.top - 1)
    execute(REPORT, fewer, project, Resources(workers=1))
    assert not painted, "an image and its maps are what they were"
    monkeypatch.setattr(pictures, "VERSION", -1)
    execute(REPORT, PARAMS, project, Resources(workers=1))
    assert painted
    assert {path.name: path.read_bytes() for path in (bare / "pictures").iterdir()} == before


def test_pictures_show_factors_only_where_they_are() -> None:
    photo = np.full((40, 60, 3), 128, dtype=np.uint8)
    strength = np.zeros((2, 40, 60), dtype=np.float32)
    heat = np.asarray(heat_picture(photo, strength, [colour(0), colour(1)]))
    assert len(np.unique(heat)) == 1  # absent factors leave grey
    strength[0, :, 30:] = 1
    heat = np.asarray(heat_picture(photo, strength, [colour(0), colour(1)])).astype(int)
    assert (heat[:, 40:, 2] > heat[:, 40:, 0] + 50).all()
    level = np.where(strength > 0, np.float32(2), np.float32(0))
    masks = np.asarray(mask_picture(photo, list(level), list(level), [colour(0), colour(1)]))
    assert len(np.unique(masks[:, :28])) == 1
    assert (masks[5:35, 35:55] != masks[0, 0]).any(axis=2).all()
    lit = np.asarray(spotlight_picture(photo, strength[0], level[0], colour(0)))
    assert (lit[10:30, 40:50] == 128).all()
    assert lit[:, :20].max() < 100
