"""Pillow's bilinear resizing of many images at once, on any device, to the same pixels.

Pillow resizes one axis, rounds to whole levels, and resizes the other, both with weights that are
whole multiples of 2^-22. So do we: a matrix product for either axis. Products and sums of float32
are exact while they stay below 2^24, so the weights are cut into parts of a few bits each. Which
axis comes first depends on the sizes and on Pillow's version; it is asked.
"""

import math
from functools import lru_cache
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from stages.images.resize import resize_rgb

if TYPE_CHECKING:
    import torch
    from torch import Tensor

BITS = 22  # of Pillow's weights
EXACT = 2**24  # float32 holds all whole numbers up to this
Shape = tuple[int, int]
PROBED = 16  # columns of a picture, enough to tell the orders apart


def resize_exactly(images: "Tensor", shape: Shape) -> "Tensor | None":
    """As `stages.images.resize.resize_rgb`, of several images of one size.

    Parameters
    ----------
    images : uint8 tensor [n, 3, h, w]
        On any device. Float32 matrix products must not be rounded to TF32 there, as is torch's
        default.
    shape : (height, width)

    Returns
    -------
    uint8 tensor [n, height, width, 3], or None
        On the same device, a view with the channels last; None where this Pillow does it otherwise.
    """
    old = int(images.shape[2]), int(images.shape[3])
    if (axes := _order(old, shape)) is None:
        return None
    found = images
    for axis in axes:
        if axis == 3:
            found = _columns(found, shape[1])
        else:
            found = _columns(found.transpose(2, 3), shape[0]).transpose(2, 3)
    return found.permute(0, 2, 3, 1)


@lru_cache(maxsize=1024)
def _order(old: Shape, new: Shape) -> tuple[int, ...] | None:
    """Which axes are resized, in Pillow's order: 2 for rows, 3 for columns; None if in neither."""
    axes = tuple(axis for axis in (3, 2) if old[axis - 2] != new[axis - 2])
    if len(axes) < 2:
        return axes
    noise = np.random.default_rng(0).integers(0, 256, (*old, 3), dtype=np.uint8)
    first = max(0, (new[1] - PROBED) // 2)
    some = slice(first, first + PROBED)
    columns = pillow_weights(old[1], new[1])[:, some]
    used = np.flatnonzero(columns.any(axis=1))
    rows, columns = pillow_weights(old[0], new[0]), columns[used]
    found, given = resize_rgb(noise, new)[:, some, 0], noise[:, used, 0].astype(np.int64)
    if np.array_equal(_rounded(rows.T @ _rounded(given @ columns)), found):
        return 3, 2
    if np.array_equal(_rounded(_rounded(rows.T @ given) @ columns), found):
        return 2, 3
    return None


def _rounded(values: NDArray[np.int64]) -> NDArray[np.int64]:
    """From units of 2^-22 to whole levels, as Pillow rounds."""
    return np.clip((values + (1 << (BITS - 1))) >> BITS, 0, 255)


def _columns(images: "Tensor", size: int) -> "Tensor":
    """Resize the last axis: uint8 ``[n, 3, h, w]`` -> ``[n, 3, h, size]``."""
    parts, bits = _parts(images.shape[3], size, images.device)
    values = images.float()
    total = None
    for part in parts:  # from the most significant on
        product = (values @ part).int()
        total = product if total is None else (total << bits) + product
    assert total is not None
    return ((total + (1 << (BITS - 1))) >> BITS).clamp_(0, 255).byte()


@lru_cache(maxsize=64)
def _parts(old: int, new: int, device: "torch.device") -> tuple[list["Tensor"], int]:
    """The weights ``[old, new]`` cut into parts of some bits, and how many bits."""
    import torch

    weights = pillow_weights(old, new)
    taps = int(np.count_nonzero(weights, axis=0).max())
    bits = int(math.log2(EXACT / (255 * taps)))
    count = -(-(BITS + 1) // bits)  # a weight may be 1 = 2^22
    found = [
        torch.from_numpy(((weights >> (bits * i)) & ((1 << bits) - 1)).astype(np.float32))
        for i in reversed(range(count))
    ]
    return [part.to(device) for part in found], bits


def pillow_weights(old: int, new: int) -> NDArray[np.int64]:
    """Pillow's weights of a bilinear resize along one axis.

    Returns
    -------
    int64 [old, new]
        In units of 2^-22: a triangle around each new pixel's centre, as wide as two old pixels or,
        where there are fewer new ones, as two new ones.
    """
    scale = old / new
    support = max(scale, 1.0)
    found = np.zeros((old, new), np.int64)
    for i in range(new):
        center = (i + 0.5) * scale
        first = max(0, int(center - support + 0.5))
        stop = min(old, int(center + support + 0.5))
        at = (np.arange(first, stop) - center + 0.5) * (1.0 / support)
        triangle = np.maximum(0.0, 1.0 - np.abs(at))
        # added up in Pillow's order: the last bits decide about rounding
        total = 0.0
        for weight in triangle:
            total += float(weight)
        found[first:stop, i] = (0.5 + triangle / total * (1 << BITS)).astype(np.int64)
    return found
