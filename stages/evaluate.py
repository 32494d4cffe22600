"""evaluate: maps + ground truth -> scores, tables and plots.

Writes ``scores.parquet`` (one row per factor, for raw and refined maps), ``coverage.parquet``
(factor x part), ``boxes.parquet`` (every connected component of every mask, in pixels of its image,
0-based and half-open, with its score: see `ConceptMaps.boxes`), ``metrics.json`` (for `dvc
metrics`), ``loss.csv``, ``quality.csv`` and ``choice.csv`` (for `dvc plots`), ``links.csv`` (see
`stages.choice_tables`) and ``artifact.json``.
IoU is dataset-wide (eq. 9), in per cent, at the size of the ground truth.
"""

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from stages.algorithms.metrics import OverlapCounts, UnionCounts
from stages.choice_tables import choice_table, link_table
from stages.concept_maps import SIDES, ConceptMaps
from stages.datasets import DatasetError, GroundTruth
from stages.image_index import ImageIndex
from stages.progress import track
from stages.stage import Inputs, Resources, Stage, param
from store import Artifact, Staging, open_artifact, write_atomically
from store.artifact import write_record

OBJECT = "object"
KINDS = {"raw": "heatmaps", "refined": "refine"}
SCORE_COLUMNS = [
    "layer", "set", "k", "seed", "factor", "maps", "object_iou", "best_part", "best_part_iou",
    "parts", "parts_iou",
]  # fmt: skip


@dataclass(frozen=True)
class EvaluateParams:
    """How factors are compared with annotated parts."""

    coverage: float = param(0.5, "a part belongs to a factor that covers more than this of it")

    def __post_init__(self) -> None:
        if not 0 <= self.coverage < 1:
            raise ValueError(f"coverage: {self.coverage} is not a share from 0 to below 1")


class _SetTruth:
    """Ground truth of the annotated images of one set, read again in each pass."""

    def __init__(self, index: ImageIndex, name: str, damaged: dict[str, str]) -> None:
        self.index, self.name, self.damaged = index, name, damaged
        annotated = index.images["annotation_sha256"] != ""
        self.image_ids = [i for i in index.sets[name] if annotated.iloc[i]]
        names: dict[str, None] = {}
        has_object = False
        for _, truth in self.read():
            names.update(dict.fromkeys(truth.parts))
            has_object |= truth.whole is not None
        self.has_object = has_object
        self.parts = sorted(names)

    def read(self) -> Iterator[tuple[int, GroundTruth]]:
        """(image id, ground truth) of every image whose annotation can be read."""
        for image_id in self.image_ids:
            name = self.index.names[image_id]
            if name in self.damaged:
                continue
            try:
                truth = self.index.dataset.ground_truth(name, self.name)
            except DatasetError as error:
                # relative, so that the artifact does not depend on where the collection lies
                self.damaged[name] = str(error).replace(f"{self.index.dataset.root}/", "")
                continue
            if truth.whole is not None or truth.parts:  # boxes alone say nothing of pixels
                yield image_id, truth

    def stacked(self, truth: GroundTruth) -> NDArray[np.bool_]:
        """The object and then the parts, bool ``[1 + parts, h, w]``."""
        known = [truth.whole, *truth.parts.values()]
        shape = next(mask.shape for mask in known if mask is not None)
        empty = np.zeros(shape, dtype=bool)
        masks = [truth.whole if truth.whole is not None else empty]
        masks += [truth.parts.get(part, empty) for part in self.parts]
        return np.stack(masks)


def run(params: EvaluateParams, inputs: Inputs, work: Staging, resources: Resources) -> None:
    """See `stages.stage.Stage.run`."""
    factors = open_artifact(inputs["factorize"])
    index = ImageIndex.open(inputs["index"], inputs.project, factors)
    opened = {kind: open_artifact(inputs[stage]) for kind, stage in KINDS.items()}
    damaged: dict[str, str] = {}
    scores: list[dict[str, Any]] = []
    coverage: list[dict[str, Any]] = []
    with track("evaluate", len(factors.sets), "sets") as advance:
        for name in factors.sets:
            truth = _SetTruth(index, name, damaged)
            if truth.has_object:
                for layer in factors.layers:
                    for kind, artifact in opened.items():
                        maps = ConceptMaps(artifact, layer)
                        where = {"layer": layer, "set": name, "maps": kind}
                        rows, cells = _score_set(params, maps, name, truth)
                        scores += [where | row for row in rows]
                        coverage += [where | cell for cell in cells]
            advance(1)
    table = pd.DataFrame(scores, columns=SCORE_COLUMNS)
    table.to_parquet(work.path / "scores.parquet")
    pd.DataFrame(
        coverage, columns=["layer", "set", "k", "seed", "factor", "maps", "part", "coverage", "iou"]
    ).to_parquet(work.path / "coverage.parquet")
    _boxes(opened, index).to_parquet(work.path / "boxes.parquet")
    losses = loss_table(factors)
    losses.to_csv(work.path / "loss.csv", index=False)
    quality = quality_table(table)
    quality.to_csv(work.path / "quality.csv", index=False)
    choice = choice_table(factors, losses)
    choice.to_csv(work.path / "choice.csv", index=False)
    link_table(factors).to_csv(work.path / "links.csv", index=False)
    metrics = _metrics(quality, losses, choice, index)
    write_atomically(work.path / "metrics.json", json.dumps(metrics, indent=1).encode())
    write_record(
        work.path, stage="evaluate", fingerprint=work.fingerprint, damaged_annotations=damaged
    )


def _boxes(opened: dict[str, Artifact], index: ImageIndex) -> pd.DataFrame:
    """The boxes of all masks, in pixels of their images."""
    tables = []
    for kind, artifact in opened.items():
        set_of = {entry: name for name, entries in artifact.sets.items() for entry in entries}
        for layer in artifact.layers:
            maps = ConceptMaps(artifact, layer)
            boxes = maps.boxes
            ids = maps.maps.image_ids[boxes["entry"]]
            scale = index.sizes[ids] / maps.maps.grid_hw[boxes["entry"]]  # [boxes, (down, across)]
            columns = np.array(maps.columns).reshape(-1, 3)[boxes["column"]]
            sides = boxes[list(SIDES)].to_numpy() * scale[:, [0, 1, 0, 1]]
            where = {"layer": layer, "set": boxes["entry"].map(set_of)}
            where["image"] = np.array(index.names, dtype=object)[ids]
            where |= {name: columns[:, i] for i, name in enumerate(("k", "seed", "factor"))}
            where |= {"maps": kind, "rank": boxes["rank"]}
            where |= {side: sides[:, i] for i, side in enumerate(SIDES)}
            area = boxes["area"] * scale.prod(axis=1)
            tables.append(pd.DataFrame(where | {"area": area, "score": boxes["score"]}))
    return pd.concat(tables, ignore_index=True)


def _score_set(
    params: EvaluateParams, maps: ConceptMaps, name: str, truth: _SetTruth
) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """Score rows and coverage rows of one set's factors."""
    entry_of = {int(maps.maps.image_ids[entry]): int(entry) for entry in maps.artifact.sets[name]}
    overlap = OverlapCounts(len(maps.columns), 1 + len(truth.parts))
    for image_id, annotated in truth.read():
        regions = truth.stacked(annotated)
        overlap.add(maps.masks(entry_of[image_id], regions.shape[1:]), regions)
    # the object is scored by itself: it is not one of the parts, unless there are no others
    association = overlap.associate(params.coverage)
    association[:, 0] &= not truth.parts
    unions = UnionCounts(association)
    for image_id, annotated in truth.read():
        regions = truth.stacked(annotated)
        unions.add(maps.masks(entry_of[image_id], regions.shape[1:]), regions)
    return _rows(maps, truth, overlap, association, unions)


def _rows(
    maps: ConceptMaps,
    truth: _SetTruth,
    overlap: OverlapCounts,
    association: NDArray[np.bool_],
    unions: UnionCounts,
) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    regions = [OBJECT, *truth.parts]
    single, covered, union_iou = 100 * overlap.iou_single(), overlap.coverage(), unions.iou()
    first = 1 if truth.parts else 0
    scores, cells = [], []
    for column, (k, seed, factor) in enumerate(maps.columns):
        best = first + int(single[column, first:].argmax())
        where = {"k": k, "seed": seed, "factor": factor}
        scores.append(
            where
            | {
                "object_iou": single[column, 0],
                "best_part": regions[best],
                "best_part_iou": single[column, best],
                "parts": "/".join(regions[i] for i in np.flatnonzero(association[column])),
                "parts_iou": 100 * union_iou[column],
            }
        )
        for i, region in enumerate(regions):
            shares = {"part": region, "coverage": covered[column, i], "iou": single[column, i]}
            cells.append(where | shares)
    return scores, cells


def loss_table(factors: Artifact) -> pd.DataFrame:
    """Relative error ``||A - HW|| / ||A||`` after each update of every factorization."""
    rows = []
    for layer in factors.layers:
        loss = factors.layer_array(layer, "loss")  # [sets, problems, updates]
        norm = factors.layer_array(layer, "norm")
        for rank, name in enumerate(factors.sets):
            for problem, (k, seed) in enumerate(factors.attrs["problems"]):
                history = loss[rank, problem]
                for update, value in enumerate(history[~np.isnan(history)], start=1):
                    error = np.sqrt(value / norm[rank]) if norm[rank] > 0 else 0.0
                    rows.append((layer, name, k, seed, update, float(error)))
    return pd.DataFrame(rows, columns=["layer", "set", "k", "seed", "update", "relative_error"])


def quality_table(scores: pd.DataFrame) -> pd.DataFrame:
    """Per set, k and kind of maps: mean and standard deviation over the seeds.

    ``part_iou`` is the mean over the factors of the IoU with the single best part; ``object_iou``
    that of the factor that fits the object best (for k = 1 the only one).
    """
    keys = ["layer", "set", "k", "maps"]
    per_seed = scores.groupby([*keys, "seed"], as_index=False).agg(
        part_iou=("best_part_iou", "mean"), object_iou=("object_iou", "max")
    )
    return per_seed.groupby(keys, as_index=False).agg(
        part_iou=("part_iou", "mean"),
        part_iou_std=("part_iou", lambda values: values.std(ddof=0)),
        object_iou=("object_iou", "mean"),
        object_iou_std=("object_iou", lambda values: values.std(ddof=0)),
        seeds=("part_iou", "size"),
    )


def _metrics(
    quality: pd.DataFrame, losses: pd.DataFrame, choice: pd.DataFrame, index: ImageIndex
) -> dict[str, Any]:
    """Nested numbers for `dvc metrics show`: by layer, set and k, and the means over the sets."""
    metrics: dict[str, Any] = {
        "images": len(index.images),
        "unreadable_images": len(index.failures),
    }
    final = losses.groupby(["layer", "set", "k", "seed"], as_index=False).last()
    for (layer, name, k), group in final.groupby(["layer", "set", "k"]):
        node = metrics.setdefault(str(layer), {}).setdefault(str(name), {})
        node[f"k{k}"] = {"relative_error": round(float(group["relative_error"].mean()), 5)}
    for row in choice.to_dict("records"):
        node = metrics[row["layer"]][row["set"]]
        for name in ("stability", "silhouette"):
            if not np.isnan(row[name]):
                node[f"k{row['k']}"][name] = round(float(row[name]), 3)
        if row["suggested"]:
            node["suggested_k"] = int(row["k"])
    names = ["object_iou", "part_iou"]
    for row in quality.to_dict("records"):
        node = metrics[row["layer"]][row["set"]][f"k{row['k']}"]
        node[row["maps"]] = {name: round(float(row[name]), 2) for name in names}
    for (layer, k, kind), group in quality.groupby(["layer", "k", "maps"]):
        mean = metrics[str(layer)].setdefault("mean over sets", {}).setdefault(f"k{k}", {})
        mean[str(kind)] = {name: round(float(group[name].mean()), 2) for name in names}
    return metrics


EVALUATE: Stage[EvaluateParams] = Stage(
    name="evaluate",
    version=3,
    params=EvaluateParams,
    reads={
        "index": Path("artifacts/index"),
        "factorize": Path("artifacts/factors.zarr"),
        "heatmaps": Path("artifacts/heatmaps.zarr"),
        "refine": Path("artifacts/refined.zarr"),
    },
    writes=Path("artifacts/evaluation"),
    run=run,
    summary="Compare the maps with the ground truth, where there is any.",
    code=(
        "stages/evaluate.py",
        "stages/choice_tables.py",
        "stages/concept_maps.py",
        "stages/algorithms/heatmap.py",
        "stages/algorithms/masks.py",
        "stages/algorithms/metrics.py",
        "stages/algorithms/nmf",
        "stages/datasets",
        "store",
    ),
)
