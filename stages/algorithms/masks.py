"""From maps to masks and boxes.

A mask is 1 where the map reaches a percentile of all values of that factor over the image set (the
paper's rule: the 75th). Two passes over the values give that percentile exactly, in memory that
does not grow with the set, whatever the order of the images.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray
from PIL import Image
from scipy import ndimage

# A float32 in [0, 1] has at most 30 bits that are not always 0: two halves.
_HALF = 15
_BINS = 1 << _HALF

Rows = NDArray[np.float32]


def exact_percentile(
    passes: Callable[[], Iterable[Rows]], factors: int, q: float
) -> NDArray[np.float64]:
    """Percentile of all values of each factor, exact, without holding them.

    Floating-point numbers >= 0 are ordered as their bits are: a histogram of the upper half of the
    bits finds the bin that the percentile lies in, a second one of the lower half its value there.

    Parameters
    ----------
    passes : callable
        Called twice; each time yields all rows, float32 ``[rows, factors]`` in [0, 1], in blocks.
    factors : int
    q : float
        Percentile in [0, 100].

    Returns
    -------
    float64 [factors]
        Equal to ``numpy.percentile(values, q, axis=0)`` in float64, interpolation included.

    Raises
    ------
    ValueError
        If `q` is out of range, a value is outside [0, 1] or NaN, a block has another shape or
        dtype, or there are no rows.
    """
    if not 0 <= q <= 100:
        raise ValueError(f"q must be in [0, 100], got {q}")
    upper = np.zeros((factors, _BINS), dtype=np.int64)
    total = 0
    for rows in passes():
        total += len(rows)
        for column, bits in enumerate(_bits(rows, factors)):
            upper[column] += np.bincount(bits >> _HALF, minlength=_BINS)
    if total == 0:
        raise ValueError("no rows: there is no percentile of nothing")
    at = (total - 1) * (q / 100)
    low, high = int(at), min(int(at) + 1, total - 1)
    searches = [_Search.begin(upper, rank) for rank in (low, high)]
    for rows in passes():
        for column, bits in enumerate(_bits(rows, factors)):
            for search in searches:
                search.count(column, bits)
    a, b = (search.found() for search in searches)
    t = at - low
    # numpy interpolates from the nearer end; the other form differs in the last bit.
    return np.asarray(b - (b - a) * (1 - t) if t >= 0.5 else a + (b - a) * t)


@dataclass(frozen=True, eq=False)
class _Search:
    """The value of one rank: its upper half of bits is known, the lower ones are counted."""

    upper: NDArray[np.int64]  # [factors]
    rank: NDArray[np.int64]  # [factors], within that bin
    counts: NDArray[np.int64]  # [factors, bins]

    @classmethod
    def begin(cls, counts: NDArray[np.int64], rank: int) -> _Search:
        below = counts.cumsum(axis=1)  # values <= each bin
        upper = np.array([np.searchsorted(row, rank, side="right") for row in below])
        before = below[np.arange(len(below)), upper] - counts[np.arange(len(below)), upper]
        return cls(upper, rank - before, np.zeros_like(counts))

    def count(self, column: int, bits: NDArray[np.int32]) -> None:
        inside = bits[(bits >> _HALF) == self.upper[column]]
        self.counts[column] += np.bincount(inside & (_BINS - 1), minlength=_BINS)

    def found(self) -> NDArray[np.float64]:
        below = self.counts.cumsum(axis=1)
        lower = [
            np.searchsorted(row, r, side="right") for row, r in zip(below, self.rank, strict=True)
        ]
        bits = (self.upper << _HALF) | np.array(lower)
        return bits.astype(np.int32).view(np.float32).astype(np.float64)


def _bits(rows: Rows, factors: int) -> Iterable[NDArray[np.int32]]:
    """The bits of each column's values."""
    if rows.ndim != 2 or rows.shape[1] != factors or rows.dtype != np.float32:
        raise ValueError(f"rows must be float32 [n, {factors}], got {rows.dtype} {rows.shape}")
    if rows.size and not (rows.min() >= 0 and rows.max() <= 1):
        raise ValueError("values must be in [0, 1]")
    for column in rows.T:
        yield (np.ascontiguousarray(column) + np.float32(0)).view(np.int32)  # + 0: no -0.0


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


def pack_masks(masks: NDArray[np.bool_]) -> NDArray[np.uint8]:
    """Masks as bits: bool ``[rows, factors]`` to uint8 ``[rows, ceil(factors / 8)]``.

    Factor f is bit ``f % 8`` (of value ``2 ** (f % 8)``) of byte ``f // 8``.
    """
    return np.packbits(masks, axis=-1, bitorder="little")


def unpack_masks(packed: NDArray[np.uint8], factors: int) -> NDArray[np.bool_]:
    """Inverse of `pack_masks`: bool ``[..., factors]``."""
    return np.unpackbits(packed, axis=-1, count=factors, bitorder="little").view(np.bool_)


def resize_masks(masks: NDArray[np.bool_], size: tuple[int, int]) -> NDArray[np.bool_]:
    """Masks at another size: inside is where the interpolated mask reaches a half.

    Bilinear where it grows, the mean under a triangle where it shrinks (Pillow's ``BILINEAR``).

    Parameters
    ----------
    masks : bool [factors, h, w]
    size : (height, width)

    Returns
    -------
    bool [factors, height, width]
    """
    if masks.shape[1:] == tuple(size):
        return masks
    sized = np.empty((len(masks), *size), dtype=np.bool_)
    for target, mask in zip(sized, masks, strict=True):
        levels = Image.fromarray(mask.view(np.uint8) * np.uint8(255))
        larger = levels.resize((size[1], size[0]), Image.Resampling.BILINEAR)
        np.greater_equal(np.asarray(larger), 128, out=target)
    return sized


@dataclass(frozen=True, eq=False)
class Components:
    """The 8-connected components of a mask, largest first.

    Of components of equal size, the one whose first pixel in row-major order comes first.

    Attributes
    ----------
    boxes : int32 [n, 4]
        (top, left, bottom, right) in 0-based pixels, half-open: rows top..bottom-1, columns
        left..right-1.
    areas : int64 [n]
        Pixels of each component.
    scores : float32 [n]
        Mean value of the map over each component.
    """

    boxes: NDArray[np.int32]
    areas: NDArray[np.int64]
    scores: NDArray[np.float32]


def components(mask: NDArray[np.bool_], values: NDArray[np.generic]) -> Components:
    """Boxes, areas and scores of all components of a mask.

    Parameters
    ----------
    mask : bool [h, w]
    values : real [h, w]
        The map that the mask was made from.

    Raises
    ------
    ValueError
        If the mask is not two-dimensional and boolean, or the values have another shape.
    """
    if mask.ndim != 2 or mask.dtype != np.bool_ or values.shape != mask.shape:
        raise ValueError(
            f"mask must be bool [h, w] and values of its shape, got {mask.dtype} {mask.shape} "
            f"and {values.shape}"
        )
    # Labels are given in row-major order of the components' first pixels.
    labels, count = ndimage.label(mask, structure=np.ones((3, 3), dtype=np.int64))
    flat = labels.ravel()
    areas = np.bincount(flat, minlength=count + 1)[1:]
    sums = np.bincount(flat, values.ravel().astype(np.float64), minlength=count + 1)[1:]
    found = ndimage.find_objects(labels)
    boxes = np.array(
        [(rows.start, columns.start, rows.stop, columns.stop) for rows, columns in found],
        dtype=np.int32,
    ).reshape(-1, 4)
    order = np.argsort(-areas, kind="stable")
    scores = (sums / np.maximum(areas, 1)).astype(np.float32)
    return Components(boxes[order], areas[order], scores[order])
