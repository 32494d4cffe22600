"""What is known of an image set's coefficients before they become maps."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np
from numpy.typing import NDArray

from stages.algorithms.masks import exact_percentiles
from stages.algorithms.parts import STRENGTH, parts_of
from stages.artifacts.concept_maps import FULL_COLOUR
from stages.artifacts.drawn_maps import decisive
from stages.artifacts.factorizations import Factorizations
from stages.artifacts.factors import Heat, LayerFactors
from stages.frame.cluster import Cluster
from stages.frame.parallel import ordered_map
from stages.maps.coefficients import grids_of
from stages.maps.earlier import digests
from store import Ragged

Floats = NDArray[np.float64]
FIGURE = 75.0  # percentile of the coefficients of k = 1 above which the figure is
TOGETHER = 64  # images whose coefficients are digested by one call
SMALL = 1 << 22  # coefficients that are sorted in memory: of more, histograms are made


@dataclass(frozen=True)
class Survey:
    """See `stages.artifacts.concept_maps.ConceptMaps`, where these are published.

    Attributes
    ----------
    scale, full, strength, within : float64 [columns]
    means : float64 [entries of the set, columns]
    region : float
        The share of the cells that have any coefficient above 0, of a set that lies within a
        factor: percentiles are of these alone. 1 for others.
    """

    scale: Floats
    full: Floats
    strength: Floats
    within: Floats
    means: Floats
    region: float


def surveys(
    factors: LayerFactors, inside: Sequence[bool], cluster: Cluster | None = None
) -> list[Survey]:
    """`survey` of every image set; `inside` says of each whether it lies within a factor.

    A set is one worker's: its sums are in one order.
    """
    one = partial(_survey_of, factors)
    if cluster is None:
        return list(map(one, enumerate(inside)))
    items = enumerate(inside)
    return list(ordered_map(one, items, cluster=cluster, label="heatmaps: surveys of sets"))


def _survey_of(factors: LayerFactors, item: tuple[int, bool]) -> Survey:
    (rank, inside), coefficients = item, factors.coefficients
    entries = list(factors.artifact.sets.values())[rank].tolist()
    columns = Factorizations.of(factors.artifact).columns
    return survey(coefficients, entries, columns, factors.held(rank), inside=inside)


def survey(
    coefficients: Ragged,
    entries: Sequence[int],
    columns: Sequence[tuple[int, int, int]],
    held: Heat | None = None,
    *,
    inside: bool = False,
) -> Survey:
    """Five passes over a set's coefficients, block by block.

    Parameters
    ----------
    columns : sequence of (k, seed, factor)
    held : Heat, optional
        Float64 ``[columns]`` each: those that are given all the same (`stages.artifacts.factors`);
        NaN: to be found.
    inside : bool
        The set lies within a factor: cells in which that is not have nothing to say.
    """
    reached = largest(coefficients, entries)
    held = held or Heat(*(np.full(len(reached), np.nan) for _ in Heat._fields))
    scale = _or_found(held.scale, reached)
    divisor = np.where(scale > 0, scale, 1.0)

    def shares() -> Iterator[NDArray[np.float32]]:
        for block in coefficients.select(entries).blocks():
            # PCA's coefficients may be negative: no heat
            yield np.clip(block / divisor, 0, 1).astype(np.float32)

    members = np.asarray(entries, dtype=np.int64)
    sizes = coefficients.offsets[members + 1] - coefficients.offsets[members]
    ends = np.cumsum(sizes)
    sums = np.zeros((len(members), len(scale)))
    row = counted = 0
    for block in shares():
        owners = np.searchsorted(ends, np.arange(row, row + len(block)), side="right")
        for column in range(len(scale)):
            sums[:, column] += np.bincount(owners, block[:, column], minlength=len(members))
        row += len(block)
        counted += int(block.any(axis=1).sum())
    region = counted / row if inside and counted else 1.0

    def of_region() -> Iterator[NDArray[np.float32]]:
        for block in shares():
            yield block[block.any(axis=1)] if region < 1 else block

    qs = [FULL_COLOUR, STRENGTH, FIGURE]
    if row * len(scale) <= SMALL:  # the same to the last bit, and histograms of few take longer
        percentiles = np.percentile(
            np.concatenate(list(of_region())).astype(np.float64), qs, axis=0
        )
    else:
        percentiles = exact_percentiles(of_region, len(scale), qs)
    # A factor of very few places has no such percentile: its largest value gets full colour.
    full, strength = np.where(percentiles[:2] > 0, percentiles[:2], np.where(scale > 0, 1.0, 0.0))
    return Survey(
        scale,
        _or_found(held.full, full),
        _or_found(held.strength, strength),
        _or_found(held.within, _within(shares(), columns, percentiles[2])),
        sums / sizes[:, None],
        region,
    )


def _or_found(held: Floats, found: Floats) -> Floats:
    return np.where(np.isfinite(held), held, found)


def _within(
    blocks: Iterator[NDArray[np.float32]],
    columns: Sequence[tuple[int, int, int]],
    starts: Floats,
) -> Floats:
    """The share of each factor's coefficients that lies in the figure; NaN where there is none."""
    figures: dict[int, list[int]] = {}  # each with itself and the factors measured by it
    for one in parts_of(columns):
        if one.figure >= 0:
            mine = figures.setdefault(one.figure, [one.figure])
            mine += range(one.columns.start, one.columns.stop)
    inside, all_of = np.zeros(len(columns)), np.zeros(len(columns))
    for block in blocks:
        all_of += block.sum(axis=0, dtype=np.float64)
        for figure, mine in figures.items():
            there = (block[:, figure] >= starts[figure]) & (block[:, figure] > 0)
            inside[mine] += block[there][:, mine].sum(axis=0, dtype=np.float64)
    known = np.zeros(len(columns), np.bool_)
    known[[column for mine in figures.values() for column in mine]] = True
    return np.divide(inside, all_of, out=np.full(len(columns), np.nan), where=known & (all_of > 0))


def largest(coefficients: Ragged, entries: Sequence[int]) -> Floats:
    """The largest coefficient of each column over a set; interpolation never exceeds it."""
    found = np.zeros(coefficients.channels)
    for block in coefficients.select(entries).blocks():
        np.maximum(found, block.max(axis=0), out=found)
    return found


def made_from(
    coefficients: Ragged,
    sizes: Sequence[tuple[int, int]],
    scale: NDArray[np.float64],
    set_of: Sequence[int],
    cluster: Cluster | None = None,
) -> NDArray[np.uint8]:
    """What decides each entry's maps besides the recipe, ``[entries, 32]``."""
    one = partial(_made_from, coefficients)
    items = (
        (some, [(sizes[entry], scale[set_of[entry]]) for entry in some])
        for at in range(0, len(sizes), TOGETHER)
        if (some := range(at, min(at + TOGETHER, len(sizes))))
    )
    if cluster is None:
        found = list(map(one, items))
    else:
        found = list(ordered_map(one, items, cluster=cluster, label="heatmaps: digests"))
    return np.concatenate([np.empty((0, 32), np.uint8), *found])


def _made_from(
    coefficients: Ragged, item: tuple[range, Sequence[tuple[tuple[int, int], Floats]]]
) -> NDArray[np.uint8]:
    entries, of_each = item
    grids = zip(of_each, grids_of(coefficients, entries), strict=True)
    return digests(decisive(grid, size, scale) for (size, scale), grid in grids)
