"""Photographs seen at several sizes: from rows on disk to one map per image."""

import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from typer.testing import Result

from pipeline.params import read_params
from pipeline.registry import BY_NAME, STAGES
from stages.algorithms.backbone import Backbone, forward_bytes
from stages.algorithms.scales import combined, shown, split
from stages.artifacts.activations import Activations
from stages.artifacts.concept_maps import ConceptMaps
from stages.artifacts.factors import Factors
from stages.artifacts.outline import Outline
from stages.extract.needs import footprint
from stages.extract.params import ExtractParams
from stages.extract.plan import pinned
from stages.extract.reuse import Earlier, Known
from stages.frame.execute import gather_inputs
from stages.frame.resources import Resources
from store import Layout, Staging, open_artifact
from tools import draw, edit, interrupted_at, run_dff

Dff = Callable[..., Result]
LAYERS = ("features.5", "features.2")
SIZES = (64, 96)


@pytest.fixture
def project(project: Path) -> Path:
    edit(project, "size: 64", f"size: {list(SIZES)}")
    edit(project, "layers: [features.5]", f"layers: [{', '.join(LAYERS)}]")
    edit(project, "method: guided", "method: none")
    return project


@pytest.fixture(params=["cpu", "gpu"])
def device(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """As it is, or as on a GPU in batches of four (which is this CPU: see test_extract.py)."""
    if request.param == "gpu":
        for module in ("needs", "stage"):
            monkeypatch.setattr(f"stages.extract.{module}.in_large_batches", lambda device: True)
        monkeypatch.setattr("stages.extract.plan.GPU_BATCH", 4)
    return str(request.param)


def done(dff: Dff, *stages: str) -> None:
    for stage in stages:
        result = dff(stage)
        assert result.exit_code == 0, (result.output, result.exception)


def contents(folder: Path) -> dict[str, bytes]:
    files = [path for path in sorted(folder.rglob("*")) if path.is_file()]
    return {str(path.relative_to(folder)): path.read_bytes() for path in files}


def counting(call: Callable[..., Any], seen: list[int]) -> Callable[..., Any]:
    """How many images each pass of a network sees."""

    def counted(self: Backbone, batch: Any) -> Any:
        seen.append(len(batch))
        return call(self, batch)

    return counted


@contextmanager
def stopped_at(number: int) -> Iterator[set[str]]:
    """Ctrl-C before the checkpoint of this number; what would have been kept there."""
    checkpoint, keys, count = Staging.checkpoint, set[str](), 0

    def stopping(self: Staging, **progress: object) -> None:
        nonlocal count
        count += 1
        if count == number:
            keys.update(progress)
            raise KeyboardInterrupt
        checkpoint(self, **progress)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Staging, "checkpoint", stopping)
        patch.setattr("stages.factorize.stage.TOLD_EVERY", 0)
        patch.setattr("stages.factorize.states.SECONDS", 0)
        yield keys


def alone(project: Path, dff: Dff, size: int) -> Activations:
    """Extracted at one size."""
    folder = project.with_name(f"alone {size}")
    shutil.copytree(project, folder)
    edit(folder, f"size: {list(SIZES)}", f"size: {size}")
    for stage in ("index", "extract"):
        assert run_dff(stage, "--project", str(folder)).exit_code == 0
    return Activations.open(folder / "artifacts/activations.zarr")


@pytest.mark.parametrize("resize", ["squash", "long_side"])
def test_an_entry_has_the_rows_of_every_size(
    project: Path, dff: Dff, device: str, resize: str
) -> None:
    edit(project, "resize: squash", f"resize: {resize}")
    done(dff, "index", "extract")
    both = Activations.open(project / "artifacts/activations.zarr")
    each = [alone(project, dff, size) for size in SIZES]
    assert both.several == list(SIZES) and not each[0].several
    for layer in LAYERS:
        found = both.at(layer)
        for entry, image in enumerate(found.image_ids):
            theirs = [one.at(layer) for one in each]
            at = [int(np.flatnonzero(one.image_ids == image)[0]) for one in theirs]
            maps = [one.map(place) for one, place in zip(theirs, at, strict=True)]
            seen = split(found.map(entry)[:, 0], both.grids(layer)[entry])
            for a, b in zip(seen, maps, strict=True):
                np.testing.assert_array_equal(a, b)
            assert np.array_equal(each[0].grids(layer)[at[0]], [maps[0].shape[:2]])


def test_added_images_are_the_only_ones_computed(
    project: Path, photographs: Path, dff: Dff, device: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    done(dff, "index", "extract")
    seen: list[int] = []
    for name in ("__call__", "maps"):
        monkeypatch.setattr(Backbone, name, counting(getattr(Backbone, name), seen))
    draw(photographs / "images" / "discs" / "3a.png", seed=31)
    draw(photographs / "images" / "discs" / "9.png", seed=32)
    done(dff, "index", "extract")
    assert sum(seen) == 2 * len(SIZES), "in one batch, at each size"
    out = project / "artifacts/activations.zarr"
    taken_over = contents(out)
    shutil.rmtree(out)
    done(dff, "extract")
    assert contents(out) == taken_over
    seen.clear()
    edit(project, f"size: {list(SIZES)}", "size: [64, 128]")
    done(dff, "extract")
    assert sum(seen) >= 2 * 16, "other sizes: nothing of it is known"


def test_extraction_goes_on_after_an_interruption(
    project: Path, dff: Dff, device: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("stages.extract.stage.plan_layout", lambda *a, **k: Layout(64, 128))
    done(dff, "index", "extract")
    out = project / "artifacts/activations.zarr"
    expected = contents(out)
    shutil.rmtree(out)
    with interrupted_at(7):
        assert dff("extract").exit_code == 130
    assert not out.exists()
    done(dff, "extract")
    assert contents(out) == expected


def test_grids_of_as_many_rows_are_not_the_same() -> None:
    theirs = {"layer": np.array([[[3, 4], [5, 6]], [[3, 4], [6, 5]]])}
    earlier = Earlier({}, theirs, {b"a": 0, b"b": 1})
    known = Known.of([earlier], [b"b", b"a", b"c"], {"layer": theirs["layer"][[0, 0, 0]]})
    assert known.source.tolist() == [-1, 0, -1]


@pytest.fixture
def extracted(project: Path, dff: Dff) -> Path:
    done(dff, "index", "extract")
    return project


def test_maps_are_what_all_sizes_agree_on(extracted: Path, dff: Dff) -> None:
    done(dff, "factorize")
    activations = Activations.open(extracted / "artifacts/activations.zarr")
    factors = Factors.open(extracted / "artifacts/factors.zarr")
    for layer in LAYERS:
        of = factors.at(layer)
        rows = factors.artifact.ragged(layer, "scales")
        place = {int(image): i for i, image in enumerate(activations.at(layer).image_ids)}
        for rank, entries in enumerate(factors.sets.values()):
            seen = [
                split(rows.map(entry)[:, 0], activations.grids(layer)[place[rows.image_ids[entry]]])
                for entry in entries.tolist()
            ]
            peaks = [[g.max(axis=(0, 1)) for g in one] for one in seen]
            largest = np.max(peaks, axis=0).astype(np.float64)
            np.testing.assert_array_equal(of.largest[rank], largest)
            means = [combined(one, largest) for one in seen]
            top = np.max([m.max(axis=(0, 1)) for m in means], axis=0)
            np.testing.assert_array_equal(of.top[rank], top)
            for entry, m in zip(entries.tolist(), means, strict=True):
                found = of.coefficients.map(entry)
                np.testing.assert_array_equal(found, shown(m, top))
                assert found.any()


def test_what_is_foretold_is_what_there_is(extracted: Path, dff: Dff) -> None:
    done(dff, "factorize")
    outline = Outline()
    for name in ("index", "extract", "factorize"):
        stage = BY_NAME[name]
        inputs = gather_inputs(stage, extracted)
        before = outline
        assert stage.foretell
        outline, _ = stage.foretell(read_params(extracted)[name], outline, inputs, Resources())
    activations = Activations.open(extracted / "artifacts/activations.zarr")
    factors = Factors.open(extracted / "artifacts/factors.zarr")
    for layer in LAYERS:
        assert before.layers[layer].rows() == activations.at(layer).offsets[-1]
        mapped = outline.layers[layer].rows(outline.members)
        assert mapped == factors.at(layer).coefficients.offsets[-1]


def test_memory_of_several_sizes_by_hand(device: str) -> None:
    params = ExtractParams("squeezenet1_1", "random:0", LAYERS, size=SIZES, batch=4)
    shapes = [tuple((size, size) for size in SIZES)]
    resources = Resources("cpu", 1, 2**40)
    held = footprint(params, np.array([[72, 56]]), shapes, resources)
    images = held.slice
    assert images == 4
    passes = [forward_bytes(params.backbone, LAYERS, images, size, size) for size in SIZES]
    if device == "cpu":
        assert held.inputs == 4 * 3 * images * (64 * 64 + 96 * 96), "decoded together"
        assert held.forward == max(peak for peak, _ in passes), "one after the other"
        assert held.outputs == sum(outputs for _, outputs in passes)
    else:
        assert held.inputs == sum(pinned(3 * images * size * size) for size in SIZES)
        assert held.outputs == sum(pinned(outputs) for _, outputs in passes)


@pytest.fixture
def small_pieces(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("stages.factorize.stage.plan_layout", lambda *a, **k: Layout(300, 600))
    monkeypatch.setattr("stages.factorize.scales.BLOCK_BYTES", 5000)


@pytest.mark.usefixtures("small_pieces")
def test_factorize_goes_on_from_any_checkpoint(extracted: Path, dff: Dff) -> None:
    edit(extracted, "stability_runs: 2", "stability_runs: 0")
    done(dff, "factorize")
    out = extracted / "artifacts/factors.zarr"
    expected = contents(out)
    told: set[str] = set()
    # all 42 of them with `make soak`
    for number in range(1, 43) if "DFF_KILLS" in os.environ else (4, 8, 18, 36):
        shutil.rmtree(out)
        with stopped_at(number) as keys:
            code = dff("factorize").exit_code
        assert code == 130 and keys, f"there is no checkpoint {number}"
        told |= keys
        done(dff, "factorize")
        assert contents(out) == expected, f"stopped at checkpoint {number}"
    assert {"rows 0", "maps 0", "maps 1", "done"} <= told


def test_to_the_end_and_a_photograph_of_the_set_again(
    extracted: Path, photographs: Path, dff: Dff, tmp_path: Path
) -> None:
    done(dff, *(stage.name for stage in STAGES[2:]))
    page = (extracted / "artifacts/report/index.html").read_text(encoding="utf-8")
    assert "by its own largest value" in page and "never per image" not in page
    assert "64 and 96 px, squash" in page
    assert "stale" not in dff("status").output
    (tmp_path / "new").mkdir()
    shutil.copy(photographs / "images/discs/3.png", tmp_path / "new/other.png")
    out = tmp_path / "out"
    options = ("--set", "discs", "--k", "2", "--layer", LAYERS[1], "--out", str(out))
    result = dff("transform", str(tmp_path / "new"), *options)
    assert result.exit_code == 0, (result.output, result.exception)
    page = (out / "index.html").read_text(encoding="utf-8")
    assert "by its own largest value" in page and "its strongest places" not in page
    made = ConceptMaps(open_artifact(out / "heatmaps.zarr"), LAYERS[1])
    known = ConceptMaps(open_artifact(extracted / "artifacts/heatmaps.zarr"), LAYERS[1])
    factors = open_artifact(extracted / "artifacts/factors.zarr")
    entry = factors.entry("discs", "images/discs/3.png")
    theirs = known.maps.map(entry)[:, :, known.columns_of(2, 0)]
    assert theirs.any()
    difference = np.abs(made.maps.map(0)[:, :, made.columns_of(2, 0)].astype(int) - theirs)
    assert difference.max() <= 65535 * 2e-3, "least squares, to its tolerance"
