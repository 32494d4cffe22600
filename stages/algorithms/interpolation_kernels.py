"""The compiled loops of `stages.algorithms.interpolation`, line by line of a map.

All that they call lies in this file: Numba's cache on disk sees no change of another.
"""

from typing import Any

import numpy as np
from numba import types
from numba.extending import intrinsic

from stages.algorithms.compiled import compiled

TOP = np.int64(0x7F800000)  # bits of infinity: above those of all numbers
# Order of the products. torch takes columns by eights, what is left over otherwise, and goes along
# rows first where there are fewer than four.
_BY_EIGHTS, _LEFT_OVER, _ROWS_FIRST = 0, 1, 2
# Added and taken away again, a float32 below 2^22 becomes a whole number, halves to even ones.
_ROUND = np.float32(1.5 * 2**23)
# How far rounding may take an interpolated value beyond the cells around it, as a share of the
# largest of these: four products and their sums, an eighth of this. Of smaller numbers nothing is
# said.
_SLACK, _TINY = np.float32(4e-6), np.float32(1e-30)


@intrinsic
def fused(typing, a, b, c):
    """``a b + c`` rounded once, float32."""

    def generate(context, builder, signature, arguments):
        return builder.fma(*arguments)

    return types.float32(types.float32, types.float32, types.float32), generate


@compiled
def order_of(column: Any, columns: Any) -> Any:
    """In which order products of a column are added up."""
    if columns < 4:
        return _ROWS_FIRST
    return _BY_EIGHTS if column < columns - columns % 8 else _LEFT_OVER


@compiled
def spread(grid: Any, column: Any, x: Any, out: Any) -> None:
    """Of each row of a column's grid, the cells on either side of each point: ``[h, 2, W]``."""
    for row in range(grid.shape[0]):
        for i in range(len(x.below)):
            out[row, 0, i] = grid[row, x.below[i], column]
            out[row, 1, i] = grid[row, x.above[i], column]


@compiled
def line(cells, y, at, x, order, out, start=0):
    """One line of a map, that of ``y``'s point `at`, from the cells of `spread`; as many points as
    there is room for, from `start` on."""
    upper, lower, stop = cells[y.below[at]], cells[y.above[at]], start + len(out)
    a, b = upper[0][start:stop], upper[1][start:stop]
    c, d = lower[0][start:stop], lower[1][start:stop]
    near_y, far_y, near, far = y.near[at], y.far[at], x.near[start:stop], x.far[start:stop]
    if order == _BY_EIGHTS:
        for i in range(len(out)):
            sum = fused(d[i], far_y * far[i], c[i] * (far_y * near[i]))
            sum = fused(b[i], near_y * far[i], sum)
            out[i] = fused(a[i], near_y * near[i], sum)
    elif order == _LEFT_OVER:
        for i in range(len(out)):
            sum = fused(a[i], near_y * near[i], b[i] * (near_y * far[i]))
            sum = fused(c[i], far_y * near[i], sum)
            out[i] = fused(d[i], far_y * far[i], sum)
    else:
        for i in range(len(out)):
            first = fused(a[i], near[i], b[i] * far[i])
            second = fused(c[i], near[i], d[i] * far[i])
            out[i] = fused(first, near_y, second * far_y)


@compiled
def to_shares(values: Any, scale: Any) -> None:
    """Values of a line become shares of their scale, in place."""
    # Clipped first: dividing by a tiny scale could overflow.
    narrow = np.float32(scale)
    if np.float64(narrow) == scale:  # then float32 gives the same share, twice as fast
        divisor, zero = narrow if narrow > 0 else np.float32(1), np.float32(0)
        for i in range(len(values)):
            values[i] = min(max(values[i], zero), narrow) / divisor
        return
    for i in range(len(values)):
        values[i] = np.float32(min(max(np.float64(values[i]), 0.0), scale) / scale)


@compiled
def draw(grid, y, x, scale, begins, levels, bits, start):
    """See `draw`; masks begin at float32s, and all is written from
    row `start` on: ``levels[column, row]``, ``bits[row]``."""
    columns, width = grid.shape[2], len(x.below)
    cells = np.empty((columns, grid.shape[0], 2, width), np.float32)
    for column in range(columns):
        spread(grid, column, x, cells[column])
    values, inside = np.empty(width, np.float32), np.empty((bits.shape[1], width), np.uint8)
    for at in range(len(y.below)):
        first = start + at * width
        inside[:] = 0
        for column in range(columns):
            line(cells[column], y, at, x, order_of(column, columns), values)
            to_shares(values, scale[column])
            begin, bit, byte = begins[column], np.uint8(1 << (column % 8)), inside[column // 8]
            for i in range(width):
                byte[i] |= bit if values[i] >= begin else np.uint8(0)
            row = levels[column, first : first + width]
            for i in range(width):
                row[i] = np.uint16(np.int32((values[i] * np.float32(65535) + _ROUND) - _ROUND))
        for i in range(width):
            for part in range(bits.shape[1]):
                bits[first + i, part] = inside[part, i]


@compiled
def enlarge(grid, y, x, out):
    """See `upsampled`."""
    columns = grid.shape[2]
    cells = np.empty((grid.shape[0], 2, len(x.below)), np.float32)
    for column in range(columns):
        spread(grid, column, x, cells)
        for at in range(len(y.below)):
            line(cells, y, at, x, order_of(column, columns), out[column, at])


@compiled
def sample(grid, y, x, out):
    """See `sample`; the lines are some of the map's points only."""
    columns, width = grid.shape[2], len(x.below)
    cells, values = np.empty((grid.shape[0], 2, width), np.float32), np.empty(width, np.float32)
    for column in range(columns):
        spread(grid, column, x, cells)
        for at in range(len(y.below)):
            line(cells, y, at, x, order_of(column, columns), values)
            for i in range(width):
                out[at * width + i, column] = max(values[i], np.float32(0))


@compiled
def count(grid, y, x, brackets, below, above):
    """See `count`: the bins of all columns, one behind the other, and where each column's end.

    Points are interpolated only where the cells around them do not tell on which side they are.
    """
    columns, width = grid.shape[2], len(x.below)
    cells, values = np.empty((grid.shape[0], 2, width), np.float32), np.empty(width, np.float32)
    bins, ends, n = np.empty(8 * width, np.int32), np.zeros(columns, np.int64), np.int64(0)
    runs = np.empty((grid.shape[1], 2), np.int64)
    for column in range(columns):
        bracket = brackets.low[column], brackets.high[column], brackets.shift[column]
        if bracket[0] < bracket[1]:
            spread(grid, column, x, cells)
            row = -1
            for at in range(len(y.below)):
                if y.below[at] != row:
                    row = y.below[at]
                    upper, lower = grid[row, :, column], grid[y.above[at], :, column]
                    some, under = open_runs(upper, lower, x, bracket, above[column], runs)
                below[column] += under
                for run in range(some):
                    start = runs[run, 0]
                    part = values[: runs[run, 1] - start]
                    line(cells, y, at, x, order_of(column, columns), part, start)
                    if n + width > len(bins):
                        bins = np.concatenate((bins, np.empty_like(bins)))
                    less, least, n = count_line(part, bracket, above[column], bins, n)
                    below[column] += less
                    above[column] = least
        ends[column] = n
    return bins, ends


@compiled
def open_runs(upper, lower, x, bracket, above, runs):
    """Where points between two rows of cells may be inside a bracket, or the least above it.

    A point lies between the cells around it: where all of these are below the bracket, it is; where
    all are above it and above `above`, bits of a value that is there, it is of no interest.

    Returns (how many runs of points are in `runs` ``[n, (start, stop)]``, how many of the other
    points of a line are below).
    """
    low = np.float32(np.int32(max(bracket[0], 1)).view(np.float32))
    high = np.int32(max(bracket[1], above)).view(np.float32)
    some = under = stop = 0
    while stop < len(x.below):
        start, cell, other = stop, x.below[stop], x.above[stop]
        while stop < len(x.below) and x.below[stop] == cell:
            stop += 1
        most = max(max(upper[cell], upper[other]), max(lower[cell], lower[other]))
        least = min(min(upper[cell], upper[other]), min(lower[cell], lower[other]))
        size = max(abs(most), abs(least))
        slack = _SLACK * size
        if most <= 0 or (size > _TINY and most + slack < low):
            under += stop - start
        elif size > _TINY and least - slack >= high:
            continue
        elif some > 0 and runs[some - 1, 1] == start:
            runs[some - 1, 1] = stop
        else:
            runs[some, 0], runs[some, 1] = start, stop
            some += 1
    return some, under


@compiled
def add(bins: Any, ends: Any, low: Any, below: Any, total: Any, inside: Any) -> None:
    """What `count` has found, added to the counts; where a bracket begins at 0, what lies below
    positive numbers is in its first bin."""
    first = 0
    for column in range(len(ends)):
        add_bins(bins[first : ends[column]], inside[column])
        first = ends[column]
        if low[column] == 0:
            inside[column, 0] += below[column]
        else:
            total[column] += below[column]


@compiled
def count_line(values, bracket, above, bins, n):
    """Count a line of floats against one bracket, those above 0 only: others count as below.

    The bins of those inside are put down behind the first `n`; there must be room for as many as
    there are values.

    Returns (how many are below, the least bits above or `above`, n).
    """
    bits, shift = values.view(np.int32), bracket[2]
    low, high = np.int32(bracket[0]), np.int32(bracket[1])
    first, least, lower, higher = max(low, np.int32(1)), np.int32(above), 0, 0
    for at in range(len(bits)):
        lower += bits[at] < first
        higher += bits[at] >= high
        least = min(least, bits[at] if bits[at] >= high else np.int32(TOP))
    if lower + higher < len(bits):
        for at in range(len(bits)):  # without branches: they would be mispredicted
            bins[n] = (bits[at] - low) >> shift
            n += (bits[at] >= first) & (bits[at] < high)
    return lower, least, n


@compiled
def add_bins(bins: Any, inside: Any) -> None:
    """Add what `count_line` has put down to a column's counts."""
    for at in range(len(bins)):
        inside[bins[at]] += 1
