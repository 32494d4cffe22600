"""Curves as inline SVG: they take the page's font and its text colour, light or dark."""

import io
import re
from collections.abc import Mapping, Sequence
from typing import Any

import pandas as pd
from markupsafe import Markup

from stages.drawing.colours import Colour, colour, css
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
        ``part_iou``, ``figure_iou`` or ``object_iou``.
    """
    with matplotlib.rc_context(STYLE | {"svg.hashsalt": salt}):
        figure, axes = _axes("k", "IoU, per cent")
        ends: dict[str, tuple[float, float]] = {}
        for kind, rank, line in (("raw", 3, "--"), ("refined", 0, "-")):
            rows = curves[kind].sort_values("k")
            x, y, spread = (rows[name].to_numpy() for name in ("k", column, f"{column}_std"))
            axes.errorbar(
                x, y, spread if (spread > 0).any() else None, color=css(colour(rank)),
                linestyle=line, linewidth=1.8, marker="o", markersize=4.5, capsize=3,
            )  # fmt: skip
            ends[kind] = (x[-1], y[-1])
        _label_ends(axes, ends, {"raw": 3, "refined": 0}, gap=7)
        axes.set_ylim(0, 100)
        axes.margins(x=0.08)
        return _svg(figure)


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


def choice_plot(choice: pd.DataFrame, salt: str) -> Markup:
    """Stability and silhouette over k; the suggested k is ringed."""
    with matplotlib.rc_context(STYLE | {"svg.hashsalt": salt}):
        figure, axes = _axes("k", "over runs on half samples")
        rows = choice.sort_values("k")
        ends: dict[str, tuple[float, float]] = {}
        for name, rank, line in (("silhouette", 3, "--"), ("stability", 0, "-")):
            axes.plot(
                rows["k"], rows[name], color=css(colour(rank)), linestyle=line, linewidth=1.8,
                marker="o", markersize=4.5,
            )  # fmt: skip
            ends[name] = (rows["k"].iloc[-1], rows[name].iloc[-1])
        _label_ends(axes, ends, {"silhouette": 3, "stability": 0}, gap=0.09)
        chosen = rows[rows["suggested"]]
        axes.plot(
            chosen["k"], chosen["stability"], "o", markersize=11, markerfacecolor="none",
            markeredgecolor=INK, markeredgewidth=1.4,
        )  # fmt: skip
        axes.set_ylim(min(0.0, float(rows["silhouette"].min())), 1.05)
        axes.margins(x=0.08)
        return _svg(figure)


def family_plot(links: pd.DataFrame, colours: Mapping[int, Sequence[Colour]], salt: str) -> Markup:
    """Which factor splits from which: one row of dots per k, a line to each one's parent.

    Parameters
    ----------
    links : DataFrame
        Rows of links.csv of one set and seed.
    colours : mapping of k to colours of its factors
    """
    places = _places(links, {k: len(found) for k, found in colours.items()})
    with matplotlib.rc_context(STYLE | {"svg.hashsalt": salt}):
        figure, axes = _axes("", "k")
        axes.grid(False)
        rank = {k: -at for at, k in enumerate(sorted(colours))}
        for row in links.to_dict("records"):
            start = places[row["parent_k"], row["parent_factor"]]
            end = places[row["k"], row["factor"]]
            axes.plot(
                [start, end], [rank[row["parent_k"]], rank[row["k"]]], color=FAINT,
                linewidth=0.6 + 4 * row["cosine"] ** 2, solid_capstyle="round", zorder=1,
            )  # fmt: skip
        for k, found in colours.items():
            for factor, one in enumerate(found):
                at = places[k, factor]
                axes.plot(at, rank[k], "o", markersize=13, color=css(one), zorder=2)
                axes.annotate(
                    str(factor), (at, rank[k]), ha="center", va="center", fontsize=8,
                    color="white" if sum(one) < 380 else "black", zorder=3,
                )  # fmt: skip
        axes.set_yticks(list(rank.values()), [str(k) for k in rank])
        axes.set_xticks([])
        axes.spines[:].set_visible(False)
        axes.margins(x=0.08, y=0.12)
        return _svg(figure)


def _places(links: pd.DataFrame, sizes: Mapping[int, int]) -> dict[tuple[int, int], float]:
    """Where each factor stands, 0 to 1: below its parent, so that few lines cross."""
    parent = {(r["k"], r["factor"]): (r["parent_k"], r["parent_factor"])
              for r in links.to_dict("records")}  # fmt: skip
    places: dict[tuple[int, int], float] = {}
    for k in sorted(sizes):
        above = [places[parent[k, j]] if (k, j) in parent else 0.5 for j in range(sizes[k])]
        order = sorted(range(sizes[k]), key=above.__getitem__)
        for place, factor in enumerate(order):
            places[k, factor] = (place + 0.5) / sizes[k]
    return places


def _axes(x: str, y: str) -> tuple[Figure, Axes]:
    figure = Figure(figsize=SIZE, layout="constrained")
    axes = figure.add_subplot()
    axes.set_xlabel(x)
    axes.set_ylabel(y)
    axes.xaxis.set_major_locator(MaxNLocator(integer=True, nbins=8))
    axes.set_axisbelow(True)
    return figure, axes


def _label_ends(
    axes: Axes, ends: Mapping[str, tuple[float, float]], ranks: Mapping[str, int], gap: float
) -> None:
    """Name two curves at their ends, at least `gap` apart where they end close to each other."""
    (low, (x, bottom)), (high, (_, top)) = sorted(ends.items(), key=lambda one: one[1][1])
    apart = max(0.0, gap - (top - bottom)) / 2
    _label(axes, low, x, bottom - apart, css(colour(ranks[low])))
    _label(axes, high, x, top + apart, css(colour(ranks[high])))


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
