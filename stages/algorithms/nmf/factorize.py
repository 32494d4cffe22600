"""The library's surface: `factorize`, `factorize_many` and `transform`."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from stages.algorithms.nmf.checks import refuse_bad
from stages.algorithms.nmf.solvers import fresh_coefficients
from stages.algorithms.nmf.state import Factorization
from stages.algorithms.nmf.sweep import Sweep
from stages.algorithms.rows import as_row_blocks, to_tensor

Array = NDArray[Any]


def factorize_many(
    A: Any, ks: Sequence[int], seeds: Sequence[int] = (0,), **options: Any
) -> list[Factorization]:
    """Factorize one matrix for every k and seed, in shared passes; options as in `Sweep`."""
    sweep = Sweep(A, ks, seeds, **options)
    while not sweep.done:
        sweep.step()
    return sweep.finish()


def factorize(A: Any, k: int, seed: int = 0, **options: Any) -> Factorization:
    """Factorize ``A ~ H W`` with H, W >= 0 (eq. 3).

    Parameters
    ----------
    A : array, scipy CSR, torch tensor or RowBlocks, [rows, channels], non-negative
        Float64 input is computed in float64, everything else in float32 with float64 sums.
    k : int
        Number of factors.
    seed : int
    **options
        ``solver``, ``init``, ``tol``, ``max_passes``, ``device``: see `Sweep`.

    Examples
    --------
    >>> import numpy as np
    >>> from stages.algorithms.nmf import factorize
    >>> A = np.outer([1.0, 2.0, 0.0], [3.0, 0.0, 4.0])
    >>> f = factorize(A, k=1)
    >>> f.factors.round(3)
    array([[0.6, 0. , 0.8]], dtype=float32)
    >>> f.coefficients.round(3).ravel()
    array([ 5., 10.,  0.], dtype=float32)
    """
    return factorize_many(A, [k], [seed], **options)[0]


def transform(A: Any, factors: Array, device: str = "cpu") -> Array:
    """Coefficients of new rows for fixed factors: least squares with H >= 0.

    Parameters
    ----------
    A : as for `factorize`, [rows, channels]
    factors : array [k, channels]

    Returns
    -------
    float32 array [rows, k]

    Raises
    ------
    ValueError
        Negative, NaN or infinite values (with the row), or other channels than the factors have.
    """
    rows = as_row_blocks(A)
    if rows.shape[1] != np.shape(factors)[1]:
        raise ValueError(f"A is {rows.shape}, factors are {np.shape(factors)}: channels differ")
    dtype = torch.float64 if rows.dtype == np.float64 else torch.float32
    W = torch.from_numpy(np.array(factors)).to(device, dtype)
    G = W @ W.T
    solved = np.empty((rows.shape[0], len(W)), np.float32)
    start = 0
    for block in rows.blocks():
        X = to_tensor(block, torch.device(device), dtype)
        refuse_bad(X, rows, start)
        solved[start : start + len(X)] = fresh_coefficients(X @ W.T, G).float().cpu().numpy()
        start += len(X)
    return solved
