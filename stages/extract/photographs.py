"""Photographs as a network on a GPU gets them: read, checked, decoded, resized."""

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from stages.artifacts.image_index import ImageIndex


@dataclass(frozen=True)
class Photographs:
    """The images of an index in some order; light enough to be given to processes.

    Attributes
    ----------
    image_ids : tuple of int
        By position.
    """

    index: ImageIndex
    image_ids: tuple[int, ...]

    @classmethod
    def of(cls, index: ImageIndex, image_ids: tuple[int, ...]) -> "Photographs":
        """Those of an index, with as much of it as reading takes."""
        light = dataclasses.replace(
            index,
            images=index.images[["name", "sha256"]],
            sets={},
            failures=index.failures.iloc[:0],
        )
        return cls(light, image_ids)

    def __call__(self, positions: Sequence[int], pixels: NDArray[np.uint8]) -> None:
        """Read some images.

        Parameters
        ----------
        pixels : uint8 [n, h, w, 3]
            Filled with the images at this size.

        Raises
        ------
        StageError
            As `ImageIndex.rgb`.
        """
        height, width = pixels.shape[1:3]
        for into, position in zip(pixels, positions, strict=True):
            into[:] = self.index.rgb_at(self.image_ids[position], (height, width))
