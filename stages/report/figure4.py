"""The paper's Figure 4, of this run: a figure of matplotlib, and inline SVG for the page."""

import io
import re
from collections.abc import Mapping
from typing import Any

import pandas as pd
from markupsafe import Markup

from stages.drawing.colours import colour, css
from stages.drawing.figures import Axes, Figure, MaxNLocator, matplotlib

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


def figure4_plot(table: pd.DataFrame) -> Markup:
    """Mean best-part IoU over k, one line per layer, bands of one deviation over the seeds.

    Raw maps with dashes, refined ones without, as in the other plots.

    Parameters
    ----------
    table : DataFrame
        figure4.csv.
    """
    with matplotlib.rc_context(STYLE | {"svg.hashsalt": "figure4"}):
        return _svg(figure4(table))


def figure4(table: pd.DataFrame) -> Figure:
    """The same as a figure of matplotlib."""
    with matplotlib.rc_context(STYLE):
        figure, axes = _axes("k", "mean best-part IoU, per cent")
        layers = list(dict.fromkeys(table["layer"]))
        ends: dict[str, tuple[float, float]] = {}
        for rank, layer in enumerate(layers):
            for kind, line in (("raw", "--"), ("refined", "-")):
                rows = table[(table["layer"] == layer) & (table["maps"] == kind)].sort_values("k")
                x, y, spread = (rows[n].to_numpy() for n in ("k", "part_iou", "part_iou_std"))
                ink = css(colour(rank))
                axes.plot(x, y, color=ink, linestyle=line, linewidth=1.8, marker="o", markersize=4)
                if (spread > 0).any():
                    axes.fill_between(x, y - spread, y + spread, color=ink, alpha=0.18, linewidth=0)
                ends[layer if kind == "refined" else f"{layer} raw"] = (x[-1], y[-1])
        heights = _apart({name: end[1] for name, end in ends.items()}, gap=7)
        for name, (x_end, _) in ends.items():
            rank = layers.index(name.removesuffix(" raw"))
            _label(axes, name, x_end, heights[name], css(colour(rank)))
        axes.set_ylim(0, None)
        axes.margins(x=0.08)
    return figure


def _apart(heights: Mapping[str, float], gap: float) -> dict[str, float]:
    """Heights of labels, moved up where two would be closer than `gap`."""
    moved: dict[str, float] = {}
    below = -float("inf")
    for name, height in sorted(heights.items(), key=lambda one: one[1]):
        below = moved[name] = max(height, below + gap)
    return moved


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
