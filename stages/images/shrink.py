"""Pillow's bilinear resizing of many images at once, on any device, to the same pixels.

Pillow resizes one axis, rounds to whole levels, and resizes the other, both with weights that are
whole multiples of 2^-22. So do we: a matrix product for either axis. Products and sums of float32
are exact while they stay below 2^24, so the weights are cut into parts of a few bits each. Which
axis comes first depends on the sizes and on Pillow's version; it is asked.

On a GPU, images of many sizes are resized in two launches for all (`stages.images.shrink_kernels`):
what is launched for each takes the interpreter lock, for which threads that read are waiting, too.
"""

import importlib.util
import math
from collections.abc import Sequence
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
PROBED = 16  # columns of a picture, enough to tell the orders apart ...
PROBES = 64  # ... of so many pictures, where these are small


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
    first = max(0, (new[1] - PROBED) // 2)
    some = slice(first, first + PROBED)
    columns = pillow_weights(old[1], new[1])[:, some]
    used = np.flatnonzero(columns.any(axis=1))
    rows, columns = pillow_weights(old[0], new[0]), columns[used]
    rng, orders = np.random.default_rng(0), [(3, 2), (2, 3)]
    for _ in range(PROBES):  # few pixels may come out alike in both
        noise = rng.integers(0, 256, (*old, 3), dtype=np.uint8)
        found, given = resize_rgb(noise, new)[:, some, 0], noise[:, used, 0].astype(np.int64)
        made = {
            (3, 2): _rounded(rows.T @ _rounded(given @ columns)),
            (2, 3): _rounded(_rounded(rows.T @ given) @ columns),
        }
        orders = [order for order in orders if np.array_equal(made[order], found)]
        if len(orders) < 2:
            break
    return orders[0] if orders else None


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


class Shrinker:
    """Resizes many images of different sizes on one GPU.

    Parameters
    ----------
    device : torch.device
        With Triton for it.
    """

    TILE = 16, 64  # lines, positions
    TILES = 64  # programs of an image

    def __init__(self, device: "torch.device") -> None:
        self._device = device
        self._known: dict[Shape, tuple[int, int]] = {}  # first number in the table, taps
        self._numbers: list[NDArray[np.int32]] = []
        self._size = 0
        self._table: Tensor | None = None

    @staticmethod
    def usable(device: "torch.device") -> bool:
        """Whether there is Triton for a device."""
        return device.type == "cuda" and importlib.util.find_spec("triton") is not None

    def shrink(
        self, images: Sequence["Tensor"], placed: "Tensor", places: Sequence[int]
    ) -> set[int]:
        """Resize images to places.

        Parameters
        ----------
        images : sequence of uint8 tensors [3, h, w]
            On the device, contiguous.
        placed : uint8 tensor [n, height, width, 3]
            On the device, contiguous.
        places : sequence of int
            Which of `placed` each image becomes.

        Returns
        -------
        set of int
            The places that are done; where this Pillow resizes otherwise they are not.
        """
        import torch

        from stages.images.shrink_kernels import FACTS, resample

        height, width = int(placed.shape[1]), int(placed.shape[2])
        passes: tuple[list[tuple[int, ...]], ...] = ([], [])
        done: set[int] = set()
        sizes = [(int(image.shape[1]), int(image.shape[2])) for image in images]
        orders = [_order(size, (height, width)) for size in sizes]
        # of what lies between the two passes
        between = [
            3 * (height * w if order == (2, 3) else h * width)
            for (h, w), order in zip(sizes, orders, strict=True)
        ]
        scratch = torch.empty(sum(between), dtype=torch.uint8, device=self._device)
        room = scratch.data_ptr()
        for image, place, (h, w), order, size in zip(
            images, places, sizes, orders, between, strict=True
        ):
            if order is None:
                continue
            start, goal = image.data_ptr(), placed.data_ptr() + place * 3 * height * width
            columns, rows = self._weights(w, width), self._weights(h, height)
            if order == (2, 3):
                passes[0].append((start, room, w, height, h * w, 1, w, height * w, 1, w, *rows))
                passes[1].append(
                    (room, goal, height, width, height * w, w, 1, 1, 3 * width, 3, *columns)
                )
            else:
                passes[0].append(
                    (start, room, h, width, h * w, w, 1, h * width, width, 1, *columns)
                )
                passes[1].append(
                    (room, goal, width, height, h * width, 1, width, 1, 3, 3 * width, *rows)
                )
            room += size
            done.add(place)
        if not done:
            return done
        facts = torch.tensor(passes, dtype=torch.int64)
        assert facts.shape[2] == FACTS
        facts = facts.to(self._device)
        lines, positions = self.TILE
        for some in facts:
            resample[(len(some), self.TILES)](
                some, self._there(), self.TILES, L=lines, J=positions, BITS=BITS
            )
        return done

    def _weights(self, old: int, new: int) -> tuple[int, int]:
        """Where an axis's weights begin in the table, and how many taps there are."""
        if (old, new) not in self._known:
            weights = pillow_weights(old, new)
            first = weights.astype(bool).argmax(axis=0)
            taps = int((weights != 0).sum(axis=0).max())
            index = np.minimum(first + np.arange(taps)[:, None], old - 1)
            some = np.take_along_axis(weights, index, axis=0)
            some[first + np.arange(taps)[:, None] >= old] = 0
            self._known[old, new] = self._size, taps
            numbers = np.concatenate([first[None], some]).T.astype(np.int32).ravel()
            self._numbers.append(numbers)
            self._size += len(numbers)
            self._table = None
        return self._known[old, new]

    def _there(self) -> "Tensor":
        """The table on the device."""
        import torch

        if self._table is None:
            self._table = torch.from_numpy(np.concatenate(self._numbers)).to(self._device)
        return self._table
