"""What a finished run prints: where the report is, and the scores."""

import json
from pathlib import Path

import pandas as pd
from rich.console import Console
from rich.table import Table

from pipeline.registry import BY_NAME
from stages.image_index import ImageIndex
from stages.tables import read_table
from store import ArtifactMissing


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
    quality = read_table(evaluation / "quality.csv")
    if len(quality):
        console.print(_table(quality))
    else:
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
        cells = [
            f"{float(scores[score][kind]):.1f}"
            for score in ("object_iou", "part_iou")
            for kind in ("raw", "refined")
        ]
        table.add_row(str(layer), str(name), str(k), *cells)
    return table
