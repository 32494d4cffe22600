"""Collections that grow: shards stay where they are, and what is read is what a new run makes."""

import shutil
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from stages.artifacts.activations import Activations
from stages.artifacts.concept_maps import ConceptMaps
from stages.artifacts.drawn_maps import DrawnMaps
from stages.artifacts.factors import Factors
from store import Layout
from store.publication import Staging
from tools import draw, run_dff

LAYER = "features.5"
STAGES = ("index", "extract", "factorize", "heatmaps", "refine", "evaluate")
# Of the tests' small images some fill a shard.
SHARDS = {"stages.extract.stage": Layout(32, 128), "stages.maps.write": Layout(1024, 8192)}


@pytest.fixture(autouse=True)
def small_shards(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    for module, layout in SHARDS.items():
        monkeypatch.setattr(f"{module}.plan_layout", lambda *_, layout=layout, **__: layout)
    yield


@pytest.fixture
def photographs(tmp_path: Path) -> Path:
    """Two sets of ten, two photographs in both: two entries of the same content."""
    root = tmp_path / "photographs"
    for rank, name in enumerate(("discs", "more discs")):
        for number in range(10):
            seed = number if number < 2 else 20 * rank + number
            draw(root / "images" / name / f"{number}.png", seed, [(72, 56), (56, 72)][number % 2])
    return root


@pytest.fixture
def drawn(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Entries whose heat maps were drawn."""
    seen: list[int] = []
    both = DrawnMaps.both

    def counted(self: DrawnMaps, entry: int) -> tuple[np.ndarray, np.ndarray]:
        seen.append(entry)
        return both(self, entry)

    monkeypatch.setattr(DrawnMaps, "both", counted)
    return seen


def run(project: Path, *stages: str) -> None:
    for stage in stages or STAGES:
        result = run_dff(stage, "--project", str(project))
        assert result.exit_code == 0, result.exception


def afresh(project: Path) -> Path:
    """The same project, run from nothing."""
    other = project.with_name("afresh")
    shutil.rmtree(other, ignore_errors=True)
    shutil.copytree(project, other, ignore=shutil.ignore_patterns("artifacts"))
    run(other)
    return other


def assert_the_same(project: Path, other: Path) -> None:
    """Every value that later stages see, in the order in which they see it."""
    one, two = (Activations.open(p / "artifacts/activations.zarr") for p in (project, other))
    assert one.sets.keys() == two.sets.keys()
    a, b = one.at(LAYER), two.at(LAYER)
    for name in one.sets:
        np.testing.assert_array_equal(one.sets[name], two.sets[name])
        rows = [of.select(one.sets[name]).blocks() for of in (a, b)]
        for x, y in zip(*rows, strict=True):
            np.testing.assert_array_equal(x, y)
    np.testing.assert_array_equal(one.hashes[a.image_ids], two.hashes[b.image_ids])
    assert (a.density, a.signed, a.narrow_dtype) == (b.density, b.signed, b.narrow_dtype)
    f, g = (Factors.open(p / "artifacts/factors.zarr").at(LAYER) for p in (project, other))
    np.testing.assert_array_equal(f.W, g.W)
    rows = int(f.coefficients.offsets[-1])
    np.testing.assert_array_equal(f.coefficients.rows(0, rows), g.coefficients.rows(0, rows))
    m, n = (ConceptMaps.open(p / "artifacts/refined.zarr")[LAYER] for p in (project, other))
    for entry in range(len(m.maps)):
        for x, y in zip(m.both(entry), n.both(entry), strict=True):
            np.testing.assert_array_equal(x, y)
    assert m.boxes.equals(n.boxes)
    for attribute in ("made_from", "peaks", "centroids", "areas", "thresholds"):
        np.testing.assert_array_equal(getattr(m, attribute), getattr(n, attribute))


def assert_scored_alike(project: Path, other: Path) -> None:
    """Every table of the evaluation, and what is measured of heat maps that are not stored."""
    one, two = (p / "artifacts/evaluation" for p in (project, other))
    names = sorted(path.name for path in one.glob("*.parquet"))
    assert names == sorted(path.name for path in two.glob("*.parquet")) and names
    for name in names:
        pd.testing.assert_frame_equal(pd.read_parquet(one / name), pd.read_parquet(two / name))
    m, n = (
        ConceptMaps.open(p / "artifacts/heatmaps.zarr", p / "artifacts/evaluation/measured.zarr")
        for p in (project, other)
    )
    assert m[LAYER].boxes.equals(n[LAYER].boxes)
    for attribute in ("peaks", "centroids", "areas"):
        np.testing.assert_array_equal(getattr(m[LAYER], attribute), getattr(n[LAYER], attribute))


def shards(project: Path, pattern: str) -> dict[str, int]:
    """The inode of each shard's file."""
    folder = project / "artifacts"
    found = folder.glob(f"{pattern}/values/c/*/*")
    return {path.relative_to(folder).as_posix(): path.stat().st_ino for path in found}


def a_day(photographs: Path, rng: np.random.Generator, day: int) -> None:
    """One photograph comes, another may go, is renamed or is replaced."""
    folder = photographs / "images" / str(rng.choice(["discs", "more discs"]))
    there = sorted(folder.glob("*.png"))
    draw(folder / f"{rng.choice(range(10))}-{day}.png", 100 + day, [(72, 56), (64, 64)][day % 2])
    one = there[int(rng.integers(len(there)))]
    match rng.integers(4):
        case 0:
            one.unlink()
        case 1:
            one.rename(one.with_name(f"z{day}.png"))
        case 2:
            draw(one, 200 + day, (56, 72))


@pytest.mark.parametrize("seed", [0, 1])
def test_a_project_that_grows_is_one_made_from_nothing(
    project: Path, photographs: Path, seed: int, drawn: list[int]
) -> None:
    rng = np.random.default_rng(seed)
    run(project)
    assert run_dff("pin", "--freeze", "--project", str(project)).exit_code == 0
    linked = {"activations": 0, "refined": 0}
    for day in range(3):
        before = {name: shards(project, f"{name}.zarr/layers/*/maps") for name in linked}
        a_day(photographs, rng, day)
        run(project, *STAGES[:-1])
        drawn.clear()
        run(project, "evaluate")
        assert len(drawn) <= 2, "heat maps of what has come or was replaced"
        for name, old in before.items():
            new = shards(project, f"{name}.zarr/layers/*/maps")
            linked[name] += sum(old.get(path) == inode for path, inode in new.items())
        other = afresh(project)
        assert_the_same(project, other)
        assert_scored_alike(project, other)
    assert all(linked.values()), linked


@pytest.mark.parametrize("stage", ["extract", "refine"])
def test_a_run_that_goes_on_from_shards_can_be_interrupted(
    project: Path, photographs: Path, stage: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    run(project)
    assert run_dff("pin", "--freeze", "--project", str(project)).exit_code == 0
    for number in range(3):  # so many that a shard is stored before the end
        draw(photographs / f"images/discs/8{number}.png", 300 + number)
        draw(photographs / f"images/more discs/8{number}.png", 400 + number)
    run(project, *STAGES[: STAGES.index(stage)])
    checkpoint, calls = Staging.checkpoint, []

    def stop(self: Staging, **progress: object) -> None:
        checkpoint(self, **progress)
        calls.append(progress)
        if len(calls) == 3:
            raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(Staging, "checkpoint", stop)
        assert run_dff(stage, "--project", str(project)).exit_code != 0
    assert len(calls) >= 3
    run(project, *STAGES[STAGES.index(stage) :])
    assert_the_same(project, afresh(project))
