"""Regions of a mask as exports have them: components and run lengths."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Mask = NDArray[np.bool_]

_EIGHT = np.ones((3, 3), dtype=np.int64)


@dataclass(frozen=True, eq=False)
class Region:
    """Part of a mask.

    Attributes
    ----------
    box : (top, left, bottom, right)
        In 0-based pixels of the image, half-open.
    mask : bool [bottom - top, right - left]
        Which pixels of the box belong to it.
    area : int
        Pixels.
    """

    box: tuple[int, int, int, int]
    mask: Mask
    area: int

    @property
    def window(self) -> tuple[slice, slice]:
        """The box, as an index of the image's arrays."""
        top, left, bottom, right = self.box
        return slice(top, bottom), slice(left, right)


def whole(mask: Mask) -> Region | None:
    """All of a mask ``[h, w]`` as one region; None when it is empty."""
    rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
    if not len(rows):
        return None
    box = int(rows[0]), int(columns[0]), int(rows[-1]) + 1, int(columns[-1]) + 1
    cut = mask[box[0] : box[2], box[1] : box[3]]
    return Region(box, cut, int(np.count_nonzero(cut)))


def components(mask: Mask, least: float) -> list[Region]:
    """The 8-connected components of a mask, largest first.

    Parameters
    ----------
    mask : bool [h, w]
    least : float
        Components of fewer pixels are left out; the largest never is.
    """
    from scipy import ndimage  # here: help lists formats

    around = whole(mask)
    if around is None:
        return []
    labels, _ = ndimage.label(around.mask, structure=_EIGHT)
    areas = np.bincount(labels.ravel())[1:]
    order = np.argsort(-areas, kind="stable")
    found = ndimage.find_objects(labels)
    top, left = around.box[:2]
    regions = []
    for rank, at in enumerate(order.tolist()):
        if rank and areas[at] < least:
            break
        rows, columns = found[at]
        box = top + rows.start, left + columns.start, top + rows.stop, left + columns.stop
        regions.append(Region(box, labels[rows, columns] == at + 1, int(areas[at])))
    return regions


def run_lengths(region: Region, size: tuple[int, int]) -> NDArray[np.int64]:
    """COCO's run lengths of a region on an image of a size: outside, inside, outside, and so on,
    down the columns."""
    top, left = region.box[:2]
    height, width = size
    edges = np.diff(np.pad(region.mask.T.astype(np.int8), ((0, 0), (1, 1))), axis=1)
    columns, starts = np.nonzero(edges == 1)
    ends = np.nonzero(edges == -1)[1]
    offset = (left + columns) * height + top
    bounds = np.stack([offset + starts, offset + ends], axis=1)
    # a run to the foot of a column goes on at the head of the next
    split = np.flatnonzero(bounds[1:, 0] != bounds[:-1, 1])
    first = bounds[np.concatenate([[0], split + 1]), 0]
    last = bounds[np.concatenate([split, [len(bounds) - 1]]), 1]
    stops = np.concatenate([[0], np.stack([first, last], axis=1).ravel(), [height * width]])
    lengths: NDArray[np.int64] = np.diff(stops)
    return lengths if lengths[-1] else lengths[:-1]


def packed_runs(lengths: NDArray[np.int64]) -> str:
    """Run lengths in COCO's compressed form.

    From the fourth on each is written as the difference from the one two before, in groups of five
    bits, the lowest first; a sixth bit says that another group follows, and 48 makes it a letter.
    """
    values = lengths.copy()
    values[3:] -= lengths[1:-2]
    groups, written = [], []
    going = np.ones(len(values), dtype=bool)
    while going.any():
        low = values & 31
        values = values >> 5
        # the sign is in the highest bit of the last group
        goes_on = going & np.where(low & 16, values != -1, values != 0)
        groups.append(low | np.where(goes_on, 32, 0))
        written.append(going)
        going = goes_on
    letters = np.stack(groups, axis=1)[np.stack(written, axis=1)]
    return (letters + 48).astype(np.uint8).tobytes().decode("ascii")
