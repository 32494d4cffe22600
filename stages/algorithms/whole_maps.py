"""Maps in whole numbers, to and from torch tensors on any device.

What `stages.algorithms.heatmap` and `masks` do in numpy, entry by entry, for batches that lie on a
GPU: what goes there and comes back is two bytes and one byte a value, and never floating point.
"""

from __future__ import annotations

import torch
from torch import Tensor


def shares_of_levels(levels: Tensor, size: tuple[int, int]) -> Tensor:
    """Rows of whole numbers as maps of shares.

    Parameters
    ----------
    levels : Tensor [b, h * w, n], uint8, or int16 that holds the bits of uint16
        torch computes little with uint16.
    size : (h, w)

    Returns
    -------
    Tensor [b, n, h, w] float32
        Equal to `stages.algorithms.heatmap.dequantise`.
    """
    planes = levels.transpose(1, 2).contiguous()
    if levels.dtype == torch.int16:
        planes, most = planes.to(torch.int32) & 0xFFFF, 65535.0
    else:
        most = 255.0
    # By a tensor: by a number, a GPU multiplies by its reciprocal, which is not quite the same.
    divisor = torch.full((1, 1, 1), most, dtype=torch.float32, device=levels.device)
    shares = planes.to(torch.float32).div_(divisor)
    return shares.reshape(*shares.shape[:2], *size)


def rows_of(maps: Tensor) -> Tensor:
    """``[b, n, h, w]`` as ``[b, h * w, n]``, the order on disk."""
    return maps.flatten(2).transpose(1, 2).contiguous()


def quantised(shares: Tensor) -> Tensor:
    """Shares as ``round(255 share)``: uint8 of the same shape, as `heatmap.quantise` gives.

    NaN has no number: ask `torch.isnan` beforehand.
    """
    return (shares.clamp(0, 1) * 255).round_().to(torch.uint8)


def packed(masks: Tensor) -> Tensor:
    """Masks as bits, as `stages.algorithms.masks.pack_masks` gives.

    Parameters
    ----------
    masks : Tensor [b, n, h, w] bool

    Returns
    -------
    Tensor [b, h * w, ceil(n / 8)] uint8
    """
    b, n, h, w = masks.shape
    out = torch.zeros((b, -(-n // 8), h, w), dtype=torch.uint8, device=masks.device)
    for bit in range(min(n, 8)):
        part = masks[:, bit::8].to(torch.uint8)
        out[:, : part.shape[1]] |= part << bit
    return rows_of(out)
