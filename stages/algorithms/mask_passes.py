"""What `stages.algorithms.mask_boxes` has compiled, apart: Numba takes longer to load than that."""

from typing import Any

import numpy as np

from stages.algorithms.compiled import compiled


@compiled
def mask_moments(bits: Any, h: Any, w: Any, columns: Any):  # type: ignore[no-untyped-def]
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
def mask_components(bits: Any, levels: Any, h: Any, w: Any):  # type: ignore[no-untyped-def]
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
