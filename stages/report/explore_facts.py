"""What the page to explore says of a run, its image sets and their factors: plain values."""

from collections.abc import Hashable, Mapping, Sequence
from typing import Any

from stages.artifacts.concept_maps import FULL_COLOUR
from stages.artifacts.evaluation import OBJECT, REFINED
from stages.drawing.overlays import GAMMA, OPACITY
from stages.report.concepts import Concepts
from stages.report.explore_meaning import meaning_of, reasons_of_run
from stages.report.left_out import left_out_lists
from stages.report.opened import Opened
from stages.report.packed import FORMAT
from stages.report.page import FactorView, KView, LayerView, SetView, many
from stages.report.scores import factor_scores
from stages.report.tables import TableFile
from stages.report.thumbnails import Photographs

MOST = 8  # colours that are told apart in one picture: Draw.most in draw.js


def facts_of_run(
    opened: Opened,
    sets: Sequence[dict[str, Any]],
    photographs: Photographs,
    tables: Sequence[TableFile],
) -> dict[str, Any]:
    """The payload ``index``: the run, its image sets (`facts_of_set`), what was left out."""
    facts = opened.heatmaps[opened.layer].facts
    return {
        "format": FORMAT,
        "facts": [list(fact) for fact in opened.facts()],
        "layers": list(opened.factors.layers),
        "ks": opened.ks,
        "percentile": float(facts["percentile"]),
        "fullColour": FULL_COLOUR,
        "gamma": GAMMA,
        "opacity": OPACITY,
        "method": str(opened.refined[opened.layer].facts["method"]),
        "large": photographs.large.long_side if photographs.large else None,
        "meaning": reasons_of_run(opened),
        "sets": list(sets),
        "tables": [[one.href, one.label, one.meaning, one.rows] for one in tables],
        "leftOut": [
            {
                "title": some.title,
                "meaning": some.meaning,
                "count": some.count,
                "rows": [[str(row["name"]), str(row["reason"])] for row in some.rows],
            }
            for some in left_out_lists(opened)
        ],
    }


def facts_of_set(opened: Opened, view: SetView, shown: int) -> dict[str, Any]:
    """An image set and its scores, of whose images the page has `shown`."""
    layer = view.layers[0]
    suggested = layer.choice.suggested if layer.choice else None
    return {
        "name": view.name,
        "count": shown,
        "total": view.count,
        "href": "index.html" if many(opened) else view.href,
        "within": _within(opened, view),
        "k": suggested or _stable_k(opened, view, layer),
        "suggested": suggested,
        "scores": [
            {
                "layer": at,
                "k": row.k,
                "explained": number(row.explained),
                "stability": number(chosen.get(row.k, {}).get("stability")),
                **_scores(row.scores),
            }
            for at, one in enumerate(view.layers)
            for chosen in [_chosen(opened, view, one)]
            for row in one.rows
        ],
    }


def _within(opened: Opened, view: SetView) -> dict[str, int] | None:
    """The factor that a set lies within: number of its image set, k, factor."""
    if view.within is None:
        return None
    rank = opened.ranks[view.within.parent]
    return {"set": rank, "k": view.within.k, "factor": view.within.factor}


def _stable_k(opened: Opened, view: SetView, layer: LayerView) -> int:
    """What is shown first where no k is suggested: the most stable k above 1, or else the largest
    whose concepts are told apart by colour."""
    stability = {k: row["stability"] for k, row in _chosen(opened, view, layer).items() if k > 1}
    known = {k: value for k, value in stability.items() if value == value}
    ks = [one.k for one in layer.ks]
    if known:
        return max(known, key=lambda k: known[k])
    return max((k for k in ks if k <= MOST), default=ks[0])


def _chosen(opened: Opened, of_set: SetView, layer: LayerView) -> dict[int, dict[Hashable, Any]]:
    """What helps to choose k, by k: rows of ``choice.parquet``."""
    return {int(row["k"]): row for row in opened.rows("choice", layer.name, of_set.name)}


def _scores(scores: Sequence[Any]) -> dict[str, Any]:
    """Of refined masks, per cent: the object's IoU, and the mean best part's."""
    refined = scores[1], scores[3]
    return dict(
        zip(
            ("object", "part"),
            (None if one is None else number(one.mean) for one in refined),
            strict=True,
        )
    )


def facts_of_ks(
    opened: Opened, of_set: SetView, layer: LayerView, concepts: Mapping[int, Concepts]
) -> list[dict[str, Any]]:
    """Every factorization of a set at one layer, k ascending."""
    links = opened.rows("links", layer.name, of_set.name)
    parents = {
        (int(row["k"]), int(row["factor"])): [
            int(row["parent_k"]),
            int(row["parent_factor"]),
            number(row["cosine"]),
        ]
        for row in links
        if row["seed"] == opened.seed
    }
    chosen = _chosen(opened, of_set, layer)
    scores = {row.k: _scores(row.scores) for row in layer.rows}
    losses: dict[int, list[float | None]] = {}
    for row in opened.rows("loss", layer.name, of_set.name):
        if row["seed"] == opened.seed:
            losses.setdefault(row["k"], []).append(number(row["relative_error"]))
    by_factor = {one.k: factor_scores(opened, layer.name, of_set.name, one.k) for one in layer.ks}
    return [
        {
            "k": one.k,
            "explained": number(one.explained),
            "stability": number(chosen.get(one.k, {}).get("stability")),
            "heldOut": number(chosen.get(one.k, {}).get("held_out")),
            "nonzero": number(chosen.get(one.k, {}).get("nonzero")),
            "suggested": bool(chosen.get(one.k, {}).get("suggested", False)),
            "reason": str(chosen.get(one.k, {}).get("reason", "")),
            **scores[one.k],
            "meaning": meaning_of(opened.explained, layer.name, of_set.name, one.k),
            "loss": losses.get(one.k, []),
            "factors": [
                {
                    **_facts_of_factor(one, concepts[one.k], j),
                    **_fit_of_factor(by_factor[one.k].get((j, REFINED))),
                    "parent": parents.get((one.k, j)),
                }
                for j in range(one.k)
            ],
        }
        for one in layer.ks
    ]


def _facts_of_factor(view: KView, concepts: Concepts, j: int) -> dict[str, Any]:
    factor: FactorView = view.factors[j]
    return {
        "name": factor.name,
        "colour": factor.colour,
        "energy": number(factor.energy),
        "stability": number(factor.stability),
        "nonzero": number(factor.nonzero),
        "full": float(concepts.full[j]),  # the share of the set's largest that gets full colour
        "start": float(concepts.mask_starts()[j]),  # of raw masks, 1 being full colour
        # among the images that are shown: of a large set not all are
        "tops": concepts.top_images(j, len(factor.strongest)),
    }


def _fit_of_factor(row: Mapping[Hashable, Any] | None) -> dict[str, Any]:
    """The annotated part that a factor fits best, or the object where no parts are annotated."""
    if row is None:
        return {"part": "", "iou": None}
    if row["best_part"]:
        return {"part": str(row["best_part"]), "iou": number(row["best_part_iou"])}
    iou = number(row["object_iou"])
    return {"part": "" if iou is None else OBJECT, "iou": iou}


def number(value: Any) -> float | None:
    """A number for a payload, to four digits after the point; None where there is none."""
    return None if value is None or value != value else round(float(value), 4)
