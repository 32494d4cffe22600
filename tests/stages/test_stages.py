"""The stages one after the other on small photographs: what each publishes is right."""

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import psutil
import pytest
import torch
from PIL import Image
from skimage.measure import label, regionprops
from typer.testing import Result

from pipeline.registry import STAGES
from stages.algorithms.backbone import load_backbone
from stages.algorithms.nmf import transform
from stages.artifacts.activations import Activations
from stages.artifacts.concept_maps import ConceptMaps
from stages.artifacts.factors import Factors
from stages.artifacts.image_index import ImageIndex
from stages.evaluate.params import EvaluateParams
from stages.images.decode import decode_rgb
from stages.images.resize import normalise, resize_rgb
from stages.refine.params import RefineParams
from store import Artifact, open_artifact
from tools import draw_photographs, edit, refine_by, run_dff, small_project

pytestmark = pytest.mark.xdist_group("stages")  # one worker makes its project

Dff = Callable[..., Result]


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A project after all its stages; nobody changes it."""
    folder = tmp_path_factory.mktemp("finished")
    project = small_project(folder / "project", draw_photographs(folder / "photographs"))
    edit(project, "layers: [features.5]", "layers: [features.5, features.2]")
    for stage in STAGES:
        result = run_dff(stage.name, "--project", str(project))
        assert result.exit_code == 0, result.exception
        assert result.stdout.strip() == str(project / stage.writes)
    return project


def test_every_artifact_says_what_it_is(finished: Path) -> None:
    artifacts = finished / "artifacts"
    activations = Activations.open(artifacts / "activations.zarr")
    assert activations.layers == ["features.5", "features.2"]
    assert list(activations.sets) == ["discs", "more discs"]
    assert activations.network["backbone"] == "squeezenet1_1"
    assert len(activations.network["weights_digest"]) == 64
    text = "".join(path.read_text(errors="replace") for path in artifacts.rglob("*.json"))
    assert str(finished) not in text, "an artifact names this machine's folders"


def test_activations_are_what_the_network_says(finished: Path) -> None:
    index = ImageIndex.open(finished / "artifacts/index", finished)
    activations = open_artifact(finished / "artifacts/activations.zarr")
    backbone = load_backbone("squeezenet1_1", ["features.5"], "random:0")
    name = "images/more discs/4.png"
    pixels = resize_rgb(decode_rgb(index.read(index.names.index(name))), (64, 64))[None]
    batch = torch.from_numpy(normalise(pixels, backbone.mean, backbone.std)).permute(0, 3, 1, 2)
    expected = backbone(batch)["features.5"][0].numpy()
    found = activations.map("more discs", name, "features.5")
    assert found.dtype == np.float32
    assert set(activations.ragged("features.5").stored_dtypes) == {"float16"}
    np.testing.assert_allclose(found, expected, rtol=2e-3, atol=1e-3)


def test_coefficients_are_the_best_for_their_factors(finished: Path) -> None:
    activations = open_artifact(finished / "artifacts/activations.zarr")
    factors = Factors.open(finished / "artifacts/factors.zarr")
    for layer in factors.layers:
        W = factors.at(layer).W
        rows = activations.ragged(layer).select(activations.sets["more discs"])
        kept = factors.at(layer).coefficients.select(factors.sets["more discs"])
        H = np.concatenate(list(kept.blocks()))
        columns = factors.factorizations.columns_of(2)
        expected = transform(rows, W[1][columns])
        np.testing.assert_allclose(H[:, columns], expected, rtol=1e-3, atol=1e-4)
        A = np.concatenate(list(rows.blocks())).astype(np.float64)
        loss = factors.at(layer).loss[1, 1]
        error = np.square(A - H[:, columns].astype(np.float64) @ W[1][columns]).sum()
        assert loss[~np.isnan(loss)][-1] == pytest.approx(error, rel=1e-5)


def test_masks_follow_the_papers_rule(finished: Path) -> None:
    """Thresholds and masks from the exact maps, before they became whole numbers (eq. 6)."""
    maps = ConceptMaps(open_artifact(finished / "artifacts/heatmaps.zarr"), "features.5")
    factors = open_artifact(finished / "artifacts/factors.zarr")
    for rank, entries in enumerate(maps.artifact.sets.values()):
        grids = [factors.ragged("features.5").map(int(entry)) for entry in entries]
        scale = np.max([grid.max(axis=(0, 1)) for grid in grids], axis=0)
        sizes = [maps.maps.grid_hw[entry].tolist() for entry in entries]
        exact = np.concatenate([_enlarged(g / scale, s) for g, s in zip(grids, sizes, strict=True)])
        expected = np.percentile(exact.astype(np.float64), 75, axis=0)
        np.testing.assert_allclose(maps.thresholds[rank], expected, rtol=1e-6)
        masks = np.concatenate([maps.masks(int(e)).reshape(3, -1).T for e in entries])
        sure = np.abs(exact - expected) > 1e-6
        np.testing.assert_array_equal(masks[sure], (exact >= expected)[sure])
        shares = np.concatenate([maps.shares(int(e)).reshape(3, -1).T for e in entries])
        np.testing.assert_allclose(shares, exact, atol=0.5 / 65535 + 1e-6)
        assert shares.max(axis=0).min() > 0.5, "one scale per set: its largest is near 1"


def _enlarged(grid: np.ndarray, size: list[int]) -> np.ndarray:
    """Bilinear, rows of pixels."""
    planes = torch.from_numpy(grid.astype(np.float32)).permute(2, 0, 1)[None]
    large = torch.nn.functional.interpolate(planes, size=tuple(size), mode="bilinear")
    return large[0].flatten(1).T.numpy()


@pytest.mark.parametrize("kind", ["raw", "refined"])
def test_boxes_are_those_of_the_masks(finished: Path, kind: str) -> None:
    """Against scikit-image, in pixels of the maps, and of the images in the table.

    Those of refined maps also go around certain heat.
    """
    heat = ConceptMaps(open_artifact(finished / "artifacts/heatmaps.zarr"), "features.5")
    certain = RefineParams().certain
    artifact = {"raw": "heatmaps", "refined": "refined"}[kind]
    measured = finished / "artifacts/evaluation/measured.zarr"
    maps = ConceptMaps.open(finished / f"artifacts/{artifact}.zarr", measured)["features.5"]
    index = ImageIndex.open(finished / "artifacts/index", finished)
    table = pd.read_parquet(finished / "artifacts/evaluation/boxes.parquet")
    table = table[(table["layer"] == "features.5") & (table["maps"] == kind)]
    grids = maps.maps.grid_hw[maps.boxes["entry"]].prod(axis=1)
    kept = (maps.boxes["rank"] == 0) | (maps.boxes["area"] >= EvaluateParams().least_area * grids)
    assert len(table) == kept.sum()
    sides = ["top", "left", "bottom", "right"]
    for name, entries in maps.artifact.sets.items():
        entry = int(entries[1])
        image_id = int(maps.maps.image_ids[entry])
        scale = np.tile(np.array(index.size(image_id)) / maps.maps.grid_hw[entry], 2)
        image = table[(table["set"] == name) & (table["image"] == index.names[image_id])]
        for column, which in enumerate(maps.columns):
            shares = maps.shares(entry)[column]
            mask = maps.masks(entry)[column]
            threshold = heat.thresholds[list(heat.sets).index(name), column]
            if kind == "refined" and threshold > 0 and which[0] == 1:  # of parts, none is certain
                mine = heat.shares(entry)[column]
                mask = mask | (mine >= max(certain * mine.max(), threshold))
            regions = regionprops(label(mask, connectivity=2), shares)
            regions.sort(key=lambda region: (-region.area, tuple(region.coords[0])))
            mine = maps.boxes.query(f"entry == {entry} and column == {column}")
            assert mine[sides].to_numpy().tolist() == [list(region.bbox) for region in regions]
            assert mine["rank"].tolist() == list(range(len(regions)))
            assert mine["area"].tolist() == [region.area for region in regions]
            scores = [region.intensity_mean for region in regions]
            np.testing.assert_allclose(mine["score"], scores, rtol=1e-4)
            rows = image[(image[["k", "seed", "factor"]] == list(which)).all(axis=1)]
            np.testing.assert_allclose(rows[sides], mine[kept.loc[mine.index]][sides] * scale)


def test_object_iou_by_hand(finished: Path) -> None:
    """IoU of k = 1 recomputed with PIL and sums over all images (eq. 9)."""
    maps = ConceptMaps(open_artifact(finished / "artifacts/heatmaps.zarr"), "features.5")
    index = ImageIndex.open(finished / "artifacts/index", finished)
    inside = union = 0
    for entry in maps.artifact.sets["discs"]:
        name = index.names[int(maps.maps.image_ids[entry])]
        stem = Path(name).stem
        truth = np.array(Image.open(index.dataset.root / "masks" / "discs" / f"{stem}.png"))
        small = torch.from_numpy(maps.masks(int(entry))[0].astype(np.float32))
        size = truth.shape
        sized = torch.nn.functional.interpolate(small[None, None], size=size, mode="bilinear")
        mask = sized[0, 0].numpy() >= 0.5
        inside += (mask & truth).sum()
        union += (mask | truth).sum()
    scores = pd.read_parquet(finished / "artifacts/evaluation/scores.parquet")
    chosen = scores.query("layer == 'features.5' and set == 'discs' and k == 1 and maps == 'raw'")
    assert chosen["object_iou"].item() == pytest.approx(100 * inside / union)


def test_metrics_and_plots_are_for_dvc(finished: Path) -> None:
    folder = finished / "artifacts/evaluation"
    metrics = json.loads((folder / "metrics.json").read_text())
    assert metrics["images"] == 14
    node = metrics["features.5"]["discs"]["k1"]
    known = {"explained", "stability", "object_iou", "figure_iou", "overlap"}
    known |= {"held_out", "nonzero", "hoyer", "coherence"}
    assert set(node) == known, "no parts are annotated"
    assert 0 < node["held_out"] < 1 and 0 < node["nonzero"] <= 1 and node["coherence"] == 0
    losses = pd.read_csv(folder / "loss.csv")
    final = losses.query("layer == 'features.5' and set == 'discs' and k == 1").iloc[-1]
    assert node["explained"] == pytest.approx(100 * (1 - final["relative_error"] ** 2), abs=0.01)
    for _, history in losses.groupby(["layer", "set", "k", "seed"])["relative_error"]:
        assert (history.diff().dropna() <= 1e-6).all()
    quality = pd.read_csv(folder / "quality.csv")
    assert set(quality["maps"]) == {"raw", "refined"}


def test_an_image_in_no_set_of_ground_truth_is_not_scored(
    project: Path, photographs: Path, dff: Dff
) -> None:
    for path in (photographs / "masks").rglob("*.png"):
        path.unlink()
    for stage in STAGES:
        assert dff(stage.name).exit_code == 0
    assert pd.read_parquet(project / "artifacts/evaluation/scores.parquet").empty
    assert "no ground truth of masks or parts" in dff("show").stdout


@pytest.mark.parametrize("method", ["densecrf", "none", "joint"])
def test_other_refinements(mapped: Path, dff: Dff, method: str) -> None:
    project = mapped
    if method == "joint":
        edit(project, "joint: false", "joint: true")
    else:
        refine_by(project, method)
    edit(project, "masks: apart", "masks: independent")
    assert dff("refine").exit_code == 0
    raw = ConceptMaps(open_artifact(project / "artifacts/heatmaps.zarr"), "features.5")
    refined = ConceptMaps(open_artifact(project / "artifacts/refined.zarr"), "features.5")
    changed = 0
    for entry in raw.artifact.sets["discs"]:
        before, after = raw.masks(int(entry)), refined.masks(int(entry))
        changed += int((before != after).sum())
    # p = h / (h + t) reaches a half just where h reaches t: without a CRF nothing may change
    # but what 16 bits cannot tell apart
    assert changed < 5 if method == "none" else changed > 20


def everything(artifact: Artifact) -> dict[str, np.ndarray]:
    """All arrays of an artifact of maps."""
    small = ("thresholds", "boxes", "box_scores")
    found = {name: artifact.layer_array("features.5", name) for name in small}
    for name in ("maps", "masks"):
        ragged = artifact.ragged("features.5", name)
        found[name] = ragged.rows(0, int(ragged.offsets[-1]))
    return found


@pytest.mark.parametrize("method", ["densecrf", "percentile"])
def test_refinement_does_not_depend_on_workers(mapped: Path, dff: Dff, method: str) -> None:
    project = mapped
    if method == "densecrf":
        refine_by(project, method)
    else:
        edit(project, "binarise: half", "binarise: percentile")
    assert dff("refine", "--workers", "1").exit_code == 0
    expected = everything(open_artifact(project / "artifacts/refined.zarr"))
    assert dff("refine", "--workers", "3").exit_code == 0
    again = open_artifact(project / "artifacts/refined.zarr")
    for name, values in everything(again).items():
        np.testing.assert_array_equal(values, expected[name], err_msg=name)
    if method == "percentile":
        for rank, entries in enumerate(again.sets.values()):
            maps = ConceptMaps(again, "features.5")
            inside = np.concatenate([maps.masks(int(e)).reshape(3, -1).T for e in entries])
            assert inside.mean(axis=0) == pytest.approx([0.25] * 3, abs=0.005)
            assert (maps.thresholds[rank] > 0).all()


@pytest.mark.parametrize("solver", ["mu", "hals"])
def test_results_do_not_depend_on_resources(project: Path, dff: Dff, solver: str) -> None:
    edit(project, "solver: hals", f"solver: {solver}")
    edit(project, "max_passes: 100", "max_passes: 12")
    for stage in STAGES[:5]:
        assert dff(stage.name, "--workers", "1").exit_code == 0
    one = open_artifact(project / "artifacts/refined.zarr")
    expected = everything(one)
    for stage in STAGES[:5]:
        # what the process holds counts, and this one has run other tests before
        free = 256 if stage.name == "factorize" else 1024
        memory = psutil.Process().memory_info().rss // 2**20 + free
        assert dff(stage.name, "--workers", "3", "--memory", f"{memory}MiB").exit_code == 0
    again = open_artifact(project / "artifacts/refined.zarr")
    assert again.fingerprint == one.fingerprint
    for name, values in everything(again).items():
        np.testing.assert_array_equal(values, expected[name], err_msg=name)


def test_long_side_keeps_the_aspect_ratio(project: Path, dff: Dff) -> None:
    edit(project, "resize: squash", "resize: long_side")
    for stage in STAGES[:3]:
        assert dff(stage.name).exit_code == 0
    grids = open_artifact(project / "artifacts/activations.zarr").ragged("features.5").grid_hw
    # by hand: 72 x 56 becomes 64 x 50; 3 x 3 convolution of stride 2: 31 x 24; two 3 x 3 poolings
    # of stride 2, rounded up: 15 x 12, 7 x 6
    assert {tuple(grid) for grid in grids.tolist()} == {(6, 7), (7, 6), (7, 7)}
