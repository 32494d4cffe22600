"""Baselines of the paper under the factorization's interface: PCA (eq. 2) and k-means.

Both take what `stages.algorithms.nmf.factorize` takes, read it in passes, block by block, and give
the same result whatever the size of the blocks, to rounding. `factors` is the paper's W,
`coefficients` its H (scikit-learn has it the other way round).
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import scipy.sparse
from numpy.typing import NDArray

from stages.algorithms.rows import MatrixRows, RowBlocks, as_row_blocks, dense, is_sparse

Matrix = NDArray[np.float64]

_STARTS = 4  # k-means starts on the sample; the best is carried to all rows


@dataclass(frozen=True, eq=False)
class Baseline:
    """A = H W by other means than NMF.

    Attributes
    ----------
    factors : float32 [k, channels]
        W, strongest first.
    coefficients : float32 [rows, k]
        H, in the order of the blocks' rows.
    loss : float64 [passes]
        ||A - HW||_F^2 after each pass that changed W; the last entry is the result's.
    converged : bool
        False if k-means stopped at its limit of passes.
    """

    factors: NDArray[np.float32]
    coefficients: NDArray[np.float32]
    loss: NDArray[np.float64]
    converged: bool

    @property
    def passes(self) -> int:
        """Passes that changed W."""
        return len(self.loss)


def pca(A: Any, k: int) -> Baseline:
    """Principal components of the rows without centring (eq. 2): H = A V, W = V^T.

    Two passes: the c x c Gram matrix, whose k leading eigenvectors are V, then the projections.

    Parameters
    ----------
    A : array, scipy CSR, torch tensor or RowBlocks, [rows, channels]
    k : int
        1 <= k <= channels.

    Returns
    -------
    Baseline
        Factors are orthonormal, by decreasing eigenvalue, with the entry of largest magnitude
        positive; coefficients may be negative.

    Raises
    ------
    ValueError
        If there are no rows, blocks disagree on the channels, or k is out of range.
    """
    rows = as_row_blocks(A)
    gram = np.zeros((rows.shape[1],) * 2)
    for block in _blocks(rows):
        gram += _array(block.T @ block)
    if not 1 <= k <= len(gram):
        raise ValueError(f"k must be in 1..{len(gram)} (channels), got {k}")
    eigenvalues, vectors = np.linalg.eigh(gram)  # ascending
    w = vectors[:, ::-1][:, :k].T
    # An eigenvector's sign is arbitrary and differs between LAPACK builds.
    peaks = np.take_along_axis(w, np.abs(w).argmax(axis=1)[:, None], axis=1)
    w = w * np.where(peaks < 0, -1.0, 1.0)
    h = np.concatenate([(block @ w.T).astype(np.float32) for block in _blocks(rows)])
    # By the trace, not by the tail of eigenvalues: those near zero are noise of either sign.
    loss = max(float(np.trace(gram) - eigenvalues[::-1][:k].sum()), 0.0)
    return Baseline(w.astype(np.float32), h, np.array([loss]), converged=True)


def kmeans(
    A: Any,
    k: int,
    seed: int,
    *,
    max_passes: int = 30,
    tol: float = 1e-4,
    sample_rows: int = 20_000,
) -> Baseline:
    """K-means of the rows: W the cluster means, H one-hot.

    Lloyd's algorithm with the rows streamed. It starts from the best of four k-means++ starts, each
    run to its end on a random sample of rows taken over the whole set.

    Parameters
    ----------
    A : array, scipy CSR, torch tensor or RowBlocks, [rows, channels]
    k : int
        Clusters, 1 <= k <= rows.
    seed : int
        Of the sample and the starts.
    max_passes : int
        Limit on passes over all rows, >= 1, the sampling pass not counted.
    tol : float
        Stop when a pass lowers the loss by no more than this share of it.
    sample_rows : int
        Rows in the sample, >= 1; at least k are taken.

    Returns
    -------
    Baseline
        Clusters by decreasing energy n_j ||mean_j||^2. A cluster left empty although rows remain
        apart is moved to the row worst explained; with fewer distinct rows than k, some stay empty.

    Raises
    ------
    ValueError
        If there are no rows, blocks disagree on the channels, or a parameter is out of range.
    """
    if max_passes < 1 or sample_rows < 1 or k < 1:
        raise ValueError(
            f"max_passes, sample_rows and k must be >= 1, got {max_passes}, {sample_rows}, {k}"
        )
    rows, rng = as_row_blocks(A), np.random.default_rng(seed)
    sample = _sample(rows, max(sample_rows, k), rng)
    if len(sample) < k:
        raise ValueError(f"k = {k} clusters need as many rows, got {len(sample)}")
    starts = [
        _lloyd(MatrixRows(sample), _plus_plus(sample, k, rng), max_passes, tol)
        for _ in range(_STARTS)
    ]
    best = min(starts, key=lambda run: run.loss[-1])
    run = _lloyd(rows, best.centres, max_passes, tol)
    energy = np.bincount(run.labels, minlength=k) * (run.centres**2).sum(axis=1)
    order = np.argsort(-energy, kind="stable")
    h = (run.labels[:, None] == order).astype(np.float32)
    return Baseline(run.centres[order].astype(np.float32), h, np.array(run.loss), run.converged)


@dataclass(frozen=True, eq=False)
class _Lloyd:
    centres: Matrix  # [k, c], the means of the labelled rows
    labels: NDArray[np.intp]  # [rows]
    loss: list[float]
    converged: bool


def _lloyd(rows: RowBlocks, centres: Matrix, max_passes: int, tol: float) -> _Lloyd:
    """Assign every row, then move the centres to the means; the loss is after both."""
    losses: list[float] = []
    while True:
        run, far, far_distance, energy = _pass(rows, centres)
        losses.append(run.loss[0])
        empty = np.flatnonzero(np.bincount(run.labels, minlength=len(centres)) == 0)
        # A distance within rounding of zero is a duplicate of a centre, no place for another.
        reseed = empty[: np.count_nonzero(far_distance > 1e-12 * energy)]
        settled = len(losses) > 1 and losses[-2] - losses[-1] <= tol * losses[-2]
        settled = (settled or losses[-1] <= 1e-12 * energy) and len(reseed) == 0
        if settled or len(losses) == max_passes:
            return _Lloyd(run.centres, run.labels, losses, settled)
        centres = run.centres
        centres[reseed] = far[: len(reseed)]


def _pass(rows: RowBlocks, centres: Matrix) -> tuple[_Lloyd, Matrix, NDArray[np.float64], float]:
    """One read of all rows: the run so far, its worst rows with their distances, and ||A||^2."""
    k, c = centres.shape
    sums, counts, energy = np.zeros((k, c)), np.zeros(k, dtype=np.int64), 0.0
    far, far_distance = np.zeros((0, c)), np.zeros(0)
    labels = []
    for block in _blocks(rows):
        squares = _squares(block)
        score = (centres**2).sum(axis=1) - 2 * (block @ centres.T)  # squared distance - squares
        nearest = score.argmin(axis=1)
        labels.append(nearest)
        energy += float(squares.sum())
        one_hot = scipy.sparse.csr_array(
            (np.ones(len(nearest)), (nearest, np.arange(len(nearest)))), (k, len(nearest))
        )
        sums += _array(one_hot @ block)
        counts += np.bincount(nearest, minlength=k)
        distance = squares + score[np.arange(len(nearest)), nearest]
        worst = np.argsort(-distance, kind="stable")[:k]
        far = np.concatenate([far, _array(block[worst])])
        far_distance = np.concatenate([far_distance, distance[worst]])
        kept = np.argsort(-far_distance, kind="stable")[:k]
        far, far_distance = far[kept], far_distance[kept]
    used = counts > 0
    moved = centres.copy()
    moved[used] = sums[used] / counts[used, None]
    loss = max(energy - float((counts * (moved**2).sum(axis=1)).sum()), 0.0)
    run = _Lloyd(moved, np.concatenate(labels), [loss], converged=False)
    return run, far, far_distance, energy


def _sample(rows: RowBlocks, size: int, rng: np.random.Generator) -> Matrix:
    """Rows with the `size` smallest of one random number per row: uniform over the set, in one
    pass, and the same however the rows are split into blocks."""
    chosen, keys = np.zeros((0, rows.shape[1])), np.zeros(0)
    for block in _blocks(rows):
        drawn = rng.random(block.shape[0])
        order = np.argsort(np.concatenate([keys, drawn]), kind="stable")[:size]
        stay, come = order[order < len(keys)], order[order >= len(keys)] - len(keys)
        chosen = np.concatenate([chosen[stay], _array(block[come])])
        keys = np.concatenate([keys[stay], drawn[come]])
    return chosen[np.argsort(keys, kind="stable")]


def _plus_plus(sample: Matrix, k: int, rng: np.random.Generator) -> Matrix:
    """k-means++ (Arthur, Vassilvitskii 2007): each centre drawn by squared distance to the rest."""
    chosen = [int(rng.integers(len(sample)))]
    distance = ((sample - sample[chosen[0]]) ** 2).sum(axis=1)
    while len(chosen) < k:
        total = distance.sum()
        p = distance / total if total > 0 else None  # fewer distinct rows than k: any will do
        chosen.append(int(rng.choice(len(sample), p=p)))
        distance = np.minimum(distance, ((sample - sample[chosen[-1]]) ** 2).sum(axis=1))
    return sample[chosen]


def _blocks(rows: RowBlocks) -> Iterator[Any]:
    """The blocks of one pass in float64, dense or CSR, empty ones left out."""
    if rows.shape[0] == 0:
        raise ValueError("A has no rows")
    for block in rows.blocks():
        if block.shape[0]:
            yield block.astype(np.float64) if is_sparse(block) else dense(block, np.float64)


def _array(block: Any) -> Matrix:
    found: Matrix = block.toarray() if is_sparse(block) else block
    return found


def _squares(block: Any) -> NDArray[np.float64]:
    """``||x||^2`` of each row."""
    if is_sparse(block):
        return np.asarray(block.multiply(block).sum(axis=1)).ravel()
    return np.einsum("rc,rc->r", block, block)
