"""refine where images, maps or the machine are not as they usually are."""

import os
import re
import signal
from collections.abc import Callable
from concurrent.futures.process import BrokenProcessPool
from pathlib import Path

import numpy as np
import pandas as pd
import psutil
import pytest
from PIL import Image
from typer.testing import Result

from pipeline.init import write_params
from pipeline.registry import STAGES
from stages.artifacts.concept_maps import ConceptMaps
from stages.frame.errors import StageError
from stages.frame.parallel import ordered_map
from store import open_artifact
from tools import edit, message, refine_by, run_dff, run_in_process

Dff = Callable[..., Result]


def small_project(
    folder: Path, images: dict[str, np.ndarray], *edits: tuple[str, str], method: str = "guided"
) -> Path:
    """A project over one set of PNG images, refined."""
    for name, pixels in images.items():
        path = folder / "photographs" / "odd" / f"{name}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(pixels).save(path)
    write_params(
        folder,
        str(folder / "photographs"),
        None,
        backbone="squeezenet1_1",
        weights="random:0",
        layers=["features.5"],
    )
    quick = ("stability_runs: 5", "stability_runs: 2")
    for change in (("size: 224", "size: 64"), ("k: [1, 2, 3, 4]", "k: [1]"), quick, *edits):
        edit(folder, *change)
    refine_by(folder, method)
    for stage in STAGES:
        result = run_dff(stage.name, "--project", str(folder))
        assert result.exit_code == 0, result.output + result.stderr
    return folder


def maps_of(project: Path, artifact: str = "refined") -> ConceptMaps:
    return ConceptMaps(open_artifact(project / f"artifacts/{artifact}.zarr"), "features.5")


def noise(*shape: int) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, shape, dtype=np.uint8)


@pytest.mark.parametrize("method", ["guided", "densecrf"])
def test_images_smaller_than_the_grid(tmp_path: Path, method: str) -> None:
    sizes = [(1, 1, 3), (1, 9, 3), (7, 1, 3), (3, 2, 3), (40, 30, 3)]
    images = {f"{h}x{w}": noise(h, w, c) for h, w, c in sizes}
    project = small_project(tmp_path, images, ("long_side: 224", "long_side: 0"), method=method)
    maps = maps_of(project)
    found = {tuple(side) for side in maps.maps.grid_hw.tolist()}
    assert found == {shape[:2] for shape in sizes}
    for entry in range(len(sizes)):
        shares = maps.shares(entry)
        assert np.isfinite(shares).all() and shares.min() >= 0 and shares.max() <= 1


def test_one_grey_image_alone_is_a_set(tmp_path: Path) -> None:
    grey = noise(60, 80)
    grey[20:40, 20:50] //= 8
    project = small_project(tmp_path, {"grey": grey})
    maps = maps_of(project)
    assert maps.shares(0).shape == (1, 168, 224)
    boxes = pd.read_parquet(project / "artifacts/evaluation/boxes.parquet")
    raw = boxes.query("maps == 'raw' and rank == 0")
    assert len(raw) == 1 and raw["bottom"].item() <= 60 and raw["right"].item() <= 80
    # a quarter of the pixels of its only image: the paper's rule
    assert maps_of(project, "heatmaps").masks(0).mean() == pytest.approx(0.25, abs=0.01)


@pytest.mark.parametrize("image", ["black", "white"])
def test_saturated_images(tmp_path: Path, image: str) -> None:
    pixels = np.full((48, 64, 3), 255 if image == "white" else 0, np.uint8)
    project = small_project(tmp_path, {"flat": pixels, "noise": noise(48, 64, 3)})
    assert np.isfinite(maps_of(project).shares(0)).all()


@pytest.mark.parametrize(
    ("rule", "others"), [("half", ["densecrf", "none"]), ("percentile", ["none"])]
)
def test_a_factor_absent_from_most_of_the_set_has_empty_masks(
    tmp_path: Path, rule: str, others: list[str]
) -> None:
    """t75 = 0: the plain rule would mark every pixel of every image."""
    plain = np.full((48, 64, 3), 90, np.uint8)
    images = {f"plain{i}": plain for i in range(9)} | {"noise": noise(48, 64, 3)}
    project = small_project(
        tmp_path,
        images,
        ("k: [1]", "k: [2]"),
        ("binarise: half", f"binarise: {rule}"),
        ("percentile: 75.0                 # masks", "percentile: 5.0 # masks"),
    )
    params = (project / "params.yaml").read_text()
    for method in ("guided", *others):
        (project / "params.yaml").write_text(params)
        if method != "guided":  # which it was made with
            refine_by(project, method)
            run_in_process(project, *(stage.name for stage in STAGES[4:]))
        raw, refined = maps_of(project, "heatmaps"), maps_of(project)
        (absent,) = np.flatnonzero(raw.thresholds[0] == 0)
        assert max(raw.shares(entry)[absent].max() for entry in range(10)) > 0.9, "it is there once"
        for maps in (raw, refined):
            assert not any(maps.masks(entry)[absent].any() for entry in range(10))
            assert any(maps.masks(entry)[1 - absent].any() for entry in range(10))
        assert (refined.boxes["column"] == 1 - absent).all()
        assert max(refined.shares(entry)[absent].max() for entry in range(10)) == 0


def test_an_image_that_changed_is_named(mapped: Path, photographs: Path, dff: Dff) -> None:
    path = photographs / "images/more discs/3.png"
    before = path.read_bytes()
    Image.fromarray(noise(64, 64, 3)).save(path)
    line = message(dff("refine"))
    assert "more discs/3.png: has changed since the index was made; `dff run` sees to it" in line
    path.unlink()
    assert "more discs/3.png: cannot be read" in message(dff("refine"))
    assert not (mapped / "artifacts/refined.zarr").exists()
    path.write_bytes(before)
    assert dff("refine").exit_code == 0


def _die(_: int) -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def test_a_worker_that_is_killed_is_one_line() -> None:
    with pytest.raises(StageError, match=r"a worker process was killed.*lower --workers") as raised:
        list(ordered_map(_die, range(3), workers=1, kind="processes"))
    assert isinstance(raised.value.__cause__, BrokenProcessPool)


@pytest.mark.usefixtures("mapped")
def test_memory_too_small_for_one_image_is_refused_beforehand(dff: Dff) -> None:
    line = message(dff("refine", "--memory", "300MiB"))
    assert "the budget is 300 MiB" in line and "raise --memory" in line
    assert "the budget is 300 MiB" in message(
        dff("refine", "--preview", "images/discs/1.png", "--memory", "300MiB")
    )


def test_a_huge_photograph_is_what_the_refusal_names(
    project: Path, photographs: Path, dff: Dff
) -> None:
    """Its maps are as small as all others'; it is the photograph that takes memory."""
    Image.fromarray(noise(300, 400, 3)).resize((12000, 9000)).save(
        photographs / "images/discs/huge.jpg"
    )
    for stage in STAGES[:4]:
        assert dff(stage.name).exit_code == 0
    free = psutil.Process().memory_info().rss // 2**20 + 300
    line = message(dff("refine", "--memory", f"{free}MiB"))
    pixels = re.search(r"(\d+) for its pixels", line)
    # decoded and resized it is three times 12 000 x 9 000 x 3 bytes, 927 MiB
    assert pixels and 927 <= int(pixels[1]) < 1000
    assert "make the largest photographs smaller, lower refine.guided.working_side, or" in line


@pytest.mark.usefixtures("mapped")
def test_photographs_that_changed_places_are_not_refined_with_each_others_heat(
    photographs: Path, dff: Dff
) -> None:
    assert dff("refine").exit_code == 0
    one, other = (photographs / f"images/discs/{i}.png" for i in (0, 1))
    contents = one.read_bytes(), other.read_bytes()
    one.write_bytes(contents[1])
    other.write_bytes(contents[0])
    assert dff("index").exit_code == 0
    for command in (["heatmaps"], ["refine"], ["refine", "--preview", "discs/1.png"], ["evaluate"]):
        line = message(dff(*command))
        assert "artifacts/index: was made after" in line and "dff run" in line


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ("eps: 0.0001", "eps: 1.0e-200"),
        ("colour_sigma: 3.5", "colour_sigma: 1.0e-20"),
        ("colour_reach: 0.15", "colour_reach: 1.0e-9"),
        ("weight: 5.0", "weight: -3.0"),
    ],
)
def test_numbers_that_cannot_be_meant_are_one_line(
    project: Path, dff: Dff, before: str, after: str
) -> None:
    edit(project, before, after)
    assert f"params.yaml: refine.guided.{after.partition(':')[0]}: " in message(dff("refine"))


@pytest.mark.parametrize("least", ["eps: 1.0e-10", "colour_sigma: 0.001", "colour_reach: 0.001"])
def test_the_smallest_numbers_still_give_probabilities(mapped: Path, dff: Dff, least: str) -> None:
    name = least.partition(":")[0]
    before = {"eps": "0.0001", "colour_sigma": "3.5", "colour_reach": "0.15"}[name]
    edit(mapped, f"{name}: {before}", least)
    assert dff("refine").exit_code == 0
