"""Rows as a factorization is to take them: as they are, of unit length, or without their mean."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from stages.algorithms.rows import RowBlocks, as_row_blocks, dense, float_type, is_sparse
from stages.algorithms.unit_sums import UnitSum

Array = NDArray[Any]
NONE, L2, CENTRE = "none", "l2", "centre"
NORMALISE = (NONE, L2, CENTRE)


@dataclass(frozen=True)
class _Changed:
    """Row blocks that are something else as they are read."""

    rows: RowBlocks

    @property
    def shape(self) -> tuple[int, int]:
        """(rows, channels)."""
        return self.rows.shape

    @property
    def dtype(self) -> np.dtype[Any]:
        """float64 for float64 rows, float32 for others."""
        return float_type(self.rows.dtype)

    def locate(self, row: int) -> str:
        """The image of a row, as the rows know it."""
        known = getattr(self.rows, "locate", None)
        return known(row) if known else "of an array"


@dataclass(frozen=True)
class Normalised(_Changed):
    """Row blocks that are normalised as they are read; made by `normalised`.

    Attributes
    ----------
    rows : RowBlocks [rows, channels]
        Sparse blocks stay sparse for unit length, and become dense without their mean.
    mean : float array [channels] or None
        What is taken away from each row; None: rows get unit length instead.
    """

    mean: Array | None = None

    def blocks(self) -> Iterator[Any]:
        """Yield the blocks of the rows, normalised; the rows' own stay as they are."""
        for block in self.rows.blocks():
            if self.mean is not None:
                yield dense(block, self.dtype) - self.mean.astype(self.dtype, copy=False)
            else:
                yield _of_unit_length(block, self.dtype)


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


@dataclass(frozen=True)
class Weighted(_Changed):
    """Row blocks of which every row is multiplied by a number as it is read; made by `weighted`.

    Attributes
    ----------
    rows : RowBlocks [rows, channels]
        Sparse blocks stay sparse, without zeros among their values.
    weights : float32 [rows]
        May be a memory map.
    """

    weights: NDArray[np.float32]

    def blocks(self) -> Iterator[Any]:
        """Yield the blocks of the rows, weighted; the rows' own stay as they are."""
        start = 0
        for block in self.rows.blocks():
            weights = np.asarray(self.weights[start : start + block.shape[0]], self.dtype)
            start += block.shape[0]
            if is_sparse(block):
                scaled = _scaled(block, weights, self.dtype).copy()  # its zeros go in place
                scaled.eliminate_zeros()
                yield scaled
            else:
                yield dense(block, self.dtype) * weights[:, None]


def weighted(rows: RowBlocks, weights: NDArray[np.float32]) -> Weighted:
    """Rows times their weights: what lies within one factor, by its shares of the rows.

    Raises
    ------
    ValueError
        When there is not one weight for each row.
    """
    if weights.shape != rows.shape[:1]:
        raise ValueError(f"{rows.shape[0]} rows cannot have weights {weights.shape}")
    return Weighted(rows, weights)


def mean_row(rows: RowBlocks) -> Array:
    """The mean of all rows ``[channels]``, summed in float64, in the type of the passes.

    Of a channel with values that are not finite it is 0: who takes the rows refuses these by name.
    """
    return mean_of(sum_of_rows(rows), rows)


def sum_of_rows(rows: RowBlocks) -> NDArray[np.float64]:
    """The sum of all rows ``[channels]``, in the order of `stages.algorithms.unit_sums`."""
    channels = rows.shape[1]
    sums = UnitSum(lambda: np.zeros(channels), np.add)
    with np.errstate(invalid="ignore", over="ignore"):
        for block in rows.blocks():
            if is_sparse(block):
                sums.add(np.bincount(block.indices, block.data, channels))
            else:
                sums.add(dense(block, float_type(rows.dtype)).sum(axis=0, dtype=np.float64))
            sums.end_block(int(block.shape[0]))
        return sums.total()


def mean_of(total: NDArray[np.float64], rows: RowBlocks) -> Array:
    """`mean_row` of rows whose sum is known ``[channels]``."""
    with np.errstate(invalid="ignore", over="ignore"):
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
    with np.errstate(invalid="ignore"):
        return _scaled(block, _inverse(np.sqrt(squares), dtype), dtype)


def _scaled(block: Any, factors: Array, dtype: np.dtype[Any]) -> Any:
    """A sparse block with each row times a factor; where its values lie is shared with it."""
    scaled = type(block)(block.shape, dtype=dtype)
    scaled.data = block.data.astype(dtype, copy=False) * np.repeat(factors, np.diff(block.indptr))
    scaled.indices, scaled.indptr = block.indices, block.indptr
    return scaled


def _inverse(lengths: NDArray[np.float64], dtype: np.dtype[Any]) -> Array:
    """1 / length; 0 for rows of zeros, and NaN where squares are no numbers."""
    inverse = np.divide(1, lengths, out=np.zeros_like(lengths), where=lengths > 0)
    return np.where(np.isfinite(lengths), inverse, np.nan).astype(dtype)
