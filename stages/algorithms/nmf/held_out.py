"""How well factors of some rows and channels foretell others: an error that more factors do not
always lower.

Owen & Perry 2009, "Bi-cross-validation of the SVD and the nonnegative matrix factorization": a
quarter of the matrix, some rows times some channels, is held out; what is neither in these rows nor
in these channels is factorized; the coefficients of the held rows come from their other channels,
the factors of the held channels from the other rows, and their product foretells the quarter.
"""

from collections.abc import Sequence
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from stages.algorithms.nmf.aside import each_aside
from stages.algorithms.nmf.cpu import least_squares, sweep_factors
from stages.algorithms.nmf.initial import DENSE, FEW_ROWS, clustered_factors, warm_factors
from stages.algorithms.nmf.picking import part_of
from stages.algorithms.nmf.sample import Sample
from stages.algorithms.nmf.stack import EXACT, Engine, Matrix, Stack, Sums
from stages.algorithms.rows import MatrixRows, dense, is_sparse

Indices = NDArray[np.int64]

ROWS = 8_000  # of the sample
STRETCHES = 16  # of neighbouring rows, mostly of one image, which stay together
STARTS, ROUNDS = 4, ((2_000, 8, 2), (ROWS, 20, 1))
# Of few rows, see `initial.FEW_ROWS`: on average errors are 0.001 apart from those with 12 starts
# for each; those of two k are 0.02 to 0.04 apart.
FEW_STARTS, FEW_ROUNDS = 2, ((FEW_ROWS, 8, 1), (FEW_ROWS, 10, 1))


def held_out_errors(
    sample: Sample, ks: Sequence[int], engine: Engine, dtype: np.dtype[Any], *, signed: bool = False
) -> list[float]:
    """The relative squared error of every entry, foretold from others, for each k.

    Parameters
    ----------
    sample : Sample [rows, channels]
        Of neighbouring rows next to each other.
    ks : sequence of int
    signed : bool
        Of semi-NMF.

    Returns
    -------
    list of float
        ``sum (A - foretold)^2 / sum A^2``; NaN where a quarter has fewer rows or channels than k.
    """
    few = int(sample.matrix.shape[0]) <= ROWS
    matrix = sample.matrix if few else sample.first(ROWS).matrix
    rows, channels = (int(side) for side in matrix.shape)
    generator = np.random.default_rng([rows, channels])
    stretch = np.arange(rows) * STRETCHES // max(1, rows)
    half = np.isin(stretch, generator.permutation(STRETCHES)[: STRETCHES // 2])
    columns = np.isin(np.arange(channels), generator.permutation(channels)[: channels // 2])
    work = [
        partial(_quarter, matrix, held_rows, held_channels, ks, dtype, signed=signed)
        for held_rows in (half, ~half)
        for held_channels in (columns, ~columns)
    ]
    wrong, norm = np.zeros(len(ks)), 0.0
    for errors, squares in each_aside(work, engine, matrix):
        wrong += errors
        norm += squares
    return [float(one) for one in wrong / norm] if norm > 0 else [float("nan")] * len(ks)


def _quarter(
    matrix: Any,
    held_rows: NDArray[np.bool_],
    held_channels: NDArray[np.bool_],
    ks: Sequence[int],
    dtype: np.dtype[Any],
    engine: Engine,
    *,
    signed: bool,
) -> tuple[Matrix, float]:
    """Squared errors of one quarter for each k, and the sum of its squares."""
    here, there = np.flatnonzero(held_rows), np.flatnonzero(~held_rows)
    mine, others = np.flatnonzero(held_channels), np.flatnonzero(~held_channels)
    errors = np.full(len(ks), np.nan)
    held = part_of(matrix, here)
    quarter = part_of(matrix, here, mine)
    values = quarter.data if is_sparse(quarter) else dense(quarter, np.float64)
    squares = float(np.square(values, dtype=np.float64).sum())
    able = [i for i, k in enumerate(ks) if k <= min(len(there), len(others), len(mine))]
    if not able or not len(here):
        return errors, squares
    kept = part_of(matrix, there)
    part = Sample.of([part_of(matrix, there, others)])
    problems = [(ks[i], np.random.default_rng([ks[i], len(here)])) for i in able]
    if signed:
        found = clustered_factors(part, problems, engine, dtype)
    else:
        few = len(held_rows) <= FEW_ROWS and part.density < DENSE
        starts, rounds = (FEW_STARTS, FEW_ROUNDS) if few else (STARTS, ROUNDS)
        found = warm_factors(part, problems, engine, dtype, starts=starts, rounds=rounds)
    # over all channels, nothing in those that are held out: one pass for both halves of each
    wide = []
    for W in found:
        padded = np.zeros((len(W), matrix.shape[1]))
        padded[:, others] = W
        wide.append(padded)
    stack = Stack(wide, dtype)
    of_kept = engine.run_pass(MatrixRows(kept), stack, EXACT)
    of_held = engine.run_pass(MatrixRows(held), stack, EXACT)
    for i, fit, foretold in zip(able, of_kept, of_held, strict=True):
        W = _factors(fit, mine, signed)
        assert foretold.HtA is not None
        cross = (foretold.HtA[:, mine] * W).sum()
        errors[i] = squares - 2 * cross + (foretold.HtH * (W @ W.T)).sum()
    return errors, squares


def _factors(sums: Sums, mine: Indices, signed: bool) -> Matrix:
    """W of some channels, for the coefficients of a pass."""
    assert sums.HtA is not None
    HtA = np.ascontiguousarray(sums.HtA[:, mine])
    if signed:
        return least_squares(HtA, sums.HtH)
    return sweep_factors(np.zeros_like(HtA), HtA, sums.HtH, sweeps=200, tol=1e-8)
