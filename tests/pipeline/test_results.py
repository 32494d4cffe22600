"""`pipeline.results`: arrays, tables and figures of a project, against its artifacts."""

import dataclasses
import io
import json
import re
import shutil
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow.parquet as pq
import pytest
from PIL import Image
from scipy import ndimage

import pipeline
from pipeline.registry import STAGES
from pipeline.results import Results, open_results, run
from stages.evaluate.concepts import write_concepts
from stages.frame.errors import StageError
from stages.naming.names import read_names
from stages.refine.params import RefineParams
from store import ArtifactMissing, open_artifact
from tools import ROOT, run_dff

pytestmark = pytest.mark.xdist_group("results")  # one worker makes its project

IMAGE = "images/discs/1.png"


@pytest.fixture(scope="module")
def results(finished: Path) -> Results:
    return open_results(finished)


def resized(values: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """[h, w] by Pillow's bilinear filter, an independent one: for larger sizes without windows."""
    return np.array(Image.fromarray(values.astype(np.float32)).resize(size[::-1], 2))


def test_what_there_is(results: Results) -> None:
    assert results.sets == ["discs", "more discs"]
    assert (results.ks, results.seeds, results.layers) == ([1, 2], [0, 1], ["features.5"])
    assert results.images("discs") == [f"images/discs/{i}.png" for i in range(4)]
    assert results.names("discs", 2) == ["background", "object"]
    assert results.names("more discs", 2) == ["", ""]


def test_factors_and_coefficients_give_the_activations_back(
    results: Results, finished: Path
) -> None:
    activations = open_artifact(finished / "artifacts/activations.zarr")
    A = np.concatenate([activations.map("discs", image).reshape(-1, 128)
                        for image in results.images("discs")]).astype(np.float64)  # fmt: skip
    table = pd.read_csv(finished / "artifacts/evaluation/loss.csv")
    for seed in (0, 1):
        W = results.factors("discs", 2, seed=seed)
        assert W.shape == (2, 128) and W.dtype == np.float32
        np.testing.assert_allclose(np.linalg.norm(W, axis=1), 1, rtol=1e-5)
        H = np.concatenate([results.coefficients(image, 2, seed=seed).reshape(-1, 2)
                            for image in results.images("discs")])  # fmt: skip
        error = np.linalg.norm(A - H.astype(np.float64) @ W) / np.linalg.norm(A)
        rows = table.query("set == 'discs' and k == 2 and seed == @seed")
        assert error == pytest.approx(rows["relative_error"].iloc[-1], rel=1e-3)


def test_heat_is_the_coefficients_larger(results: Results) -> None:
    heat = results.heat(IMAGE, 2)
    assert heat.shape == (2, *results.photo(IMAGE).shape[:2]) == (2, 72, 56)
    largest = np.max([results.coefficients(image, 2).max(axis=(0, 1))
                      for image in results.images("discs")], axis=0)  # fmt: skip
    H = np.moveaxis(results.coefficients(IMAGE, 2), -1, 0)
    for j in range(2):
        # twice interpolated, here once: alike, not equal
        expected = resized(H[j] / largest[j], (72, 56))
        assert np.corrcoef(heat[j].ravel(), expected.ravel())[0, 1] > 0.97
        assert heat[j].min() >= 0 and heat[j].max() <= 1


@pytest.mark.parametrize(("maps", "k"), [("raw", 2), ("refined", 1), ("refined", 2)])
def test_boxes_are_around_the_masks(results: Results, maps: str, k: int) -> None:
    """At the maps' own size, where no mask is resized; refined ones: certain heat belongs to it."""
    entry = results.learned.artifact.entry("discs", IMAGE)
    of = results.maps[maps]["features.5"]
    masks = of.masks(entry)[of.columns_of(k)]
    if maps == "refined" and k == 1:  # of parts, heat alone does not say which
        heat = results.maps["raw"]["features.5"]
        columns = heat.columns_of(k)
        thresholds = heat.thresholds[list(heat.sets).index("discs"), columns][:, None, None]
        shares = heat.shares(entry)[columns]
        least = RefineParams().certain * shares.max(axis=(1, 2), keepdims=True)
        certain = shares >= np.maximum(least, thresholds)
        masks = masks | (certain & (thresholds > 0))
    scale = np.array([72, 56]) / masks.shape[1:]
    boxes = results.boxes(IMAGE, k, maps=maps)  # type: ignore[arg-type]
    for mask, found in zip(masks, boxes, strict=True):
        labels, count = ndimage.label(mask, np.ones((3, 3)))
        slices = ndimage.find_objects(labels)
        areas = np.bincount(labels.ravel(), minlength=count + 1)[1:]
        if count:
            rows, columns = slices[int(areas.argmax())]
            sides = np.array([rows.start, columns.start, rows.stop, columns.stop])
            np.testing.assert_allclose(found[0], sides * scale[[0, 1, 0, 1]])
        assert len(found) <= count and bool(len(found)) == bool(count)


def test_masks_lie_on_the_photograph(results: Results) -> None:
    for maps in ("raw", "refined"):
        masks = results.mask(IMAGE, 2, maps=maps)  # type: ignore[arg-type]
        assert masks.shape == (2, 72, 56) and masks.dtype == np.bool_
        rows = results.table().query(
            "image == @IMAGE and k == 2 and seed == 0", local_dict={"IMAGE": IMAGE}
        )
        area = rows.sort_values("factor")[f"{maps}_area"].to_numpy()
        np.testing.assert_allclose(masks.mean(axis=(1, 2)), area, atol=0.02)
    only_raw = results.mask(IMAGE, 2, maps="raw") & (results.heat(IMAGE, 2) == 0)
    assert not only_raw.any()


def test_the_table_has_what_the_maps_have(results: Results) -> None:
    """Every row, computed anew from the artifacts of maps."""
    table = results.table()
    raw, refined = (results.maps[kind]["features.5"] for kind in ("raw", "refined"))
    assert len(table) == 2 * 4 * len(raw.columns)
    keyed = table.set_index(["set", "image", "k", "seed", "factor"])
    assert keyed.index.is_unique
    seen = 0
    for name in results.sets:
        for image in results.images(name):
            entry = results.learned.artifact.entry(name, image)
            shares = raw.maps.map(entry).astype(np.float64) / np.iinfo(raw.maps.dtype).max
            H = results.learned.at("features.5").coefficients.map(entry)
            height, width = results.index.size(results.index.names.index(image))
            for column, (k, seed, factor) in enumerate(raw.columns):
                row = keyed.loc[(name, image, k, seed, factor)]
                scale = raw.scale[results.sets.index(name), column]
                assert row["mean"] == pytest.approx(H[..., column].mean() / scale, rel=1e-5)
                assert row["peak"] == shares[..., column].max()
                assert row["raw_area"] == pytest.approx(raw.masks(entry)[column].mean())
                mask = refined.masks(entry)[column]
                assert row["refined_area"] == pytest.approx(mask.mean())
                if mask.any():
                    y, x = ndimage.center_of_mass(mask)
                    h, w = mask.shape
                    assert row["y"] == pytest.approx((y + 0.5) * height / h)
                    assert row["x"] == pytest.approx((x + 0.5) * width / w)
                    seen += 1
                else:
                    assert row[["x", "y"]].isna().all()
                boxes = results.boxes(image, k, set=name, seed=seed)[factor]
                sides = row[["top", "left", "bottom", "right"]]
                assert len(boxes) or not mask.any(), "certain heat has a box without a mask"
                assert sides.tolist() == boxes[0].tolist() if len(boxes) else sides.isna().all()
    assert seen > 10
    named = table[table["name"] == "object"]
    assert set(named["set"]) == {"discs"} and set(named["k"]) == {2}
    assert set(named["factor"]) == {1} and set(named["seed"]) == {0}


def test_the_table_is_written_in_blocks(
    results: Results, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("stages.evaluate.concepts.BLOCK_ROWS", 13)  # two images of six columns
    opened = {("features.5", kind): of["features.5"] for kind, of in results.maps.items()}
    names = read_names(results.project / "labels.yaml", results.learned)
    write_concepts(tmp_path, opened, results.index, names)
    file = pq.ParquetFile(tmp_path / "concepts.parquet")
    assert [file.metadata.row_group(i).num_rows for i in range(file.num_row_groups)] == [12] * 4
    assert file.read().to_pandas().equals(results.table())


def test_photographs_are_upright_pixels(results: Results, finished: Path) -> None:
    path = finished.parent / "photographs" / IMAGE
    np.testing.assert_array_equal(results.photo(IMAGE), np.array(Image.open(path)))


def test_mistakes_are_one_line(results: Results, tmp_path: Path) -> None:
    for call, line in (
        (lambda: results.images("disc"), "set disc: not there; did you mean 'discs'?"),
        (lambda: results.factors("discs", 3), "k 3: not there; there are 1, 2"),
        (lambda: results.mask("images/discs/9.png", 2), "image images/discs/9.png: not there"),
        (lambda: results.heat(IMAGE, 2, set="more discs"), "is not in the set more discs"),
        (lambda: results.heat(IMAGE, 2, maps="row"), "did you mean 'raw'?"),  # type: ignore
        (lambda: results.coefficients(IMAGE, 2, seed=7), "seed 7: not there"),
        (lambda: results.coefficients(IMAGE, 2, layer="conv"), "layer conv: not there"),
    ):
        with pytest.raises(StageError, match=re.escape(line)):
            call()
    with pytest.raises(ArtifactMissing, match="run `dff index` first"):
        open_results(tmp_path)


def test_an_image_of_two_sets_needs_its_set(results: Results) -> None:
    both = dict(results.learned.sets)
    both["more discs"] = both["discs"]
    twice = dataclasses.replace(results)
    twice.__dict__["_places"] = {
        image_id: {"discs": entry, "more discs": entry}
        for image_id, entry in enumerate(both["discs"].tolist())
    }
    with pytest.raises(StageError, match="in several sets, name one: discs, more discs"):
        twice.heat(results.index.names[0], 1)


def test_export_from_python(results: Results, tmp_path: Path) -> None:
    out = results.export("csv", tmp_path / "csv", k=2, sets=["discs"], semantic=True)
    strength = pd.read_csv(out / "strength.csv")
    assert set(strength["concept"]) == {"object"}
    masks = [results.mask(image, 2)[1].mean() for image in strength["image"]]
    np.testing.assert_allclose(strength["mask_share"], masks, atol=1e-6)


def test_run_does_what_is_left_to_do(
    finished: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture
) -> None:
    """From a notebook, whose standard error is no file: only the report is not there yet."""
    shutil.copytree(finished.parent, tmp_path / "copy")
    project = tmp_path / "copy" / finished.name
    with monkeypatch.context() as patch:
        patch.setattr(sys, "stderr", io.StringIO())
        patch.setattr(sys, "__stderr__", sys.__stderr__ or sys.stdout)
        r = run(project, workers=2)
    assert (project / "artifacts/report/index.html").exists()
    assert r.table().equals(open_results(finished).table())
    said = capfd.readouterr().err
    assert [f"{stage.name}: fresh" in said for stage in STAGES] == [True] * 7 + [False]


def test_the_notebook_runs(finished: Path) -> None:
    """Its code cells, one after the other, on the small project."""
    notebook = json.loads((ROOT / "docs/notebook.ipynb").read_text(encoding="utf-8"))
    cells = ["".join(c["source"]) for c in notebook["cells"] if c["cell_type"] == "code"]
    assert notebook["nbformat"] == 4 and len(cells) >= 5
    assert all(not c.get("outputs") for c in notebook["cells"]), "clear its outputs"
    first, names = cells[0], {}
    assert first.count('PROJECT = "."') == 1
    cells[0] = first.replace('PROJECT = "."', f"PROJECT = {str(finished)!r}")
    for cell in cells:
        exec(compile(cell, "docs/notebook.ipynb", "exec"), names)
    assert names["r"].project == finished and len(names["strongest"]) > 0


def test_version_and_short_help() -> None:
    text = (ROOT / "pyproject.toml").read_text(encoding="utf-8")
    (version,) = re.findall(r'^version = "(.*)"', text, re.MULTILINE)
    assert pipeline.__version__ == version
    assert run_dff("--version").stdout == f"dff {version}\n"
    assert run_dff("find", "-h").stdout == run_dff("find", "--help").stdout
    for package in ("pipeline", "stages", "store"):
        assert (ROOT / package / "py.typed").exists()
        assert re.search(rf'^"{package}" = \[.*"py.typed"\]', text, re.MULTILINE)
