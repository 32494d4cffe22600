"""Mean field of an image: updates at the working resolution, and the last at full size."""

from typing import Any, NamedTuple

import numpy as np

from stages.algorithms.inference.compiling import LANES, MIDDLE, MODEL, F, compiled
from stages.algorithms.inference.filters import fit, guide_of
from stages.algorithms.inference.lines import evidence_of, shrunk, signals_of
from stages.algorithms.inference.votes import gathered, vote, votes_of
from stages.algorithms.nmf.kernels.lanes import add_scaled, load, store, zeros


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
        vote(votes[0], votes[1], votes[2], cells, colour.weight, out)


@compiled
def line_between(models, w, upper, lower, far, out):
    """A line of models between two lines of ``[h * w * MODEL]``."""
    zero = zeros(out)
    for at in range(0, w * MODEL, LANES):
        near = add_scaled(zero, F(1) - far, load(models, upper * w * MODEL + at))
        store(out, at, add_scaled(near, far, load(models, lower * w * MODEL + at)))


@compiled
def apply_line(line, w, colours, out):
    """Values ``[W * LANES]`` of a line of models ``[w * MODEL]``, brought to W pixels, on their
    colours ``[3, W]``."""
    wide = len(colours[0])
    zero = zeros(out)
    for x in range(wide):
        place = max(F((x + 0.5) * w / wide - 0.5), F(0))
        left = min(np.int64(place), w - 1)
        right, far = min(left + 1, w - 1), place - F(left)
        near = F(1) - far
        left, right = left * MODEL, right * MODEL
        r, g, b = colours[0, x] - MIDDLE, colours[1, x] - MIDDLE, colours[2, x] - MIDDLE
        one = add_scaled(load(line, left), r, load(line, left + LANES))
        one = add_scaled(one, g, load(line, left + 2 * LANES))
        one = add_scaled(one, b, load(line, left + 3 * LANES))
        two = add_scaled(load(line, right), r, load(line, right + LANES))
        two = add_scaled(two, g, load(line, right + 2 * LANES))
        two = add_scaled(two, b, load(line, right + 3 * LANES))
        store(out, x * LANES, add_scaled(add_scaled(zero, near, one), far, two))


@compiled
def last_update(models, size, image, p, first, floor, q):
    """q of up to `LANES` columns at full size ``[columns, h, w]``, from models at `size`."""
    h, w = p.shape[1:]
    line = np.empty(size[1] * MODEL, np.float32)
    values, messages = np.empty(w * LANES, np.float32), np.empty(w, np.float32)
    ratio, bits = np.empty(w, np.float32), np.empty(w, np.int32)
    for y in range(h):
        place = max(F((y + 0.5) * size[0] / h - 0.5), F(0))
        upper = min(np.int64(place), size[0] - 1)
        lower = min(upper + 1, size[0] - 1)
        line_between(models, size[1], upper, lower, place - F(upper), line)
        apply_line(line, size[1], image[:, y], values)
        for column in range(min(LANES, len(p) - first)):
            for x in range(w):
                messages[x] = values[x * LANES + column]
            update(p[first + column, y], messages, floor, ratio, bits, q[first + column, y])


@compiled
def update(p, messages, floor, room, bits, q):
    """``q = sigmoid(logit(p) + messages)`` of a line; the messages and `room` are room, then."""
    evidence_of(p, floor, q, room)
    for x in range(len(q)):
        messages[x] += room[x]
    signals_of(messages, bits, room)
    for x in range(len(q)):
        q[x] = (room[x] + F(1)) * F(0.5)


@compiled
def infer(image, p, size, radii, eps, weight, iterations, colour, floor, room, q):
    """Mean field of one image: see `stages.algorithms.mean_field`; independent columns.

    Parameters
    ----------
    image : float32 [3, h, w]
    p : float32 [columns, h, w]
    size : (int, int)
        The working resolution.
    radii : (int, int)
        Of the guided filter at that resolution, and of the window that votes are brought back by.
    iterations : int
        At least 1.
    room : (uint16 [..], float32 [..])
        Memory for votes, as an earlier call has returned it, or of any length.
    q : float32 [columns, h, w]
        Written to.

    Returns
    -------
    room
    """
    h, w = size
    pixels, whole = h * w, (h, w) == image.shape[1:]
    small, probability = np.empty((3, h, w), np.float32), np.empty((len(p), h, w), np.float32)
    for channel in range(3):
        shrunk(image[channel], small[channel])
    for column in range(len(p)):
        shrunk(p[column], probability[column])
    guide, carrier = guide_of(small, radii[0], eps), guide_of(small, radii[1], eps)
    thumbnail = np.empty((3, colour.rows, colour.columns), np.float32)
    votes = np.zeros(1, np.int64), room[0], room[1]
    if colour.weight > 0:
        for channel in range(3):
            shrunk(small[channel], thumbnail[channel])
        votes = votes_of(small, thumbnail, colour.sigma, colour.reach, room[0], room[1])
    cells = np.empty(colour.rows * colour.columns * LANES, np.float32)
    evidence, messages = np.empty(pixels * LANES, np.float32), np.empty(pixels * LANES, np.float32)
    signal, bits = np.empty(pixels * LANES, np.float32), np.empty(pixels * LANES, np.int32)
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
            for i in range(len(signal)):
                messages[i] += evidence[i]
            signals_of(messages, bits, signal)
        if whole:
            message(signal, guide, weight, votes, colour, cells, messages)
            for column in range(min(LANES, len(p) - first)):
                for y in range(h):
                    line = messages[y * w * LANES + column : (y + 1) * w * LANES : LANES].copy()
                    update(
                        p[first + column, y],
                        line,
                        floor,
                        np.empty_like(line),
                        bits[:w],
                        q[first + column, y],
                    )
            continue
        models = np.zeros(pixels * MODEL, np.float32)
        fit(signal, guide, weight, False, models)
        if colour.weight > 0:
            gathered(signal, h, w, colour.rows, colour.columns, cells)
            messages[:] = 0
            vote(votes[0], votes[1], votes[2], cells, F(1), messages)
            fit(messages, carrier, colour.weight, False, models)
        last_update(models, size, image, p, first, floor, q)
    return votes[1], votes[2]
