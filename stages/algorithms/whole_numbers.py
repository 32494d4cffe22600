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


def by_column(levels: NDArray[Any]) -> NDArray[Any]:
    """Whole numbers ``[h, w, columns]``, the same ones, column by column in memory.

    Everything that is computed of them goes through one column after the other: turned once, they
    are not turned again by each.
    """
    h, w, columns = levels.shape
    rows = levels.reshape(h * w, columns)
    if not rows.T.flags.c_contiguous:
        planes = np.empty((columns, h * w), levels.dtype)
        _turned(rows, planes)
        rows = planes.T
    return rows.reshape(h, w, columns)


def masks_of_halves(levels: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Masks of ``round(255 q)`` ``[pixels, columns]`` where q is a half or more, as `halves`."""
    planes = np.ascontiguousarray(levels.T)
    bits = np.zeros((-(-len(planes) // 8), planes.shape[1]), np.uint8)
    least = np.full(len(planes), 128, np.float64)
    _reached(planes, 0.0, least, np.ones(len(planes), np.bool_), bits)
    return bits.T


def near_largest(
    levels: NDArray[Any],
    share: float,
    least: NDArray[np.float64],
    chosen: NDArray[np.bool_],
) -> NDArray[np.uint8]:
    """Where maps reach a share of their own largest value, and `least`, too.

    Parameters
    ----------
    levels : uint8 or uint16 [h, w, columns]
    share : float
    least : float64 [columns]
        In whole numbers.
    chosen : bool [columns]
        Others are reached nowhere.

    Returns
    -------
    uint8 [h * w, ceil(columns / 8)]
        As from `masks.pack_masks`.
    """
    h, w, columns = levels.shape
    bits = np.zeros((-(-columns // 8), h * w), np.uint8)
    planes = np.ascontiguousarray(levels.reshape(h * w, columns).T)
    _reached(planes, share, least, chosen, bits)
    return bits.T


@compiled
def _turned(rows, planes):  # type: ignore[no-untyped-def]
    """Rows as columns, some rows at a time, which stay in the cache."""
    for first in range(0, len(rows), 64):
        for column in range(len(planes)):
            plane = planes[column]
            for i in range(first, min(first + 64, len(rows))):
                plane[i] = rows[i, column]


@compiled
def _reached(planes, share, least, chosen, bits):  # type: ignore[no-untyped-def]
    """See `near_largest`."""
    for column in range(len(planes)):
        if not chosen[column]:
            continue
        values, byte, bit = planes[column], bits[column // 8], np.uint8(1 << (column % 8))
        most = np.uint32(0)
        if share > 0:
            for i in range(len(values)):
                most = max(most, np.uint32(values[i]))
        start = np.uint32(min(np.ceil(max(share * most, least[column])), 2.0**31))
        for i in range(len(values)):
            byte[i] |= bit if np.uint32(values[i]) >= start else np.uint8(0)


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
