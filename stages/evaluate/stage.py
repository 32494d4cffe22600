"""evaluate: maps + ground truth -> scores, tables and plots.

Writes, all per layer, image set, k, seed and kind of maps (raw, refined):

- ``scores.parquet``: one row per factor of every annotated set: IoU, precision and accuracy with
  the object, the best part, the parts that belong to it (eq. 7, or its label) and the IoU with
  their union (eqs. 8, 9), CorLoc, border contact and compactness;
- ``coverage.parquet``: factor x region; ``labels.parquet``: IoU of labelled parts, the factors of
  one name united;
- ``foreground.parquet``: the factor taken for the object, by ground truth and by shape alone;
- ``boxes.parquet``: every connected component of every mask, in pixels of its image, 0-based and
  half-open, with its score; ``detections/``: the largest ones in VOC's and COCO's formats;
- ``metrics.json`` (for `dvc metrics`), ``loss.csv``, ``quality.csv``, ``figure4.csv`` and
  ``choice.csv`` (for `dvc plots`), ``links.csv`` (`choice_tables`), ``artifact.json``.

IoU is dataset-wide (eq. 9), in per cent, at the size of the ground truth.
"""

import json
from collections.abc import Iterator
from pathlib import Path

import pandas as pd

from stages.artifacts.concept_maps import ConceptMaps
from stages.artifacts.image_index import ImageIndex
from stages.evaluate.boxes import Annotated, box_table, main_boxes, write_detections
from stages.evaluate.choice_tables import choice_table, link_table
from stages.evaluate.counting import Counting, Key
from stages.evaluate.labels import Labels, read_labels
from stages.evaluate.params import EvaluateParams
from stages.evaluate.scores import Tables, merged_columns, score_set
from stages.evaluate.tables import (
    figure4_table,
    foreground_table,
    loss_table,
    metrics_of,
    quality_table,
)
from stages.evaluate.truth import SetTruth
from stages.frame.fingerprint import file_digest
from stages.frame.params import user_path
from stages.frame.progress import track
from stages.frame.resources import Resources
from stages.frame.stage import Inputs, Stage
from store import Artifact, Staging, open_artifact, write_atomically
from store.artifact import write_record

KINDS = {"raw": "heatmaps", "refined": "refine"}


def sources(params: EvaluateParams, project: Path) -> str:
    """Digest of the labels; a file without any is as good as none."""
    path = user_path(params.labels, project)
    return file_digest(path) if read_labels(path).sets else ""


def run(params: EvaluateParams, inputs: Inputs, work: Staging, resources: Resources) -> None:
    """See `stages.frame.stage.Stage.run`."""
    factors = open_artifact(inputs["factorize"])
    index = ImageIndex.open(inputs["index"], inputs.project, factors)
    opened = {kind: open_artifact(inputs[stage]) for kind, stage in KINDS.items()}
    labels = read_labels(user_path(params.labels, inputs.project)).check(factors)
    tables = Tables()
    damaged: dict[str, str] = {}
    annotated: list[Annotated] = []
    with track("evaluate", len(factors.sets), "sets") as advance:
        for counting in countings(factors, index, opened, labels):
            truth = counting.truth
            if truth.annotated:
                sums = counting.run(resources)
                score_set(tables, params.coverage, labels, counting, sums)
                damaged |= truth.damaged
                for image_id, found in sorted(truth.boxes.items()):
                    annotated += [(truth.name, image_id, box) for box in found]
            advance(1)
    foreground = _write_tables(work, tables, factors, index)
    boxes = box_table(opened, index)
    boxes.to_parquet(work.path / "boxes.parquet")
    # boxes on images that do not count would be false alarms to other tools
    left_out = {(name, image) for name, images in labels.seen.items() for image in images}
    left_out |= {(name, image) for name in factors.sets for image in damaged}
    write_detections(work.path / "detections", boxes, foreground, index, annotated, left_out)
    options = index.attrs["options"]
    write_record(
        work.path,
        stage="evaluate",
        fingerprint=work.fingerprint,
        # threads find them in any order, and the artifact is the same in every run
        damaged_annotations=dict(sorted(damaged.items())),
        exclude="" if options.get("together") else options.get("exclude", ""),
    )


def countings(
    factors: Artifact, index: ImageIndex, opened: dict[str, Artifact], labels: Labels
) -> Iterator[Counting]:
    """What is to be counted, set by set."""
    maps: dict[Key, ConceptMaps] = {
        (layer, kind): ConceptMaps(artifact, layer)
        for layer in factors.layers
        for kind, artifact in opened.items()
    }
    image_ids = next(iter(maps.values())).maps.image_ids
    boxes = {key: main_boxes(one, index) for key, one in maps.items()}
    for name, entries in factors.sets.items():
        truth = SetTruth(index, name, labels.seen.get(name, frozenset()))
        where = [(int(entry), int(image_ids[entry])) for entry in entries]
        merged = merged_columns(labels, name, maps)
        yield Counting(truth, maps, boxes, where, merged)


def _write_tables(
    work: Staging, tables: Tables, factors: Artifact, index: ImageIndex
) -> pd.DataFrame:
    """All tables but that of boxes; returns the one of the factors taken for the object."""
    scores, coverage, labelled = tables.frames()
    foreground = foreground_table(scores)
    frames = {
        "scores": scores,
        "coverage": coverage,
        "labels": labelled,
        "foreground": foreground,
    }
    for name, frame in frames.items():
        frame.to_parquet(work.path / f"{name}.parquet")
    losses = loss_table(factors)
    quality = quality_table(scores, foreground)
    choice = choice_table(factors, losses)
    plots = {
        "loss": losses,
        "quality": quality,
        "figure4": figure4_table(scores),
        "choice": choice,
        "links": link_table(factors),
    }
    for name, frame in plots.items():
        frame.to_csv(work.path / f"{name}.csv", index=False)
    metrics = metrics_of(quality, losses, choice, index)
    write_atomically(work.path / "metrics.json", json.dumps(metrics, indent=1).encode())
    return foreground


EVALUATE: Stage[EvaluateParams] = Stage(
    name="evaluate",
    version=4,
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
    files=("labels",),
    sources=sources,
)
