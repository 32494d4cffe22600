"""Somebody's own activations: into a project, and through all stages."""

import json
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
import zarr

from pipeline.init import write_params
from pipeline.params import read_params
from pipeline.plan import planned
from pipeline.registry import STAGES
from pipeline.results import bring_activations, open_results
from pipeline.status import stage_states
from stages.extract.own import OwnArray
from stages.frame.errors import StageError
from stages.frame.resources import Resources
from stages.frame.stage import Stage
from store import open_artifact
from tools import draw, edit, message, run_dff

N, GRID, CHANNELS = 6, (5, 4), 8


@pytest.fixture
def photographs(tmp_path: Path) -> Path:
    for i in range(N):
        draw(tmp_path / "photographs" / ("cats", "dogs")[i % 2] / f"{i}.png", i, (48, 60))
    return tmp_path / "photographs"


@pytest.fixture
def images(photographs: Path) -> list[Path]:
    """In an order that is not the index's."""
    return sorted(photographs.rglob("*.png"), reverse=True)


@pytest.fixture
def activations() -> np.ndarray:
    """Of rank 2 and a little noise, not representable as float16."""
    rng = np.random.default_rng(0)
    H, W = rng.random((N, *GRID, 2)), rng.random((2, CHANNELS))
    return (H @ W + 0.01 * rng.random((N, *GRID, CHANNELS))).astype(np.float32)


def extract(project: Path) -> None:
    run_stages(project, STAGES[:2])


def run_stages(project: Path, stages: Sequence[Stage[Any]]) -> None:
    for stage in stages:
        result = run_dff(stage.name, "--project", str(project))
        assert result.exit_code == 0, result.exception


def check(project: Path, images: list[Path], expected: np.ndarray, layer: str = "own") -> None:
    artifact = open_artifact(project / "artifacts/activations.zarr")
    for path, values in zip(images, expected, strict=True):
        name = f"{path.parent.name}/{path.name}"
        np.testing.assert_array_equal(artifact.map(path.parent.name, name, layer), values)


def test_from_arrays_to_scores_and_figures(
    tmp_path: Path, images: list[Path], photographs: Path, activations: np.ndarray
) -> None:
    project = tmp_path / "project"
    bring_activations(project, activations, images, photographs, dtype="float32")
    edit(project, "k: [1, 2, 3, 4]", "k: [2]")
    edit(project, "long_side: 224", "long_side: 40")
    edit(project, "method: guided", "method: none")
    run_stages(project, STAGES)
    r = open_results(project)
    check(project, images, activations)
    assert r.sets == ["cats", "dogs"] and r.layers == ["own"]
    for name in r.sets:
        A = np.concatenate([activations[i].reshape(-1, CHANNELS) for i, path in enumerate(images)
                            if path.parent.name == name])  # fmt: skip
        H = np.concatenate([r.coefficients(f"{name}/{path.name}", 2).reshape(-1, 2)
                            for path in images if path.parent.name == name])  # fmt: skip
        assert np.linalg.norm(A - H @ r.factors(name, 2)) < 0.05 * np.linalg.norm(A)
    assert (project / "artifacts/report/index.html").exists()
    page = (project / "artifacts/report/index.html").read_text(encoding="utf-8")
    assert "<dt>Network</dt>" in page and "<dt>Input</dt>" not in page, "nobody knows their size"
    assert {state.state for state in stage_states(project)} == {"fresh"}
    assert [line.state for line in planned(project, Resources())] == ["fresh"] * len(STAGES)
    # the same again is the same project
    bring_activations(project, activations, images, dtype="float32")
    assert {state.state for state in stage_states(project)} == {"fresh"}
    assert open_results(project).heat("cats/0.png", 2).shape == (2, 60, 48)


def test_zarr_with_channels_first_stays_where_it_is(
    tmp_path: Path, images: list[Path], photographs: Path, activations: np.ndarray,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    monkeypatch.setattr("stages.extract.own.BLOCK_BYTES", 2 * 4 * 20 * CHANNELS)  # two images
    path = tmp_path / "elsewhere" / "a.zarr"
    first = np.moveaxis(activations, -1, 1)
    array = zarr.create_array(str(path), shape=first.shape, dtype="f4", chunks=(4, 8, 5, 4))
    array[:] = first
    for given in (path, str(path), array):
        project = tmp_path / f"project {type(given).__name__}"
        bring_activations(project, {"relu5": given}, images, photographs, channels="first")
        assert not list(project.glob("*.npy"))
        extract(project)
        check(project, images, activations.astype(np.float16).astype(np.float32), "relu5")
    array[2, 0, 0, 0] += 1
    edit(project, "dtype: float16", "dtype: float32")
    line = message(run_dff("extract", "--project", str(project)))
    assert "a.zarr: has changed since it was brought; `bring_activations` again" in line


def test_a_project_of_several_sizes_takes_what_is_brought(
    tmp_path: Path, images: list[Path], photographs: Path, activations: np.ndarray
) -> None:
    project = tmp_path / "project"
    write_params(project, str(photographs), None)
    edit(project, "size: 224", "size: [96, 160]")
    bring_activations(project, activations, images)
    assert read_params(project)["extract"].size == 160
    extract(project)


def test_several_layers(
    tmp_path: Path, images: list[Path], photographs: Path, activations: np.ndarray
) -> None:
    coarse = activations[:, ::2, ::2, :3]
    np.save(tmp_path / "fine.npy", activations)
    project = tmp_path / "project"
    layers = {"fine": tmp_path / "fine.npy", "coarse": coarse}
    bring_activations(project, layers, [p.relative_to(photographs) for p in images], photographs,
                      dtype="float32")  # fmt: skip
    extract(project)
    check(project, images, activations, "fine")
    check(project, images, coarse, "coarse")
    assert yaml.safe_load((project / "params.yaml").read_text())["extract"]["layers"] == [
        "fine",
        "coarse",
    ]


def spoilt(activations: np.ndarray, value: float) -> np.ndarray:
    wrong = activations.copy()
    wrong[1, 2, 3, 4] = value
    return wrong


@pytest.mark.parametrize(
    "wrong, line",
    [
        (lambda a: a[:-1], "own: is [5, 5, 4, 8], not [6 images, h, w, channels]"),
        (lambda a: a[..., 0], "own: is [6, 5, 4], not [6 images, h, w, channels]"),
        (lambda a: spoilt(a, -0.5), "4.png has a value of -0.5; a factorization needs values >= 0"),
        (lambda a: spoilt(a, np.nan), "4.png has a value that is not finite"),
        (lambda a: spoilt(a, np.inf), "4.png has a value that is not finite"),
        (lambda a: a.astype("U5"), "own: is of <U5, not of numbers"),
        (lambda a: {}, "there is no layer"),
        (lambda a: "nowhere.zarr", "nowhere.zarr: is no Zarr array or .npy file"),
        (lambda a: "nowhere.npy", "nowhere.npy: is no Zarr array or .npy file"),
    ],
)
def test_wrong_arrays_are_one_line(
    tmp_path: Path, images: list[Path], photographs: Path, activations: np.ndarray, wrong: Any,
    line: str,
) -> None:  # fmt: skip
    # sorted from the last: dogs/5, 3, 1, cats/4, 2, 0
    order = [images[0], images[3], *images[1:3], *images[4:]]
    with pytest.raises(StageError, match=re.escape(line)):
        bring_activations(tmp_path / "project", wrong(activations), order, photographs)


def test_wrong_images_are_one_line(
    tmp_path: Path, images: list[Path], photographs: Path, activations: np.ndarray
) -> None:
    project = tmp_path / "project"
    with pytest.raises(StageError, match=r"dogs/7.png: no such image file"):
        bring_activations(project, activations, [*images[:-1], "dogs/7.png"], photographs)
    with pytest.raises(StageError, match=r"dogs/5.png: stands there twice"):
        bring_activations(project, activations, [*images[:-1], images[0]], photographs)
    draw(tmp_path / "outside.png", 0)
    with pytest.raises(StageError, match="is not in the folder of photographs"):
        bring_activations(project, activations, [*images[:-1], tmp_path / "outside.png"],
                          photographs)  # fmt: skip


def test_an_image_without_activations_and_a_lost_file_are_one_line(
    tmp_path: Path, images: list[Path], photographs: Path, activations: np.ndarray
) -> None:
    project = tmp_path / "project"
    bring_activations(project, activations, images, photographs)
    draw(photographs / "cats" / "new.png", 9)
    assert run_dff("index", "--project", str(project)).exit_code == 0
    line = message(run_dff("extract", "--project", str(project)))
    assert "has no activations of 1 of the photographs, such as cats/new.png" in line
    edit(project, "layers: [own]", "layers: [conv5]")
    line = message(run_dff("extract", "--project", str(project)))
    assert "extract.layers: conv5: not among your own activations, which have own" in line
    (file,) = project.glob("own-*.json")
    assert json.loads(file.read_bytes())["images"][0] == "dogs/5.png"
    file.unlink()
    line = message(run_dff("extract", "--project", str(project)))
    assert "does not say where your own activations are" in line and "bring_activations" in line


def test_blocks_come_in_the_order_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    values = np.arange(7 * 2 * 3 * 4, dtype=np.float32).reshape(7, 2, 3, 4)
    monkeypatch.setattr("stages.extract.own.BLOCK_BYTES", 3 * 4 * 24)
    order = [5, 0, 6, 6, 1, 3, 2]
    for array in (OwnArray(values, "last"), OwnArray(np.moveaxis(values, -1, 1), "first")):
        assert (array.block, array.grid, array.width) == (3, (2, 3), 4)
        np.testing.assert_array_equal(np.stack(list(array.rows(order))), values[order])
