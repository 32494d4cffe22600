"""From maps to masks and boxes.

A mask is 1 where the map reaches a percentile of all values of that factor over the image set (the
paper's rule: the 75th). Two passes over the values give that percentile exactly, in memory that
does not grow with the set, whatever the order of the images.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

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
    return exact_percentiles(passes, factors, [q])[0]


def exact_percentiles(
    passes: Callable[[], Iterable[Rows]], factors: int, qs: Sequence[float]
) -> NDArray[np.float64]:
    """`exact_percentile` of several percentiles in the same two passes, ``[len(qs), factors]``."""
    for q in qs:
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
    lows = [rank_below(total, q) for q in qs]
    ranks = [min(rank, total - 1) for low in lows for rank in (low, low + 1)]
    searches = {rank: _Search.begin(upper, rank) for rank in ranks}
    for rows in passes():
        for column, bits in enumerate(_bits(rows, factors)):
            for search in searches.values():
                search.count(column, bits)
    found = {rank: search.found() for rank, search in searches.items()}
    pairs = zip(ranks[::2], ranks[1::2], qs, strict=True)
    return np.array([percentile_between(found[a], found[b], total, q) for a, b, q in pairs])


def rank_below(total: int, q: float) -> int:
    """The rank among `total` values that percentile q lies at or just above."""
    return int((total - 1) * (q / 100))


def percentile_between(
    a: NDArray[np.float64], b: NDArray[np.float64], total: int, q: float
) -> NDArray[np.float64]:
    """Percentile q of `total` values whose value of `rank_below` is a, and that of the next b."""
    t = (total - 1) * (q / 100) - rank_below(total, q)
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


def mask_bytes(packed: NDArray[np.uint8], count: int) -> list[NDArray[np.uint8]]:
    """The bytes of all pixels of an image's masks ``[h, w, bytes]``, one after the other.

    Raises
    ------
    ValueError
        If there is no place for just so many masks.
    """
    if packed.ndim != 3 or packed.shape[2] != -(-count // 8) or packed.dtype != np.uint8:
        raise ValueError(
            f"expected uint8 [h, w, {-(-count // 8)}] for {count} masks, got "
            f"{packed.dtype} {packed.shape}"
        )
    return [np.ascontiguousarray(packed[..., i]).ravel() for i in range(packed.shape[2])]


def resize_masks(packed: NDArray[np.uint8], size: tuple[int, int]) -> NDArray[np.uint8]:
    """Masks at another size: inside is where the bilinearly interpolated mask reaches a half.

    Exact, and for all masks of a byte at once: of the four pixels around a point, those whose
    weights together reach a half must be inside, which and-s and or-s of their bits can tell.

    Parameters
    ----------
    packed : uint8 [h, w, bytes]
        As from `pack_masks`.
    size : (height, width)

    Returns
    -------
    uint8 [height, width, bytes]
    """
    if packed.shape[:2] == tuple(size):
        return packed
    # as many masks as a machine word has bits, at once
    count = packed.shape[2]
    word = next(width for width in (1, 2, 4, 8) if width >= min(count, 8))
    padded = np.zeros((*packed.shape[:2], -(-count // word) * word), dtype=np.uint8)
    padded[..., :count] = packed
    words = padded.view(f"u{word}")
    sized = [_resized(np.ascontiguousarray(plane), size) for plane in np.moveaxis(words, -1, 0)]
    return np.stack(sized, axis=-1).view(np.uint8)[..., :count]


def _resized(words: NDArray[Any], size: tuple[int, int]) -> NDArray[Any]:
    """`resize_masks` of masks that are the bits of one word per pixel, unsigned ``[h, w]``."""
    (near_y, far_y, y), (near_x, far_x, x) = (
        _sampling(words.shape[axis], size[axis]) for axis in (0, 1)
    )
    # a is the nearest pixel and d the one across: their weights are (1 - x) (1 - y) and x y, and
    # x, y <= 1/2, as whole shares of what `_sampling` divides by
    rows_near, rows_far = words[near_y], words[far_y]
    a, b = np.take(rows_near, near_x, axis=1), np.take(rows_near, far_x, axis=1)
    c, d = np.take(rows_far, near_x, axis=1), np.take(rows_far, far_x, axis=1)
    whole_y, whole_x = 2 * size[0], 2 * size[1]
    weight_a, half = np.multiply.outer(whole_y - y, whole_x - x), whole_y * whole_x // 2

    def where(condition: NDArray[np.bool_]) -> NDArray[Any]:
        return np.negative(condition.astype(words.dtype))  # all bits, or none

    # a with any other is always enough
    b_and_d, b_and_c = b & d, b & c
    inside = a & (b | c | d | where(weight_a >= half))
    inside |= b_and_d & c & where(weight_a <= half)
    on_x, on_y = 2 * x == whole_x, 2 * y == whole_y
    if on_x.any():  # halfway between two pixels: b and d weigh as much as a and c
        inside |= (b_and_d | b_and_c | b & where(y == 0)[:, None]) & where(on_x)
    if on_y.any():
        inside |= (c & d | b_and_c | c & where(x == 0)) & where(on_y)[:, None]
    return inside


def _sampling(length: int, target: int) -> tuple[NDArray[np.intp], NDArray[np.intp], NDArray[Any]]:
    """Where each of `target` points along an axis lies among `length` pixels.

    The nearest pixel, the one on the other side, and the distance from the nearest, as whole
    numbers: multiples of a pixel's ``1 / (2 target)``.
    """
    whole = 2 * target
    # centres: (i + 1/2) length / target - 1/2, not beyond those of the outer pixels
    at = np.clip((2 * np.arange(target) + 1) * length - target, 0, (length - 1) * whole)
    low, rest = np.divmod(at, whole)
    high = np.minimum(low + 1, length - 1)
    closer = 2 * rest > whole  # to the upper one
    return (
        np.where(closer, high, low),
        np.where(closer, low, high),
        np.where(closer, whole - rest, rest),
    )


def nearest_at(
    values: NDArray[np.generic], size: tuple[int, int], pixels: NDArray[np.intp]
) -> NDArray[Any]:
    """Values of maps ``[h, w, columns]`` at some pixels of an image of another size.

    Parameters
    ----------
    values : real [h, w, columns]
    size : (height, width)
        Of the image.
    pixels : int [n]
        Positions in it, in row-major order.

    Returns
    -------
    [columns, n], of the same type
        Those of the nearest pixels of the maps.
    """
    (down, *_), (across, *_) = (_sampling(values.shape[axis], size[axis]) for axis in (0, 1))
    rows = np.add.outer(down * values.shape[1], across).ravel()[pixels]
    return np.ascontiguousarray(values.reshape(-1, values.shape[2])[rows].T)


def bilinear_at(
    values: NDArray[np.float32], size: tuple[int, int], pixels: NDArray[np.intp]
) -> NDArray[np.float32]:
    """As `nearest_at`, interpolated as `resize_masks` does; for grids of few cells."""
    (near, far, share), (left, right, across) = (
        (near, far, (distance / (2 * target)).astype(np.float32)[:, None])
        for near, far, distance, target in (
            (*_sampling(values.shape[axis], size[axis]), size[axis]) for axis in (0, 1)
        )
    )
    lines = values[:, left] * (1 - across) + values[:, right] * across  # [h, width, columns]
    rows, (y, x) = lines.reshape(-1, values.shape[2]), np.divmod(pixels, size[1])
    found = rows[near[y] * size[1] + x] * (1 - share[y])
    found += rows[far[y] * size[1] + x] * share[y]
    return np.ascontiguousarray(found.T)


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
    from scipy import ndimage  # here: masks are looked at without it

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
