"""Votes by colour, `stages.algorithms.bilateral`, without those that are too faint to count."""

from typing import Any, NamedTuple

import numpy as np

from stages.algorithms.inference.compiling import LANES, F, compiled
from stages.algorithms.inference.lines import exponentials, powers
from stages.algorithms.nmf.kernels.lanes import (
    add_scaled,
    larger,
    load,
    load_number,
    plus,
    store,
    top_of,
    total_of,
    zeros,
)

# Weights below exp(-FAINT) of a pixel's strongest are left out, where they are so for its whole
# group: together less than 1 / 1000, mostly than 1 / 30 000; 1 of 500 000 pixels of masks changes.
FAINT = F(11)
GROUP = 4  # pixels that share the cells which vote for them: each cell is read once for them
FAR = F(1e8)  # no weight has so small a logarithm
ONES = np.ones(LANES, np.float32)
# Shares of linear red, green and blue in CIE X, Y, Z over those of its white (D65, 2 degrees).
XYZ = np.array(
    [[0.412453, 0.357580, 0.180423], [0.212671, 0.715160, 0.072169], [0.019334, 0.119193, 0.950227]]
)
XYZ = (XYZ / np.array([[0.95047], [1.0], [1.08883]])).astype(np.float32)


class Votes(NamedTuple):
    """Which cells vote for which pixels, `GROUP` pixels at a time.

    Attributes
    ----------
    starts : int64 [groups + 1]
        Where those of each group begin.
    chosen : uint16 [..]
        The cells.
    weights : float32 [.. * GROUP]
        Of each cell for each pixel of its group: all of a group's first pixel, then of its second.
    shares : float32 [groups * GROUP]
        What makes a pixel's weights 1 together.
    """

    starts: Any
    chosen: Any
    weights: Any
    shares: Any


@compiled
def lab_of(image, out):
    """CIE Lab of sRGB planes ``[3, pixels]`` in [0, 1], as skimage's ``rgb2lab``."""
    n = image.shape[1]
    bits, linear = np.empty(n, np.int32), np.empty((3, n), np.float32)
    line, room = np.empty(n, np.float32), np.empty(n, np.float32)
    for channel in range(3):
        values, found = image[channel], linear[channel]
        for i in range(n):
            line[i] = (values[i] + F(0.055)) * F(1 / 1.055)
        powers(line, F(2.4), bits, room)
        for i in range(n):
            found[i] = line[i] if values[i] > F(0.04045) else values[i] * F(1 / 12.92)
    red, green, blue = linear[0], linear[1], linear[2]
    for channel in range(3):
        r, g, b = XYZ[channel]
        found = out[channel]
        for i in range(n):
            found[i] = r * red[i] + g * green[i] + b * blue[i]
        for i in range(n):
            line[i] = max(found[i], F(1e-6))
        powers(line, F(1 / 3), bits, room)
        for i in range(n):
            found[i] = line[i] if found[i] > F(0.008856) else F(7.787) * found[i] + F(16 / 116)
    x, y, z = out[0], out[1], out[2]
    for i in range(n):
        first, second, third = x[i], y[i], z[i]
        x[i] = F(116) * second - F(16)
        y[i] = F(500) * (first - second)
        z[i] = F(200) * (second - third)


@compiled
def features_of(image, size, sigma, reach, room):
    """Colour and place of the pixels of ``[3, h, w]`` in standard deviations, float32
    ``[5, room]``; 0 beyond the last pixel."""
    h, w = image.shape[1:]
    lab, found = np.empty((3, h * w), np.float32), np.zeros((5, room), np.float32)
    lab_of(image.reshape((3, h * w)), lab)
    for i in range(3):
        for at in range(h * w):
            # lightness from its middle: squares of small numbers are the more exact
            found[i, at] = (lab[i, at] - (F(50) if i == 0 else F(0))) / F(sigma)
    longest = max(size[0], size[1])
    for y in range(h):
        for x in range(w):
            found[3, y * w + x] = ((y + 0.5) / h - 0.5) * (size[0] / longest) / reach
            found[4, y * w + x] = ((x + 0.5) / w - 0.5) * (size[1] / longest) / reach
    return found


@compiled
def cells_of(thumbnail, size, sigma, reach, room):
    """What `alike` needs to know of the cells of a thumbnail ``[3, .., ..]``, float32
    ``[6 * room]``: features, and minus half of their squares' sum; nothing is like what is beyond
    the last cell."""
    count = thumbnail.shape[1] * thumbnail.shape[2]
    features = features_of(thumbnail, size, sigma, reach, room)
    found = np.empty((6, room), np.float32)
    found[:5] = features
    found[5] = -FAR
    for i in range(count):
        sum = F(0)
        for feature in range(5):
            sum += features[feature, i] * features[feature, i]
        found[5, i] = F(-0.5) * sum
    return found.reshape(-1)


@compiled
def closeness(of, at, half, first, second, third, fourth, fifth):
    """``f . g - g . g / 2`` of the features f of a pixel, at a place of `of`, and those g of 16
    cells: minus half of their squared distance but for a number that is the pixel's alone."""
    sum = add_scaled(half, of[at], first)
    sum = add_scaled(sum, of[at + 1], second)
    sum = add_scaled(sum, of[at + 2], third)
    sum = add_scaled(sum, of[at + 3], fourth)
    return add_scaled(sum, of[at + 4], fifth)


@compiled
def alike(of, cells, exponents, tops):
    """Logarithms of the weights of all cells for `GROUP` pixels, to a number for each pixel.

    Parameters
    ----------
    of : float32 [GROUP * 5]
        Features of the pixels.
    cells : float32 [6 * room]
        See `cells_of`.
    exponents : float32 [GROUP * room]
        Written to.
    tops : float32 [GROUP]
        Written to: the largest of each pixel.
    """
    room = len(cells) // 6
    a = add_scaled(zeros(cells), -FAR, load(ONES, 0))
    b, c, d = a, a, a
    for at in range(0, room, LANES):
        first, second = load(cells, at), load(cells, room + at)
        third, fourth = load(cells, 2 * room + at), load(cells, 3 * room + at)
        fifth, half = load(cells, 4 * room + at), load(cells, 5 * room + at)
        one = closeness(of, 0, half, first, second, third, fourth, fifth)
        a = larger(a, one)
        store(exponents, at, one)
        one = closeness(of, 5, half, first, second, third, fourth, fifth)
        b = larger(b, one)
        store(exponents, room + at, one)
        one = closeness(of, 10, half, first, second, third, fourth, fifth)
        c = larger(c, one)
        store(exponents, 2 * room + at, one)
        one = closeness(of, 15, half, first, second, third, fourth, fifth)
        d = larger(d, one)
        store(exponents, 3 * room + at, one)
    tops[0], tops[1], tops[2], tops[3] = top_of(a), top_of(b), top_of(c), top_of(d)


@compiled
def choose(exponents, tops, margins, chosen, n):
    """Add the cells whose votes count for any of `GROUP` pixels to the first n; how many there are
    then. `margins` is room for 16 numbers."""
    room = len(exponents) // GROUP
    one = load(ONES, 0)
    for at in range(0, room, LANES):
        most = add_scaled(load(exponents, at), -tops[0], one)
        most = larger(most, add_scaled(load(exponents, room + at), -tops[1], one))
        most = larger(most, add_scaled(load(exponents, 2 * room + at), -tops[2], one))
        most = larger(most, add_scaled(load(exponents, 3 * room + at), -tops[3], one))
        if top_of(most) < -FAINT:
            continue
        store(margins, 0, most)
        for i in range(LANES):  # without branches: they would be mispredicted
            chosen[n] = at + i
            n += margins[i] >= -FAINT
    return n


@compiled
def votes_of(image, thumbnail, sigma, reach, chosen, weights):
    """Who votes for whom: of a thumbnail ``[3, .., ..]``, the cells that look like some pixels.

    `GROUP` pixels that follow each other have the same cells. Returns `Votes`, whose cells and
    weights lie in the two arrays given, or in larger ones.
    """
    size = image.shape[1:]
    pixels, count = size[0] * size[1], thumbnail.shape[1] * thumbnail.shape[2]
    groups, room = -(-pixels // GROUP), -(-count // LANES) * LANES
    here = features_of(image, size, sigma, reach, groups * GROUP)
    cells = cells_of(thumbnail, size, sigma, reach, room)
    starts, shares = np.zeros(groups + 1, np.int64), np.empty(groups * GROUP, np.float32)
    exponents, of = np.empty(GROUP * room, np.float32), np.empty(GROUP * 5, np.float32)
    tops, margins = np.empty(GROUP, np.float32), np.empty(LANES, np.float32)
    bits = np.empty(GROUP * room, np.int32)
    n = 0
    for group in range(groups):
        for i in range(GROUP):
            for feature in range(5):
                of[i * 5 + feature] = here[feature, group * GROUP + i]
        alike(of, cells, exponents, tops)
        if n + room + LANES > len(chosen):
            more = max(len(chosen), room + LANES)
            chosen = np.concatenate((chosen, np.empty(more, np.uint16)))
            weights = np.concatenate((weights, np.empty(GROUP * more, np.float32)))
        first, n = n, choose(exponents, tops, margins, chosen, n)
        starts[group + 1] = n
        mine, some = chosen[first:n], weights[first * GROUP : n * GROUP]
        for i in range(GROUP):
            own, top = exponents[i * room : (i + 1) * room], tops[i]
            part = some[i * len(mine) : (i + 1) * len(mine)]
            for j in range(len(mine)):
                part[j] = max(own[mine[j]] - top, F(-80))
        powers_of_e = exponents[: len(some)]
        exponentials(some, bits[: len(some)], powers_of_e)
        some[:] = powers_of_e
        for i in range(GROUP):
            part = some[i * len(mine) : (i + 1) * len(mine)]
            shares[group * GROUP + i] = F(1) / sum_of(part)
    return Votes(starts, chosen, weights, shares)


@compiled
def sum_of(weights):
    """The sum of some numbers."""
    sum, last = zeros(weights), len(weights) - len(weights) % LANES
    for at in range(0, last, LANES):
        sum = plus(sum, load(weights, at))
    total = total_of(sum)
    for at in range(last, len(weights)):
        total += weights[at]
    return total


@compiled
def given(out, pixel, factor, shares, sum):
    """Add a pixel's votes to what it has."""
    if (pixel + 1) * LANES <= len(out):
        at = pixel * LANES
        store(out, at, add_scaled(load(out, at), factor * shares[pixel], sum))


@compiled
def vote(votes, cells, factor, out):
    """Weighted means of the cells' signals ``[cells * LANES]``, times `factor`, added to
    ``out [pixels * LANES]``."""
    starts, chosen, weights = votes.starts, votes.chosen, votes.weights
    zero = zeros(cells)
    for group in range(len(starts) - 1):
        a, b, c, d = zero, zero, zero, zero
        first, count = starts[group], starts[group + 1] - starts[group]
        at = first * GROUP
        for i in range(first, first + count):
            signal = load(cells, np.int64(chosen[i]) * LANES)
            a = add_scaled(a, load_number(weights, at), signal)
            b = add_scaled(b, load_number(weights, at + count), signal)
            c = add_scaled(c, load_number(weights, at + 2 * count), signal)
            d = add_scaled(d, load_number(weights, at + 3 * count), signal)
            at += 1
        pixel = group * GROUP
        given(out, pixel, factor, votes.shares, a)
        given(out, pixel + 1, factor, votes.shares, b)
        given(out, pixel + 2, factor, votes.shares, c)
        given(out, pixel + 3, factor, votes.shares, d)


@compiled
def gathered(signal, h, w, rows, columns, out):
    """Area means of a signal ``[h * w * LANES]`` in ``rows x columns`` cells."""
    for i in range(rows):
        top, bottom = i * h // rows, -(-(i + 1) * h // rows)
        for j in range(columns):
            left, right = j * w // columns, -(-(j + 1) * w // columns)
            sum = zeros(signal)
            for y in range(top, bottom):
                for x in range(left, right):
                    sum = plus(sum, load(signal, (y * w + x) * LANES))
            share = F(1) / F((bottom - top) * (right - left))
            store(out, (i * columns + j) * LANES, add_scaled(zeros(signal), share, sum))
