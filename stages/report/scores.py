"""Tables of the page, from the tables of the evaluate stage."""

import math
from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from typing import Any

from stages.artifacts.evaluation import BACKGROUND, KINDS, OBJECT, REFINED, object_measure
from stages.report.opened import Opened

PART = "part_iou"
OBJECT_IOU = "object_iou"
MEASURES = (OBJECT_IOU, PART, "matched_iou")
OF_PARTS = ("nmi", "ari", "overlap")  # of refined masks alone


@dataclass(frozen=True)
class Score:
    """A number of the score table in per cent, and its deviation over the seeds if it has one."""

    mean: float
    std: float | None


@dataclass(frozen=True)
class ScoreRow:
    """One image set and k.

    `scores` hold object raw, refined, part raw, refined, matched parts raw, refined, and of refined
    masks NMI, ARI and overlap; or nothing. `explained` is the share of
    the activations' energy in per cent, `error` the relative error: both means over the seeds.
    `scored` is how many of how many images the scores are of, like ``7/8``.
    """

    name: str
    k: int
    scores: list[Score | None]
    explained: float
    error: float
    first: bool  # of its set
    rows: int  # of its set
    scored: str = ""


@dataclass(frozen=True)
class CoverageTable:
    """Which factor covers how much of which part: refined masks of one factorization."""

    parts: list[str]
    cover: list[list[float]]  # [factor][part], per cent
    iou: list[list[float]]


def score_rows(opened: Opened, layer: str, names: Sequence[str]) -> list[ScoreRow]:
    """Rows of the score table of one layer, by set and k."""
    rows = []
    for name in names:
        known = {(row["k"], row["maps"]): row for row in opened.rows("quality", layer, name)}
        # the last update of each run
        final = {(row["k"], row["seed"]): row for row in opened.rows("loss", layer, name)}
        errors: dict[int, list[float]] = {}
        for (k, _), row in final.items():
            errors.setdefault(k, []).append(row["relative_error"])
        scored = opened.evaluation.share_scored(name)
        has_parts = opened.evaluation.has_parts(name)
        shown = [(measure, kind) for measure in MEASURES for kind in KINDS]
        shown += [(measure, REFINED) for measure in OF_PARTS]
        for k in opened.ks:
            scores = [
                _score(known.get((k, kind)), measure)
                if measure == OBJECT_IOU or has_parts
                else None
                for measure, kind in shown
            ]
            explained = sum(100 * (1 - one**2) for one in errors[k]) / len(errors[k])
            error = sum(errors[k]) / len(errors[k])
            first = k == opened.ks[0]
            rows.append(ScoreRow(name, k, scores, explained, error, first, len(opened.ks), scored))
    return rows


def _score(row: dict[Hashable, Any] | None, measure: str) -> Score | None:
    if row is None:
        return None
    if measure == OBJECT_IOU:
        measure = object_measure(row)
    if math.isnan(row[measure]):
        return None
    return Score(row[measure], row[f"{measure}_std"])


def mean_rows(rows: Sequence[ScoreRow], label: str) -> list[ScoreRow]:
    """Means over the sets that have ground truth, by k."""
    ks = sorted({row.k for row in rows})
    means = []
    for k in ks:
        mine = [row for row in rows if row.k == k]
        columns = zip(*(row.scores for row in mine), strict=True)
        scores = [_mean_score([score for score in column if score]) for column in columns]
        explained = sum(row.explained for row in mine) / len(mine)
        error = sum(row.error for row in mine) / len(mine)
        means.append(ScoreRow(label, k, scores, explained, error, k == ks[0], len(ks)))
    return means


def _mean_score(scores: Sequence[Score]) -> Score | None:
    return Score(sum(one.mean for one in scores) / len(scores), None) if scores else None


def factor_scores(
    opened: Opened, layer: str, name: str, k: int
) -> dict[tuple[int, str], dict[Hashable, Any]]:
    """Score rows of one factorization by (factor, raw or refined); empty without ground truth."""
    rows = _of("scores", opened, layer, name, k)
    return {(row["factor"], row["maps"]): row for row in rows}


def coverage_table(opened: Opened, layer: str, name: str, k: int) -> CoverageTable | None:
    """The factors against the annotated parts; None when no parts are annotated."""
    rows = [row for row in _of("coverage", opened, layer, name, k) if row["maps"] == REFINED]
    parts = [part for part in dict.fromkeys(row["part"] for row in rows) if part != OBJECT]
    if not set(parts) - {BACKGROUND}:
        return None
    cells = {(row["factor"], row["part"]): row for row in rows}
    shown = [OBJECT, *parts]
    return CoverageTable(
        shown,
        [[100 * cells[factor, part]["coverage"] for part in shown] for factor in range(k)],
        [[cells[factor, part]["iou"] for part in shown] for factor in range(k)],
    )


def _of(table: str, opened: Opened, layer: str, name: str, k: int) -> list[dict[Hashable, Any]]:
    """Rows of one factorization, of the first seed."""
    rows = opened.rows(table, layer, name)
    return [row for row in rows if row["k"] == k and row["seed"] == opened.seed]


@dataclass(frozen=True)
class CorLocRow:
    """Boxes of one image set and k: CorLoc in per cent, and hits of how many images."""

    name: str
    k: int
    cells: list[tuple[float, str]]  # raw, refined
    mean: bool  # over the sets, rather than one of them


def corloc_rows(opened: Opened, layer: str) -> list[CorLocRow]:
    """By k, every set with annotated boxes, and their mean; boxes by shape, of the first seed."""
    table = opened.evaluation.by_shape(opened.seed, layer)
    table = table[table["corloc"].notna() & table["set"].isin(opened.factors.own_sets)]
    rows = []
    for k in sorted({int(k) for k in table["k"]}):
        of_k = table[table["k"] == k]
        for name, of_set in of_k.groupby("set", sort=False):
            found = of_set.set_index("maps").to_dict("index")
            cells = [
                (float(found[kind]["corloc"]), f"{found[kind]['hits']}/{found[kind]['boxed']}")
                for kind in KINDS
            ]
            rows.append(CorLocRow(str(name), k, cells, False))
        if of_k["set"].nunique() > 1:
            means = of_k.groupby("maps")["corloc"].mean()
            cells = [(float(means[kind]), "") for kind in KINDS]
            rows.append(CorLocRow("mean over sets", k, cells, True))
    return rows
