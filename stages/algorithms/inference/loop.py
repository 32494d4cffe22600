"""Mean field of an image: updates at the working resolution, and the last at full size."""

from typing import Any, NamedTuple

import numpy as np

from stages.algorithms.inference.compiling import LANES, MIDDLE, MODEL, F, compiled
from stages.algorithms.inference.filters import fit, guide_of
from stages.algorithms.inference.lines import (
    evidence_of,
    exponentials,
    ratios_of,
    shrunk,
    signals_of,
)
from stages.algorithms.inference.votes import Votes, gathered, vote, votes_of
from stages.algorithms.nmf.kernels.lanes import add_scaled, load, store, zeros

FARTHEST = F(70)  # messages beyond it are as good as it


class Colour(NamedTuple):
    """The colour term: `stages.algorithms.bilateral.ColourTerm`, and the size of the thumbnail.

    Attributes
    ----------
    weight, sigma, reach : float32
    rows, columns : int
    """

    weight: Any
    sigma: Any
    reach: Any
    rows: int
    columns: int


class Places(NamedTuple):
    """Which two of few pixels each of many lies between.

    Attributes
    ----------
    left, right : int64 [many]
    far : float32 [many]
        How far from the left one, as a share of the way to the right one.
    """

    left: Any
    right: Any
    far: Any


class Found(NamedTuple):
    """What an image's mean field is written to: the one of both that is not empty.

    Attributes
    ----------
    q : float32 [columns, h, w]
    levels : uint8 [columns, h, w]
        ``round(255 q)``.
    """

    q: Any
    levels: Any


@compiled
def from_planes(planes, first, out):
    """Lines of up to `LANES` planes ``[.., n]`` from the `first` on, side by side ``[n * LANES]``;
    0 where there are none."""
    out[:] = 0
    for column in range(min(LANES, len(planes) - first)):
        plane = planes[first + column]
        for i in range(len(plane)):
            out[i * LANES + column] = plane[i]


@compiled
def message(signal, guide, weight, votes, colour, cells, out):
    """``weight GF(s) + colour.weight BF(s)`` at the working resolution."""
    h, w = len(guide.windows.rows), len(guide.windows.columns)
    out[:] = 0
    fit(signal, guide, weight, True, out)
    if colour.weight > 0:
        gathered(signal, h, w, colour.rows, colour.columns, cells)
        vote(votes, cells, colour.weight, out)


@compiled
def line_between(models, w, upper, lower, far, out):
    """A line of models between two lines of ``[h * w * MODEL]``."""
    zero = zeros(out)
    for at in range(0, w * MODEL, LANES):
        near = add_scaled(zero, F(1) - far, load(models, upper * w * MODEL + at))
        store(out, at, add_scaled(near, far, load(models, lower * w * MODEL + at)))


@compiled
def apply_line(line, places, colours, out):
    """Values ``[W * LANES]`` of a line of models, brought to W pixels, on their colours
    ``[3, W]``."""
    zero = zeros(out)
    for x in range(len(places.left)):
        left, right, far = places.left[x] * MODEL, places.right[x] * MODEL, places.far[x]
        r, g, b = colours[0, x] - MIDDLE, colours[1, x] - MIDDLE, colours[2, x] - MIDDLE
        one = add_scaled(load(line, left), r, load(line, left + LANES))
        one = add_scaled(one, g, load(line, left + 2 * LANES))
        one = add_scaled(one, b, load(line, left + 3 * LANES))
        two = add_scaled(load(line, right), r, load(line, right + LANES))
        two = add_scaled(two, g, load(line, right + 2 * LANES))
        two = add_scaled(two, b, load(line, right + 3 * LANES))
        store(out, x * LANES, add_scaled(add_scaled(zero, F(1) - far, one), far, two))


@compiled
def places_of(few, many):
    """`Places` of `many` pixels between `few`, ``align_corners=False``."""
    left, right = np.empty(many, np.int64), np.empty(many, np.int64)
    far = np.empty(many, np.float32)
    for x in range(many):
        place = max(F((x + 0.5) * few / many - 0.5), F(0))
        left[x] = min(np.int64(place), few - 1)
        right[x], far[x] = min(left[x] + 1, few - 1), place - F(left[x])
    return Places(left, right, far)


@compiled
def last_update(models, size, image, p, units, first, floor, found):
    """q of up to `LANES` columns at full size, from models at `size`; or, where that is the full
    size, from messages ``[h * w * LANES]``."""
    h, w = p.shape[1:]
    count = min(LANES, len(p) - first)
    whole = len(models) == h * w * LANES
    line = np.empty(size[1] * MODEL, np.float32)
    values, ratios = np.empty(w * LANES, np.float32), np.empty(w, np.float32)
    messages, bits = np.empty(count * w, np.float32), np.empty(count * w, np.int32)
    odds = np.empty(count * w, np.float32)
    rows, columns = places_of(size[0], h), places_of(size[1], w)
    for y in range(h):
        if whole:
            values[:] = models[y * w * LANES : (y + 1) * w * LANES]
        else:
            line_between(models, size[1], rows.left[y], rows.right[y], rows.far[y], line)
            apply_line(line, columns, image[:, y], values)
        for column in range(count):
            own = messages[column * w : (column + 1) * w]
            for x in range(w):
                own[x] = min(max(values[x * LANES + column], -FARTHEST), FARTHEST)
        exponentials(messages, bits, odds)
        for column in range(count):
            own = odds[column * w : (column + 1) * w]
            ratios_of(p[first + column, y], units[first + column], floor, ratios)
            for x in range(w):
                own[x] *= ratios[x]
            for x in range(w):
                ratios[x] = own[x] / (F(1) + own[x])
            if len(found.q):
                found.q[first + column, y] = ratios
            else:
                rounded(ratios, found.levels[first + column, y])


@compiled
def rounded(q, out):
    """``round(255 q)`` of a line."""
    for x in range(len(q)):
        # added and taken away again: whole numbers, halves to even ones
        out[x] = np.uint8(np.int32((q[x] * F(255) + F(2**23)) - F(2**23)))


@compiled
def infer(image, p, units, size, radii, eps, weight, iterations, colour, floor, room, found):
    """Mean field of one image: see `stages.algorithms.mean_field`; independent columns.

    Parameters
    ----------
    image : float32 [3, h, w]
    p : float32, uint16 or uint8 [columns, h, w]
        Probabilities, or whole numbers; see `lines.add_probabilities`.
    units : float32 [columns]
        What makes whole numbers ratios to their thresholds; -1 for probabilities.
    size : (int, int)
        The working resolution.
    radii : (int, int)
        Of the guided filter at that resolution, and of the window that votes are brought back by.
    iterations : int
        At least 1.
    room : (uint16 [..], float32 [..])
        Memory for votes, as an earlier call has returned it, or of any length.
    found : Found
        Written to.

    Returns
    -------
    room
    """
    h, w = size
    pixels, whole = h * w, (h, w) == image.shape[1:]
    small, probability = np.empty((3, h, w), np.float32), np.empty((len(p), h, w), np.float32)
    for channel in range(3):
        shrunk(image[channel], F(-1), small[channel])
    for column in range(len(p)):
        shrunk(p[column], units[column], probability[column])
    guide, carrier = guide_of(small, radii[0], eps), guide_of(small, radii[1], eps)
    thumbnail = np.empty((3, colour.rows, colour.columns), np.float32)
    votes = Votes(np.zeros(1, np.int64), room[0], room[1], np.zeros(0, np.float32))
    if colour.weight > 0:
        for channel in range(3):
            shrunk(small[channel], F(-1), thumbnail[channel])
        votes = votes_of(small, thumbnail, colour.sigma, colour.reach, room[0], room[1])
    cells = np.empty(colour.rows * colour.columns * LANES, np.float32)
    evidence, messages = np.empty(pixels * LANES, np.float32), np.empty(pixels * LANES, np.float32)
    signal, bits = np.empty(pixels * LANES, np.float32), np.empty(w * LANES, np.int32)
    flat = probability.reshape((len(p), pixels))
    for first in range(0, len(p), LANES):
        from_planes(flat, first, signal)
        for i in range(len(signal)):
            signal[i] = min(max(signal[i], floor), F(1) - floor)
        evidence_of(signal, floor, messages, evidence)
        for i in range(len(signal)):
            signal[i] = F(2) * signal[i] - F(1)
        for _ in range(iterations - 1):
            message(signal, guide, weight, votes, colour, cells, messages)
            for at in range(0, len(signal), w * LANES):  # line by line, in the cache
                line, own = messages[at : at + w * LANES], evidence[at : at + w * LANES]
                for i in range(len(line)):
                    line[i] += own[i]
                signals_of(line, bits, signal[at : at + w * LANES])
        if whole:
            message(signal, guide, weight, votes, colour, cells, messages)
            last_update(messages, size, image, p, units, first, floor, found)
            continue
        models = np.zeros(pixels * MODEL, np.float32)
        fit(signal, guide, weight, False, models)
        if colour.weight > 0:
            gathered(signal, h, w, colour.rows, colour.columns, cells)
            messages[:] = 0
            vote(votes, cells, F(1), messages)
            fit(messages, carrier, colour.weight, False, models)
        last_update(models, size, image, p, units, first, floor, found)
    return votes.chosen, votes.weights
