"""Scores and tables, as evaluate writes them; see `stages.evaluate.stage` for what they mean."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from stages.artifacts.declared import Table
from stages.artifacts.tables import read_table
from store import ArtifactDamaged, ArtifactMissing, Staging, write_atomically
from store.artifact import read_attrs, write_record

if TYPE_CHECKING:
    import pandas as pd

# Regions of the ground truth besides the parts.
OBJECT, BACKGROUND = "object", "background"
# Kinds of maps in the tables.
RAW, REFINED = KINDS = ("raw", "refined")
# How the factor that is taken for the object is chosen.
BY_TRUTH, BY_SHAPE = "truth", "shape"

METRICS = "metrics.json"
# What is measured of heat maps that are not stored: `ConceptMaps.measured`.
MEASURED = "measured.zarr"


@dataclass(frozen=True)
class Evaluation:
    """The published result of the evaluate stage, open for reading."""

    folder: Path

    scores = Table(
        "scores.parquet",
        layer="text", set="text", k="whole", seed="whole", factor="whole", maps="text",
        object_iou="number", object_precision="number", object_accuracy="number",
        best_part="text", best_part_iou="number", parts="text", parts_iou="number",
        hits="whole", boxed="whole", corloc="number", border_contact="number",
        compactness="number",
    )  # fmt: skip
    coverage = Table(
        "coverage.parquet",
        layer="text", set="text", k="whole", seed="whole", factor="whole", maps="text",
        part="text", coverage="number", iou="number",
    )  # fmt: skip
    labels = Table(
        "labels.parquet",
        layer="text", set="text", k="whole", seed="whole", maps="text", label="text",
        factors="text", iou="number", images="whole",
    )  # fmt: skip
    foreground = Table(
        "foreground.parquet",
        layer="text", set="text", k="whole", seed="whole", maps="text", rule="text",
        factor="whole", object_iou="number", object_precision="number",
        object_accuracy="number", corloc="number", box_ap="number", box_recall="number",
        box_precision="number", hits="whole", boxed="whole",
    )  # fmt: skip
    partitions = Table(
        "partitions.parquet",
        layer="text", set="text", k="whole", seed="whole", maps="text",
        figure_iou="number", matched_iou="number", nmi="number", ari="number", overlap="number",
    )  # fmt: skip
    boxes = Table(
        "boxes.parquet",
        layer="text", set="text", image="text", k="whole", seed="whole", factor="whole",
        maps="text", rank="whole", top="number", left="number", bottom="number",
        right="number", area="number", score="share", mean="share",
    )  # fmt: skip
    concepts = Table(
        "concepts.parquet",
        layer="text", set="text", image="text", k="whole", seed="whole", factor="whole",
        name="text", mean="number", peak="number", raw_area="number", refined_area="number",
        x="number", y="number", top="number", left="number", bottom="number", right="number",
    )  # fmt: skip
    loss = Table(
        "loss.csv",
        layer="text", set="text", k="whole", seed="whole", update="whole",
        relative_error="number",
    )  # fmt: skip
    quality = Table(
        "quality.csv",
        layer="text", set="text", k="whole", maps="text",
        part_iou="number", part_iou_std="number",
        object_iou="number", object_iou_std="number",
        object_precision="number", object_precision_std="number",
        object_accuracy="number", object_accuracy_std="number",
        corloc="number", corloc_std="number", box_ap="number", box_ap_std="number",
        box_recall="number", box_recall_std="number",
        box_precision="number", box_precision_std="number",
        shape_object_iou="number", shape_object_iou_std="number",
        shape_object_precision="number", shape_object_precision_std="number",
        shape_object_accuracy="number", shape_object_accuracy_std="number",
        shape_corloc="number", shape_corloc_std="number",
        shape_box_ap="number", shape_box_ap_std="number",
        shape_box_recall="number", shape_box_recall_std="number",
        shape_box_precision="number", shape_box_precision_std="number",
        shape_right="number", shape_right_std="number",
        figure_iou="number", figure_iou_std="number",
        matched_iou="number", matched_iou_std="number",
        nmi="number", nmi_std="number", ari="number", ari_std="number",
        overlap="number", overlap_std="number",
        seeds="whole",
    )  # fmt: skip
    figure4 = Table(
        "figure4.csv",
        layer="text", maps="text", k="whole", part_iou="number", part_iou_std="number",
        seeds="whole", sets="whole",
    )  # fmt: skip
    choice = Table(
        "choice.csv",
        layer="text", set="text", k="whole", relative_error="number", stability="number",
        silhouette="number", seed_cosine="number", held_out="number", explained="number",
        nonzero="number", hoyer="number", dead="number", duplicates="number", coherence="number",
        suggested="flag", reason="text",
    )  # fmt: skip
    factors = Table(
        "factors.csv",
        layer="text", set="text", k="whole", seed="whole", factor="whole", name="text",
        energy="number", stability="number", nonzero="number", hoyer="number",
    )  # fmt: skip
    links = Table(
        "links.csv",
        layer="text", set="text", seed="whole", k="whole", factor="whole", parent_k="whole",
        parent_factor="whole", cosine="number",
    )  # fmt: skip

    failures = Table("failures.parquet", name="text", reason="text", scored="flag")

    @classmethod
    def open(cls, folder: Path) -> Evaluation:
        """Open the published artifact.

        Raises
        ------
        ArtifactMissing
        """
        if read_attrs(folder) is None:
            raise ArtifactMissing(f"{folder}: not there yet; run `dff run`")
        return cls(folder)

    @cached_property
    def _record(self) -> Mapping[str, Any]:
        return read_attrs(self.folder) or {}

    @property
    def damaged(self) -> dict[str, str]:
        """Why annotations could not be read, by image name."""
        return dict(self._record["damaged_annotations"])

    @property
    def scored(self) -> dict[str, dict[str, int]]:
        """By annotated set: its images, and those with an object, parts and boxes that count."""
        return dict(self._record["scored"])

    def share_scored(self, image_set: str) -> str:
        """How many of a set's images have masks or parts that count, like ``7/8``; or ''."""
        counts = self.scored.get(image_set, {"object": 0, "parts": 0})
        having = max(counts["object"], counts["parts"])
        return f"{having}/{counts['images']}" if having else ""

    def has_parts(self, image_set: str) -> bool:
        """Whether parts are annotated on any image of a set that counts."""
        return bool(self.scored.get(image_set, {"parts": 0})["parts"])

    @property
    def exclude(self) -> str:
        """Which images VOC's image sets leave out; empty for other collections."""
        return str(self._record["exclude"])

    @property
    def names(self) -> Mapping[str, Any]:
        """What factors are called; for `stages.naming.names.FactorNames.from_record`."""
        return dict(self._record["names"])

    @property
    def metrics(self) -> dict[str, Any]:
        """Nested numbers, as `dvc metrics show` has them."""
        path = self.folder / METRICS
        try:
            return dict(json.loads(path.read_bytes()))
        except (OSError, ValueError) as error:
            raise ArtifactDamaged(f"{path}: cannot be read ({error})") from error

    def rows(self, table: Table, columns: Sequence[str], of: Mapping[str, Any]) -> pd.DataFrame:
        """Rows of a large table whose columns have these values, without reading the others."""
        filters = [(name, "==", value) for name, value in of.items()]
        return read_table(self.folder / table.file, columns=list(columns), filters=filters)

    def by_shape(self, seed: int, layer: str | None = None) -> pd.DataFrame:
        """Rows of `foreground` of the factors that shape speaks for, of one seed."""
        table = self.foreground
        shaped = (table["rule"] == BY_SHAPE) & (table["seed"] == seed)
        return table[shaped if layer is None else shaped & (table["layer"] == layer)]


def write_metrics(folder: Path, metrics: Mapping[str, Any]) -> None:
    """Store `Evaluation.metrics`."""
    write_atomically(folder / METRICS, json.dumps(metrics, indent=1).encode())


def object_measure(row: Mapping[Any, Any]) -> str:
    """The column of `Evaluation.quality` that says the object's IoU in a row of it.

    That of the figure's factors together; of the one that fits best where it is not known which
    they are.
    """
    known = row["figure_iou"]
    return "object_iou" if known is None or math.isnan(known) else "figure_iou"


def finish_evaluation(
    work: Staging,
    damaged: Mapping[str, str],
    exclude: str,
    scored: Mapping[str, Mapping[str, int]],
    names: Mapping[str, Any],
) -> None:
    """Store what is no table; written last."""
    write_record(
        work.path,
        stage="evaluate",
        fingerprint=work.fingerprint,
        # threads find them in any order, and the artifact is the same in every run
        damaged_annotations=dict(sorted(damaged.items())),
        exclude=exclude,
        scored={name: dict(counts) for name, counts in scored.items()},
        names=names,
    )
