"""Heat maps: coefficients in image space, and their form in whole numbers.

A map's values are shares of one number per factor and image set, never per image: dividing each map
by its own maximum paints a concept onto images that do not have it. On disk a share is
``round(levels share)``, levels being the largest number of the type: 255 or 65535.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import DTypeLike, NDArray

if TYPE_CHECKING:
    from torch import Tensor


def upsample(coefficients: Tensor, grid: tuple[int, int], size: tuple[int, int]) -> Tensor:
    """Bilinear interpolation of one image's coefficients to a target size.

    Parameters
    ----------
    coefficients : Tensor [h * w, k], floating point
        The image's rows of H, row-major over the grid.
    grid : (h, w)
        Cells of the activation map.
    size : (H, W)
        Pixels of the heat map.

    Returns
    -------
    Tensor [k, H, W] float32, device of `coefficients`
        ``align_corners=False``: cells are areas, not corner points, as in the network. Values are
        convex combinations of the coefficients, so a set's largest coefficient bounds its maps.

    Raises
    ------
    ValueError
        If the rows do not fill the grid, or a side of `grid` or `size` is below 1.
    """
    if min(*grid, *size) < 1:
        raise ValueError(f"grid and size must be >= 1, got grid {grid} and size {size}")
    if coefficients.ndim != 2 or coefficients.shape[0] != grid[0] * grid[1]:
        raise ValueError(
            f"coefficients must be [h * w, k] with h * w = {grid[0] * grid[1]} for grid {grid}, "
            f"got {tuple(coefficients.shape)}"
        )
    factors = coefficients.shape[1]
    if factors == 0:
        return coefficients.new_empty((0, *size)).float()
    from torch.nn.functional import interpolate  # here: whole numbers need no torch

    maps = coefficients.float().T.reshape(1, factors, *grid)
    out: Tensor = interpolate(maps, size=size, mode="bilinear", align_corners=False)
    return out[0]


def quantise(shares: NDArray[np.floating], dtype: DTypeLike = np.uint16) -> NDArray[np.integer]:
    """Shares as whole numbers: ``round(levels share)``.

    Parameters
    ----------
    shares : float, any shape
        Clipped to [0, 1].
    dtype : uint8 or uint16

    Raises
    ------
    ValueError
        If a share is NaN.
    """
    if np.isnan(shares).any():
        raise ValueError(f"shares {shares.shape} contain NaN")
    levels = np.clip(shares, 0, 1).astype(np.float32, copy=False) * np.float32(np.iinfo(dtype).max)
    whole: NDArray[np.integer] = np.rint(levels, out=levels).astype(dtype)
    return whole


def dequantise(values: NDArray[np.integer]) -> NDArray[np.float32]:
    """Shares, float32, from whole numbers; inverse of `quantise` to half a level."""
    return values.astype(np.float32) / np.float32(np.iinfo(values.dtype).max)
