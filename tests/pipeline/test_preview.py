"""`dff refine --preview`: a picture of a few images, and nothing else."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from typer.testing import Result

from pipeline.preview import GAP, LINE, LONG_SIDE
from pipeline.registry import STAGES
from stages.artifacts.concept_maps import ConceptMaps
from store import open_artifact
from tools import edit, message

Dff = Callable[..., Result]


@pytest.fixture
def mapped(project: Path, dff: Dff) -> Path:
    """A project with heat maps that were never refined."""
    for stage in STAGES[:4]:
        assert dff(stage.name).exit_code == 0
    return project


def picture(project: Path) -> np.ndarray:
    return np.asarray(Image.open(project / "artifacts/refine-preview.png"))


@pytest.mark.parametrize("method", ["guided", "densecrf", "none"])
def test_shows_what_the_stage_will_write(mapped: Path, dff: Dff, method: str) -> None:
    """Its fourth column is the stage's map of that image, as grey."""
    edit(mapped, "method: guided", f"method: {method}")
    result = dff("refine", "--preview", "images/discs/1.png", "discs/3.png", "--k", "2")
    assert result.exit_code == 0, result.output
    assert result.stdout.strip() == str(mapped / "artifacts/refine-preview.png")
    assert not (mapped / "artifacts/refined.zarr").exists()
    sheet = picture(mapped)
    assert dff("refine").exit_code == 0
    maps = ConceptMaps(open_artifact(mapped / "artifacts/refined.zarr"), "features.5")
    width = sheet.shape[1]
    assert width == GAP + 5 * (LONG_SIDE + GAP)
    entry = next(
        int(e)
        for e in maps.artifact.sets["discs"]
        if maps.artifact.images[int(maps.maps.image_ids[e])] == "images/discs/1.png"
    )
    column = maps.columns_of(2, 0)[0]
    shares = maps.shares(entry)[column]
    # the first strip: below the head and the strip's label
    top = 2 * LINE + GAP + LINE
    h = round(LONG_SIDE * shares.shape[0] / max(shares.shape))
    w = round(LONG_SIDE * shares.shape[1] / max(shares.shape))
    left = GAP + 3 * (LONG_SIDE + GAP) + (LONG_SIDE - w) // 2
    shown = sheet[top : top + h, left : left + w, 0] / 255
    expected = np.asarray(Image.fromarray(shares).resize((w, h), Image.Resampling.BILINEAR))
    np.testing.assert_allclose(shown, expected, atol=0.01)


def test_follows_the_params_at_once(mapped: Path, dff: Dff) -> None:
    name = "images/discs/1.png"
    assert dff("refine", "--preview", name).exit_code == 0
    before = picture(mapped)
    edit(mapped, "iterations: 10", "iterations: 0")
    assert dff("refine", "--preview", str(mapped.parent / "photographs" / name)).exit_code == 0
    assert (picture(mapped) != before).any()
    edit(mapped, "binarise: half", "binarise: percentile")
    assert dff("refine", "--preview", name, "--out", str(mapped / "mine.png")).exit_code == 0
    assert (mapped / "mine.png").exists()


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (["--preview"], "name one or more images"),
        (["images/discs/1.png"], "go with --preview"),
        (["--k", "2"], "go with --preview"),
        (
            ["--preview", "nothing.png"],
            "nothing.png: no such image in the index",
        ),
        (["--preview", "images/discs/1.png", "--k", "7"], "--k 7: not factorized, there are 1, 2"),
        (["--preview", "images/discs/1.png", "--set", "no"], "there are discs, more discs"),
        (["--preview", "images/discs/1.png", "--set", "more discs"], "is not in image set"),
    ],
)
def test_mistakes_are_one_line(mapped: Path, dff: Dff, arguments: list[str], expected: str) -> None:
    assert expected in message(dff("refine", *arguments))
    assert not (mapped / "artifacts/refine-preview.png").exists()


def test_needs_heat_maps(project: Path, dff: Dff) -> None:
    assert "run `dff index` first" in message(dff("refine", "--preview", "images/discs/1.png"))
