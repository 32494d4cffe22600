"""The curves of a page, as inline SVG."""

from collections.abc import Mapping, Sequence
from typing import Any

from markupsafe import Markup

from stages.drawing.colours import Colour, colour, css
from stages.drawing.curves import FAINT, Chart

Rows = Sequence[Mapping[Any, Any]]


def loss_plot(losses: Rows, ks: Sequence[int]) -> Markup:
    """Relative error after each update, one line per k and seed of one set at one layer.

    Parameters
    ----------
    losses
        Rows of loss.csv, the updates of a run in order.
    """
    chart = Chart("update", "relative error", margin_y=0.1)
    runs: dict[tuple[int, int], list[tuple[float, float]]] = {}
    for row in losses:
        points = runs.setdefault((row["k"], row["seed"]), [])
        points.append((row["update"], row["relative_error"]))
    for rank, k in enumerate(ks):
        ink = css(colour(rank))
        of_k = [points for (other, _), points in runs.items() if other == k]
        for points in of_k:
            chart.line(points, ink, marker=3)
        if of_k:
            chart.name(f"k = {k}", *max((points[-1] for points in of_k), key=lambda at: at[0]), ink)
    return chart.svg()


def quality_plot(curves: Mapping[str, Rows], column: str) -> Markup:
    """An IoU over k for raw and refined maps; bars show the deviation over the seeds.

    Parameters
    ----------
    curves : mapping of kind of maps to rows
        Of quality.csv, one per k.
    column : str
        ``part_iou``, ``figure_iou`` or ``object_iou``.
    """
    chart = Chart("k", "IoU, per cent", limits=(0, 100))
    ends: dict[str, tuple[float, float]] = {}
    for kind, rank, dashed in (("raw", 3, True), ("refined", 0, False)):
        rows, ink = sorted(curves[kind], key=lambda row: row["k"]), css(colour(rank))
        points = [(row["k"], row[column]) for row in rows]
        spread = [row[f"{column}_std"] for row in rows]
        if any(one > 0 for one in spread):
            for (x, y), one in zip(points, spread, strict=True):
                chart.bar(x, y, one, ink)
        chart.line(points, ink, dashed=dashed, marker=4.5)
        ends[kind] = points[-1]
    _name_ends(chart, ends, {"raw": 3, "refined": 0}, gap=7)
    return chart.svg()


def choice_plot(choice: Rows) -> Markup:
    """Stability and silhouette over k; the suggested k is ringed."""
    rows = sorted(choice, key=lambda row: row["k"])
    lowest = min(row["silhouette"] for row in rows)
    chart = Chart("k", "over runs on half samples", limits=(min(0.0, lowest), 1.05))
    ends: dict[str, tuple[float, float]] = {}
    for name, rank, dashed in (("silhouette", 3, True), ("stability", 0, False)):
        points = [(row["k"], row[name]) for row in rows]
        chart.line(points, css(colour(rank)), dashed=dashed, marker=4.5)
        ends[name] = points[-1]
    _name_ends(chart, ends, {"silhouette": 3, "stability": 0}, gap=0.09)
    for row in rows:
        if row["suggested"]:
            ring = 'fill="none" stroke="currentColor" stroke-width="1.4"'
            chart.dot(row["k"], row["stability"], 11, ring)
    return chart.svg()


def family_plot(links: Rows, colours: Mapping[int, Sequence[Colour]]) -> Markup:
    """Which factor splits from which: one row of dots per k, a line to each one's parent.

    Parameters
    ----------
    links
        Rows of links.csv of one set and seed.
    colours : mapping of k to colours of its factors
    """
    places = _places(links, {k: len(found) for k, found in colours.items()})
    rank = {k: -at for at, k in enumerate(sorted(colours))}
    ticks = [(at, str(k)) for k, at in rank.items()]
    chart = Chart("", "k", margin_y=0.12, grid=False, ticks_y=ticks)
    for row in links:
        start = places[row["parent_k"], row["parent_factor"]], rank[row["parent_k"]]
        end = places[row["k"], row["factor"]], rank[row["k"]]
        chart.line([start, end], FAINT, width=round(0.6 + 4 * row["cosine"] ** 2, 2))
    for k, found in colours.items():
        for factor, one in enumerate(found):
            at = places[k, factor], rank[k]
            chart.dot(*at, 14, f'fill="{css(one)}"')
            chart.text(str(factor), *at, "white" if sum(one) < 380 else "black")
    return chart.svg()


def _places(links: Rows, sizes: Mapping[int, int]) -> dict[tuple[int, int], float]:
    """Where each factor stands, 0 to 1: below its parent, so that few lines cross."""
    parent = {(r["k"], r["factor"]): (r["parent_k"], r["parent_factor"]) for r in links}
    places: dict[tuple[int, int], float] = {}
    for k in sorted(sizes):
        above = [places[parent[k, j]] if (k, j) in parent else 0.5 for j in range(sizes[k])]
        order = sorted(range(sizes[k]), key=above.__getitem__)
        for place, factor in enumerate(order):
            places[k, factor] = (place + 0.5) / sizes[k]
    return places


def _name_ends(
    chart: Chart, ends: Mapping[str, tuple[float, float]], ranks: Mapping[str, int], gap: float
) -> None:
    """Name two curves at their ends, at least `gap` apart where they end close to each other."""
    (low, (x, bottom)), (high, (_, top)) = sorted(ends.items(), key=lambda one: one[1][1])
    apart = max(0.0, gap - (top - bottom)) / 2
    chart.name(low, x, bottom - apart, css(colour(ranks[low])))
    chart.name(high, x, top + apart, css(colour(ranks[high])))
