"""Tables over factors, seeds and image sets, and the numbers for `dvc metrics`."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd

from stages.algorithms.foreground import most_compact
from stages.artifacts.evaluation import BY_SHAPE, BY_TRUTH, OBJECT, REFINED, Evaluation
from stages.artifacts.factors import Factors
from stages.artifacts.image_index import ImageIndex

WHERE = ["layer", "set", "k", "seed", "maps"]
# measures of the factor taken for the object
OBJECT_MEASURES = ["object_iou", "object_precision", "object_accuracy", "corloc"]
# and of all its boxes: average precision, the recall they reach, the precision there
BOX_MEASURES = ["box_ap", "box_recall", "box_precision"]
OF_FACTOR = ["factor", *OBJECT_MEASURES, "hits", "boxed"]
QUALITY_KEYS = ["layer", "set", "k", "maps"]
# measures of all masks of a factorization together
OF_ALL = ["figure_iou", "matched_iou", "nmi", "ari", "overlap"]


def loss_table(factors: Factors) -> pd.DataFrame:
    """Relative error ``||A - HW|| / ||A||`` after each update of every factorization."""
    rows = []
    for layer in factors.layers:
        loss, norm = factors.at(layer).loss, factors.at(layer).norm
        for rank, name in enumerate(factors.sets):
            for problem, (k, seed) in enumerate(factors.factorizations.problems):
                history = loss[rank, problem]
                for update, value in enumerate(history[~np.isnan(history)], start=1):
                    error = np.sqrt(value / norm[rank]) if norm[rank] > 0 else 0.0
                    rows.append((layer, name, k, seed, update, float(error)))
    return Evaluation.loss.frame(rows)


def foreground_table(scores: pd.DataFrame) -> pd.DataFrame:
    """The factor taken for the object, of every factorization, by two rules.

    ``truth``: the one that fits best, by IoU or, without masks, by CorLoc: an upper bound, for it
    has seen the ground truth. ``shape``: the one that border contact and compactness of its masks
    speak for (`stages.algorithms.foreground`).
    """
    rows = []
    for keys, group in scores.groupby(WHERE, sort=False):
        measure = "object_iou" if group["object_iou"].notna().any() else "corloc"
        best = int(group[measure].fillna(-1).to_numpy().argmax())
        shaped = most_compact(group["compactness"].to_numpy(), group["border_contact"].to_numpy())
        for rule, at in ((BY_TRUTH, best), (BY_SHAPE, shaped)):
            row = group.iloc[at]
            where = dict(zip(WHERE, keys, strict=True))
            of_boxes = dict.fromkeys(BOX_MEASURES, np.nan)  # `box_scores` says them
            rows.append(where | {"rule": rule} | row[OF_FACTOR].to_dict() | of_boxes)
    return Evaluation.foreground.frame(rows)


def quality_table(
    scores: pd.DataFrame, foreground: pd.DataFrame, partitions: pd.DataFrame
) -> pd.DataFrame:
    """Per set, k and kind of maps: means over the seeds and, as ``_std``, standard deviations.

    ``part_iou`` is the mean over the factors of the IoU with the single best part (never the
    background). Of the factor that fits the object best: ``object_iou``, ``object_precision``,
    ``object_accuracy``, ``corloc`` and, of all its boxes, ``box_ap``, ``box_recall`` and
    ``box_precision``; of the one that shape speaks for the same as ``shape_...``, and
    ``shape_right``: of how many seeds that one is the best, or as good.
    For k = 1 the two are one. Of all masks together `OF_ALL`, as in `Evaluation.partitions`. NaN
    where the ground truth has no such thing, as `part_iou` of a set without parts and all but
    ``overlap`` of one without annotations, and where one seed has no deviation.
    """
    keys = [*QUALITY_KEYS, "seed"]
    per_seed = partitions.set_index(keys)[OF_ALL].sort_index()
    best = scores.groupby(keys)["best_part_iou"].mean()
    per_seed.insert(0, "part_iou", best.reindex(per_seed.index))
    for rule, prefix in ((BY_TRUTH, ""), (BY_SHAPE, "shape_")):
        chosen = foreground[foreground["rule"] == rule].set_index(keys)
        chosen = chosen[[*OBJECT_MEASURES, *BOX_MEASURES]]
        per_seed = per_seed.join(chosen.astype(float).add_prefix(prefix))
    per_seed["shape_right"] = _right(per_seed)
    with_parts = scores.loc[~scores["best_part"].isin([OBJECT, ""]), "set"].unique()
    has_parts = per_seed.index.get_level_values("set").isin(with_parts)
    per_seed["part_iou"] = per_seed["part_iou"].where(has_parts)
    over_seeds = per_seed.groupby(level=QUALITY_KEYS)
    measures = list(per_seed)
    means = over_seeds.mean()
    if over_seeds.size().max() > 1:
        spread = over_seeds.agg(_deviation)
    else:  # the same in a moment: one by one a thousand sets take half a minute
        spread = pd.DataFrame(np.nan, means.index, measures)
    spread = spread.add_suffix("_std")
    order = [name for measure in measures for name in (measure, f"{measure}_std")]
    table = means.join(spread)[order]
    table["seeds"] = over_seeds.size()
    return table.reset_index()


def _right(per_seed: pd.DataFrame) -> "pd.Series[float]":
    """100 where shape speaks for a factor that fits as well as the best, else 0; NaN of none."""
    masks = per_seed["object_iou"].notna()
    best, chosen = (
        per_seed[f"{prefix}object_iou"].where(masks, per_seed[f"{prefix}corloc"])
        for prefix in ("", "shape_")
    )
    return (100.0 * (chosen >= best)).where(best.notna())


def _deviation(values: "pd.Series[float]") -> float:
    """Of these seeds, not an estimate for others; one alone has none."""
    return float(values.std(ddof=0)) if len(values) > 1 else np.nan


def figure4_table(scores: pd.DataFrame) -> pd.DataFrame:
    """The paper's Figure 4: mean best-part IoU over the image sets, by layer and k.

    Where only the whole object is annotated, as in iCoseg, it is the one part there is.
    ``part_iou_std`` is the deviation over the seeds of that mean over the sets; NaN for one seed.
    """
    keys = ["layer", "maps", "k"]
    by_set = scores.groupby([*keys, "seed", "set"])["best_part_iou"].mean().dropna()
    by_seed = by_set.groupby(level=[*keys, "seed"]).mean()
    over_seeds = by_seed.groupby(level=keys)
    table = pd.DataFrame(
        {
            "part_iou": over_seeds.mean(),
            "part_iou_std": over_seeds.agg(_deviation),
            "seeds": over_seeds.size(),
            "sets": by_set.groupby(level=keys).apply(lambda one: one.index.unique("set").size),
        }
    )
    return table.reset_index()


def metrics_of(
    quality: pd.DataFrame,
    losses: pd.DataFrame,
    choice: pd.DataFrame,
    index: ImageIndex,
    own: Sequence[str],
) -> dict[str, Any]:
    """Nested numbers for `dvc metrics show`: a few by layer, set and k, and means over the sets.

    Means are over the collection's `own` sets: not over those that lie within factors of these.

    ``explained`` is the share of the activations' energy, per cent. All scores are of refined
    masks but in the means over the sets, which have both.
    """
    metrics: dict[str, Any] = {
        "images": len(index.images),
        "unreadable_images": len(index.unreadable),
    }
    final = losses.groupby(["layer", "set", "k", "seed"], as_index=False).last()
    for (layer, name, k), group in final.groupby(["layer", "set", "k"]):
        node = metrics.setdefault(str(layer), {}).setdefault(str(name), {})
        explained = 100 * (1 - group["relative_error"] ** 2).mean()
        node[f"k{k}"] = {"explained": round(float(explained), 2)}
    for row in choice.to_dict("records"):
        node = metrics[row["layer"]][row["set"]]
        for name in ("stability", "held_out", "nonzero", "hoyer", "coherence"):
            if not np.isnan(row[name]):
                node[f"k{row['k']}"][name] = round(float(row[name]), 3)
        if row["suggested"]:
            node["suggested_k"] = int(row["k"])
    names = ["object_iou", "part_iou", "corloc", *OF_ALL]
    for row in quality[quality["maps"] == REFINED].to_dict("records"):
        metrics[row["layer"]][row["set"]][f"k{row['k']}"] |= _rounded(row, names)
    of_own = quality[quality["set"].isin(own)]
    for (layer, k, kind), group in of_own.groupby(["layer", "k", "maps"]):
        mean = metrics[str(layer)].setdefault("mean over sets", {}).setdefault(f"k{k}", {})
        mean[str(kind)] = _rounded(group[names].mean().to_dict(), names)
    return metrics


def _rounded(row: dict[Any, Any], names: Sequence[str]) -> dict[str, float]:
    """Those of the numbers that there are."""
    return {name: round(float(row[name]), 2) for name in names if not np.isnan(row[name])}
