"""Maps of some entries as they go to disk."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from stages.algorithms.mask_boxes import mask_boxes, measure
from stages.algorithms.masks import unpack_masks
from stages.artifacts.concept_maps import Measured


@dataclass(frozen=True, eq=False)
class Finished:
    """Entries that follow each other, with all that is written of them.

    Attributes
    ----------
    first : int
        The first entry.
    levels : uint8 or uint16 [rows, columns]
        In any order in memory; those of smooth maps are best as columns.
    bits : uint8 [rows, ceil(columns / 8)]
    measured : sequence of Measured
        One per entry.
    """

    first: int
    levels: NDArray[Any]
    bits: NDArray[np.uint8]
    measured: Sequence[Measured]


def measured(
    entry: int,
    levels: NDArray[Any],
    bits: NDArray[np.uint8],
    size: tuple[int, int],
    around: NDArray[np.uint8] | None = None,
) -> Measured:
    """Measured on what is on disk, so that an interrupted run finds the same.

    Parameters
    ----------
    around : uint8, as `bits`, optional
        Boxes go around components of the masks and of these places together.
    """
    largest = np.iinfo(levels.dtype).max
    found = measure(bits, levels, size)
    boxes, scores = found.boxes, found.scores
    if around is not None and len(added := _added_to(bits, around)):
        more, more_scores = _boxes_of(added, bits | around, levels, size)
        kept = ~np.isin(boxes[:, 0], added)
        boxes = np.concatenate([boxes[kept], more])
        order = np.argsort(boxes[:, 0], kind="stable")
        boxes, scores = boxes[order], np.concatenate([scores[kept], more_scores])[order]
    owned = np.concatenate([np.full((len(boxes), 1), entry), boxes], axis=1)
    scores = scores / np.float32(largest)
    return Measured(owned, scores, found.peaks / largest, found.centroids, found.areas)


def _added_to(bits: NDArray[np.uint8], around: NDArray[np.uint8]) -> NDArray[np.int64]:
    """Columns in which a place lies around that is not of the mask."""
    return np.flatnonzero(
        unpack_masks(np.bitwise_or.reduce(around & ~bits, axis=0), 8 * bits.shape[1])
    )


def _boxes_of(
    columns: NDArray[np.int64], bits: NDArray[np.uint8], levels: NDArray[Any], size: tuple[int, int]
) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
    """Boxes and scores of some columns alone: mostly there is one of ten."""
    planes = np.zeros((-(-len(columns) // 8), len(bits)), np.uint8)
    for to, one in enumerate(columns):
        bit = (bits[:, one // 8] >> np.uint8(one % 8)) & np.uint8(1)
        planes[to // 8] |= bit << np.uint8(to % 8)
    boxes, scores = mask_boxes(planes.T, levels.T[columns].T, size)
    boxes[:, 0] = columns[boxes[:, 0]]
    return boxes, scores
