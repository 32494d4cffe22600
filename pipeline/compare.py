"""`dff compare`: several projects in one table and one figure (the paper's Figure 4)."""

import io
import sys
from collections.abc import Sequence
from pathlib import Path

import pandas as pd
from rich.console import Console
from rich.table import Table

from pipeline.registry import BY_NAME
from stages.artifacts.tables import read_table
from stages.frame.errors import StageError
from store import ArtifactMissing, open_artifact, write_atomically


def compare(projects: Sequence[Path], out: Path) -> Path:
    """Write ``<out>.csv`` and ``<out>.png``: mean best-part IoU over k of every project's layers.

    Returns the picture's path.

    Raises
    ------
    ArtifactMissing
        When a project was not evaluated.
    StageError
        When two projects share network and layer, nothing was annotated, or the files cannot be
        written.
    """
    if out.suffix in (".png", ".csv"):
        out = out.with_suffix("")
    if not out.name:
        raise StageError(f"--out {out}: must be a file's name, without its suffix")
    together = pd.concat([_labelled(project) for project in projects], ignore_index=True)
    if together.empty:
        raise StageError("no parts or masks are annotated in these projects: nothing to compare")
    twice = together[together.duplicated(["layer", "maps", "k"])]
    if len(twice):
        raise StageError(f"{twice['layer'].iloc[0]}: two projects have this network and layer")
    _print(together)
    # imported here: the other commands draw nothing
    from stages.report.plots import figure4

    picture = io.BytesIO()
    figure4(together).savefig(picture, format="png", dpi=200)
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        write_atomically(out.with_name(f"{out.name}.csv"), together.to_csv(index=False).encode())
        write_atomically(target := out.with_name(f"{out.name}.png"), picture.getvalue())
    except OSError as error:
        raise StageError(f"{out}: cannot be written ({error.strerror})") from error
    return target


def _labelled(project: Path) -> pd.DataFrame:
    """A project's figure4.csv, its layers named with their network."""
    evaluation = project / BY_NAME["evaluate"].writes
    if not evaluation.exists():
        raise ArtifactMissing(f"{evaluation}: not there yet; run `dff run --project {project}`")
    network = open_artifact(project / BY_NAME["extract"].writes).attrs["backbone"]
    text = {"layer": str, "maps": str}
    table = read_table(evaluation / "figure4.csv", dtype=text, keep_default_na=False)
    return table.assign(layer=str(network) + " " + table["layer"])


def _print(table: pd.DataFrame) -> None:
    ks = sorted({int(k) for k in table["k"]})
    shown = Table("network, layer", "maps", *(f"k = {k}" for k in ks), box=None)
    for (layer, kind), group in table.groupby(["layer", "maps"], sort=False):
        known = {int(row["k"]): row for row in group.to_dict("records")}
        cells = [
            f"{known[k]['part_iou']:.1f} ± {known[k]['part_iou_std']:.1f}" if k in known else "–"
            for k in ks
        ]
        shown.add_row(str(layer), str(kind), *cells)
    width = None if sys.stdout.isatty() else 60 + 14 * len(ks)
    Console(width=width, markup=False, highlight=False).print(shown)
