"""Heat maps: coefficients in image space, and their 16-bit form.

A map is stored as ``round(65535 value / scale)`` with one scale per factor and image set, never
per image: dividing each map by its own maximum paints a concept onto images that do not have it.
"""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from torch import Tensor

LEVELS = 65535


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
        return coefficients.new_empty((0, *size), dtype=torch.float32)
    maps = coefficients.to(torch.float32).T.reshape(1, factors, *grid)
    out = torch.nn.functional.interpolate(maps, size=size, mode="bilinear", align_corners=False)
    return out[0]


def quantise(maps: NDArray[np.floating], scale: ArrayLike, axis: int = 0) -> NDArray[np.uint16]:
    """Heat maps as 16-bit integers.

    Parameters
    ----------
    maps : float, any shape with the factors along `axis`
        Heat maps [k, H, W], or rows [H * W, k] with ``axis=1``.
    scale : float [k] or one number
        The value that becomes 65535: the factor's maximum over the image set, >= 0.
    axis : int
        The factors' axis.

    Returns
    -------
    uint16, shape of `maps`
        Rounded; values outside [0, scale] are clipped. A scale of 0 (a factor absent from the
        whole set) gives zeros.

    Raises
    ------
    ValueError
        If `scale` is negative, not finite, or not one number per factor, or a map holds NaN.
    """
    values = np.asarray(maps)
    per_factor = _per_factor(scale, values.shape, axis)
    if np.isnan(values).any():
        raise ValueError(f"maps {values.shape} contain NaN")
    # Clipped first: dividing by a tiny scale could overflow.
    clipped = np.clip(values, 0, per_factor, dtype=np.float64)
    clipped /= np.where(per_factor > 0, per_factor, 1.0)
    clipped *= LEVELS
    levels: NDArray[np.uint16] = np.rint(clipped, out=clipped).astype(np.uint16)
    return levels


def dequantise(values: NDArray[np.uint16], scale: ArrayLike, axis: int = 0) -> NDArray[np.float32]:
    """Heat maps back in the unit of the coefficients; inverse of `quantise` to half a level.

    Parameters
    ----------
    values : uint16, any shape with the factors along `axis`
    scale : float [k] or one number
        As given to `quantise`.
    axis : int
        The factors' axis.

    Returns
    -------
    float32, shape of `values`

    Raises
    ------
    ValueError
        If `values` is not uint16, or `scale` is negative, not finite, or not one per factor.
    """
    if values.dtype != np.uint16:
        raise ValueError(f"values must be uint16, got {values.dtype} {values.shape}")
    step = _per_factor(scale, values.shape, axis) / LEVELS
    return (values * step).astype(np.float32)


def _per_factor(scale: ArrayLike, shape: tuple[int, ...], axis: int) -> NDArray[np.float64]:
    """`scale` shaped so that it broadcasts along the factors' axis."""
    scales = np.asarray(scale, dtype=np.float64)
    if not np.isfinite(scales).all() or (scales < 0).any():
        raise ValueError(f"scale must be finite and >= 0, got {scales}")
    if scales.ndim == 0:
        return scales
    if not -len(shape) <= axis < len(shape) or scales.shape != (shape[axis],):
        raise ValueError(f"scale {scales.shape} must be one number per factor: {shape}[{axis}]")
    return scales.reshape([-1 if at == axis % len(shape) else 1 for at in range(len(shape))])
