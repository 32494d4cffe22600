"""What `stages.algorithms.mask_boxes` has compiled, apart: Numba takes longer to load than that."""

from typing import Any

import numpy as np

from stages.algorithms.compiled import compiled


@compiled
def mask_runs(bits: Any, planes: Any, w: Any):  # type: ignore[no-untyped-def]
    """Runs of pixels inside of all masks, in row-major order of where they end: int32 [n, 4]
    (column, row, start, stop), and their sums of levels, int64 [n]; bits and planes are
    ``[.., pixels]``."""
    runs, sums, n = np.empty((1024, 4), np.int32), np.empty(1024, np.int64), 0
    columns, count = len(planes), len(bits)
    starts = np.zeros(8 * count, np.int64)
    for y in range(bits.shape[1] // w):
        for byte in range(count):
            before, line = np.int64(0), bits[byte, y * w : (y + 1) * w]
            for x in range(w + 1):
                here = np.int64(line[x]) if x < w else np.int64(0)
                if here == before:
                    continue
                for bit in range(8):
                    column = 8 * byte + bit
                    if not ((before ^ here) >> bit) & 1:
                        continue
                    if (here >> bit) & 1:
                        starts[column] = x
                    elif column < columns:
                        if n == len(runs):
                            runs = np.concatenate((runs, np.empty_like(runs)))
                            sums = np.concatenate((sums, np.empty_like(sums)))
                        runs[n, 0], runs[n, 1] = column, y
                        runs[n, 2], runs[n, 3] = starts[column], x
                        sums[n] = 0
                        for row in range(y * w + starts[column], y * w + x):
                            sums[n] += planes[column, row]
                        n += 1
                before = here
    return runs[:n], sums[:n]


@compiled
def _root(parent: Any, run: Any) -> Any:
    """The first run of a run's component; paths are halved on the way."""
    while parent[run] != run:
        parent[run] = parent[parent[run]]
        run = parent[run]
    return run


@compiled
def mask_components(runs: Any, sums: Any, columns: Any):  # type: ignore[no-untyped-def]
    """All components, in the order of their first runs: int64 [n, 6] (column, sides, area), and
    sums of levels, int64 [n]; and of each column, int64 [columns, 3], the sums over its pixels of
    1, rows and columns."""
    parent, following = np.empty(len(runs), np.int32), np.empty(len(runs), np.int32)
    # of each column: the row being read, its first and its last run, and the run of the row above
    # that may touch the next one
    rows, firsts = np.full(columns, -2, np.int32), np.full(columns, -1, np.int32)
    lasts, above = np.full(columns, -1, np.int32), np.full(columns, -1, np.int32)
    moments = np.zeros((columns, 3), np.int64)
    for run in range(len(runs)):
        column, y, start, stop = runs[run]
        parent[run], following[run] = run, -1
        length = np.int64(stop - start)
        moments[column, 0] += length
        moments[column, 1] += length * y
        moments[column, 2] += length * (start + stop - 1) // 2
        if rows[column] == y:
            following[lasts[column]] = run
        else:
            above[column] = firsts[column] if rows[column] == y - 1 else -1
            rows[column], firsts[column] = y, run
        lasts[column] = run
        while above[column] >= 0 and runs[above[column], 3] < start:
            above[column] = following[above[column]]
        other = above[column]
        while other >= 0 and runs[other, 2] <= stop:
            one, two = _root(parent, run), _root(parent, other)
            parent[max(one, two)] = min(one, two)
            other = following[other]
    boxes, areas = np.empty((len(runs), 6), np.int64), np.zeros(len(runs), np.int64)
    n = 0
    places = np.empty(len(runs), np.int64)
    for run in range(len(runs)):
        column, y, start, stop = runs[run]
        root = _root(parent, run)  # never after the run itself
        if root == run:
            places[run] = n
            boxes[n, 0], boxes[n, 1], boxes[n, 2] = column, y, start
            boxes[n, 3], boxes[n, 4], boxes[n, 5] = y + 1, stop, 0
            areas[n] = 0
            n += 1
        at = places[root]
        boxes[at, 2] = min(boxes[at, 2], start)
        boxes[at, 3] = y + 1
        boxes[at, 4] = max(boxes[at, 4], stop)
        boxes[at, 5] += stop - start
        areas[at] += sums[run]
    return boxes[:n].copy(), areas[:n].copy(), moments
