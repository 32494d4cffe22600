"""Coefficients of several sizes -> one map per image: see `stages.algorithms.scales`.

Three readings of a set's coefficients, image by image: for the largest value of each size, for the
largest of all maps, and for the maps (the first two come with pinned factors). In memory are some
images' coefficients and what is known of the columns.
"""

from collections.abc import Iterator, Sequence

import numpy as np
from numpy.typing import NDArray

from stages.algorithms.scales import combined, shown, split
from store import Ragged, RaggedWriter

BLOCK_BYTES = 32 * 2**20  # of coefficients that are read at once
Floats = NDArray[np.float64]


def write_combined(
    coefficients: Ragged,
    grids: NDArray[np.int64],
    sets: Sequence[NDArray[np.int64]],
    given: tuple[Floats, Floats],
    writer: RaggedWriter,
) -> tuple[Floats, Floats]:
    """Write the map of every (set, image).

    Parameters
    ----------
    coefficients : Ragged
        An entry has an image's rows of all sizes.
    grids : int64 [entries, sizes, 2]
    sets : sequence of int64 [images]
        Each set's entries, which follow each other.
    given : (largest, top)
        As they are returned, where pinned factors hold them; NaN: to be found.
    writer : RaggedWriter
        Of maps on the grids of the last size.

    Returns
    -------
    largest : float64 [sets, sizes, columns]
        Coefficients of each size.
    top : float64 [sets, columns]
        The largest value before it is divided by.
    """
    columns = coefficients.channels
    largest, top = (one.copy() for one in given)
    for rank, entries in enumerate(sets):
        if np.isnan(largest[rank]).any():
            peaks = np.zeros(largest[rank].shape)
            for maps in _images(coefficients, grids, entries):
                np.maximum(peaks, [one.max(axis=(0, 1)) for one in maps], out=peaks)
            largest[rank] = np.where(np.isnan(largest[rank]), peaks, largest[rank])
        if np.isnan(top[rank]).any():
            reached = np.zeros(columns)
            for maps in _images(coefficients, grids, entries):
                np.maximum(reached, combined(maps, largest[rank]).max(axis=(0, 1)), out=reached)
            top[rank] = np.where(np.isnan(top[rank]), reached, top[rank])
        for entry, maps in zip(entries, _images(coefficients, grids, entries), strict=True):
            rows = shown(combined(maps, largest[rank]), top[rank]).reshape(-1, columns)
            writer.append(int(writer.offsets[entry]), rows)
    writer.close()
    return largest, top


def _images(
    coefficients: Ragged, grids: NDArray[np.int64], entries: NDArray[np.int64]
) -> Iterator[list[NDArray[np.float32]]]:
    """Coefficients of each entry, a grid per size; many entries are read together."""
    ends = coefficients.offsets
    limit = BLOCK_BYTES // (4 * coefficients.channels)
    start = 0
    while start < len(entries):
        first = int(ends[entries[start]])
        whole = int(np.searchsorted(ends[entries + 1], first + limit, side="right"))
        stop = max(start + 1, whole)
        rows = coefficients.rows(first, int(ends[entries[stop - 1] + 1]))
        for entry in entries[start:stop]:
            yield split(rows[ends[entry] - first : ends[entry + 1] - first], grids[entry])
        start = stop
