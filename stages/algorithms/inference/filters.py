"""The guided filter, many signals at once: `stages.algorithms.guided_filter` in float32."""

from typing import Any, NamedTuple

import numpy as np

from stages.algorithms.inference.compiling import LANES, MIDDLE, MODEL, compiled
from stages.algorithms.nmf.kernels.lanes import add_scaled, load, plus, store, zeros


class Windows(NamedTuple):
    """Square windows of one radius, cut at the borders.

    Attributes
    ----------
    down, across : int
        Radius along each axis, no more than reaches everything.
    rows : float32 [h]
    columns : float32 [w]
        One by the pixels of each window along the axis.
    """

    down: int
    across: int
    rows: Any
    columns: Any


class Guide(NamedTuple):
    """What fitting local linear models needs to know of an image.

    Attributes
    ----------
    colours : float32 [h * w * 3]
        Red, green, blue of each pixel, counted from `MIDDLE`.
    statistics : float32 [h * w * 9]
        Of each pixel's window: the mean colour, and the upper triangle of (Sigma + eps I)^-1.
    """

    colours: Any
    statistics: Any
    windows: Windows


@compiled
def windows_of(h, w, radius):
    """`Windows` of an image."""
    down, across = min(radius, h - 1), min(radius, w - 1)
    rows, columns = np.empty(h, np.float32), np.empty(w, np.float32)
    for y in range(h):
        rows[y] = 1 / (min(y + down, h - 1) - max(y - down, 0) + 1)
    for x in range(w):
        columns[x] = 1 / (min(x + across, w - 1) - max(x - across, 0) + 1)
    return Windows(down, across, rows, columns)


@compiled
def exact_mean(one, other, windows, out):
    """Means over windows of the product of two planes, in float64."""
    h, w = one.shape
    lines, sums = np.empty((h, w)), np.zeros(w)
    for y in range(-windows.down, h):
        enters, leaves = y + windows.down, y - windows.down - 1
        if enters < h:
            for x in range(w):
                sums[x] += np.float64(one[enters, x]) * np.float64(other[enters, x])
        if leaves >= 0:
            for x in range(w):
                sums[x] -= np.float64(one[leaves, x]) * np.float64(other[leaves, x])
        if y >= 0:
            rows = min(enters, h - 1) - max(leaves, -1)
            for x in range(w):
                lines[y, x] = sums[x] / rows
    for y in range(h):
        sum = 0.0
        for x in range(-windows.across, w):
            enters, leaves = x + windows.across, x - windows.across - 1
            if enters < w:
                sum += lines[y, enters]
            if leaves >= 0:
                sum -= lines[y, leaves]
            if x >= 0:
                out[y, x] = sum / (min(enters, w - 1) - max(leaves, -1))


@compiled
def guide_of(image, radius, eps):
    """`Guide` of an image ``[3, h, w]`` in [0, 1]; statistics in float64, they are differences."""
    h, w = image.shape[1:]
    windows, ones = windows_of(h, w, radius), np.ones((h, w), np.float32)
    planes = image - MIDDLE
    mean, moments = np.empty((3, h, w)), np.empty((6, h, w))
    at = 0
    for i in range(3):
        exact_mean(planes[i], ones, windows, mean[i])
        for j in range(i, 3):
            exact_mean(planes[i], planes[j], windows, moments[at])
            at += 1
    colours, statistics = np.empty(h * w * 3, np.float32), np.empty(h * w * 9, np.float32)
    for y in range(h):
        for x in range(w):
            r, g, b = mean[0, y, x], mean[1, y, x], mean[2, y, x]
            rr = moments[0, y, x] - r * r + eps
            rg = moments[1, y, x] - r * g
            rb = moments[2, y, x] - r * b
            gg = moments[3, y, x] - g * g + eps
            gb = moments[4, y, x] - g * b
            bb = moments[5, y, x] - b * b + eps
            c_rr, c_rg, c_rb = gg * bb - gb * gb, gb * rb - rg * bb, rg * gb - gg * rb
            c_gg, c_gb, c_bb = rr * bb - rb * rb, rg * rb - rr * gb, rr * gg - rg * rg
            scale = 1 / (rr * c_rr + rg * c_rg + rb * c_rb)
            pixel = y * w + x
            for i in range(3):
                colours[pixel * 3 + i] = planes[i, y, x]
            of = statistics[pixel * 9 : pixel * 9 + 9]
            of[0], of[1], of[2] = r, g, b
            of[3], of[4], of[5] = c_rr * scale, c_rg * scale, c_rb * scale
            of[6], of[7], of[8] = c_gg * scale, c_gb * scale, c_bb * scale
    return Guide(colours, statistics, windows)


@compiled
def enter(sums, slot, at, models):
    """A pixel's new sums along its line, in place of those ``2 down + 1`` lines above in `slot`,
    whose sums over these lines `sums` are: both [w * MODEL], at position `at`."""
    for part in range(4):
        of = at + part * LANES
        changed = add_scaled(plus(load(sums, of), models[part]), -1, load(slot, of))
        store(sums, of, changed)
        store(slot, of, models[part])


@compiled
def products_enter(signal, first, guide, w, sums, slot):
    """A line of the signal and of its products with the colours, summed along the line."""
    r = guide.windows.across
    colours = guide.colours
    zero = zeros(signal)
    a, b, c, d = zero, zero, zero, zero
    for x in range(-r, w):
        if x + r < w:
            at = first + x + r
            value = load(signal, at * LANES)
            a = plus(a, value)
            b = add_scaled(b, colours[at * 3], value)
            c = add_scaled(c, colours[at * 3 + 1], value)
            d = add_scaled(d, colours[at * 3 + 2], value)
        if x - r - 1 >= 0:
            at = first + x - r - 1
            value = load(signal, at * LANES)
            a = add_scaled(a, -1, value)
            b = add_scaled(b, -colours[at * 3], value)
            c = add_scaled(c, -colours[at * 3 + 1], value)
            d = add_scaled(d, -colours[at * 3 + 2], value)
        if x >= 0:
            enter(sums, slot, x * MODEL, (a, b, c, d))


@compiled
def models_enter(line, guide, w, sums, slot):
    """A line of models, summed along the line."""
    r = guide.windows.across
    zero = zeros(line)
    a, b, c, d = zero, zero, zero, zero
    for x in range(-r, w):
        if x + r < w:
            at = (x + r) * MODEL
            a, b = plus(a, load(line, at)), plus(b, load(line, at + LANES))
            c, d = plus(c, load(line, at + 2 * LANES)), plus(d, load(line, at + 3 * LANES))
        if x - r - 1 >= 0:
            at = (x - r - 1) * MODEL
            a, b = add_scaled(a, -1, load(line, at)), add_scaled(b, -1, load(line, at + LANES))
            c = add_scaled(c, -1, load(line, at + 2 * LANES))
            d = add_scaled(d, -1, load(line, at + 3 * LANES))
        if x >= 0:
            enter(sums, slot, x * MODEL, (a, b, c, d))


@compiled
def solved(sums, guide, y, w, line):
    """Models of a line of windows from their sums (He et al., eqs. 19 and 20)."""
    windows, of = guide.windows, guide.statistics
    zero = zeros(sums)
    for x in range(w):
        share, at, s = windows.rows[y] * windows.columns[x], x * MODEL, (y * w + x) * 9
        mean = add_scaled(zero, share, load(sums, at))
        r = add_scaled(add_scaled(zero, share, load(sums, at + LANES)), -of[s], mean)
        g = add_scaled(add_scaled(zero, share, load(sums, at + 2 * LANES)), -of[s + 1], mean)
        b = add_scaled(add_scaled(zero, share, load(sums, at + 3 * LANES)), -of[s + 2], mean)
        red = add_scaled(add_scaled(add_scaled(zero, of[s + 3], r), of[s + 4], g), of[s + 5], b)
        green = add_scaled(add_scaled(add_scaled(zero, of[s + 4], r), of[s + 6], g), of[s + 7], b)
        blue = add_scaled(add_scaled(add_scaled(zero, of[s + 5], r), of[s + 7], g), of[s + 8], b)
        offset = add_scaled(add_scaled(mean, -of[s], red), -of[s + 1], green)
        store(line, at, add_scaled(offset, -of[s + 2], blue))
        store(line, at + LANES, red)
        store(line, at + 2 * LANES, green)
        store(line, at + 3 * LANES, blue)


@compiled
def applied(sums, guide, y, w, factor, out):
    """Values of the models of a line, times `factor`, added to ``out [h * w * LANES]``."""
    windows, colours = guide.windows, guide.colours
    for x in range(w):
        share, at = factor * windows.rows[y] * windows.columns[x], x * MODEL
        pixel = y * w + x
        value = add_scaled(load(sums, at), colours[pixel * 3], load(sums, at + LANES))
        value = add_scaled(value, colours[pixel * 3 + 1], load(sums, at + 2 * LANES))
        value = add_scaled(value, colours[pixel * 3 + 2], load(sums, at + 3 * LANES))
        store(out, pixel * LANES, add_scaled(load(out, pixel * LANES), share, value))


@compiled
def added(sums, guide, y, w, factor, out):
    """The models of a line, times `factor`, added to ``out [h * w * MODEL]``."""
    windows = guide.windows
    for x in range(w):
        share = factor * windows.rows[y] * windows.columns[x]
        for part in range(4):
            at, to = x * MODEL + part * LANES, (y * w + x) * MODEL + part * LANES
            store(out, to, add_scaled(load(out, to), share, load(sums, at)))


@compiled
def fit(signal, guide, factor, apply, out):
    """Local linear models of a signal ``[h * w * LANES]``, means over windows, times `factor`:
    their values are added to ``out [h * w * LANES]``, or they themselves to ``[h * w * MODEL]``.

    Lines go through both sums one after the other; those of the last ``2 down + 1`` are kept.
    """
    windows = guide.windows
    h, w, r = len(windows.rows), len(windows.columns), windows.down
    kept = 2 * r + 1
    first, second = np.zeros((kept, w * MODEL), np.float32), np.zeros((kept, w * MODEL), np.float32)
    sums, means = np.zeros(w * MODEL, np.float32), np.zeros(w * MODEL, np.float32)
    line = np.empty(w * MODEL, np.float32)
    for y in range(h + 2 * r):
        if y < h:
            products_enter(signal, y * w, guide, w, sums, first[y % kept])
        elif y < h + r:
            line[:] = 0
            models_enter(line, guide, w, sums, first[y % kept])
        middle = y - r
        if 0 <= middle < h:
            solved(sums, guide, middle, w, line)
            models_enter(line, guide, w, means, second[middle % kept])
        elif middle >= h:
            line[:] = 0
            models_enter(line, guide, w, means, second[middle % kept])
        end = middle - r
        if 0 <= end < h:
            if apply:
                applied(means, guide, end, w, factor, out)
            else:
                added(means, guide, end, w, factor, out)
