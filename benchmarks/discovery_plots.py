"""The plots of docs/quality.md, from the rows of `benchmarks/discovery.py`."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.discovery_maps import ALONE, APART, DDT, KMEANS, RAW
from stages.drawing.colours import colour, css
from stages.drawing.figures import Axes, Figure, encoded, matplotlib

BEST = "224 + 416: "
OBJECTS = {
    "PCA, DDT's rule": DDT,
    "DFF": RAW,
    "+ refinement": ALONE,
    "+ a second size": f"{BEST}{ALONE}",
}
PARTS = {
    "k-means": KMEANS,
    "DFF": RAW,
    "+ refinement": ALONE,
    "+ apart": APART,
    "+ a second size": f"{BEST}{APART}",
}
COLLECTIONS = {
    "weizmann": "horses",
    "msrc_cow": "cows",
    "exercise": "people",
    "demo": "demo",
    "voc2007_6x2": "VOC 2007",
}
STYLE = {
    "font.size": 9,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "xtick.major.size": 0,
    "axes.axisbelow": True,
    "axes.grid": True,
    "axes.grid.axis": "y",
    "grid.color": "#dddddd",
}
HELD_OUT = "held out"


def draw(rows: Sequence[Mapping[str, Any]], folder: Path) -> None:
    """Write ``quality-objects.svg`` and ``quality-parts.svg``."""
    with matplotlib.rc_context(STYLE):
        for name, figure in (("objects", objects(rows)), ("parts", parts(rows))):
            path = folder / f"quality-{name}.svg"
            path.write_bytes(encoded(figure, "svg", 100))


def objects(rows: Sequence[Mapping[str, Any]]) -> Figure:
    """IoU with the object, and CorLoc, of k = 1 on held-out images."""
    figure = Figure(figsize=(8.2, 3.0), layout="constrained")
    left, right = figure.subplots(1, 2)
    for axes, measure, title in (
        (left, "object", "IoU, masks"),
        (right, "corloc", "CorLoc, boxes"),
    ):
        shown = [c for c in COLLECTIONS if _value(rows, c, RAW, 1, measure) is not None]
        if measure == "object":
            shown = [c for c in shown if c != "voc2007_6x2"]
        values = {
            label: [_value(rows, c, method, 1, measure) for c in shown]
            for label, method in OBJECTS.items()
        }
        _bars(axes, values, [COLLECTIONS[c] for c in shown], f"{title}, k = 1, per cent")
    handles, labels = left.get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=len(labels), frameon=False)
    return figure


def parts(rows: Sequence[Mapping[str, Any]]) -> Figure:
    """Measures of parts on held-out images, means over k = 2 to 4."""
    figure = Figure(figsize=(8.2, 3.0), layout="constrained")
    columns = figure.subplots(1, 2)
    measures = {"matched": "matched IoU", "nmi": "NMI", "ari": "ARI", "overlap": "overlap"}
    for axes, collection in zip(columns, ("exercise", "demo"), strict=True):
        values = {
            label: [_mean(rows, collection, method, measure) for measure in measures]
            for label, method in PARTS.items()
        }
        title = f"{COLLECTIONS[collection]}, k = 2 to 4, per cent"
        _bars(axes, values, list(measures.values()), title)
    handles, labels = columns[0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=len(labels), frameon=False)
    return figure


def _bars(
    axes: Axes,
    values: Mapping[str, Sequence[float | None]],
    places: Sequence[str],
    title: str,
) -> None:
    """Groups of bars, one group per place; the first kind of bar, no DFF, is grey."""
    width = 0.84 / len(values)
    for at, (label, heights) in enumerate(values.items()):
        ink = "#b4b4b4" if at == 0 else css(colour(at - 1))
        known = [np.nan if height is None else height for height in heights]
        x = np.arange(len(places)) + (at - (len(values) - 1) / 2) * width
        axes.bar(x, known, 0.92 * width, color=ink, label=label)
    axes.set_xticks(range(len(places)), places)
    axes.set_title(title, fontsize=9)


def _value(
    rows: Sequence[Mapping[str, Any]], collection: str, method: str, k: int, measure: str
) -> float | None:
    where = {"collection": collection, "method": method, "k": k, "half": HELD_OUT}
    found = [row[measure] for row in rows if measure in row and where.items() <= row.items()]
    return float(found[0]) if found else None


def _mean(
    rows: Sequence[Mapping[str, Any]], collection: str, method: str, measure: str
) -> float | None:
    found = [_value(rows, collection, method, k, measure) for k in (2, 3, 4)]
    known = [value for value in found if value is not None]
    return float(np.mean(known)) if known else None
