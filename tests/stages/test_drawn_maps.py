"""Heat maps that are not on disk: the same values as those that are, and found again or refused."""

import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import zarr
from hypothesis import given, settings
from hypothesis import strategies as st
from typer.testing import Result

from pipeline.results import open_results
from stages.algorithms.interpolation import upsampled
from stages.artifacts.concept_maps import ConceptMaps
from stages.artifacts.factors import Factors
from stages.maps.coefficients import HeatMaps
from store import Staging, StoreError, open_artifact
from tools import draw_photographs, edit, message, run_dff, small_project

pytestmark = pytest.mark.xdist_group("drawn maps")  # one worker makes its projects

Dff = Callable[..., Result]
LAYER = "features.5"
FIRST = ("index", "extract", "factorize")
LATER = ("heatmaps", "refine", "evaluate", "explain", "report")


def run_stages(project: Path, *stages: str) -> None:
    for stage in stages:
        result = run_dff(stage, "--project", str(project))
        assert result.exit_code == 0, result.output


@pytest.fixture(scope="module", params=["64", "[48, 64]"])
def both(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> tuple[Path, Path]:
    """A project with its heat maps on disk, and one with the same factors without; at one size of
    the network's input, and at two; one set lies within a factor."""
    home = tmp_path_factory.mktemp("both")
    full = small_project(home / "full", draw_photographs(home / "photographs"))
    edit(full, "  size: 64", f"  size: {request.param}")
    edit(full, "within: []", "within: [discs/2/0]")
    run_stages(full, *FIRST)
    none = home / "none"
    shutil.copytree(full, none)
    edit(full, "  store: none", "  store: full")
    for project in (full, none):
        run_stages(project, *LATER)
    return full, none


def files(folder: Path) -> dict[str, bytes]:
    return {
        path.relative_to(folder).as_posix(): path.read_bytes()
        for path in folder.rglob("*")
        if path.is_file() and path.name != "artifact.json"
    }


def test_they_are_those_on_disk_bit_for_bit(both: tuple[Path, Path]) -> None:
    full, none = (
        ConceptMaps.open(
            one / "artifacts/heatmaps.zarr", one / "artifacts/evaluation/measured.zarr"
        )[LAYER]
        for one in both
    )
    assert full.stored and not none.stored
    assert len(full.maps) == len(none.maps) == 21
    for entry in range(len(full.maps)):
        for there, drawn in zip(full.both(entry), none.both(entry), strict=True):
            assert there.dtype == drawn.dtype
            np.testing.assert_array_equal(there, drawn)
        np.testing.assert_array_equal(full.masks(entry), none.masks(entry))
        np.testing.assert_array_equal(full.shares(entry, (9, 12)), none.shares(entry, (9, 12)))
    names = ("thresholds", "scale", "full", "strength", "within", "means", "region", "made_from")
    for name in (*names, "peaks", "centroids", "areas", "grid_hw"):
        np.testing.assert_array_equal(getattr(full, name), getattr(none, name), err_msg=name)
    np.testing.assert_array_equal(full.maps.image_ids, none.maps.image_ids)
    pd.testing.assert_frame_equal(full.boxes, none.boxes)
    assert not (both[1] / "artifacts/heatmaps.zarr/layers" / LAYER / "maps").exists()


def test_all_that_is_made_from_them_is_the_same(both: tuple[Path, Path]) -> None:
    for name in ("refined.zarr", "explained.zarr"):
        one, other = (open_artifact(project / "artifacts" / name).group for project in both)
        arrays = [key for key, node in one.members(max_depth=None) if isinstance(node, zarr.Array)]
        assert arrays
        for key in arrays:
            np.testing.assert_array_equal(one[key][:], other[key][:], err_msg=f"{name}/{key}")
    for name in ("evaluation", "report"):
        one, other = (files(project / "artifacts" / name) for project in both)
        other = {key: value for key, value in other.items() if not key.startswith("measured.zarr")}
        assert one.keys() == other.keys()
        assert [key for key in one if one[key] != other[key]] == []
    results = [open_results(project) for project in both]
    image = results[0].images("discs")[0]
    for call in ("heat", "mask"):
        one, other = (getattr(r, call)(image, 2, set="discs", maps="raw") for r in results)
        np.testing.assert_array_equal(one, other)


def test_exports_read_them_too(both: tuple[Path, Path], tmp_path: Path) -> None:
    for project in both:
        out = tmp_path / project.name
        asked = ("--format", "masks", "--maps", "raw", "--k", "2", "--out", str(out))
        assert run_dff("export", *asked, "--project", str(project)).exit_code == 0
    one, other = (files(tmp_path / project.name) for project in both)
    one, other = ({k: v for k, v in some.items() if k.endswith(".png")} for some in (one, other))
    assert one and one == other


@settings(max_examples=25, deadline=None)
@given(
    seed=st.integers(0, 999),
    q=st.sampled_from([0.0, 12.5, 75.0, 99.0, 100.0]) | st.floats(0, 100),
    columns=st.sampled_from([1, 4, 9]),
    long_side=st.integers(1, 40),
)
def test_a_threshold_is_the_plain_percentile_of_the_maps(
    seed: int, q: float, columns: int, long_side: int
) -> None:
    rng = np.random.default_rng(seed)
    grids = [
        rng.gamma(0.3, 1, (*rng.integers(1, 9, 2), columns)).astype(np.float32) for _ in range(4)
    ]
    grids[1] *= rng.random(grids[1].shape) < 0.2  # absent from most of it
    grids[2] -= np.float32(0.1)  # as PCA's may be
    sizes = [(int(h), long_side) for h in rng.integers(1, 40, 4)]
    scale = np.maximum(np.max([grid.max(axis=(0, 1)) for grid in grids], axis=0), 0)
    scale = scale.astype(np.float64)
    maps = HeatMaps(lambda entries: (grids[e] for e in entries), sizes, scale[None], [0] * 4, 2)
    seen: list[int] = []
    found = maps.percentile(range(4), q, seen.append)
    every = [upsampled(g, s).reshape(columns, -1) for g, s in zip(grids, sizes, strict=True)]
    values = np.clip(np.concatenate(every, axis=1).astype(np.float64), 0, scale[:, None])
    shares = (values / np.where(scale > 0, scale, 1)[:, None]).astype(np.float32)
    expected = np.percentile(shares.astype(np.float64), q, axis=1)
    np.testing.assert_allclose(found, expected, rtol=1e-12, atol=0)
    assert sum(seen) == 8, "each image is told of twice"


def test_they_move_with_their_folder_and_refuse_without_factors(
    both: tuple[Path, Path], tmp_path: Path
) -> None:
    moved = tmp_path / "elsewhere"
    shutil.copytree(both[1] / "artifacts", moved)
    expected = ConceptMaps.open(both[1] / "artifacts/heatmaps.zarr")[LAYER].maps.map(0)
    maps = ConceptMaps.open(moved / "heatmaps.zarr")[LAYER]
    np.testing.assert_array_equal(maps.maps.map(0), expected)
    (moved / "factors.zarr").rename(moved / "other.zarr")
    alone = ConceptMaps.open(moved / "heatmaps.zarr")[LAYER]
    assert (alone.thresholds > 0).any() and len(alone.grid_hw) == 21
    with pytest.raises(StoreError, match=r"drawn from .*/factors.zarr, which is not there"):
        _ = alone.maps
    with pytest.raises(StoreError, match="peaks, centroids and areas in the evaluation"):
        _ = alone.boxes
    with pytest.raises(StoreError, match=r"maps: is not on disk: maps are drawn from the factors"):
        alone.artifact.ragged(LAYER)


def test_other_coefficients_are_refused(both: tuple[Path, Path], tmp_path: Path) -> None:
    """Under the same fingerprint, too: other code may have made them."""
    moved = tmp_path / "artifacts"
    shutil.copytree(both[1] / "artifacts", moved)
    group = zarr.open_group(moved / "heatmaps.zarr", mode="r+")[f"layers/{LAYER}"]
    assert isinstance(group, zarr.Group)
    group["made_from"][3] = 0
    maps = ConceptMaps.open(moved / "heatmaps.zarr")[LAYER]
    maps.maps.map(2)
    with pytest.raises(StoreError, match="made from other factors than there are now; run `dff he"):
        maps.maps.map(3)


def test_stages_refuse_heat_maps_of_other_factors(project: Path, dff: Dff) -> None:
    run_stages(project, *FIRST, "heatmaps", "refine")
    edit(project, "init: sample", "init: random")
    run_stages(project, "factorize")
    line = message(dff("refine"))
    assert "heatmaps.zarr: was made from other factors than" in line and "dff heatmaps" in line
    assert "\n" not in line
    states = dff("status").stdout
    assert "refine" in states and "stale" in states
    run_stages(project, "heatmaps", "refine")


def test_another_value_is_refused_in_a_line(project: Path, dff: Dff) -> None:
    edit(project, "store: none", "store: coarse")
    line = message(dff("heatmaps"))
    assert "heatmaps" in line and "store" in line and "coarse" in line and "full" in line


def test_an_interrupted_stage_goes_on_with_the_next_set(
    project: Path, dff: Dff, monkeypatch: pytest.MonkeyPatch
) -> None:
    run_stages(project, *FIRST)
    counted: list[int] = []
    percentile = HeatMaps.percentile

    def counting(self: HeatMaps, entries: list[int], *rest: object, **more: object) -> object:
        counted.append(len(entries))
        return percentile(self, entries, *rest, **more)  # type: ignore[arg-type]

    monkeypatch.setattr(HeatMaps, "percentile", counting)
    checkpoint = Staging.checkpoint

    def interrupted(self: Staging, **progress: object) -> None:
        checkpoint(self, **progress)
        if f"rows {LAYER}" in progress:
            raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(Staging, "checkpoint", interrupted)
        assert dff("heatmaps").exit_code == 130
    assert counted == [7]
    assert dff("heatmaps").exit_code == 0
    assert counted == [7, 7]
    maps = ConceptMaps.open(project / "artifacts/heatmaps.zarr")[LAYER]
    factors = Factors.open(project / "artifacts/factors.zarr")
    assert maps.thresholds.shape == (2, 3) and list(maps.sets) == list(factors.sets)
