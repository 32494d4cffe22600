"""Rows as a factorization is to take them: as they are, of unit length, or without their mean."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from stages.algorithms.rows import RowBlocks, as_row_blocks, dense, float_type, is_sparse

Array = NDArray[Any]
NONE, L2, CENTRE = "none", "l2", "centre"
NORMALISE = (NONE, L2, CENTRE)


@dataclass(frozen=True)
class Normalised:
    """Row blocks that are normalised as they are read; made by `normalised`.

    Attributes
    ----------
    rows : RowBlocks [rows, channels]
        Sparse blocks stay sparse for unit length, and become dense without their mean.
    mean : float array [channels] or None
        What is taken away from each row; None: rows get unit length instead.
    """

    rows: RowBlocks
    mean: Array | None = None

    @property
    def shape(self) -> tuple[int, int]:
        """(rows, channels)."""
        return self.rows.shape

    @property
    def dtype(self) -> np.dtype[Any]:
        """float64 for float64 rows, float32 for others."""
        return float_type(self.rows.dtype)

    def blocks(self) -> Iterator[Any]:
        """Yield the blocks of the rows, normalised; the rows' own stay as they are."""
        for block in self.rows.blocks():
            if self.mean is not None:
                yield dense(block, self.dtype) - self.mean.astype(self.dtype, copy=False)
            else:
                yield _of_unit_length(block, self.dtype)

    def locate(self, row: int) -> str:
        """The image of a row, as the rows know it."""
        known = getattr(self.rows, "locate", None)
        return known(row) if known else "of an array"


def normalised(A: Any, how: str, mean: Array | None = None) -> RowBlocks:
    """Rows for `stages.algorithms.nmf.factorize` and `transform`, normalised.

    Parameters
    ----------
    A : array, scipy CSR, torch tensor or RowBlocks, [rows, channels]
    how : {"none", "l2", "centre"}
        As they are; every row divided by its Euclidean length, where that is not zero; every row
        less the mean of all, which leaves values below zero (semi-NMF, ``nonneg="H"``).
    mean : array [channels], optional
        For "centre", where it is known: that of the rows the factors are of. Otherwise A is read
        once for it.

    Returns
    -------
    RowBlocks
        A `Normalised`, whose ``mean`` is what was taken away; of "none" the rows themselves.

    Raises
    ------
    ValueError
        Another name, or a mean of other channels.

    Examples
    --------
    >>> rows = normalised(np.array([[3.0, 4.0], [0.0, 0.0]]), "l2")
    >>> next(rows.blocks())
    array([[0.6, 0.8],
           [0. , 0. ]])
    """
    rows = as_row_blocks(A)
    if how not in NORMALISE:
        raise ValueError(f"normalise {how!r}: choose one of {', '.join(NORMALISE)}")
    if how == NONE:
        return rows
    if how == L2:
        return Normalised(rows)
    mean = mean_row(rows) if mean is None else np.asarray(mean)
    if mean.shape != rows.shape[1:]:
        raise ValueError(f"A is {rows.shape}, the mean is {mean.shape}: channels differ")
    return Normalised(rows, mean)


def mean_row(rows: RowBlocks) -> Array:
    """The mean of all rows ``[channels]``, summed in float64, in the type of the passes.

    Of a channel with values that are not finite it is 0: who takes the rows refuses these by name.
    """
    total = np.zeros(rows.shape[1])
    with np.errstate(invalid="ignore", over="ignore"):
        for block in rows.blocks():
            if is_sparse(block):
                total += np.bincount(block.indices, block.data, rows.shape[1])
            else:
                total += dense(block, float_type(rows.dtype)).sum(axis=0, dtype=np.float64)
        found: Array = (total / max(1, rows.shape[0])).astype(float_type(rows.dtype))
    found[~np.isfinite(found)] = 0
    return found


def _of_unit_length(block: Any, dtype: np.dtype[Any]) -> Any:
    if not is_sparse(block):
        values = dense(block, dtype)
        lengths = np.sqrt(np.einsum("rc,rc->r", values, values, dtype=np.float64))
        with np.errstate(invalid="ignore"):  # whoever takes the rows refuses NaN by name
            return values * _inverse(lengths, dtype)[:, None]
    values = block.data.astype(dtype, copy=False)
    counts = np.diff(block.indptr)
    some = counts > 0
    squares = np.zeros(len(counts))
    if some.any():
        squares[some] = np.add.reduceat(
            np.square(values, dtype=np.float64), block.indptr[:-1][some]
        )
    scaled = type(block)(block.shape, dtype=dtype)
    with np.errstate(invalid="ignore"):
        scaled.data = values * np.repeat(_inverse(np.sqrt(squares), dtype), counts)
    scaled.indices, scaled.indptr = block.indices, block.indptr
    return scaled


def _inverse(lengths: NDArray[np.float64], dtype: np.dtype[Any]) -> Array:
    """1 / length; 0 for rows of zeros, and NaN where squares are no numbers."""
    inverse = np.divide(1, lengths, out=np.zeros_like(lengths), where=lengths > 0)
    return np.where(np.isfinite(lengths), inverse, np.nan).astype(dtype)
