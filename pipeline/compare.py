"""`dff compare`: several projects in one table and one figure (the paper's Figure 4)."""

import sys
from collections.abc import Sequence
from pathlib import Path

import pandas as pd
from rich.console import Console
from rich.table import Table

from pipeline.registry import BY_NAME
from stages.artifacts.activations import OWN, Activations, NetworkFacts, pixels_seen
from stages.artifacts.evaluation import Evaluation
from stages.frame.errors import StageError
from store import ArtifactMissing, write_atomically


def compare(projects: Sequence[Path], out: Path) -> Path:
    """Write a table and a picture: mean best-part IoU over k of every project's layers.

    The picture's kind is that of the suffix of `out`, ``.pdf``, ``.svg`` or ``.png``, else PNG;
    beside it lies ``.csv``.

    Returns the picture's path.

    Raises
    ------
    ArtifactMissing
        When a project was not evaluated.
    StageError
        When two projects share network, layer and size, nothing was annotated, or the files cannot
        be written.
    """
    suffix = out.suffix.lower()
    format = suffix.removeprefix(".") if suffix in (".pdf", ".svg") else "png"
    if suffix in (".pdf", ".svg", ".png", ".csv"):
        out = out.with_suffix("")
    if not out.name:
        raise StageError(f"--out {out}: must be a file's name")
    opened = [_opened(project) for project in projects]
    networks = [network for _, network in opened]
    labelled = [_labelled(table, network, networks) for table, network in opened]
    together = pd.concat(labelled, ignore_index=True)
    if together.empty:
        raise StageError("no parts or masks are annotated in these projects: nothing to compare")
    twice = together[together.duplicated(["layer", "maps", "k"])]
    if len(twice):
        raise StageError(
            f"{twice['layer'].iloc[0]}: two projects have this network, layer and size"
        )
    _print(together)
    # imported here: the other commands draw nothing
    from stages.drawing.figures import encoded
    from stages.report.figure4 import figure4

    picture = encoded(figure4(together), format, dpi=200)
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        write_atomically(out.with_name(f"{out.name}.csv"), together.to_csv(index=False).encode())
        write_atomically(target := out.with_name(f"{out.name}.{format}"), picture)
    except OSError as error:
        raise StageError(f"{out}: cannot be written ({error.strerror})") from error
    return target


def _opened(project: Path) -> tuple[pd.DataFrame, NetworkFacts]:
    """A project's table of Figure 4, and what saw its photographs."""
    folder = project / BY_NAME["evaluate"].writes
    if not folder.exists():
        raise ArtifactMissing(f"{folder}: not there yet; run `dff run --project {project}`")
    table = Evaluation.open(folder).figure4
    return table, Activations.open(project / BY_NAME["extract"].writes).network


def _labelled(
    table: pd.DataFrame, network: NetworkFacts, networks: Sequence[NetworkFacts]
) -> pd.DataFrame:
    """Layers named with their network, and with its sizes where a network has seen others, too."""
    name = network["backbone"]
    sizes = {pixels_seen(one) for one in networks if one["backbone"] == name}
    after = f", {pixels_seen(network)}" if len(sizes) > 1 and name != OWN else ""
    return table.assign(layer=name + " " + table["layer"] + after)


def _print(table: pd.DataFrame) -> None:
    ks = sorted({int(k) for k in table["k"]})
    shown = Table("network, layer", "maps", *(f"k = {k}" for k in ks), box=None)
    for (layer, kind), group in table.groupby(["layer", "maps"], sort=False):
        known = {int(row["k"]): row for row in group.to_dict("records")}
        cells = [
            _cell(known[k]["part_iou"], known[k]["part_iou_std"], known[k]["seeds"])
            if k in known
            else "–"
            for k in ks
        ]
        shown.add_row(str(layer), str(kind), *cells)
    width = None if sys.stdout.isatty() else 60 + 14 * len(ks)
    Console(width=width, markup=False, highlight=False).print(shown)


def _cell(mean: float, std: float, seeds: int) -> str:
    """One seed does not deviate from itself."""
    return f"{mean:.1f} ± {std:.1f}" if seeds > 1 else f"{mean:.1f}"
