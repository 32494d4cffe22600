"""Pixels at the size and on the scale that a network wants."""

from collections.abc import Sequence
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from PIL import Image

MIN_SIDE = 32


Resize = Literal["squash", "long_side"]
Interpolation = Literal["bilinear", "bicubic", "lanczos"]
FILTERS = {
    "bilinear": Image.Resampling.BILINEAR,
    "bicubic": Image.Resampling.BICUBIC,
    "lanczos": Image.Resampling.LANCZOS,
}


def target_shape(height: int, width: int, resize: Resize, size: int) -> tuple[int, int]:
    """Height and width that an image is resized to before the network sees it.

    Parameters
    ----------
    height, width
        Of the image.
    resize
        `squash` to `size` x `size`, or `long_side` to `size` with the aspect ratio kept (to
        rounding, and except that no side goes below `MIN_SIDE`).
    size
        In pixels.

    Raises
    ------
    ValueError
        An unknown `resize`, or a size that is not positive.
    """
    if min(height, width, size) < 1:
        raise ValueError(f"sizes must be positive, got an image of {height}x{width} and {size=}")
    if resize == "squash":
        sides = (size, size)
    elif resize == "long_side":
        long = max(height, width)
        # rounded half up, in integers: the same on every machine
        sides = ((2 * height * size + long) // (2 * long), (2 * width * size + long) // (2 * long))
    else:
        raise ValueError(f"resize must be 'squash' or 'long_side', got {resize!r}")
    return max(sides[0], MIN_SIDE), max(sides[1], MIN_SIDE)


def resize_rgb(
    rgb: NDArray[np.uint8], shape: tuple[int, int], interpolation: str = "bilinear"
) -> NDArray[np.uint8]:
    """Resize uint8 `[h, w, 3]` to (height, width), antialiased, by one of Pillow's `FILTERS`."""
    if rgb.shape[:2] == shape:
        return rgb
    height, width = shape
    resized = Image.fromarray(rgb).resize((width, height), FILTERS[interpolation])
    return np.array(resized, dtype=np.uint8)


def normalise(
    pixels: NDArray[np.uint8], mean: Sequence[float], std: Sequence[float]
) -> NDArray[np.float32]:
    """(pixels / 255 - mean) / std, colour by colour.

    Parameters
    ----------
    pixels
        uint8 `[..., h, w, 3]`.
    mean, std
        Of red, green, blue, for values in 0 to 1.

    Returns
    -------
    ndarray
        float32 of the same shape: channels stay last, as networks run fastest on a CPU.

    Raises
    ------
    ValueError
        Another shape or dtype.
    """
    if pixels.ndim < 3 or pixels.shape[-1] != 3 or pixels.dtype != np.uint8:
        raise ValueError(f"images must be uint8 [..., h, w, 3], got {pixels.dtype} {pixels.shape}")
    width = pixels.shape[-2]
    # whole lines at a time: numpy is slow over a last axis of three
    scale = np.tile(1 / (255 * np.asarray(std)), width).astype(np.float32)
    shift = np.tile(np.divide(mean, std), width).astype(np.float32)
    lines = pixels.reshape(*pixels.shape[:-2], width * 3) * scale
    lines -= shift
    return lines.reshape(pixels.shape)
