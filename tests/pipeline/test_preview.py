"""`dff refine --preview`: a picture of a few images, and nothing else."""

from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
import zarr
from PIL import Image
from typer.testing import Result

from pipeline.registry import STAGES
from stages.artifacts.concept_maps import ConceptMaps
from stages.drawing.colours import PALETTE, Colour, css
from stages.refine import preview
from stages.refine.preview import GAP, LINE, LONG_SIDE
from stages.refine.refiners import REFINERS
from store import open_artifact
from tools import edit, message, refine_by

Dff = Callable[..., Result]


def picture(project: Path) -> np.ndarray:
    return np.asarray(Image.open(project / "artifacts/refine-preview.png"))


@pytest.mark.parametrize("method", REFINERS)
def test_shows_what_the_stage_will_write(mapped: Path, dff: Dff, method: str) -> None:
    """Its fourth column is the stage's map of that image, as grey."""
    refine_by(mapped, method)
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


def test_factors_have_the_numbers_and_colours_of_the_report(
    mapped: Path, dff: Dff, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also where the second of two factors is the concept of k = 1, and keeps its colour."""
    factors = zarr.open_group(mapped / "artifacts/factors.zarr", mode="r+")
    ((_, W),) = [(name, array) for name, array in _arrays(factors) if name.endswith("/factors")]
    values = np.asarray(W[:])
    values[:, 2] = values[:, 0]  # columns: k = 1, then both of k = 2
    values[:, 1] = np.eye(values.shape[2], dtype=values.dtype)[values[:, 0].argmin(axis=1)]
    W[:] = values
    shown: list[tuple[str, Colour]] = []
    drawn = preview._strip

    def strip(row: preview._Row) -> Image.Image:
        shown.append((row.label, row.colour))
        return drawn(row)

    monkeypatch.setattr(preview, "_strip", strip)
    assert dff("refine", "--preview", "images/discs/1.png").exit_code == 0
    labels, colours = zip(*shown, strict=True)
    assert labels == tuple(f"images/discs/1.png   k = 2   factor {i}" for i in (0, 1))
    assert colours == (PALETTE[1], PALETTE[0])
    for stage in STAGES[4:]:
        assert dff(stage.name).exit_code == 0
    page = (mapped / "artifacts/report/pages/set-000.html").read_text(encoding="utf-8")
    for label, colour in shown:
        number = label.split()[-1]
        assert f'<i style="background: {css(colour)}" title="factor {number}">' in page


def _arrays(group: zarr.Group, path: str = "") -> Iterator[tuple[str, zarr.Array]]:
    for name, member in group.members():
        if isinstance(member, zarr.Group):
            yield from _arrays(member, f"{path}/{name}")
        else:
            yield f"{path}/{name}", member


def test_names_stand_beside_the_numbers(mapped: Path, dff: Dff) -> None:
    preview = ("refine", "--preview", "images/discs/1.png", "--k", "1")
    assert dff(*preview).exit_code == 0
    before = picture(mapped)
    (mapped / "labels.yaml").write_text("sets: {discs: {1: [head]}}")
    assert dff(*preview).exit_code == 0
    after = picture(mapped)
    rows = np.flatnonzero((before != after).any(axis=(1, 2)))
    head = 2 * LINE + GAP
    assert len(rows) and head <= rows.min() and rows.max() < head + LINE, "its line alone"


def test_heat_maps_of_other_factors_are_one_line(mapped: Path, dff: Dff) -> None:
    edit(mapped, "k: [1, 2]", "k: [2]")
    assert dff("factorize").exit_code == 0
    line = message(dff("refine", "--preview", "images/discs/1.png"))
    assert "was made from other factors than" in line


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (["--preview"], "name one or more images"),
        (["images/discs/1.png"], "go with --preview"),
        (["--k", "2"], "go with --preview"),
        (
            ["--preview", "nothing.png"],
            "nothing.png: no such image in the index, there are images/discs/0.png, images/discs/1",
        ),
        (["--preview", "images/disks/1.png"], "index, did you mean 'images/discs/1.png'?"),
        (["--preview", "1.png"], "several images are called that; there are images/discs/1.png, i"),
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
