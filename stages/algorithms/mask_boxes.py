"""Boxes of all components of all masks of an image, compiled; and where the masks lie.

What `stages.algorithms.masks.components` finds for one mask, this finds for all columns of the form
on disk at once, many times faster and without the interpreter lock, so that threads share the work.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray


class Measures(NamedTuple):
    """What is measured of all masks of an image.

    Attributes
    ----------
    boxes : int64 [n, 7]
        column, rank among the mask's components, top, left, bottom, right, area. By column; of one
        mask the largest first, of equally large ones the one whose first pixel comes first.
    scores : float32 [n]
        Mean of the levels over each component.
    centroids : float64 [columns, 2]
        Means (y, x) of the centres of a mask's pixels; NaN without any.
    areas : int64 [columns]
        Pixels of each mask.
    peaks : int64 [columns]
        The largest level of each column.
    """

    boxes: NDArray[np.int64]
    scores: NDArray[np.float32]
    centroids: NDArray[np.float64]
    areas: NDArray[np.int64]
    peaks: NDArray[np.int64]


def measure(bits: NDArray[np.uint8], levels: NDArray[Any], size: tuple[int, int]) -> Measures:
    """Boxes, areas and scores of the 8-connected components of every column's mask.

    Parameters
    ----------
    bits : uint8 [h * w, ceil(columns / 8)]
        As from `stages.algorithms.masks.pack_masks`.
    levels : uint8 or uint16 [h * w, columns]
        The maps that the masks were made from, in whole numbers.
    size : (h, w)

    Raises
    ------
    ValueError
        If bits, levels and size do not fit each other.
    """
    h, w = size
    rows, columns = levels.shape
    if rows != h * w or bits.shape != (rows, -(-columns // 8)):
        raise ValueError(f"bits {bits.shape} and levels {levels.shape} do not fit {size}")
    from stages.algorithms.mask_passes import mask_components, mask_runs  # loads Numba

    planes = np.ascontiguousarray(levels.T)
    runs, sums = mask_runs(np.ascontiguousarray(bits.T), planes, w)
    found, totals, moments = mask_components(runs, sums, columns)
    order = np.lexsort((-found[:, 5], found[:, 0]))  # stable: then by the first pixel
    found, totals = found[order], totals[order]
    starts = np.searchsorted(found[:, 0], np.arange(columns))
    ranks = np.arange(len(found)) - starts[found[:, 0]]
    boxes = np.concatenate([found[:, :1], ranks[:, None], found[:, 1:]], axis=1)
    centroids = np.full((columns, 2), np.nan)
    area = moments[:, :1]
    np.divide(moments[:, 1:], area, out=centroids, where=area > 0)
    scores = (totals / found[:, 5]).astype(np.float32)
    peaks = planes.max(axis=1).astype(np.int64)
    return Measures(boxes, scores, centroids + 0.5, moments[:, 0], peaks)


def mask_boxes(
    bits: NDArray[np.uint8], levels: NDArray[Any], size: tuple[int, int]
) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
    """Boxes and scores alone, as `measure`."""
    found = measure(bits, levels, size)
    return found.boxes, found.scores
