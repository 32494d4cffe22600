"""Where a factorization starts."""

from collections.abc import Callable, Mapping, Sequence
from functools import lru_cache
from threading import Lock
from typing import Any

import numpy as np
from numpy.typing import NDArray
from threadpoolctl import threadpool_limits

from stages.algorithms.baselines import kmeans
from stages.algorithms.nmf.cpu import CpuEngine, least_squares, sweep_factors
from stages.algorithms.nmf.cpu_starts import COLUMNS, accelerated_csr
from stages.algorithms.nmf.sample import Sample
from stages.algorithms.nmf.stack import (
    DeviceEngine,
    Engine,
    Matrix,
    Rule,
    Stack,
    loss_of,
    unit_rows,
)
from stages.algorithms.rows import MatrixRows, RowBlocks, as_numpy, dense, float_type, is_sparse

SAMPLE_ROWS = 30_000
SAMPLE_BYTES = 128 * 2**20

# Random starts and the rounds that thin them out: rows of the sample, updates, starts that stay.
# Measured on fire9 activations of 5 439 photographs: a random start ends in a basin within 0.03 %
# of the best in 4 of 10 cases, and which one it is in shows on 4 000 rows.
STARTS = 12
ROUNDS = ((4_000, 8, 4), (12_000, 8, 2), (SAMPLE_ROWS, 40, 1))
# Of rows with at least so many non-zeros basins are more, and nearer to each other: on drawn rows
# (50 %, k = 20) the start above ended up to 0.7 % above the best, this one within 0.05 % in 4 of 5.
DENSE = 0.25
DENSE_STARTS = 16
DENSE_ROUNDS = ((8_000, 16, 5), (SAMPLE_ROWS, 40, 1))
# So few rows (20 photographs have 3 380) are all in the first round, which then says more: basins
# show on all rows there are, and the fewer factors, the fewer basins. Measured on 100 sets of 20
# photographs, k = 1 to 6: all end within 0.1 % of the best of 12; k = 8: 98 of 100 do.
FEW_ROWS = 4_000
FEW_ROUNDS = ((FEW_ROWS, 8, 2), (FEW_ROWS, 40, 1))
# Sums of one batch of starts, at most: they are kept once per piece of rows in work.
BATCH_BYTES = 2 * 2**20
UPDATES = 10  # of semi-NMF on the sample
SETTLED = 2e-5  # a start rests for the round when its loss falls by no more than this share
FIRST_SHARE = 0.7  # of the last step by which a start overshoots
START_RULE = Rule(tol=1e-3)
_ONE_AT_A_TIME = Lock()  # the limit is the whole process's
FACTOR_SWEEPS = (4, 1e-6)  # over W between two passes: how many, and the tolerance


@lru_cache(maxsize=2)  # sets of one size follow one another, and it takes longer than a GPU's pass
def sample_indices(shape: tuple[int, int]) -> NDArray[np.int64]:
    """Which rows are drawn, ascending: 30 000 of them, fewer where they would take 128 MiB.

    They do not depend on k or the seed, so all factorizations of a sweep share them.
    """
    total, channels = shape
    size = min(total, SAMPLE_ROWS, max(1, SAMPLE_BYTES // (4 * channels)))
    return np.sort(np.random.default_rng(0).choice(total, size=size, replace=False, shuffle=False))


def pick(block: Any, start: int, indices: NDArray[np.int64]) -> Any:
    """The rows of a block that begins with row `start` which are among `indices`; a copy."""
    first, last = np.searchsorted(indices, [start, start + int(block.shape[0])])
    picked = block[indices[first:last] - start]
    dtype = float_type(_dtype(picked))
    return picked.astype(dtype, copy=False) if is_sparse(picked) else dense(picked, dtype)


def _dtype(block: Any) -> np.dtype[Any]:
    return MatrixRows(block).dtype


def random_start(
    shape: tuple[int, ...], k: int, mean: float, generator: np.random.Generator
) -> Matrix:
    """The paper's start for W or H, ``|N(0, 1)| * sqrt(mean(A) / k)``, of `shape`."""
    scale = np.sqrt(mean / k) if mean > 0 else 1.0
    return np.abs(generator.standard_normal(shape)) * scale


def drawn_rows(sample: Sample, k: int, generator: np.random.Generator) -> Matrix:
    """The random start of semi-NMF, float64 ``[k, channels]``: unit rows out of the sample."""
    rows = int(sample.matrix.shape[0])
    at = generator.choice(rows, size=k, replace=rows < k)
    return unit_rows(dense(sample.matrix[at], np.float64))


def clustered_factors(
    sample: Sample,
    problems: Sequence[tuple[int, np.random.Generator]],
    engine: Engine,
    dtype: np.dtype[Any],
) -> list[Matrix]:
    """The warm start of semi-NMF: cluster means of the row sample (as Ding, Li & Jordan have it),
    and some updates on the sample.

    The best of many random starts explains no more, and its factors are others in every run: the
    cone of H W can open beyond the rows at hardly any cost (`benchmarks/semi_nmf.py`).

    Returns
    -------
    list of float64 [k, channels]
        Unit rows, for each (k, generator).
    """
    found = []
    for k, generator in problems:
        if int(sample.matrix.shape[0]) < k:
            found.append(drawn_rows(sample, k, generator))
            continue
        means = kmeans(sample.matrix, k, int(generator.integers(2**31))).factors
        start = [unit_rows(means.astype(np.float64))]
        found.append(accelerated(sample.rows, start, UPDATES, engine, dtype, signed=True)[0][1])
    return found


def few_starts(k: int) -> int:
    """Starts for few rows."""
    return min(STARTS, 2 * k)


def warm_factors(
    sample: Sample,
    problems: Sequence[tuple[int, np.random.Generator]],
    engine: Engine,
    dtype: np.dtype[Any],
    *,
    starts: int | Callable[[int], int] = 0,
    rounds: Sequence[tuple[int, int, int]] = (),
) -> list[Matrix]:
    """For each (k, generator) the best of several starts on the row sample.

    The starts of all problems run side by side; after each round the worse ones are dropped and
    the others go on with more rows.

    Parameters
    ----------
    starts : int or callable
        For each problem, or what says so for a k; by default what suits so many rows of this
        density.
    rounds : sequence of (rows, updates, starts that stay)
        The last one keeps one. With `starts`.

    Returns
    -------
    list of float64 [k, channels]
        Unit rows.
    """
    rows, channels = sample.matrix.shape
    if not starts:
        if sample.density >= DENSE:
            starts, rounds = DENSE_STARTS, DENSE_ROUNDS
        elif rows <= FEW_ROWS:
            starts, rounds = few_starts, FEW_ROUNDS
        else:
            starts, rounds = STARTS, ROUNDS
    starts_of = starts if callable(starts) else lambda _: starts
    running: list[tuple[int, Matrix]] = []
    for number, (k, generator) in enumerate(problems):
        # the leading factor alone has no local optima
        drawn = (starts_of(k) if k > 1 else 1, k, channels)
        running += [(number, W) for W in random_start(drawn, k, sample.mean, generator)]
    for size, updates, kept in rounds:
        subset = sample.first(size) if size < rows else sample.rows
        found: list[tuple[int, float, Matrix]] = []
        ran = _run_starts(subset, [W for _, W in running], updates, engine, dtype)
        found += [(number, loss, W) for (number, _), (loss, W) in zip(running, ran, strict=True)]
        running = []
        for number in range(len(problems)):
            mine = sorted((one for one in found if one[0] == number), key=lambda one: one[1])
            running += [(number, W) for _, _, W in mine[:kept]]
    return [W for _, W in running]


def _run_starts(
    rows: RowBlocks, starts: Sequence[Matrix], updates: int, engine: Engine, dtype: np.dtype[Any]
) -> list[tuple[float, Matrix]]:
    """`accelerated`, by the engine's own means or in batches that fit a core's cache."""
    # this first: whether something fits a protocol takes as long as an update of a few rows
    if not isinstance(engine, CpuEngine) and isinstance(engine, DeviceEngine):
        ran = engine.accelerated(rows, starts, updates, dtype)
        if ran is not None:
            return ran
    if isinstance(engine, CpuEngine) and isinstance(rows, MatrixRows) and is_sparse(rows.matrix):
        norm, _ = engine.survey(rows.matrix)
        how = FIRST_SHARE, SETTLED, *FACTOR_SWEEPS
        batches = batches_of(starts, most=COLUMNS)
        ran = accelerated_csr(
            rows.matrix, batches, updates, engine.threads, dtype, START_RULE, how, norm
        )
        if ran is not None:
            return ran
    batches = batches_of(starts, most=BATCH_BYTES // (8 * rows.shape[1]))
    return [one for batch in batches for one in accelerated(rows, batch, updates, engine, dtype)]


def batches_of(starts: Sequence[Matrix], *, most: int) -> list[list[Matrix]]:
    """Neighbouring starts with at most so many columns together; at least one each."""
    batches: list[list[Matrix]] = []
    columns = 0
    for W in starts:
        if not batches or columns + len(W) > most:
            batches.append([])
            columns = 0
        batches[-1].append(W)
        columns += len(W)
    return batches


def accelerated(
    rows: RowBlocks,
    starts: Sequence[Matrix],
    updates: int,
    engine: Engine,
    dtype: np.dtype[Any],
    *,
    signed: bool = False,
) -> list[tuple[float, Matrix]]:
    """Run several factorizations for some updates, each overshooting while that lowers its loss.

    After each update W goes on by a share of its last step (Ang & Gillis 2019); the share grows
    while the loss falls and is halved when it rises. About half the updates of plain HALS.

    Returns
    -------
    list of (loss after the last update, W)
    """
    norm = sum(engine.survey(block, signed=signed)[0] for block in rows.blocks())
    last = [unit_rows(W) for W in starts]
    at = list(starts)
    share = [FIRST_SHARE] * len(starts)
    losses = [np.inf] * len(starts)
    running = list(range(len(starts)))
    sweeps, tol = FACTOR_SWEEPS
    for turn in range(updates):
        all_sums = engine.run_pass(rows, Stack([at[i] for i in running], dtype), START_RULE)
        settled = set()
        for i, sums in zip(running, all_sums, strict=True):
            assert sums.HtA is not None
            if signed:
                W = least_squares(sums.HtA, sums.HtH)
            else:
                W = sweep_factors(at[i], sums.HtA, sums.HtH, sweeps=sweeps, tol=tol)
            loss = loss_of(norm, W, sums)
            W = unit_rows(W)
            if loss > losses[i]:
                share[i] /= 2
                at[i] = W
            else:
                ahead = W + share[i] * (W - last[i]) if turn else W
                at[i] = ahead if signed else np.maximum(ahead, 0)
                share[i] = min(1.0, 1.05 * share[i])
                if losses[i] - loss <= SETTLED * loss:
                    settled.add(i)
            last[i], losses[i] = W, loss
        running = [i for i in running if i not in settled]
        if not running:
            break
    return list(zip(losses, last, strict=True))


def nndsvd_factors(sample: Sample, k: int) -> Matrix:
    """NNDSVD (Boutsidis & Gallopoulos 2008) of the row sample, float64 ``[k, channels]``.

    Of each singular pair the sign half with the larger product of norms is taken; zeros become a
    small positive number, since an update could never leave zero.
    """
    A: Any = sample.matrix
    A = A if is_sparse(A) else as_numpy(A).astype(float_type(_dtype(A)), copy=False)
    # on one thread: over several, sums have other last bits, by which results would differ
    with _ONE_AT_A_TIME, threadpool_limits(1, "blas"):
        gram = A.T @ A
        gram = np.asarray(gram.toarray() if is_sparse(gram) else gram, dtype=np.float64)
        _, vectors = np.linalg.eigh(gram)  # ascending
        pairs = [(np.asarray(A @ v, dtype=np.float64), v) for v in vectors.T[::-1][:k]]
    W = np.zeros((k, A.shape[1]))
    for j, (u, v) in enumerate(pairs):
        halves = [(np.maximum(sign * u, 0), np.maximum(sign * v, 0)) for sign in (1, -1)]
        W[j] = max(halves, key=lambda half: np.linalg.norm(half[0]) * np.linalg.norm(half[1]))[1]
    return W + 1e-3 * max(float(W.mean()), 1e-12)


INITS: Mapping[str, str] = {
    "sample": "the best of several short runs on a row sample",
    "random": "the paper's random start",
    "nndsvd": "non-negative double SVD of a row sample",
}
