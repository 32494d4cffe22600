"""Which factor is the object, told without ground truth from the shape of its masks.

With k > 1 some factors are the ground that the images share (grass, sky, sea). Ground reaches the
images' borders and is spread out; objects keep away from the borders and hang together. Both are
measured over all masks of an image set, as `FigureCounts` adds them up:

- *border contact*: the share of the images' border pixels inside the masks, divided by the share of
  all pixels inside them. 1 for masks that do not care about the border, 0 for those that keep off.
- *compactness*: ``A^2 / (2 pi I)``, A a mask's area and I its second moment about its centroid,
  summed over the images above and below the line. 1 for a disc, less for whatever is spread out.

The figure is the factor with the largest ``compactness - border contact``.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True, eq=False)
class FigureCounts:
    """Sums over the masks of an image set; add those of several images with ``+``.

    Build one image's with `FigureCounts.of`.

    Attributes
    ----------
    area, border : float64 [factors]
        Pixels of the masks, and how many of them lie on their image's border.
    moment : float64 [factors]
        Second moments of the masks about their own centroids, pixels^4.
    square : float64 [factors]
        Squared areas.
    pixels, border_pixels : int
        All pixels of the images, and all on their borders.
    """

    area: NDArray[np.float64]
    border: NDArray[np.float64]
    moment: NDArray[np.float64]
    square: NDArray[np.float64]
    pixels: int
    border_pixels: int

    @classmethod
    def of(cls, masks: NDArray[np.bool_]) -> FigureCounts:
        """Sums of one image's masks, bool ``[factors, h, w]``.

        Raises
        ------
        ValueError
            If the masks are of another shape or type.
        """
        if masks.ndim != 3 or masks.dtype != np.bool_:
            raise ValueError(f"masks must be bool [factors, h, w], got {masks.dtype} {masks.shape}")
        h, w = masks.shape[1:]
        masks = np.ascontiguousarray(masks)  # sums over strides take twice as long
        ones = masks.view(np.uint8)
        down = ones.sum(axis=2, dtype=np.uint32).astype(np.float64)  # [factors, h]
        across = ones.sum(axis=1, dtype=np.uint32).astype(np.float64)  # [factors, w]
        area = down.sum(axis=1)
        border = down[:, 0] + across[:, 0]
        if h > 1:
            border = border + down[:, -1]
        if w > 1:
            border = border + across[:, -1]
        for y in {0, h - 1}:  # corners were counted with their row and with their column
            for x in {0, w - 1}:
                border = border - masks[:, y, x]
        # a pixel is a square, not a point: it has a moment of 1/6 about its own centre
        moment = _moment(down) + _moment(across) + area / 6
        edge = h * w - max(h - 2, 0) * max(w - 2, 0)
        return cls(area, border, moment, np.square(area), h * w, edge)

    def __add__(self, other: FigureCounts) -> FigureCounts:
        """Sums over both sets of images."""
        if not isinstance(other, FigureCounts):
            return NotImplemented
        return FigureCounts(
            self.area + other.area,
            self.border + other.border,
            self.moment + other.moment,
            self.square + other.square,
            self.pixels + other.pixels,
            self.border_pixels + other.border_pixels,
        )

    def border_contact(self) -> NDArray[np.float64]:
        """How much the masks seek the border, float64 ``[factors]``; 1 is chance.

        NaN for a factor without a mask.
        """
        touching = self.border / max(self.border_pixels, 1)
        inside = self.area / max(self.pixels, 1)
        return np.divide(touching, inside, out=np.full(len(inside), np.nan), where=inside > 0)

    def compactness(self) -> NDArray[np.float64]:
        """How much the masks are like discs, float64 ``[factors]`` in [0, 1].

        NaN for a factor without a mask.
        """
        spread = 2 * np.pi * self.moment
        return np.divide(self.square, spread, out=np.full(len(spread), np.nan), where=spread > 0)


def most_compact(compactness: NDArray[np.float64], contact: NDArray[np.float64]) -> int:
    """The factor that is most likely the object: of the largest compactness less border contact.

    Of equal ones the first, which has most energy; also where no factor has a mask.

    Parameters
    ----------
    compactness, contact : float64 [factors]
        As from `FigureCounts`; NaN for a factor without a mask.
    """
    scores = compactness - contact
    return int(np.argmax(np.where(np.isnan(scores), -np.inf, scores)))


def _moment(sums: NDArray[np.float64]) -> NDArray[np.float64]:
    """Second moments along one axis about the mean, of masses ``[factors, length]``."""
    at = np.arange(sums.shape[1], dtype=np.float64)
    mass = sums.sum(axis=1)
    mean = sums @ at / np.maximum(mass, 1)
    moment: NDArray[np.float64] = sums @ np.square(at) - mass * np.square(mean)
    return moment
