"""Photographs that come later: factors that are pinned, and maps that are taken over."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image, ImageOps
from typer.testing import Result

from pipeline.params import read_params
from pipeline.pin import with_value
from stages.algorithms.nmf import transform
from stages.artifacts.activations import Activations
from stages.artifacts.concept_maps import ConceptMaps
from stages.artifacts.factors import Factors, Heat
from stages.factorize.held import STILL, Carrying, Held
from tools import draw_photographs, edit, message, run_dff, small_project

Dff = Callable[..., Result]
LAYER = "features.5"
STAGES = ("index", "extract", "factorize", "heatmaps", "refine")


def run_all(project: Path) -> str:
    """The pipeline up to the refined maps; what it said."""
    said = ""
    for stage in STAGES:
        result = run_dff(stage, "--project", str(project))
        assert result.exit_code == 0, result.exception
        said += result.stderr
    return said


def arrays(project: Path, name: str) -> dict[str, np.ndarray]:
    """All that an artifact of maps holds."""
    maps = ConceptMaps.open(project / f"artifacts/{name}.zarr")[LAYER]
    return {
        "maps": np.concatenate([maps.maps.map(entry).ravel() for entry in range(len(maps.maps))]),
        "masks": np.concatenate([maps.bits.map(entry).ravel() for entry in range(len(maps.maps))]),
        "thresholds": maps.thresholds,
        "made_from": maps.made_from,
        **({"boxes": maps.boxes.to_numpy()} if maps.stored else {}),
    }


def more_photographs(photographs: Path) -> None:
    """One of each set mirrored, under a name between the others; and one goes."""
    for kind in ("images", "masks"):
        for name in ("discs", "more discs"):
            folder = photographs / kind / name
            ImageOps.mirror(Image.open(folder / "2.png")).save(folder / "2b.png")
        (photographs / kind / "discs" / "4.png").unlink()


@pytest.fixture(scope="module", params=[("64", "none"), ("[48, 64]", "none"), ("64", "full")])
def grown(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> tuple[Path, Path, str]:
    """A project whose factors were pinned, then photographs came: before, after, what it said.

    At one size of the network's input, and at two, without and with heat maps on disk.
    """
    size, stored = request.param
    home = tmp_path_factory.mktemp("grown")
    photographs = draw_photographs(home / "photographs")
    project = small_project(home / "project", photographs)
    edit(project, "  size: 64", f"  size: {size}")
    edit(project, "  store: none", f"  store: {stored}")
    run_all(project)
    before = home / "before"
    shutil.copytree(project, before)
    assert run_dff("pin", "--freeze", "--project", str(project)).exit_code == 0
    assert read_params(project)["factorize"].freeze
    more_photographs(photographs)
    said = run_all(project)
    for stage in ("evaluate", "explain", "report"):
        assert run_dff(stage, "--project", str(project)).exit_code == 0
    return before, project, said


pytestmark = pytest.mark.xdist_group("pinned")


def test_what_has_not_changed_is_taken_over(grown: tuple[Path, Path, str]) -> None:
    before, project, said = grown
    # 7 + 7 photographs, one went and two came
    stored = ConceptMaps.open(project / "artifacts/heatmaps.zarr")[LAYER].stored
    assert ("heatmaps: 13 of 15 images are as they were" in said) == stored
    assert "refine: 13 of 15 images are as they were" in said
    assert "discs: 6 of 6 pinned images hold still; new: 1, explained to" in said
    then, now = (Factors.open(one / "artifacts/factors.zarr") for one in (before, project))
    np.testing.assert_array_equal(now.at(LAYER).W, then.at(LAYER).W)
    for name in ("stability", "factor_stability"):
        stable = getattr(then.at(LAYER), name)
        assert np.isfinite(stable).all()
        np.testing.assert_array_equal(getattr(now.at(LAYER), name), stable)
    if Activations.open(project / "artifacts/activations.zarr").several:
        np.testing.assert_array_equal(now.at(LAYER).largest, then.at(LAYER).largest)
        np.testing.assert_array_equal(now.at(LAYER).top, then.at(LAYER).top)
    assert now.at(LAYER).carried.tolist() == [[6, 1], [7, 1]]
    for name in ("heatmaps", "refined"):
        old, new = (
            ConceptMaps.open(one / f"artifacts/{name}.zarr")[LAYER] for one in (before, project)
        )
        np.testing.assert_array_equal(new.thresholds, old.thresholds)
        where = {old.artifact.images[int(i)]: entry for entry, i in enumerate(old.maps.image_ids)}
        seen = 0
        for entry, i in enumerate(new.maps.image_ids):
            if (there := where.get(new.artifact.images[int(i)])) is not None:
                np.testing.assert_array_equal(new.maps.map(entry), old.maps.map(there))
                np.testing.assert_array_equal(new.masks(entry), old.masks(there))
                seen += 1
        assert seen == 13


def test_it_is_what_a_run_without_earlier_maps_makes(
    grown: tuple[Path, Path, str], tmp_path: Path
) -> None:
    """Nothing is decided by history but by the pinned factors, which params.yaml names."""
    _, project, _ = grown
    again = tmp_path / "project"
    again.mkdir()
    for name in ("params.yaml", "pinned"):
        source = project / name
        (shutil.copytree if source.is_dir() else shutil.copy)(source, again / name)
    assert "as they were" not in run_all(again)
    for name in ("heatmaps", "refined"):
        expected = arrays(project, name)
        for key, values in arrays(again, name).items():
            np.testing.assert_array_equal(values, expected[key], err_msg=f"{name}: {key}")


def test_new_images_are_explained_as_far_as_it_says(grown: tuple[Path, Path, str]) -> None:
    _, project, _ = grown
    factors = Factors.open(project / "artifacts/factors.zarr")
    activations = Activations.open(project / "artifacts/activations.zarr")
    of = factors.at(LAYER)
    ids = [i for i in activations.sets["discs"] if activations.images[i] == "images/discs/2b.png"]
    assert len(ids) == 1
    A = activations.at(LAYER).map(int(ids[0])).reshape(-1, of.W.shape[2]).astype(np.float64)
    for at, (k, seed) in enumerate(factors.factorizations.problems):
        W = of.W[0, factors.factorizations.columns_of(k, seed)]
        residual = A - transform(A, W) @ W.astype(np.float64)
        by_hand = 1 - np.square(residual).sum() / np.square(A).sum()
        assert of.explained[0, at, 1] == pytest.approx(by_hand, abs=1e-4)
        drift = factors.drift(LAYER, "discs", k, seed)
        assert drift == (1, of.explained[0, at, 0], of.explained[0, at, 1])
    pages = (project / "artifacts/report").rglob("*.html")
    said = " ".join(" ".join(page.read_text(encoding="utf-8").split()) for page in pages)
    # two sets, k = 1 and 2
    assert said.count("Of the 1 image that came since these concepts were pinned they explain") == 4


def test_a_new_set_and_another_k_begin_from_nothing_beside_what_stays(
    project: Path, photographs: Path, dff: Dff
) -> None:
    run_all(project)
    before = Factors.open(project / "artifacts/factors.zarr").at(LAYER).W
    assert dff("pin").exit_code == 0
    shutil.copytree(photographs / "images/discs", photographs / "images/third")
    edit(project, "k: [1, 2]", "k: [1, 2, 3]")
    run_all(project)
    of = Factors.open(project / "artifacts/factors.zarr").at(LAYER)
    np.testing.assert_array_equal(of.W[:2, :3], before)
    assert of.carried.tolist() == [[7, 0], [7, 0], [0, 0]]
    assert np.isnan(of.held_scale[:2, 3:]).all() and np.isnan(of.held_scale[2]).all()
    heat = ConceptMaps.open(project / "artifacts/heatmaps.zarr")[LAYER]
    assert (heat.scale > 0).all() and np.isfinite(heat.thresholds).all()
    assert (heat.thresholds[:2, 3:] > 0).all()


def test_factors_of_another_network_or_size_are_refused(project: Path, dff: Dff) -> None:
    run_all(project)
    pinned = dff("pin").stdout.strip()
    before = "64"
    for size in ("72", "[64, 72]"):
        edit(project, f"  size: {before}", f"  size: {size}")
        assert dff("extract").exit_code == 0
        line = message(dff("factorize"))
        assert f"{LAYER} is not as it was when these factors were pinned" in line
        before = size
    edit(project, f"  size: {before}", "  size: 64")
    shutil.rmtree(pinned)
    assert dff("extract").exit_code == 0
    line = message(dff("factorize"))
    assert "no pinned factors are there; `dff pin` makes some" in line
    assert "absent" in dff("status").stdout or "factorize" in message(dff("status"))


def test_params_that_cannot_be(project: Path, dff: Dff) -> None:
    edit(project, "freeze: false", "freeze: true")
    assert "freeze: true needs factors to keep" in message(dff("factorize"))
    edit(project, "freeze: true", "freeze: false")
    edit(project, "start: ''", "start: pinned/0")
    edit(project, "solver: hals", "solver: mu")
    assert "solver mu cannot go on from factors" in message(dff("factorize"))


def test_what_does_not_belong_together_is_not_pinned(project: Path, dff: Dff) -> None:
    assert "run `dff" in message(dff("pin"))
    run_all(project)
    edit(project, "seeds: [0]", "seeds: [1]")
    edit(project, "max_passes: 100", "max_passes: 1")
    assert dff("factorize").exit_code == 0
    assert "were not made from each other" in message(dff("pin"))
    assert read_params(project)["factorize"].start == ""


def test_maps_of_other_factors_are_told_by_what_they_were_made_from(
    project: Path, dff: Dff
) -> None:
    """Of several sizes every factor's largest value is 1, so that their scale tells nothing."""
    edit(project, "  size: 64", "  size: [48, 64]")
    run_all(project)
    before = Factors.open(project / "artifacts/factors.zarr").at(LAYER).W
    edit(project, "init: sample", "init: random")
    edit(project, "max_passes: 100", "max_passes: 1")
    assert dff("factorize").exit_code == 0
    assert not np.array_equal(Factors.open(project / "artifacts/factors.zarr").at(LAYER).W, before)
    assert "were not made from each other" in message(dff("pin"))
    assert dff("heatmaps").exit_code == 0
    assert dff("pin").exit_code == 0


@pytest.mark.parametrize(
    ("first", "then"), [("64", "[48, 64]"), ("[48, 64]", "64"), ("[48, 64]", "[32, 64]")]
)
def test_factors_are_pinned_with_what_they_are_of(
    project: Path, dff: Dff, first: str, then: str
) -> None:
    """The finest grid, and so the maps, have one shape: only the rows tell."""
    edit(project, "  size: 64", f"  size: {first}")
    for stage in STAGES[:4]:
        assert dff(stage).exit_code == 0
    edit(project, f"  size: {first}", f"  size: {then}")
    assert dff("extract").exit_code == 0
    assert "were not made from each other" in message(dff("pin"))
    assert not (project / "pinned").exists()


def test_damaged_maps_are_made_again(grown: tuple[Path, Path, str], tmp_path: Path) -> None:
    _, project, _ = grown
    damaged = tmp_path / "project"
    shutil.copytree(project, damaged)
    folder = damaged / "artifacts/refined.zarr"
    shards = [path for path in folder.rglob("*") if path.is_file() and "maps/values/c" in str(path)]
    assert shards
    for path in shards:
        content = bytearray(path.read_bytes())
        content[:-100:50] = bytes(len(content[:-100:50]))  # but for the index at the end
        path.write_bytes(content)
    result = run_dff("refine", "--project", str(damaged))
    assert result.exit_code == 0 and "not taking over earlier maps" in result.stderr
    expected = arrays(project, "refined")
    for key, values in arrays(damaged, "refined").items():
        np.testing.assert_array_equal(values, expected[key], err_msg=key)


class Kept:
    """Coefficients in memory in place of a `Ragged`."""

    def __init__(self, values: np.ndarray, offsets: np.ndarray) -> None:
        self.values, self.offsets = values, offsets

    def read_dense(self, spans: list[tuple[int, int]]) -> np.ndarray:
        return np.concatenate([self.values[a:b] for a, b in spans])


@settings(max_examples=60, deadline=None)
@given(st.data())
def test_images_hold_still_or_not_however_the_rows_arrive(data: st.DataObject) -> None:
    rng = np.random.default_rng(data.draw(st.integers(0, 2**32 - 1)))
    images, several = data.draw(st.integers(1, 8)), data.draw(st.integers(1, 3))
    cells = rng.integers(1, 5, (images, several))
    sizes = cells.sum(axis=1)
    offsets = np.concatenate([[0], np.cumsum(sizes)])
    before = rng.random((offsets[-1], 3)).astype(np.float32)
    entries = np.where(rng.random(len(sizes)) < 0.6, np.arange(len(sizes)), -1)
    scale = np.array([1.0, 2.0, np.nan])
    largest = scale * rng.choice([0.5, 1.0, 2.0], (several, 1))
    # of every row, by hand
    of_size = np.concatenate([np.repeat(largest, one, axis=0) for one in cells])
    columns = np.array([1, 0, -1])  # the last of ours was not pinned
    after = before[:, [1, 0, 2]] + (rng.random((len(before), 3)) * 0.02).astype(np.float32)
    expected, kept = after.copy(), 0
    for image, entry in enumerate(entries):
        span = slice(offsets[image], offsets[image + 1])
        moved = abs(after[span, :2] - before[span][:, [1, 0]]) > STILL * of_size[span, :2]
        if entry >= 0 and not moved.any():
            expected[span, :2] = before[span][:, [1, 0]]
            kept += 1
    held = Held(
        start={},
        entries=entries,
        columns=columns,
        coefficients=Kept(before, offsets),  # type: ignore[arg-type]
        heat=Heat(scale, scale, scale, scale, scale),
        largest=largest,
        top=np.ones(3),
        explained=np.zeros(1),
        mean=None,
        stability=[],
        held_out=[],
        factor_stability=np.full(3, np.nan),
    )
    got: list[np.ndarray] = []

    def write(row: int, block: np.ndarray) -> None:
        assert row == sum(map(len, got))
        got.append(block.copy())

    carrying = Carrying(held, cells, write)
    row = 0
    while row < len(after):
        step = data.draw(st.integers(1, len(after)))
        carrying(row, after[row : row + step])
        row = min(len(after), row + step)
    np.testing.assert_array_equal(np.concatenate(got), expected)
    assert carrying.kept == kept
    new = after[np.repeat(entries < 0, sizes)].astype(np.float64)
    np.testing.assert_allclose(carrying.HtH, new.T @ new, rtol=1e-5)


@pytest.mark.parametrize("value", ["pinned/3fa9c1d2", "", True, "a # b: 'c'", "no"])
def test_one_value_of_params_changes_and_nothing_else(value: object) -> None:
    text = (
        "# above\nindex:\n  start: 1\n\nfactorize: # so\n  k: [1]\n\n  start: '' # why\nlast: {}\n"
    )
    changed = with_value(text, "factorize", "start", value)
    before, after = text.splitlines(), changed.splitlines()
    assert [a for a, b in zip(before, after, strict=True) if a != b] in (
        ["  start: '' # why"],
        [],
    )
    assert after[7].endswith("# why")
    assert json.dumps(value) == json.dumps(_start(changed))


def _start(text: str) -> object:
    import yaml

    return yaml.safe_load(text)["factorize"]["start"]
