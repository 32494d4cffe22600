"""Photographs as a network on a GPU gets them: read, checked, decoded, resized."""

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
    interpolation : str
        By which they are resized, see `stages.images.resize.FILTERS`.
    """

    index: ImageIndex
    image_ids: tuple[int, ...]
    interpolation: str = "bilinear"

    @classmethod
    def of(
        cls, index: ImageIndex, image_ids: tuple[int, ...], interpolation: str = "bilinear"
    ) -> "Photographs":
        """Those of an index, with as much of it as reading takes."""
        return cls(index.light(), image_ids, interpolation)

    @property
    def sizes(self) -> NDArray[np.int64]:
        """Height and width of the image files, by position."""
        return self.index.sizes[list(self.image_ids)]

    def read(self, position: int) -> bytes:
        """An image file's bytes; raises as `ImageIndex.read`."""
        return self.index.read(self.image_ids[position])

    def decode(self, position: int, content: bytes, shape: tuple[int, int]) -> NDArray[np.uint8]:
        """An image from its file's bytes, at a size; raises as `ImageIndex.rgb`."""
        image_id = self.image_ids[position]
        return self.index.rgb_at(image_id, shape, content, self.interpolation)

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
        shape = (int(pixels.shape[1]), int(pixels.shape[2]))
        for into, position in zip(pixels, positions, strict=True):
            image_id = self.image_ids[position]
            into[:] = self.index.rgb_at(image_id, shape, None, self.interpolation)
