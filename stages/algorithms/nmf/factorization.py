"""The library's surface: `factorize`, `factorize_many` and `transform`."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from stages.algorithms.nmf.checks import sound_squares
from stages.algorithms.nmf.engines import make_engine
from stages.algorithms.nmf.solvers import BOTH
from stages.algorithms.nmf.stack import EXACT, Stack, numbered_blocks
from stages.algorithms.nmf.state import Factorization
from stages.algorithms.nmf.sweep import Sweep
from stages.algorithms.rows import as_row_blocks, float_type

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
    """Factorize ``A ~ H W`` with H, W >= 0 (eq. 3), or with H >= 0 alone.

    Parameters
    ----------
    A : array, scipy CSR, torch tensor or RowBlocks, [rows, channels]
        Non-negative, unless only H is to be. Float64 input is computed in float64, everything else
        in float32 with float64 sums.
    k : int
        Number of factors.
    seed : int
    **options
        ``solver``, ``init``, ``tol``, ``max_passes``, ``nonneg``, ``device``, ``threads``: see
        `Sweep`.

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


def transform(
    A: Any,
    factors: Array,
    *,
    nonneg: str | None = None,
    device: str = "cpu",
    threads: int | None = None,
) -> Array:
    """Coefficients of new rows for fixed factors: least squares with H >= 0.

    Parameters
    ----------
    A : as for `factorize`, [rows, channels]
    factors : array [k, channels]
    nonneg : {"W and H", "H"}, optional
        What was >= 0 in the factorization: of "H" A may be below zero. By default "H" where some
        of the factors are below zero.
    device, threads
        See `Sweep`.

    Returns
    -------
    float32 array [rows, k]

    Raises
    ------
    ValueError
        NaN, infinite or refused negative values (with the row), or other channels than the factors
        have.
    """
    rows = as_row_blocks(A)
    if rows.shape[1] != np.shape(factors)[1]:
        raise ValueError(f"A is {rows.shape}, factors are {np.shape(factors)}: channels differ")
    signed = bool(np.min(factors, initial=0) < 0) if nonneg is None else nonneg != BOTH
    engine, dtype = make_engine(device, threads, signed=signed), float_type(rows.dtype)
    H = np.zeros((rows.shape[0], len(factors)), dtype)
    for start, block in numbered_blocks(rows):
        sound_squares(engine, block, rows, start, signed=signed)
    if len(H):
        stack = Stack([np.asarray(factors, dtype=np.float64)], dtype)
        engine.run_pass(rows, stack, EXACT, H=H, with_HtA=False)
    return H.astype(np.float32, copy=False)
