"""Heat maps from coefficients, compiled: whole numbers and masks of an image in one go.

What `stages.algorithms.heatmap` and `masks` do step by step, array after array, is done here line
by line while it is in the cache, and without the interpreter lock, so that threads share the work.

The interpolation is torch's on a CPU with fused multiply-add, product by product in its order, so
that values are the same to the last bit; and it is the same on every machine.
"""

from __future__ import annotations

from functools import lru_cache
from threading import Lock
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from stages.algorithms import interpolation_kernels as kernels
from stages.algorithms.ranks import Brackets, Counts

Grid = NDArray[np.float32]  # [h, w, columns]
Size = tuple[int, int]
Drawn = tuple[NDArray[np.uint16], NDArray[np.uint8]]  # levels, bits


class Lines(NamedTuple):
    """Where the points along one axis of a map lie between cells.

    Attributes
    ----------
    below, above : int64 [points]
    near, far : float32 [points]
        Weights of these.
    """

    below: NDArray[np.int64]
    above: NDArray[np.int64]
    near: NDArray[np.float32]
    far: NDArray[np.float32]


@lru_cache(maxsize=256)
def lines(cells: int, points: int) -> Lines:
    """Centres of `points` pixels among those of `cells` cells, held beyond the outer ones."""
    step = np.float64(np.float32(cells) / np.float32(points))
    at = np.maximum((step * (np.arange(points) + 0.5) - 0.5).astype(np.float32), np.float32(0))
    below = np.minimum(at.astype(np.int64), cells - 1)
    far = np.clip(at - below.astype(np.float32), 0, 1).astype(np.float32)
    return Lines(below, np.minimum(below + 1, cells - 1), np.float32(1) - far, far)


def checked(grid: Grid, size: Size) -> Grid:
    """The grid as the kernels take it.

    Raises
    ------
    ValueError
        If it is no float32 ``[h, w, columns]``, has a side below 1, or values that are not finite.
    """
    if grid.ndim != 3 or grid.dtype != np.float32 or min(*grid.shape[:2], *size) < 1:
        raise ValueError(
            f"coefficients must be float32 [h, w, columns] with sides >= 1, got {grid.dtype} "
            f"{grid.shape} for {size}"
        )
    if not np.isfinite(grid).all():
        raise ValueError(f"coefficients {grid.shape} contain NaN or infinity")
    return np.ascontiguousarray(grid)


def upsampled(grid: Grid, size: Size) -> NDArray[np.float32]:
    """Maps of one image, ``[columns, H, W]``: what `heatmap.upsample` gives, without torch.

    Raises
    ------
    ValueError
        See `checked`.
    """
    grid = checked(grid, size)
    if grid.shape[:2] == size:
        return np.ascontiguousarray(np.moveaxis(grid, 2, 0))
    out = np.empty((grid.shape[2], *size), np.float32)
    kernels.enlarge(grid, lines(grid.shape[0], size[0]), lines(grid.shape[1], size[1]), out)
    return out


def draw(
    grid: Grid,
    size: Size,
    scale: NDArray[np.float64],
    thresholds: NDArray[np.float64],
    out: Drawn | None = None,
    start: int = 0,
) -> Drawn:
    """Heat maps of one image in whole numbers, and its masks as bits.

    Parameters
    ----------
    grid : float32 [h, w, columns]
        Coefficients, row-major over the grid.
    size : (H, W)
        Of the maps.
    scale : float64 [columns]
        The coefficient that becomes a share of 1, >= 0.
    thresholds : float64 [columns]
        Shares where masks begin; 0: an empty mask.
    out : (levels, bits), optional
        To be written into, C-contiguous.
    start : int
        Where, among the rows of `out`.

    Returns
    -------
    levels : uint16 [columns, H * W], or `out`'s
        `heatmap.quantise` of the shares: what `heatmap.upsample` gives, clipped to [0, scale],
        divided by it in float64 and rounded to float32; zeros for a scale of 0, a factor absent
        from the whole set.
    bits : uint8 [H * W, ceil(columns / 8)], or `out`'s
        `masks.pack_masks` of `masks.binarise` of the exact shares.

    Raises
    ------
    ValueError
        See `checked`; or if scale or thresholds do not fit.
    """
    grid, columns = checked(grid, size), grid.shape[2]
    if scale.shape != (columns,) or not np.isfinite(scale).all() or (scale < 0).any():
        raise ValueError(
            f"scale must be finite, >= 0 and one per factor: got {scale} for {grid.shape}"
        )
    if thresholds.shape != (columns,):
        raise ValueError(f"threshold {thresholds.shape} must be one per factor of {grid.shape}")
    rows = size[0] * size[1]
    levels, bits = out or (
        np.empty((columns, rows), np.uint16),
        np.empty((rows, -(-columns // 8)), np.uint8),
    )
    y, x = lines(grid.shape[0], size[0]), lines(grid.shape[1], size[1])
    if levels.shape != (columns, len(bits)) or start < 0 or start + rows > len(bits):
        raise ValueError(f"{rows} rows from {start} on: no room in {levels.shape}, {bits.shape}")
    kernels.draw(grid, y, x, scale, _begins(thresholds), levels, bits, start)
    return levels, bits


def _begins(thresholds: NDArray[np.float64]) -> NDArray[np.float32]:
    """The least float32 that is not below each threshold; none is, where there is no mask."""
    begins = thresholds.astype(np.float32)
    begins = np.where(begins < thresholds, np.nextafter(begins, np.float32(np.inf)), begins)
    return np.where(thresholds > 0, begins, np.float32(np.inf))


def _some(of: Lines, each: int, turn: float) -> Lines:
    """One in so many of the points, beginning at a share of the first of these."""
    some = slice(min(int(turn % 1 * each), len(of.near) - 1), None, each)
    # contiguous, as all others are: the loops are compiled for those alone
    return Lines(
        of.below[some].copy(), of.above[some].copy(), of.near[some].copy(), of.far[some].copy()
    )


def sample(grid: Grid, size: Size, count: int, turn: int = 0) -> NDArray[np.float32]:
    """About `count` points of an image's maps, evenly spread, or all there are.

    Parameters
    ----------
    turn : int
        Another one for each image, lest all have their points at the same places.

    Returns
    -------
    float32 [n, columns], >= 0
        Coefficients; negative ones are 0.
    """
    grid = checked(grid, size)
    each = max(1, int(np.sqrt(size[0] * size[1] / count)))
    y = _some(lines(grid.shape[0], size[0]), each, turn * 0.618034)
    x = _some(lines(grid.shape[1], size[1]), each, turn * 0.414214)
    found = np.empty((len(y.near) * len(x.near), grid.shape[2]), np.float32)
    kernels.sample(grid, y, x, found)
    return found


def count(grid: Grid, size: Size, brackets: Brackets, counts: Counts, lock: Lock) -> None:
    """Count one image's interpolated coefficients, negative ones as 0, against brackets.

    Parameters
    ----------
    counts : Counts
        Added to.
    lock : Lock
        Held while these are written.
    """
    grid, columns = checked(grid, size), grid.shape[2]
    below, above = np.zeros(columns, np.int64), counts.above.copy()
    y, x = lines(grid.shape[0], size[0]), lines(grid.shape[1], size[1])
    bins, ends = kernels.count(grid, y, x, brackets, below, above)
    with lock:
        if brackets.keep:
            parts = np.split(bins[: ends[-1]].copy(), ends[:-1])
            for kept, part in zip(counts.kept, parts, strict=True):
                kept.append(part)
            ends[:] = 0  # but for zeros, nothing is counted
        kernels.add(bins, ends, brackets.low, below, counts.below, counts.inside)
        np.minimum(counts.above, above, out=counts.above)
