"""One image's coefficients as heat maps in image space: shared by heatmaps and transform."""

import numpy as np
from numpy.typing import NDArray

# Per value of a map, at the worst moment of `heat_map`: float32, its float64 copy while it becomes
# a share, and the result; twice, for one waits while the next is made.
HEAT_BYTES = 2 * (4 + 2 * 8 + 4)


def map_size(height: int, width: int, long_side: int) -> tuple[int, int]:
    """Size of an image's maps: its own, or scaled to a long side (never below one pixel)."""
    if not long_side:
        return height, width
    scale = long_side / max(height, width)
    return max(1, round(height * scale)), max(1, round(width * scale))


def heat_map(
    grid: NDArray[np.float32], size: tuple[int, int], scale: NDArray[np.float64]
) -> NDArray[np.float32]:
    """Heat maps of one image in shares of their scale, float32 ``[H * W, columns]``.

    Parameters
    ----------
    grid : float32 [h, w, columns]
        Coefficients.
    size : (H, W)
        Of the maps.
    scale : float64 [columns]
        The coefficients that become 1.
    """
    import torch

    from stages.algorithms.heatmap import shares_of, upsample

    h, w, columns = grid.shape
    return shares_of(upsample(torch.from_numpy(grid.reshape(-1, columns)), (h, w), size), scale)
