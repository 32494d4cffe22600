"""Boxes of all components of all masks of an image, compiled; and where the masks lie.

What `stages.algorithms.masks.components` finds for one mask, this finds for all columns of the form
on disk at once, many times faster and without the interpreter lock, so that threads share the work.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray


def mask_boxes(
    bits: NDArray[np.uint8], levels: NDArray[Any], size: tuple[int, int]
) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
    """Boxes, areas and scores of the 8-connected components of every column's mask.

    Parameters
    ----------
    bits : uint8 [h * w, ceil(columns / 8)]
        As from `stages.algorithms.masks.pack_masks`.
    levels : uint8 or uint16 [h * w, columns]
        The maps that the masks were made from, in whole numbers.
    size : (h, w)

    Returns
    -------
    boxes : int64 [n, 7]
        column, rank among the mask's components, top, left, bottom, right, area. By column; of one
        mask the largest first, of equally large ones the one whose first pixel comes first.
    scores : float32 [n]
        Mean of `levels` over each component.

    Raises
    ------
    ValueError
        If bits, levels and size do not fit each other.
    """
    from stages.algorithms.mask_passes import mask_components  # here: it loads Numba

    h, w = size
    rows, columns = levels.shape
    if rows != h * w or bits.shape != (rows, -(-columns // 8)):
        raise ValueError(f"bits {bits.shape} and levels {levels.shape} do not fit {size}")
    # one type of numbers: it is compiled once
    found, sums = mask_components(
        np.ascontiguousarray(bits), levels.astype(np.uint16, order="C"), h, w
    )
    order = np.lexsort((-found[:, 5], found[:, 0]))  # stable: then by the first pixel
    found, sums = found[order], sums[order]
    starts = np.searchsorted(found[:, 0], np.arange(columns))
    ranks = np.arange(len(found)) - starts[found[:, 0]]
    boxes = np.concatenate([found[:, :1], ranks[:, None], found[:, 1:]], axis=1)
    return boxes, (sums / found[:, 5]).astype(np.float32)


def centroids(bits: NDArray[np.uint8], size: tuple[int, int], columns: int) -> NDArray[np.float64]:
    """Means (y, x) of the centres of a mask's pixels, float64 ``[columns, 2]``; NaN without any.

    Parameters
    ----------
    bits : uint8 [h * w, ceil(columns / 8)]
    size : (h, w)
    """
    from stages.algorithms.mask_passes import mask_moments

    moments = mask_moments(np.ascontiguousarray(bits), *size, columns).astype(np.float64)
    area = moments[:, :1]
    found = np.full((columns, 2), np.nan)
    return np.divide(moments[:, 1:], area, out=found, where=area > 0) + 0.5
