"""Parts that partition: every pixel belongs to one factor of a factorization, or to none.

Refined one by one, the factors of a factorization flood the same object: each of their maps ends
at the object's edge, not where the next part begins. Here they share out its pixels.

The *figure* is what the factorization with k = 1 and the same seed finds, refined. A factor is of
the figure when most of its heat lies in the figure's heat over the image set
(`stages.algorithms.parts`); others are of the ground. With h_j the heat of factor j, u_j a
percentile of its coefficients over the set (`Shares.strength`) and q_j its refined probability, a
pixel goes to the factor with the largest ``q_j h_j / u_j``:

- in the refined figure, among the factors of the figure;
- elsewhere, among those of the ground whose mask it is in, ``q_j >= 1/2``.

In an image where more than half of a figure's factor lies outside of the figure's heat, the figure
has missed it: it counts among the ground there. Without a factorization of k = 1 there is no
figure, and all factors are of the ground.

Maps are made to say the same as the masks: q of a pixel is lifted to a half for the factor that has
it, and lowered below it for the others.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from stages.algorithms.compiled import compiled
from stages.algorithms.parts import Parts, Shares, of_figure

HALF = 128  # round(255 / 2): the least whole number of a mask


def apart(
    q: NDArray[np.uint8], heat: NDArray[Any], shares: Shares, parts: Sequence[Parts]
) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
    """Refined maps of one image whose masks do not overlap.

    Parameters
    ----------
    q : uint8 [pixels, columns]
        Refined probabilities, ``round(255 q)``.
    heat : uint8 or uint16 [pixels, columns]
        Heat maps, in whole numbers.
    shares : Shares
        Of the image's set.
    parts : sequence of Parts

    Returns
    -------
    levels : uint8 [pixels, columns]
        Columns of `parts` changed, others as they are; column by column in memory.
    bits : uint8 [pixels, ceil(columns / 8)]
        The masks, levels of at least `HALF`, as from `masks.pack_masks`.

    Raises
    ------
    ValueError
        When shapes do not fit.
    """
    columns = q.shape[1]
    fits = all(len(one) == columns for one in (shares.thresholds, shares.strength, shares.within))
    if q.shape != heat.shape or q.dtype != np.uint8 or not fits:
        raise ValueError(
            f"q {q.dtype} {q.shape}, heat {heat.shape} and {len(shares.thresholds)} thresholds "
            "must be of the same pixels and columns, q uint8"
        )
    found = np.array(q.T, order="C")
    planes = np.ascontiguousarray(heat.T)
    strong = np.where(shares.strength > 0, shares.strength, 1.0)
    # absent factors have no mask, and get no pixel
    units = np.where(shares.thresholds > 0, 1 / strong, 0).astype(np.float32)
    starts = np.ceil(shares.thresholds * np.iinfo(heat.dtype).max)
    for one in parts:
        inside = of_figure(shares.within[one.columns])
        figure = one.figure if one.figure >= 0 and shares.thresholds[one.figure] > 0 else -1
        outside = ~inside
        if figure >= 0:
            outside |= _missed(planes[one.columns], planes[figure], starts[figure])
        _share_out(
            found[one.columns],
            planes[one.columns],
            found[max(figure, 0)],
            figure >= 0,
            units[one.columns],
            inside,
            outside if figure >= 0 else np.ones_like(outside),
        )
    bits = np.zeros((-(-columns // 8), found.shape[1]), np.uint8)
    _pack(found, bits)
    return found.T, bits.T


def _missed(heat: NDArray[Any], figure: NDArray[Any], start: np.float64) -> NDArray[np.bool_]:
    """Which factors ``[k, pixels]`` lie more outside of the figure's heat than in it."""
    inside, all_of = np.zeros(len(heat), np.int64), np.zeros(len(heat), np.int64)
    _sums(heat, figure >= start, inside, all_of)
    return np.asarray(2 * inside < all_of)


@compiled
def _sums(heat, there, inside, all_of):  # type: ignore[no-untyped-def]
    """Heat of each factor where the figure's is, and everywhere."""
    for j in range(len(heat)):
        warm = heat[j]
        total, found = np.int64(0), np.int64(0)
        for i in range(len(warm)):
            total += np.int64(warm[i])
            found += np.int64(warm[i]) * np.int64(there[i])
        all_of[j], inside[j] = total, found


@compiled
def _share_out(q, heat, figure, known, units, inside, outside):  # type: ignore[no-untyped-def]
    """Give each pixel to one of the factors; `q` ``[k, pixels]`` is written to."""
    pixels, zero, one = len(figure), np.float32(0), np.float32(1)
    most, best = np.zeros(pixels, np.float32), np.full(pixels, -1, np.int32)
    there = np.zeros(pixels, np.float32)  # 1 in the figure
    if known:
        for i in range(pixels):
            there[i] = one if figure[i] >= HALF else zero
    for j in range(len(q)):
        mine, warm = q[j], heat[j]
        unit_in = units[j] if inside[j] else zero
        unit_out = units[j] if outside[j] else zero
        for i in range(pixels):
            # no branches: they would be mispredicted
            of_ground = unit_out if mine[i] >= HALF else zero
            unit = there[i] * unit_in + (one - there[i]) * of_ground
            # + 1: a probability that is rounded to 0 is none
            score = np.float32(warm[i]) * unit * (np.float32(mine[i]) + one)
            best[i] = j if score > most[i] else best[i]
            most[i] = max(score, most[i])
    for j in range(len(q)):
        mine = q[j]
        for i in range(pixels):
            high, low = max(mine[i], np.uint8(HALF)), min(mine[i], np.uint8(HALF - 1))
            mine[i] = high if best[i] == j else low


@compiled
def _pack(levels, bits):  # type: ignore[no-untyped-def]
    """Masks of levels ``[columns, pixels]``, as bits."""
    for column in range(len(levels)):
        values, byte, bit = levels[column], bits[column // 8], np.uint8(1 << (column % 8))
        for i in range(len(values)):
            byte[i] |= bit if values[i] >= HALF else np.uint8(0)
