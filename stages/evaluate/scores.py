"""From the sums of an image set to the rows of the score tables."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from stages.algorithms.metrics import RegionCounts
from stages.algorithms.partitions import (
    OverlapCounts,
    matched_iou,
    mutual_information,
    rand_index,
)
from stages.algorithms.parts import of_figure
from stages.artifacts.concept_maps import ConceptMaps
from stages.artifacts.evaluation import BACKGROUND, OBJECT, RAW, Evaluation
from stages.evaluate.carried import Key
from stages.evaluate.counting import Counting, MapSums, SetSums
from stages.frame.params import suggestion
from stages.naming.labels import Names
from stages.naming.names import FactorNames

Row = dict[str, Any]


@dataclass
class Tables:
    """Rows so far."""

    scores: list[Row] = field(default_factory=list)
    coverage: list[Row] = field(default_factory=list)
    labels: list[Row] = field(default_factory=list)
    partitions: list[Row] = field(default_factory=list)

    def frames(self) -> tuple[pd.DataFrame, pd.DataFrame, pd.DataFrame, pd.DataFrame]:
        """The tables as they are published."""
        return (
            Evaluation.scores.frame(self.scores),
            Evaluation.coverage.frame(self.coverage),
            Evaluation.labels.frame(self.labels),
            Evaluation.partitions.frame(self.partitions),
        )


def _groups(names: Sequence[Names]) -> dict[Names, list[int]]:
    """The factors of each label, in the order of the labels' first factors."""
    groups: dict[Names, list[int]] = {}
    for factor, label in enumerate(names):
        if label:
            groups.setdefault(label, []).append(factor)
    return groups


def _labelled(
    labels: FactorNames, image_set: str, layer: str, maps: ConceptMaps
) -> list[tuple[int, int, Names, list[int]]]:
    """(k, seed, label, its factors' columns) of all labels of a set at a layer."""
    found = []
    for k, seed in maps.factorizations.problems:
        names = labels.of(layer, image_set, k, seed)
        columns = maps.columns_of(k, seed)
        for label, factors in _groups(names or ()).items():
            found.append((k, seed, label, [columns[factor] for factor in factors]))
    return found


def merged_columns(
    labels: FactorNames, image_set: str, maps: Mapping[Key, ConceptMaps]
) -> dict[str, list[list[int]]]:
    """By layer, columns whose masks count together: those of each label, then the figure's of each
    factorization (`figure_columns`)."""
    merged = {}
    for layer, kind in maps:
        if kind == RAW:
            one = maps[layer, RAW]
            merged[layer] = [columns for *_, columns in _labelled(labels, image_set, layer, one)]
            merged[layer] += figure_columns(one, list(one.sets).index(image_set))
    return merged


def figure_columns(heatmaps: ConceptMaps, rank: int) -> list[list[int]]:
    """Of each factorization of a set, the columns of the factors that are of the figure.

    See `stages.algorithms.parts`: of k = 1 the one there is; none where k = 1 was not asked for.
    """
    within = heatmaps.within[rank]
    found = []
    for k, seed in heatmaps.factorizations.problems:
        columns = np.array(heatmaps.columns_of(k, seed))
        # k = 1 alone has no other factors to measure by
        found.append(columns[of_figure(within[columns]) | (k == 1)].tolist())
    return found


def _figure_iou(found: MapSums, figures: Sequence[Sequence[int]]) -> NDArray[np.float64] | None:
    """Of the figure of each factorization with the object, per cent; NaN where none is known.

    None where no object is annotated. The figures are the last that were counted.
    """
    if not found.objects.images:
        return None
    iou = 100 * found.objects.iou({OBJECT})[found.objects.factors - len(figures) :]
    return np.where([len(columns) > 0 for columns in figures], iou, np.nan)


def score_set(
    tables: Tables, coverage: float, labels: FactorNames, counting: Counting, sums: SetSums
) -> list[str]:
    """Add the rows of one set; where nothing is annotated that could be read, of overlap alone.

    Returns
    -------
    list of str
        What to say of names that are annotated on none of its images.
    """
    name = counting.truth.name
    strange: list[str] = []
    for (layer, kind), maps in counting.maps.items():
        found = sums.maps[layer, kind]
        counts = found.finest
        where = {"layer": layer, "set": name, "maps": kind}
        figures = counting.merged[layer][-len(maps.factorizations.problems) :]
        iou = _figure_iou(found, figures)
        tables.partitions += _partition_rows(where, maps, found.overlaps, found, iou)
        if not counts.images and not sums.boxed:
            continue
        if counts.images:
            strange += _not_annotated(labels, name, counts.names | counting.truth.names_on_seen)
        rows, cells = _factor_rows(coverage, labels, where, maps, found, sums.boxed)
        tables.scores += rows
        tables.coverage += cells
        # boxes alone cannot say whether a label is right
        merged = _labelled(labels, name, layer, maps) if counts.images else []
        for place, (k, seed, label, columns) in enumerate(merged, start=len(maps.columns)):
            at = maps.columns_of(k, seed)
            tables.labels.append(
                where
                | {"k": k, "seed": seed, "label": "/".join(label), "images": counts.images}
                | {"factors": "/".join(str(at.index(column)) for column in columns)}
                | {"iou": _iou(counts, label, place)}
            )
    return list(dict.fromkeys(strange))


def overlap_rows(tables: Tables, counting: Counting, sums: Mapping[Key, OverlapCounts]) -> None:
    """Add the rows of a set of which nothing is annotated."""
    for (layer, kind), maps in counting.maps.items():
        where = {"layer": layer, "set": counting.truth.name, "maps": kind}
        tables.partitions += _partition_rows(where, maps, sums[layer, kind])


def _partition_rows(
    where: Row,
    maps: ConceptMaps,
    overlaps: OverlapCounts,
    sums: MapSums | None = None,
    figures: NDArray[np.float64] | None = None,
) -> list[Row]:
    """A row per factorization, per cent; with sums of parts where there are any, and IoU of the
    figures with the object."""
    overlap = overlaps.overlap()
    rows: list[Row] = []
    for at, (k, seed) in enumerate(maps.factorizations.problems):
        row = where | {"k": k, "seed": seed, "overlap": 100 * overlap[at]}
        if figures is not None:
            row["figure_iou"] = figures[at]
        if sums is not None:
            counts, table = sums.parts, sums.partitions.table(at)
            # a part without a pixel could be no factor's
            parts = [one for one in sorted(sums.partitions.by_part) if counts.region_area({one})]
            single = counts.iou_single(parts)[maps.columns_of(k, seed)]
            row["matched_iou"] = 100 * matched_iou(single)
            row["nmi"] = 100 * mutual_information(table)
            row["ari"] = 100 * rand_index(table)
        rows.append(row)
    return rows


def _not_annotated(labels: FactorNames, image_set: str, annotated: Collection[str]) -> list[str]:
    by_k = labels.sets.get(image_set, {}).values()
    given = {name for named in by_k for names in named.names for name in names}
    strange = []
    for name in sorted(given - set(annotated)):
        near = suggestion(name, sorted(annotated), otherwise="")
        strange.append(f"{name!r}{f' ({near})' if near else ''}")
    if not strange:
        return []
    return [
        f"{image_set}: annotated on none of its images, so without an IoU: {', '.join(strange)}"
    ]


def _iou(counts: RegionCounts, names: Names, factor: int) -> float:
    """Of a factor with the union of regions, per cent; NaN where they have no pixel."""
    if not names or not counts.region_area(names):
        return np.nan
    return 100 * float(counts.iou(names)[factor])


@dataclass(frozen=True)
class _Parts:
    """Which regions count as parts, and which of them belong to each column."""

    regions: list[str]  # the object first, if there is one
    choices: list[str]  # what may be a factor's best part
    single: NDArray[np.float64]  # IoU, [columns, choices]
    belongs: NDArray[np.bool_]  # [columns, candidates]
    candidates: list[str]

    @classmethod
    def of(cls, counts: RegionCounts, coverage: float) -> "_Parts":
        """From the finest sums there are."""
        parts = sorted(counts.names - {OBJECT, BACKGROUND})
        first = [OBJECT] if OBJECT in counts.names else []
        # the object is no part of itself, unless nothing smaller is annotated
        choices = parts or first
        candidates = [*choices, BACKGROUND] if choices else []
        return cls(
            [*first, *parts, *([BACKGROUND] if choices else [])],
            choices,
            counts.iou_single(choices),
            counts.associate(candidates, coverage),
            candidates,
        )

    def best(self, column: int) -> tuple[str, float]:
        if not self.choices:
            return "", np.nan
        at = int(self.single[column].argmax())
        return self.choices[at], 100 * float(self.single[column, at])

    def of_column(self, column: int) -> Names:
        return tuple(self.candidates[i] for i in np.flatnonzero(self.belongs[column]))


def _factor_rows(
    coverage: float, labels: FactorNames, where: Row, maps: ConceptMaps, sums: MapSums, boxed: int
) -> tuple[list[Row], list[Row]]:
    counts = sums.finest
    parts = _Parts.of(counts, coverage)
    wholes = sums.objects
    iou, precision, accuracy = (
        100 * measure({OBJECT}) if wholes.images else np.full(wholes.factors, np.nan)
        for measure in (wholes.iou, wholes.precision, wholes.accuracy)
    )
    covered, single = counts.coverage(parts.regions), 100 * counts.iou_single(parts.regions)
    contact, compact = sums.figure.border_contact(), sums.figure.compactness()
    scores, cells = [], []
    for column, (k, seed, factor) in enumerate(maps.columns):
        names = labels.of(where["layer"], where["set"], k, seed) or ()
        # words that are no annotations say nothing of parts
        told = any(not counts.names.isdisjoint(one) for one in names)
        mine = names[factor] if told else parts.of_column(column)
        best, best_iou = parts.best(column)
        here = where | {"k": k, "seed": seed, "factor": factor}
        scores.append(
            here
            | {"object_iou": iou[column], "object_precision": precision[column]}
            | {"object_accuracy": accuracy[column], "best_part": best, "best_part_iou": best_iou}
            | {"parts": "/".join(mine)}
            | {"parts_iou": _iou(counts, mine, column)}
            | {"hits": int(sums.hits[column]), "boxed": boxed}
            | {"corloc": 100 * sums.hits[column] / boxed if boxed else np.nan}
            | {"border_contact": contact[column], "compactness": compact[column]}
        )
        for i, region in enumerate(parts.regions):
            shares = {"part": region, "coverage": covered[column, i], "iou": single[column, i]}
            cells.append(here | shares)
    return scores, cells
