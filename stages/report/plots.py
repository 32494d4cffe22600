"""Curves as inline SVG: they take the page's font and its text colour, light or dark."""

import io
import re
from collections.abc import Mapping, Sequence
from typing import Any

import matplotlib
import pandas as pd
from markupsafe import Markup
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from stages.report.colours import colour, css

INK = "#012345"  # stands for the page's text colour until the SVG is done
FAINT = "#012346"
SIZE = (5.6, 3.1)
STYLE: dict[Any, Any] = {
    "svg.fonttype": "none",
    "font.family": "sans-serif",
    "font.size": 10,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.edgecolor": FAINT,
    "axes.labelcolor": INK,
    "text.color": INK,
    "xtick.color": INK,
    "ytick.color": INK,
    "xtick.major.size": 0,
    "ytick.major.size": 0,
    "axes.grid": True,
    "grid.color": FAINT,
    "grid.linewidth": 0.6,
}


def loss_plot(losses: pd.DataFrame, ks: Sequence[int], salt: str) -> Markup:
    """Relative error after each update, one line per k and seed of one set at one layer."""
    with matplotlib.rc_context(STYLE | {"svg.hashsalt": salt}):
        figure, axes = _axes("update", "relative error")
        ends: dict[int, tuple[float, float]] = {}
        for rank, k in enumerate(ks):
            for _, run in losses[losses["k"] == k].groupby("seed"):
                x, y = run["update"].to_numpy(), run["relative_error"].to_numpy()
                axes.plot(x, y, color=css(colour(rank)), linewidth=1.8, marker="o", markersize=3)
                if k not in ends or x[-1] >= ends[k][0]:
                    ends[k] = (x[-1], y[-1])
        for rank, k in enumerate(ks):
            if k in ends:
                _label(axes, f"k = {k}", *ends[k], css(colour(rank)))
        axes.margins(x=0.08, y=0.1)
        return _svg(figure)


def quality_plot(curves: Mapping[str, pd.DataFrame], column: str, salt: str) -> Markup:
    """An IoU over k for raw and refined maps; bars show the deviation over the seeds.

    Parameters
    ----------
    curves : mapping of kind of maps to DataFrame
        Rows of quality.csv, one per k.
    column : str
        ``part_iou`` or ``object_iou``.
    """
    with matplotlib.rc_context(STYLE | {"svg.hashsalt": salt}):
        figure, axes = _axes("k", "IoU, per cent")
        ends: dict[str, tuple[float, float]] = {}
        for kind, rank, line in (("raw", 3, "--"), ("refined", 0, "-")):
            rows = curves[kind].sort_values("k")
            x, y, spread = (rows[name].to_numpy() for name in ("k", column, f"{column}_std"))
            axes.errorbar(
                x, y, spread if spread.any() else None, color=css(colour(rank)), linestyle=line,
                linewidth=1.8, marker="o", markersize=4.5, capsize=3,
            )  # fmt: skip
            ends[kind] = (x[-1], y[-1])
        # Kept apart where the curves end close to each other.
        apart = max(0.0, 7 - abs(ends["raw"][1] - ends["refined"][1])) / 2
        up = 1 if ends["refined"][1] >= ends["raw"][1] else -1
        for kind, rank, side in (("raw", 3, -up), ("refined", 0, up)):
            at, height = ends[kind]
            _label(axes, kind, at, height + side * apart, css(colour(rank)))
        axes.set_ylim(0, 100)
        axes.margins(x=0.08)
        return _svg(figure)


def _axes(x: str, y: str) -> tuple[Figure, Axes]:
    figure = Figure(figsize=SIZE, layout="constrained")
    axes = figure.add_subplot()
    axes.set_xlabel(x)
    axes.set_ylabel(y)
    axes.xaxis.set_major_locator(MaxNLocator(integer=True, nbins=8))
    axes.set_axisbelow(True)
    return figure, axes


def _label(axes: Axes, text: str, x: float, y: float, ink: str) -> None:
    axes.annotate(
        text, (x, y), xytext=(7, 0), textcoords="offset points", va="center", color=ink,
        fontweight="bold", annotation_clip=False,
    )  # fmt: skip


def _svg(figure: Figure) -> Markup:
    buffer = io.StringIO()
    figure.savefig(
        buffer,
        format="svg",
        transparent=True,
        metadata={"Date": None, "Creator": None, "Format": None, "Type": None},
    )
    svg = buffer.getvalue()
    svg = svg[svg.index("<svg") :]
    # Several plots share a page: group names would not be unique there, and nothing refers to them.
    svg = re.sub(r'<g id="[^"]*"', "<g", svg)
    svg = re.sub(r"<metadata>.*?</metadata>", "", svg, flags=re.DOTALL)
    svg = re.sub(r'width="[\d.]+pt" height="[\d.]+pt"', 'class="plot" aria-hidden="true"', svg)
    svg = svg.replace(FAINT, "var(--faint)").replace(INK, "currentColor")
    # Made here from numbers and fixed words only.
    return Markup(re.sub(r"font: ([^;]*?)px [^;\"]*", r"font: \1px var(--sans)", svg))
