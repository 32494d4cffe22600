"""EXIF orientation, 1 to 8, of arrays and boxes: the frame as stored to the frame as seen."""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

Size = tuple[int, int]  # height, width
Box = tuple[int, int, int, int]  # top, left, bottom, right; half-open

# Orientations that flip across (left to right) and down, after the exchange of 5 to 8.
_ACROSS, _DOWN = (2, 3, 6, 7), (3, 4, 7, 8)


@dataclass(frozen=True)
class Frame:
    """An image's size as its file stores it, and how a person sees it.

    Attributes
    ----------
    stored : (height, width)
    orientation : int
        EXIF's, 1 to 8; 1 where nothing is said.
    """

    stored: Size
    orientation: int = 1

    @property
    def seen(self) -> Size:
        """(height, width) as a person sees the image."""
        height, width = self.stored
        return (width, height) if self.orientation >= 5 else (height, width)

    def turn(self, values: NDArray[Any]) -> NDArray[Any]:
        """Values on the frame as stored, on that as seen."""
        return upright(values, self.orientation)

    def turn_box(self, box: Box) -> Box:
        """A box on the frame as stored, on that as seen."""
        return upright_box(box, self.stored, self.orientation)


def upright(values: NDArray[Any], orientation: int) -> NDArray[Any]:
    """Values as stored, ``[h, w, ...]``, as a person sees them; 5 to 8 exchange height and width.

    A copy, unless nothing is to be done.
    """
    if orientation == 1:
        return values
    if orientation >= 5:
        values = values.swapaxes(0, 1)
    values = values[:, ::-1] if orientation in _ACROSS else values
    return np.ascontiguousarray(values[::-1] if orientation in _DOWN else values)


def upright_box(box: Box, size: Size, orientation: int) -> Box:
    """A box on the frame as stored, whose (height, width) are given, on the frame as seen."""
    top, left, bottom, right = box
    height, width = size
    if orientation >= 5:
        top, left, bottom, right = left, top, right, bottom
        height, width = width, height
    if orientation in _ACROSS:
        left, right = width - right, width - left
    if orientation in _DOWN:
        top, bottom = height - bottom, height - top
    return top, left, bottom, right
