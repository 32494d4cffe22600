"""What a finished run prints: where the report is, and the scores."""

import json
from pathlib import Path

import pandas as pd
from rich.console import Console
from rich.table import Table

from pipeline.registry import BY_NAME
from stages.artifacts.image_index import ImageIndex
from stages.artifacts.tables import read_table
from store import ArtifactMissing
from store.artifact import read_attrs


def print_summary(project: Path) -> None:
    """Print the table of scores and the report's address.

    Raises
    ------
    ArtifactMissing
        When the pipeline has not run yet.
    """
    evaluation = project / BY_NAME["evaluate"].writes
    page = project / BY_NAME["report"].writes / "index.html"
    if not page.exists():
        raise ArtifactMissing(f"{page}: not there yet; run `dff run`")
    console = Console(markup=False, highlight=False)
    text = {"layer": str, "set": str, "maps": str}
    quality = read_table(
        evaluation / "quality.csv", dtype=text, keep_default_na=False, na_values=""
    )
    if quality["object_iou"].notna().any():
        console.print(_table(quality))
    if quality["corloc"].notna().any():
        console.print(_corloc(evaluation))
    if quality.empty:
        metrics = json.loads((evaluation / "metrics.json").read_text())
        console.print(
            f"{metrics['images']} images; no ground truth of masks or parts, so no scores"
        )
    failures = ImageIndex.open(project / BY_NAME["index"].writes, project).failures
    if len(failures):
        console.print(f"{len(failures)} image files could not be used; the report lists them")
    console.print(f"report: {page.resolve()}", soft_wrap=True)


def _table(quality: pd.DataFrame) -> Table:
    table = Table(
        "layer", "set", "k", "object IoU %", "refined", "best-part IoU %", "refined", box=None
    )
    for (layer, name, k), group in quality.groupby(["layer", "set", "k"], sort=False):
        scores = group.set_index("maps")[["object_iou", "part_iou"]].astype(float)
        if scores.isna().all(axis=None):
            continue
        cells = [
            f"{float(scores[score][kind]):.1f}"
            for score in ("object_iou", "part_iou")
            for kind in ("raw", "refined")
        ]
        table.add_row(str(layer), str(name), str(k), *cells)
    return table


def _corloc(evaluation: Path) -> Table:
    """Per class and the mean over the classes, of the first seed; hits/total in brackets."""
    exclude = (read_attrs(evaluation) or {}).get("exclude")
    table = Table("layer", "k", "set", "CorLoc % (hits/total)", "refined", box=None)
    if exclude:
        table.title = f"boxes by shape; images left out: {exclude}"
    chosen = read_table(evaluation / "foreground.parquet")
    chosen = chosen[(chosen["rule"] == "shape") & chosen["corloc"].notna()]
    chosen = chosen[chosen["seed"] == chosen["seed"].iloc[0]]
    for (layer, k), group in chosen.groupby(["layer", "k"], sort=False):
        for name, rows in group.groupby("set", sort=False):
            by_kind = rows.set_index("maps")
            cells = [
                f"{row['corloc']:.2f} ({row['hits']}/{row['boxed']})"
                for row in (by_kind.loc[kind] for kind in ("raw", "refined"))
            ]
            table.add_row(str(layer), str(k), str(name), *cells)
        means = group.groupby("maps")["corloc"].mean()
        cells = [f"{float(means[kind]):.2f}" for kind in ("raw", "refined")]
        table.add_row(str(layer), str(k), "mean", *cells)
    return table
