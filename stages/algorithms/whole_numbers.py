"""Maps in whole numbers to and from probabilities, compiled: what a CPU refines, one call an image.

What `stages.algorithms.heatmap`, `mean_field.unary` and `masks` do array after array, and
`stages.algorithms.whole_maps` for batches on a GPU.
"""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from stages.algorithms.compiled import compiled


def probabilities(levels: NDArray[Any], thresholds: NDArray[np.float64]) -> NDArray[np.float32]:
    """Probabilities of factors from heat maps in whole numbers: `mean_field.unary` of their shares.

    Parameters
    ----------
    levels : uint8 or uint16 [h, w, columns]
    thresholds : float64 [columns]
        Shares where masks begin; one that is not above 0: absent, probabilities of 0.

    Returns
    -------
    float32 [columns, h, w]
    """
    h, w, columns = levels.shape
    if thresholds.shape != (columns,):
        raise ValueError(f"threshold {thresholds.shape} must be one per factor of {levels.shape}")
    planes = np.ascontiguousarray(levels.reshape(h * w, columns).T)
    found = np.empty((columns, h * w), np.float32)
    _probabilities(planes, thresholds, np.float32(np.iinfo(levels.dtype).max), found)
    return found.reshape(columns, h, w)


def halves(
    q: NDArray[np.float32], present: NDArray[np.bool_]
) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
    """Probabilities in whole numbers, and masks of those of a half or more.

    Parameters
    ----------
    q : float32 [columns, h, w]
        Clipped to [0, 1].
    present : bool [columns]
        Others are 0 everywhere.

    Returns
    -------
    levels : uint8 [h * w, columns]
        ``round(255 q)``; column by column in memory.
    bits : uint8 [h * w, ceil(columns / 8)]
        As from `masks.pack_masks`.

    Raises
    ------
    ValueError
        If a probability is NaN.
    """
    columns, pixels = len(q), q[0].size
    levels = np.zeros((columns, pixels), np.uint8)
    bits = np.zeros((-(-columns // 8), pixels), np.uint8)
    if not _halves(np.ascontiguousarray(q).reshape(columns, pixels), present, levels, bits):
        raise ValueError(f"probabilities {q.shape} contain NaN")
    return levels.T, bits.T


@compiled
def _probabilities(planes, thresholds, most, out):  # type: ignore[no-untyped-def]
    """See `probabilities`."""
    for column in range(len(planes)):
        levels, found = planes[column], out[column]
        if not thresholds[column] > 0:
            found[:] = 0
            continue
        # the least normal number: a smaller one may be flushed to zero, and give 0 / 0
        threshold = max(np.float32(thresholds[column]), np.float32(1.1754944e-38))
        for i in range(len(levels)):
            share = np.float32(levels[i]) / most
            found[i] = share / (share + threshold)


@compiled
def _halves(q, present, levels, bits):  # type: ignore[no-untyped-def]
    """See `halves`; whether all are numbers."""
    numbers = True
    for column in range(len(q)):
        if not present[column]:
            continue
        values, whole, byte = q[column], levels[column], bits[column // 8]
        bit = np.uint8(1 << (column % 8))
        for i in range(len(values)):
            clipped = min(max(values[i], np.float32(0)), np.float32(1))
            # added and taken away again: whole numbers, halves to even ones
            whole[i] = np.uint8(
                np.int32((clipped * np.float32(255) + np.float32(2**23)) - np.float32(2**23))
            )
        strange = 0
        for i in range(len(values)):
            byte[i] |= bit if values[i] >= np.float32(0.5) else np.uint8(0)
        for i in range(len(values)):
            strange += values[i] != values[i]
        numbers = numbers and strange == 0
    return numbers
