"""Every table that evaluate makes, in the report's folder: that is sent without the rest."""

import os
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import pyarrow.parquet as pq

from stages.artifacts.evaluation import METRICS
from stages.artifacts.explained_tables import curves_table, importance_table
from stages.report.opened import Opened
from stages.report.paper import Comparison

FOLDER, LEFT_OUT = "tables", "left-out.csv"
# More rows than a spreadsheet scrolls well through: these stay Parquet.
MOST_ROWS = 100_000

MEANINGS = {
    "scores": "IoU, CorLoc and best part of every factor, raw and refined, by set, k and seed",
    "coverage": "how much of each annotated part every factor covers (eq. 7), and their IoU",
    "labels": "IoU of what labels.yaml names",
    "foreground": "which factor is taken for the object, by truth and by shape, and its scores",
    "partitions": "all masks of a k together: IoU of matched parts, NMI, ARI, overlap",
    "quality": "scores by set and k, mean and deviation over the seeds",
    "figure4": "the paper's Figure 4: part IoU over k",
    "choice": "what helps to choose k: error, stability, silhouette, the suggestion",
    "factors": "every factor: its share of the energy, how reproducible and how sparse it is",
    "links": "which factor of a larger k goes on from which of a smaller one",
    "loss": "relative error after every update",
    "concepts": "strength (shares of its largest value in the set), area, place and box of every "
    "factor on every image",
    "boxes": "boxes around all components of all masks",
    "failures": "annotations that could not be read or look wrong, and why",
}


EXPLAINED = {
    "importance": (importance_table, "what every concept means to the network's own classes"),
    "importance-curves": (curves_table, "logits while concepts are added or taken away"),
}


@dataclass(frozen=True)
class TableFile:
    """A table in the report's folder."""

    href: str  # from the report's folder
    meaning: str
    rows: int | None  # None for what is no table

    @property
    def label(self) -> str:
        """Its file's name."""
        return Path(self.href).name


def _same_file(source: Path, target: Path) -> None:
    """A large table once more, by a link: published files are replaced, never written in place."""
    target.unlink(missing_ok=True)  # of a run that was interrupted
    try:
        os.link(source.resolve(), target)
    except OSError:
        shutil.copyfile(source, target)


def write_tables(
    folder: Path, opened: Opened, comparisons: Sequence[Comparison]
) -> list[TableFile]:
    """Put all tables that have rows into the folder; say which there are.

    As CSV, for spreadsheets; Parquet with more than `MOST_ROWS` rows. First the paper's
    tables, then evaluate's and explain's, what index left out, and metrics.json.
    """
    folder.mkdir(exist_ok=True)
    evaluation, found = opened.evaluation, []
    for table in comparisons:
        path = folder / f"{table.name}.csv"
        table.frame().to_csv(path, index=False)
        found.append(TableFile(f"{FOLDER}/{path.name}", table.title, len(table.rows)))
    for name, meaning in MEANINGS.items():
        source = evaluation.folder / f"{name}.parquet"
        rows = int(pq.read_metadata(source).num_rows)
        if not rows:
            continue
        path = folder / (f"{name}.csv" if rows <= MOST_ROWS else source.name)
        if path.suffix == ".csv":
            getattr(evaluation, name).to_csv(path, index=False)
        else:
            _same_file(source, path)
        found.append(TableFile(f"{FOLDER}/{path.name}", meaning, rows))
    for name, (table_of, meaning) in EXPLAINED.items():
        frame = table_of(opened.explained)
        if len(frame):
            frame.to_csv(folder / f"{name}.csv", index=False)
            found.append(TableFile(f"{FOLDER}/{name}.csv", meaning, len(frame)))
    if left := len(opened.index.failures):
        opened.index.failures.to_csv(folder / LEFT_OUT, index=False)
        found.append(TableFile(f"{FOLDER}/{LEFT_OUT}", "files that were left out, and why", left))
    shutil.copyfile(evaluation.folder / METRICS, folder / METRICS)
    found.append(
        TableFile(f"{FOLDER}/{METRICS}", "the main scores, as `dvc metrics show` reads them", None)
    )
    return found
