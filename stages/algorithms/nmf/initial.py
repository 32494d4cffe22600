"""Where a factorization starts."""

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from stages.algorithms.nmf.solvers import Hals
from stages.algorithms.rows import RowBlocks, sample_rows

SAMPLE_SHARE = 0.03
SAMPLE_LEAST, SAMPLE_MOST = 20_000, 60_000
STARTS = 4
SAMPLE_PASSES = 30


def draw_sample(rows: RowBlocks) -> tuple[NDArray[np.int64], NDArray[Any]]:
    """A row sample over the whole set: 3 % of the rows, at least 20 000 of them.

    It does not depend on k or the seed, so all factorizations of a sweep share it.

    Returns
    -------
    indices : int64 array [n], ascending
    sample : array [n, channels]
    """
    total = rows.shape[0]
    size = min(total, max(SAMPLE_LEAST, min(SAMPLE_MOST, int(SAMPLE_SHARE * total))))
    indices = np.sort(np.random.default_rng(0).choice(total, size=size, replace=False))
    return indices, sample_rows(rows, indices)


def random_start(
    shape: tuple[int, int], k: int, mean: float, generator: np.random.Generator
) -> Tensor:
    """The paper's start for W or H, ``|N(0, 1)| * sqrt(mean(A) / k)``, float64 of `shape`."""
    scale = np.sqrt(mean / k) if mean > 0 else 1.0
    return torch.from_numpy(np.abs(generator.standard_normal(shape)) * scale)


def warm_factors(sample: Tensor, k: int, generator: np.random.Generator) -> Tensor:
    """The best of several HALS runs on a row sample, float64 ``[k, channels]``.

    Parameters
    ----------
    sample : Tensor [n, channels]
    """
    best, best_loss = None, np.inf
    norm = float(sample.double().square().sum())
    mean = float(sample.double().mean())
    solver = Hals()
    for _ in range(STARTS):
        W = random_start((k, sample.shape[1]), k, mean, generator).to(sample.device)
        loss = np.inf
        for _ in range(SAMPLE_PASSES):
            Ws = W.to(sample.dtype)
            H = solver.coefficients(sample @ Ws.T, Ws @ Ws.T, None)
            HtA, HtH = (H.T @ sample).double(), (H.T @ H).double()
            W = solver.factors(W, HtA, HtH)
            before, loss = loss, sums_loss(norm, W, HtA, HtH)
            W = unit_rows(W)
            if before - loss <= 1e-4 * loss:
                break
        if best is None or loss < best_loss:
            best, best_loss = W, loss
    assert best is not None
    return best


def nndsvd_factors(sample: Tensor, k: int) -> Tensor:
    """NNDSVD (Boutsidis & Gallopoulos 2008) of the row sample, float64 ``[k, channels]``.

    Of each singular pair the sign half with the larger product of norms is taken; zeros become a
    small positive number, since an update could never leave zero.
    """
    _, _, vt = torch.linalg.svd(sample.double(), full_matrices=False)
    W = torch.zeros((k, sample.shape[1]), dtype=torch.float64, device=sample.device)
    for j in range(min(k, len(vt))):
        u = sample.double() @ vt[j]
        halves = [
            (float(u.clamp(min=0).norm() * vt[j].clamp(min=0).norm()), vt[j].clamp(min=0)),
            (float((-u).clamp(min=0).norm() * (-vt[j]).clamp(min=0).norm()), (-vt[j]).clamp(min=0)),
        ]
        W[j] = max(halves, key=lambda half: half[0])[1]
    return W + 1e-3 * max(float(W.mean()), 1e-12)


def sums_loss(norm: float, W: Tensor, HtA: Tensor, HtH: Tensor) -> float:
    """``||A - HW||_F^2`` from ``||A||_F^2`` and the sums of a pass, clamped at 0 (float64)."""
    return max(0.0, float(norm - 2 * (HtA * W).sum() + (HtH * (W @ W.T)).sum()))


def unit_rows(W: Tensor) -> Tensor:
    """W with unit L2 rows; all-zero rows stay zero."""
    norms = W.norm(dim=1, keepdim=True)
    return W / torch.where(norms > 0, norms, torch.ones_like(norms))


INITS: Mapping[str, str] = {
    "sample": "the best of four short runs on a row sample",
    "random": "the paper's random start",
    "nndsvd": "non-negative double SVD of a row sample",
}
