"""How many factors: how far each k is reproducible, and which factor splits into which.

A k is worth having when its factors come out the same from other rows of the same set. So each k
is run several times on halves of the row sample, from starts of its own, and the factors of the
runs are compared: by the cosine of factors matched one to one (as in cNMF, Kotliar et al. 2019)
and by the silhouette of the matched groups (as in NMFk, Alexandrov & Vesselinov 2014).
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray

from stages.algorithms.nmf.aside import each_aside
from stages.algorithms.nmf.initial import DENSE, FEW_ROWS, clustered_factors, warm_factors
from stages.algorithms.nmf.picking import part_of
from stages.algorithms.nmf.sample import Sample
from stages.algorithms.nmf.stack import Engine, Matrix, unit_rows

Array = NDArray[Any]
Match = tuple[NDArray[np.intp], Matrix]  # counterparts and cosines, see `matched`
STARTS = 6
ROUNDS = ((3_000, 8, 2), (10_000, 6, 1))
# Of few rows, see `initial.FEW_ROWS`. Measured on 100 of the sets there: cosines are 0.001 to 0.004
# lower, 0.008 apart, than with 12 starts for each run; with other halves they are 0.05 apart.
FEW_ROUNDS = ((FEW_ROWS, 8, 1), (FEW_ROWS, 6, 1))
STRETCHES = 24  # that the row sample is cut into; half of them make a run
STABLE = 0.95
FEW_IMAGES = 10  # with fewer, both halves of a sample show the same images


@dataclass(frozen=True)
class Stability:
    """How far the factors of one k are reproducible.

    Attributes
    ----------
    cosine : float
        Mean cosine of factors matched one to one, over all pairs of runs; 1 is perfect.
    silhouette : float
        Mean over the factors of all runs of ``(b - a) / max(a, b)``: `a` is the mean cosine
        distance to its counterparts in other runs, `b` to the nearest other group; from -1 to 1,
        and 1 for k = 1.
    runs : float [runs, k, channels]
        Their factors, unit rows: `of_factors` compares others with them. Of no runs by default.
    """

    cosine: float
    silhouette: float
    runs: Array = field(default_factory=lambda: np.empty((0, 0, 0)), compare=False, repr=False)


def stability(runs: Sequence[Matrix]) -> Stability:
    """Compare the factors of several runs with one k.

    Parameters
    ----------
    runs : sequence of [k, channels]
        At least two; all-zero factors count as unlike any other.

    Raises
    ------
    ValueError
        For fewer than two runs.
    """
    units, found = _matches(runs)
    cosine = _mean_of_pairs(found)
    kept = np.stack(units).astype(np.float32)
    if len(units[0]) == 1:
        return Stability(cosine, 1.0, kept)
    # the run that is most like the others names the groups
    middle = int(np.argmax([np.mean([cosines.mean() for _, cosines in row]) for row in found]))
    labels = np.concatenate([np.argsort(places) for places, _ in found[middle]])
    return Stability(cosine, _silhouette(np.concatenate(units), labels), kept)


def of_factors(factors: Matrix, runs: "Sequence[Array] | Array") -> Matrix:
    """How far each factor is reproducible: its mean cosine with its counterparts in some runs.

    Parameters
    ----------
    factors : [k, channels]
        Of the whole set.
    runs : [runs, k, channels]
        As `Stability.runs`. In each, counterparts are those of `matched`.

    Returns
    -------
    float64 [k]
        1 is perfect; NaN for no runs.
    """
    unit = unit_rows(np.asarray(factors, np.float64))
    if not len(runs):
        return np.full(len(unit), np.nan)
    return np.mean([matched(unit, run.astype(np.float64))[1] for run in runs], axis=0)


def saved(found: Sequence[Stability]) -> dict[str, Array]:
    """The stability of each k as plain arrays, for ``np.savez``."""
    measures = np.array([(one.cosine, one.silhouette) for one in found])
    return {"stability": measures, **{f"runs {i}": one.runs for i, one in enumerate(found)}}


def restored(state: Mapping[str, Array]) -> list[Stability]:
    """What was `saved`; nothing for what has none of it."""
    measures = enumerate(state.get("stability", ()))
    return [Stability(float(a), float(b), state[f"runs {i}"]) for i, (a, b) in measures]


def mean_cosine(runs: Sequence[Matrix]) -> float:
    """`Stability.cosine` alone, of two or more runs ``[k, channels]``.

    Raises
    ------
    ValueError
        For fewer than two runs.
    """
    return _mean_of_pairs(_matches(runs)[1])


def _matches(runs: Sequence[Matrix]) -> tuple[list[Matrix], list[list[Match]]]:
    """The runs with unit rows, and what is `matched` for each pair of them."""
    if len(runs) < 2:
        raise ValueError(f"stability needs at least two runs, got {len(runs)}")
    units = [unit_rows(np.asarray(W, dtype=np.float64)) for W in runs]
    return units, [[matched(one, other) for other in units] for one in units]


def _mean_of_pairs(found: Sequence[Sequence[Match]]) -> float:
    return float(np.mean([cosines for i, row in enumerate(found) for _, cosines in row[:i]]))


def matched(one: Matrix, other: Matrix) -> Match:
    """For each factor of `one` its counterpart in `other`, and their cosines; unit rows.

    The sum of the cosines is the largest possible (Hungarian method).
    """
    from scipy.optimize import linear_sum_assignment  # here: most that asks for k needs none

    cosines = one @ other.T
    if len(one) == 1:
        return np.zeros(1, np.intp), cosines[0]
    _, found = linear_sum_assignment(-cosines)
    return found, cosines[np.arange(len(one)), found]


def _silhouette(factors: Matrix, labels: Array) -> float:
    """Mean silhouette of at least two groups of at least two, by cosine distance.

    scikit-learn's `silhouette_score`, bit for bit; to load that takes longer than all of this.
    """
    distances = np.clip(1 - factors @ factors.T, 0, None)
    np.fill_diagonal(distances, 0)
    sizes = np.bincount(labels)
    sums = np.stack([np.bincount(labels, row, len(sizes)) for row in distances])
    own = np.arange(len(labels)), labels
    inside = sums[own] / (sizes - 1)[labels]
    sums[own] = np.inf
    outside = (sums / sizes).min(axis=1)
    largest = np.maximum(inside, outside)
    # of points that lie on each other all distances are 0
    scores = np.divide(outside - inside, largest, out=np.zeros_like(inside), where=largest > 0)
    return float(np.mean(scores))


def sample_stability(
    sample: Sample,
    ks: Sequence[int],
    runs: int,
    engine: Engine,
    dtype: np.dtype[Any],
    *,
    signed: bool = False,
) -> list[Stability]:
    """The stability of each k over runs on random halves of a row sample.

    A half is made of whole stretches of the sample. Neighbouring rows are mostly of one image:
    were they divided among the halves, these would be nearly the same, and every k stable.
    """
    rows = sample.matrix.shape[0]
    stretch = np.arange(rows) * STRETCHES // rows
    few = rows <= FEW_ROWS and sample.density < DENSE

    def one(run: int, engine: Engine) -> list[Matrix]:
        drawn = np.random.default_rng([run, rows]).permutation(STRETCHES)[: STRETCHES // 2]
        mine = np.flatnonzero(np.isin(stretch, drawn))
        mine = mine if len(mine) else np.arange(rows)
        half = Sample(part_of(sample.matrix, mine), sample.mean)
        problems = [(k, np.random.default_rng([run, k])) for k in ks]
        if signed:
            return clustered_factors(half, problems, engine, dtype)
        if few:
            return warm_factors(half, problems, engine, dtype, starts=few_starts, rounds=FEW_ROUNDS)
        return warm_factors(half, problems, engine, dtype, starts=STARTS, rounds=ROUNDS)

    found = each_aside([partial(one, run) for run in range(runs)], engine, sample.matrix)
    return [stability(Ws) for Ws in zip(*found, strict=True)]


def few_starts(k: int) -> int:
    """Starts of each run, for few rows."""
    return min(STARTS, k + 1)


def suggest_k(ks: Sequence[int], cosines: Sequence[float], images: int) -> tuple[int | None, str]:
    """The k to begin with, and why; or why there is none.

    The largest k above 1 whose factors are reproducible (`STABLE`), even if some smaller ones are
    not: beyond it, more factors say more about the run than about the images. None where no k is,
    and for fewer than `FEW_IMAGES` images.

    Parameters
    ----------
    ks : sequence of int
    cosines : sequence of float
        `Stability.cosine` of each.
    images : int
        In the set.

    Returns
    -------
    (k or None, reason)
    """
    if images < FEW_IMAGES:
        return None, f"the set has fewer than {FEW_IMAGES} images, too few to compare halves of it"
    candidates = [(k, cosine) for k, cosine in sorted(zip(ks, cosines, strict=True)) if k > 1]
    if not candidates:
        return None, "no k above 1 was asked for"
    stable = [(k, cosine) for k, cosine in candidates if cosine >= STABLE]
    if not stable:
        k, cosine = max(candidates, key=lambda one: one[1])
        return None, (
            f"no k above 1 has reproducible factors, the best is k = {k} with a stability of "
            f"{_short_of(cosine)} where {STABLE} is wanted"
        )
    k, cosine = stable[-1]
    above = [f"k = {other}: {_short_of(value)}" for other, value in candidates if other > k]
    rest = f"; not so for {', '.join(above)}" if above else ", and no larger one was asked for"
    return k, f"the largest whose factors are reproducible (stability {cosine:.2f}){rest}"


def _short_of(cosine: float) -> str:
    """A stability below `STABLE` so that it reads as such: 0.948 and not 0.95."""
    rounded = f"{cosine:.2f}"
    return rounded if float(rounded) < STABLE else f"{math.floor(1000 * cosine) / 1000:.3f}"


class Links:
    """Which factor splits from which: the coefficients of k against those of the next larger k.

    Parameters
    ----------
    columns : sequence of (k, seed, factor)
        What the columns of H are.

    Examples
    --------
    >>> links = Links([(1, 0, 0), (2, 0, 0), (2, 0, 1)])
    >>> links.add(np.array([[1.0, 1.0, 0.0], [1.0, 0.0, 1.0]]))
    >>> [[int(parent), round(float(cosine), 2)] for parent, cosine in zip(*links.parents())]
    [[-1, 0.0], [0, 0.71], [0, 0.71]]
    """

    def __init__(self, columns: Sequence[tuple[int, int, int]]) -> None:
        self.count = len(columns)
        of: dict[tuple[int, int], list[int]] = {}
        for column, (k, seed, _) in enumerate(columns):
            of.setdefault((k, seed), []).append(column)
        ks = sorted({k for k, _, _ in columns})
        self.pairs = [
            (of[small, seed], of[large, seed])
            for small, large in pairwise(ks)
            for seed in dict.fromkeys(seed for _, seed, _ in columns)
        ]
        self.products = [np.zeros((len(small), len(large))) for small, large in self.pairs]
        self.squares = np.zeros(self.count)

    def add(self, H: Array) -> None:
        """Take in the coefficients ``[rows, columns]`` of some rows."""
        self.squares += np.einsum("rc,rc->c", H, H, dtype=np.float64)
        for (small, large), sums in zip(self.pairs, self.products, strict=True):
            # neighbours, so slices: no copy of the block
            left = H[:, small[0] : small[-1] + 1]
            sums += left.T @ H[:, large[0] : large[-1] + 1]

    def parents(self) -> tuple[NDArray[np.int64], Matrix]:
        """Each column's parent in the next smaller k (-1: none), and the cosine of the two."""
        parent = np.full(self.count, -1, dtype=np.int64)
        cosine = np.zeros(self.count)
        norms = np.sqrt(self.squares)
        for (small, large), sums in zip(self.pairs, self.products, strict=True):
            scale = np.outer(norms[small], norms[large])
            cosines = np.divide(sums, scale, out=np.zeros_like(sums), where=scale > 0)
            best = cosines.argmax(axis=0)
            parent[large] = np.array(small)[best]
            cosine[large] = cosines[best, np.arange(len(large))]
            parent[np.array(large)[cosine[large] == 0]] = -1
        return parent, cosine
