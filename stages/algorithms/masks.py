"""From heat maps to masks and boxes.

A mask is 1 where the heat map reaches a percentile of all entries of that factor over the image
set (the paper's rule: the 75th). On 16-bit heat maps a histogram of the 65536 representable values
gives that percentile exactly, in memory that does not grow with the set, whatever the order.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import ndimage

VALUES = 65536


class ValueHistogram:
    """How often each 16-bit value occurs, per factor.

    Parameters
    ----------
    factors : int
        Number of factors, >= 1.
    counts : int64 [factors, 65536], optional
        State of an earlier histogram (a checkpoint), copied.

    Attributes
    ----------
    counts : int64 [factors, 65536]

    Raises
    ------
    ValueError
        If `factors` is below 1 or `counts` has another shape or negative entries.
    """

    counts: NDArray[np.int64]

    def __init__(self, factors: int, counts: NDArray[np.int64] | None = None) -> None:
        if factors < 1:
            raise ValueError(f"factors must be >= 1, got {factors}")
        if counts is None:
            counts = np.zeros((factors, VALUES), dtype=np.int64)
        elif counts.shape != (factors, VALUES) or (counts < 0).any():
            raise ValueError(
                f"counts must be ({factors}, {VALUES}) and >= 0, got {counts.shape} "
                f"with minimum {counts.min(initial=0)}"
            )
        self.counts = np.array(counts, dtype=np.int64)

    def add(self, values: NDArray[np.uint16]) -> None:
        """Count the entries of some rows.

        Parameters
        ----------
        values : uint16 [rows, factors]

        Raises
        ------
        ValueError
            If the dtype or the number of factors differs.
        """
        if values.ndim != 2 or values.shape[1] != len(self.counts) or values.dtype != np.uint16:
            raise ValueError(
                f"values must be uint16 [rows, {len(self.counts)}], "
                f"got {values.dtype} {values.shape}"
            )
        for factor, counts in enumerate(self.counts):
            counts += np.bincount(values[:, factor], minlength=VALUES)

    def merge(self, other: ValueHistogram) -> None:
        """Add another histogram's counts to this one.

        Raises
        ------
        ValueError
            If the numbers of factors differ.
        """
        if other.counts.shape != self.counts.shape:
            raise ValueError(f"cannot merge {other.counts.shape} into {self.counts.shape}")
        self.counts += other.counts

    def percentile(self, q: float) -> NDArray[np.float64]:
        """Exact percentile of all counted entries, per factor.

        Parameters
        ----------
        q : float
            Percentile in [0, 100].

        Returns
        -------
        float64 [factors], in quantised units
            Equal to ``numpy.percentile(entries, q)``, interpolation included.

        Raises
        ------
        ValueError
            If `q` is out of range or a factor has no entries.
        """
        if not 0 <= q <= 100:
            raise ValueError(f"q must be in [0, 100], got {q}")
        below = self.counts.cumsum(axis=1)  # entries <= each value
        totals = below[:, -1]
        if (totals == 0).any():
            raise ValueError(f"no entries for factors {np.flatnonzero(totals == 0).tolist()}")
        at = (totals - 1) * (q / 100)
        lower = np.floor(at).astype(np.int64)
        upper = np.minimum(lower + 1, totals - 1)
        a = _order_statistic(below, lower)
        b = _order_statistic(below, upper)
        t = at - lower
        # numpy interpolates from the nearer end; the other form differs in the last bit.
        return np.where(t >= 0.5, b - (b - a) * (1 - t), a + (b - a) * t)


def _order_statistic(below: NDArray[np.int64], rank: NDArray[np.int64]) -> NDArray[np.float64]:
    """The value at a 0-based rank, per factor: the first with more than `rank` entries <= it."""
    found = [np.searchsorted(row, r, side="right") for row, r in zip(below, rank, strict=True)]
    return np.array(found, dtype=np.float64)


def binarise(values: NDArray[np.generic], threshold: ArrayLike, axis: int = 0) -> NDArray[np.bool_]:
    """Mask: the value reaches the threshold, and the threshold is above 0.

    Where the percentile of a factor is 0 (with several factors most entries of one are 0), the
    plain rule ``value >= 0`` would mark every pixel of every image, those without any of the
    factor included. An empty mask is the honest answer.

    Parameters
    ----------
    values : real, any shape with the factors along `axis`
        Quantised heat maps, or probabilities.
    threshold : float [factors] or one number
        In the unit of `values`.
    axis : int
        The factors' axis: 0 for maps [factors, h, w], 1 for rows [rows, factors].

    Returns
    -------
    bool, shape of `values`

    Raises
    ------
    ValueError
        If `threshold` is neither one number nor one per factor.
    """
    thresholds = np.asarray(threshold, dtype=np.float64)
    if thresholds.ndim > 0:
        inside = -values.ndim <= axis < values.ndim
        if not inside or thresholds.shape != (values.shape[axis],):
            raise ValueError(
                f"threshold {thresholds.shape} must be one number per factor: "
                f"{values.shape}[{axis}]"
            )
        shape = [1] * values.ndim
        shape[axis] = -1
        thresholds = thresholds.reshape(shape)
    reached: NDArray[np.bool_] = np.greater_equal(values, thresholds) & (thresholds > 0)
    return reached


def largest_component_box(mask: NDArray[np.bool_]) -> tuple[int, int, int, int] | None:
    """Box around the largest 8-connected component of a mask.

    Parameters
    ----------
    mask : bool [h, w]

    Returns
    -------
    (top, left, bottom, right) or None
        0-based pixels, half-open: rows top..bottom-1, columns left..right-1. None for an empty
        mask. Of components of equal size, the one whose first pixel in row-major order comes
        first.

    Raises
    ------
    ValueError
        If the mask is not two-dimensional and boolean.
    """
    if mask.ndim != 2 or mask.dtype != np.bool_:
        raise ValueError(f"mask must be bool [h, w], got {mask.dtype} {mask.shape}")
    if not mask.any():
        return None
    labels, _ = ndimage.label(mask, structure=np.ones((3, 3), dtype=np.int64))
    sizes = np.bincount(labels.ravel())
    sizes[0] = 0
    largest = sizes == sizes.max()
    first_pixel = np.argmax(largest[labels.ravel()])
    rows, columns = np.nonzero(labels == labels.ravel()[first_pixel])
    return int(rows[0]), int(columns.min()), int(rows[-1]) + 1, int(columns.max()) + 1
