"""Outlines of regions as polygons: traced around their outer pixels, then simplified; compiled."""

import numpy as np
from numpy.typing import NDArray

from stages.export.regions import Region

TOLERANCE = 1.0  # pixels that a simplified outline may be away from the true one, at most
LOST = 0.05  # and of small or thin regions less: about this share of the area may be lost
Points = NDArray[np.float64]  # [n, (x, y)]


def outline(region: Region, *, through_pixels: bool) -> Points | None:
    """The outer contour of an 8-connected region as a simplified polygon; holes are lost.

    Parameters
    ----------
    through_pixels : bool
        True: the corners are centres of the region's outer pixels, (0, 0) being the centre of the
        first one. Programs that fill a polygon and draw its line, as labelme, YOLO's loaders and
        Pillow do, get the region back. False: the line runs between pixels inside and outside, and
        (0, 0) is the corner of the image, as COCO has it.

    Returns
    -------
    float64 [n, (x, y)] or None
        Not closed: the first corner is not repeated. None for a region without three corners, such
        as a row of pixels whose centres lie on a line.
    """
    from stages.export.outline_passes import simplified, traced

    padded = np.pad(region.mask, 1)
    start = int(region.mask[0].argmax()) + 1
    line = traced(padded, start, through_pixels)
    # along an edge tolerances add up: no more than a share of what the region has
    tolerance = min(TOLERANCE, LOST * region.area / len(line))
    kept = line[simplified(line, tolerance)]
    if len(kept) < 3:
        return None
    top, left = region.box[:2]
    points: Points = kept + np.array([left - 1, top - 1])
    return points
