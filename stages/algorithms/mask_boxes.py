"""Boxes of all components of all masks of an image, compiled; and where the masks lie.

What `stages.algorithms.masks.components` finds for one mask, this finds for all columns of the form
on disk at once, many times faster and without the interpreter lock, so that threads share the work.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from stages.algorithms.compiled import compiled


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
    h, w = size
    rows, columns = levels.shape
    if rows != h * w or bits.shape != (rows, -(-columns // 8)):
        raise ValueError(f"bits {bits.shape} and levels {levels.shape} do not fit {size}")
    # one type of numbers: it is compiled once
    found, sums = _found(np.ascontiguousarray(bits), levels.astype(np.uint16, order="C"), h, w)
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
    moments = _moments(np.ascontiguousarray(bits), *size, columns).astype(np.float64)
    area = moments[:, :1]
    found = np.full((columns, 2), np.nan)
    return np.divide(moments[:, 1:], area, out=found, where=area > 0) + 0.5


@compiled
def _moments(bits: Any, h: Any, w: Any, columns: Any):  # type: ignore[no-untyped-def]
    """Pixels of each mask, and the sums of their rows and columns, int64 ``[columns, 3]``."""
    found = np.zeros((columns, 3), np.int64)
    for column in range(columns):
        byte, bit = column // 8, np.uint8(1 << (column % 8))
        for y in range(h):
            for x in range(w):
                if bits[y * w + x, byte] & bit:
                    found[column, 0] += 1
                    found[column, 1] += y
                    found[column, 2] += x
    return found


@compiled
def _root(parent: Any, label: Any) -> Any:
    """The smallest label of a label's component; paths are halved on the way."""
    while parent[label] != label:
        parent[label] = parent[parent[label]]
        label = parent[label]
    return label


@compiled
def _joined(parent: Any, one: Any, other: Any) -> Any:
    """Make two labels one component; returns its smallest."""
    one, other = _root(parent, one), _root(parent, other)
    low, high = min(one, other), max(one, other)
    parent[high] = low
    return low


@compiled
def _labelled(inside: Any, values: Any, w: Any, parent: Any, boxes: Any, sums: Any):  # type: ignore[no-untyped-def]
    """One pass over a mask, run by run: provisional labels 1.. in row-major order of their first
    pixels, what they have in common in `parent`, and each one's box, area and sum. Returns their
    number."""
    above = np.zeros(w + 2, np.int32)  # labels of the row before, with a border on either side
    here = np.zeros(w + 2, np.int32)
    count = 0
    for y in range(len(inside) // w):
        row = y * w
        x = 0
        while x < w:
            if not inside[row + x]:
                here[x + 1] = 0
                x += 1
                continue
            start, label, total = x, np.int32(0), np.int64(0)
            touched = above[x]
            while x < w and inside[row + x]:
                total += values[row + x]
                x += 1
                if touched and touched != label:
                    label = _joined(parent, label, touched) if label else _root(parent, touched)
                touched = above[x]
            for last in (touched, above[x + 1]):
                if last and last != label:
                    label = _joined(parent, label, last) if label else _root(parent, last)
            if not label:
                count += 1
                label = np.int32(count)
                parent[label] = label
                boxes[label, 0], boxes[label, 1], boxes[label, 3] = y, start, x
                boxes[label, 4], sums[label] = 0, 0
            here[start + 1 : x + 1] = label
            boxes[label, 1] = min(boxes[label, 1], start)
            boxes[label, 2] = y + 1
            boxes[label, 3] = max(boxes[label, 3], x)
            boxes[label, 4] += x - start
            sums[label] += total
        above, here = here, above
    return count


@compiled
def _found(bits: Any, levels: Any, h: Any, w: Any):  # type: ignore[no-untyped-def]
    """All components, in the order of their first pixels: int64 [n, 6] (column, sides, area), and
    sums of levels, float64 [n]."""
    # no two labels begin side by side
    most = ((h + 1) // 2) * ((w + 1) // 2) + 1
    parent = np.empty(most, np.int32)
    boxes, sums = np.empty((most, 5), np.int64), np.empty(most, np.int64)
    found, totals = np.empty((64, 6), np.int64), np.empty(64, np.float64)
    inside, values = np.empty(h * w, np.uint8), np.empty(h * w, np.uint16)
    n = 0
    for column in range(levels.shape[1]):
        byte, bit = column // 8, np.uint8(1 << (column % 8))
        for row in range(h * w):
            inside[row] = bits[row, byte] & bit
            values[row] = levels[row, column]
        count = _labelled(inside, values, w, parent, boxes, sums)
        for label in range(count, 0, -1):  # a root is smaller than all that belong to it
            root = _root(parent, label)
            if root != label:
                boxes[root, 0] = min(boxes[root, 0], boxes[label, 0])
                boxes[root, 1] = min(boxes[root, 1], boxes[label, 1])
                boxes[root, 2] = max(boxes[root, 2], boxes[label, 2])
                boxes[root, 3] = max(boxes[root, 3], boxes[label, 3])
                boxes[root, 4] += boxes[label, 4]
                sums[root] += sums[label]
        for label in range(1, count + 1):
            if parent[label] == label:
                if n == len(found):
                    found = np.concatenate((found, np.empty_like(found)))
                    totals = np.concatenate((totals, np.empty_like(totals)))
                found[n, 0], found[n, 1:], totals[n] = column, boxes[label], sums[label]
                n += 1
    return found[:n].copy(), totals[:n].copy()
