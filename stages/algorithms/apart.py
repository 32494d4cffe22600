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
from stages.algorithms.parts import Parts, Shares

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
    fits = all(
        len(one) == columns for one in (shares.thresholds, shares.strength, shares.of_figure)
    )
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
        q_of, heat_of, inside = (
            found[one.columns],
            planes[one.columns],
            shares.of_figure[one.columns],
        )
        if one.figure >= 0 and shares.thresholds[one.figure] > 0:
            figure = found[one.figure] >= HALF
            missed = _missed(heat_of, planes[one.figure] >= starts[one.figure])
            outside = ~inside | missed
        else:
            figure, outside = np.zeros(len(q), np.bool_), np.ones_like(inside)
        units_in, units_out = (np.where(some, units[one.columns], 0) for some in (inside, outside))
        _share_out(q_of, heat_of, figure, units_in.astype(np.float32), units_out.astype(np.float32))
    bits = np.zeros((-(-columns // 8), found.shape[1]), np.uint8)
    _pack(found, bits)
    return found.T, bits.T


def _missed(heat: NDArray[Any], figure: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Which factors ``[k, pixels]`` lie more outside of the figure's heat than in it."""
    inside, all_of = np.zeros(len(heat), np.int64), np.zeros(len(heat), np.int64)
    _sums(heat, figure, inside, all_of)
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
def _share_out(q, heat, figure, units_in, units_out):  # type: ignore[no-untyped-def]
    """Give each pixel to one of the factors; `q` ``[k, pixels]`` is written to.

    A factor's heat counts by one unit in the figure, and by another outside; 0 for not at all.
    """
    pixels, zero, one = len(figure), np.float32(0), np.float32(1)
    most, best = np.zeros(pixels, np.float32), np.full(pixels, -1, np.int32)
    for j in range(len(q)):
        mine, warm = q[j], heat[j]
        for i in range(pixels):
            # no branches: they would be mispredicted
            of_ground = units_out[j] if mine[i] >= HALF else zero
            unit = units_in[j] if figure[i] else of_ground
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
