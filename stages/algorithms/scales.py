"""One map of several: an image's coefficients where a network saw it at several sizes.

With ``H_is`` the coefficients of image i at size s, one factor's, on that size's grid, ``p_s`` the
largest of them in the image set, and ``up`` the bilinear way to the finest grid::

    m_i   = (product over s of up(H_is / p_s)) ^ (1 / sizes)
    t_i   = max of m_i over its cells,    T = max of t_i over the set
    map_i = m_i / max(t_i, T / 2)

The geometric mean keeps what all sizes agree on: the fine grid says where it ends, the coarse one
what it is. An image is shown by its own largest value, but never by less than half of the set's: a
concept is not painted onto images that lack it.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

FLOOR = 0.5
Floats = NDArray[np.float64]
Grid = NDArray[np.floating[Any]]  # [h, w, columns]


def split(rows: NDArray[Any], grids: NDArray[np.integer[Any]]) -> list[NDArray[Any]]:
    """An image's rows of all sizes as one grid ``[h, w, columns]`` per size.

    Parameters
    ----------
    rows : array [rows of all sizes, columns]
        One size after the other, row-major.
    grids : int [sizes, 2]
        (h, w) of each.

    Raises
    ------
    ValueError
        When the rows do not fill the grids.
    """
    ends = np.cumsum(np.prod(grids, axis=1, dtype=np.int64))
    if ends[-1] != len(rows):
        raise ValueError(f"rows {rows.shape} do not fill grids {np.asarray(grids).tolist()}")
    parts = np.split(rows, ends[:-1])
    return [part.reshape(int(h), int(w), -1) for part, (h, w) in zip(parts, grids, strict=True)]


def resized(grid: Grid, size: tuple[int, int]) -> Floats:
    """Bilinear interpolation of a grid ``[h, w, columns]`` to ``[H, W, columns]``, float64.

    Cells are areas, not corner points, as in `stages.algorithms.heatmap.upsample`.
    """
    found = np.asarray(grid, np.float64)
    for axis, wanted in enumerate(size):
        cells = found.shape[axis]
        if cells == wanted:
            continue
        at = np.clip((np.arange(wanted) + 0.5) * (cells / wanted) - 0.5, 0, cells - 1)
        low = at.astype(np.int64)
        share = (at - low).reshape(-1, *[1] * (found.ndim - 1 - axis))
        a = found.take(low, axis)
        b = found.take(np.minimum(low + 1, cells - 1), axis)
        found = a + share * (b - a)
    return found


def combined(grids: Sequence[Grid], largest: Floats) -> Floats:
    """``m`` of one image on the grid of the last size, ``[H, W, columns]``; see the module.

    Parameters
    ----------
    grids : sequence of arrays [h, w, columns], non-negative
        Coefficients at each size, the finest last.
    largest : float64 [sizes, columns]
        ``p``: of the image set at each size. Columns with 0 at some size are 0.

    Raises
    ------
    ValueError
        When there are not as many grids as sizes, or other columns.
    """
    if largest.shape != (len(grids), grids[-1].shape[2]):
        raise ValueError(
            f"largest {largest.shape} is not [sizes, columns] of {len(grids)} grids with "
            f"{grids[-1].shape[2]} columns"
        )
    height, width = grids[-1].shape[:2]
    found = np.ones(grids[-1].shape)
    for grid, most in zip(grids, largest, strict=True):
        found *= resized(grid / np.where(most > 0, most, np.inf), (height, width))
    result: Floats = found ** (1 / len(grids))
    return result


def shown(combined: Floats, top: Floats) -> NDArray[np.float32]:
    """The map of one image, float32 ``[H, W, columns]`` from 0 to 1; see the module.

    Parameters
    ----------
    combined : float64 [H, W, columns]
        ``m`` of the image.
    top : float64 [columns]
        ``T``: the largest ``m`` of the image set.
    """
    by = np.maximum(combined.max(axis=(0, 1)), FLOOR * top)
    return (combined / np.where(by > 0, by, np.inf)).astype(np.float32)
