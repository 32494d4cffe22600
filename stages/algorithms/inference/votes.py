"""Votes by colour, `stages.algorithms.bilateral`, without those that are too faint to count."""

import numpy as np

from stages.algorithms.inference.compiling import LANES, F, compiled
from stages.algorithms.inference.lines import exponentials, powers
from stages.algorithms.nmf.kernels.lanes import (
    add_scaled,
    load,
    plus,
    store,
    top_of,
    total_of,
    zeros,
)

# Weights below exp(-FAINT) of a pixel's strongest are left out: together less than 1 / 5000,
# mostly than 1 / 100000.
FAINT = F(12)
CHUNK = 2048  # weights that stay in the cache
FAR = F(1e4)  # in standard deviations
ONES = np.ones(LANES, np.float32)
# Shares of linear red, green and blue in CIE X, Y, Z over those of its white (D65, 2 degrees).
XYZ = np.array(
    [[0.412453, 0.357580, 0.180423], [0.212671, 0.715160, 0.072169], [0.019334, 0.119193, 0.950227]]
)
XYZ = (XYZ / np.array([[0.95047], [1.0], [1.08883]])).astype(np.float32)


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
    ``[5, room]``; beyond the last pixel is nothing like any."""
    h, w = image.shape[1:]
    lab, found = np.empty((3, h * w), np.float32), np.full((5, room), FAR, np.float32)
    lab_of(image.reshape((3, h * w)), lab)
    for i in range(3):
        for at in range(h * w):
            found[i, at] = lab[i, at] / F(sigma)
    longest = max(size[0], size[1])
    for y in range(h):
        for x in range(w):
            found[3, y * w + x] = ((y + 0.5) / h - 0.5) * (size[0] / longest) / reach
            found[4, y * w + x] = ((x + 0.5) / w - 0.5) * (size[1] / longest) / reach
    return found


@compiled
def alike(of, features, exponents, tops):
    """Logarithms of the weights of all cells for a pixel of five features, and each block's
    largest; returns the largest of all. `features` are flat ``[5 * cells]``."""
    cells = len(exponents)
    first, second, third, fourth, fifth = of
    zero = zeros(features)
    one = add_scaled(zero, 1, load(ONES, 0))
    largest = F(-np.inf)
    for block in range(len(tops)):
        at = block * LANES
        apart = add_scaled(load(features, at), -first, one)
        sum = add_scaled(zero, apart, apart)
        apart = add_scaled(load(features, cells + at), -second, one)
        sum = add_scaled(sum, apart, apart)
        apart = add_scaled(load(features, 2 * cells + at), -third, one)
        sum = add_scaled(sum, apart, apart)
        apart = add_scaled(load(features, 3 * cells + at), -fourth, one)
        sum = add_scaled(sum, apart, apart)
        apart = add_scaled(load(features, 4 * cells + at), -fifth, one)
        sum = add_scaled(zero, F(-0.5), add_scaled(sum, apart, apart))
        store(exponents, at, sum)
        tops[block] = top_of(sum)
        largest = max(largest, tops[block])
    return largest


@compiled
def votes_of(image, cells, sigma, reach, chosen, weights):
    """Who votes for whom: of a thumbnail ``[3, .., ..]``, the cells that look like each pixel.

    Returns where those of each pixel begin, int64 ``[pixels + 1]``, the cells, uint16, and their
    weights, float32, which are 1 together: in the two arrays given, or larger ones.
    """
    size = image.shape[1:]
    pixels, count = size[0] * size[1], cells.shape[1] * cells.shape[2]
    room = -(-count // LANES) * LANES
    here = features_of(image, size, sigma, reach, pixels)
    there = features_of(cells, size, sigma, reach, room).reshape(-1)
    starts = np.zeros(pixels + 1, np.int64)
    exponents, tops = np.empty(room, np.float32), np.empty(room // LANES, np.float32)
    n = 0
    for pixel in range(pixels):
        of = here[0, pixel], here[1, pixel], here[2, pixel], here[3, pixel], here[4, pixel]
        largest = alike(of, there, exponents, tops)
        least = largest - FAINT
        if n + room + LANES > len(chosen):
            more = len(chosen) + room + LANES
            chosen = np.concatenate((chosen, np.empty(more, np.uint16)))
            weights = np.concatenate((weights, np.empty(more, np.float32)))
        for block in range(len(tops)):
            if tops[block] < least:
                continue
            for cell in range(block * LANES, (block + 1) * LANES):
                # without branches: they would be mispredicted
                chosen[n] = cell
                weights[n] = exponents[cell] - largest
                n += exponents[cell] >= least
        starts[pixel + 1] = n
    some, bits = np.empty(CHUNK, np.float32), np.empty(CHUNK, np.int32)
    for first in range(0, n, CHUNK):
        part = weights[first : min(first + CHUNK, n)]
        for i in range(len(part)):  # one array put into another takes Numba a second to compile
            some[i] = part[i]
        exponentials(some[: len(part)], bits[: len(part)], part)
    for pixel in range(pixels):
        shared(weights, starts[pixel], starts[pixel + 1])
    return starts, chosen, weights


@compiled
def shared(weights, first, end):
    """Make some weights 1 together."""
    sum, last = zeros(weights), end - (end - first) % LANES
    for at in range(first, last, LANES):
        sum = plus(sum, load(weights, at))
    total = total_of(sum)
    for at in range(last, end):
        total += weights[at]
    share = F(1) / total
    for at in range(first, last, LANES):
        store(weights, at, add_scaled(zeros(weights), share, load(weights, at)))
    for at in range(last, end):
        weights[at] *= share


@compiled
def vote(starts, chosen, weights, cells, factor, out):
    """Weighted means of the cells' signals ``[cells * LANES]``, times `factor`, added to
    ``out [pixels * LANES]``."""
    for pixel in range(len(starts) - 1):
        # two sums, so that one product need not wait for the one before
        even, odd = zeros(cells), zeros(cells)
        i, end = starts[pixel], starts[pixel + 1]
        while i + 1 < end:
            even = add_scaled(even, weights[i], load(cells, np.int64(chosen[i]) * LANES))
            odd = add_scaled(odd, weights[i + 1], load(cells, np.int64(chosen[i + 1]) * LANES))
            i += 2
        if i < end:
            even = add_scaled(even, weights[i], load(cells, np.int64(chosen[i]) * LANES))
        at = pixel * LANES
        store(out, at, add_scaled(load(out, at), factor, plus(even, odd)))


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
