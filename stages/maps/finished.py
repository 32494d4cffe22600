"""Maps of some entries as they go to disk."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from stages.algorithms.mask_boxes import measure
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
    entry: int, levels: NDArray[Any], bits: NDArray[np.uint8], size: tuple[int, int]
) -> Measured:
    """Measured on what is on disk, so that an interrupted run finds the same."""
    largest = np.iinfo(levels.dtype).max
    found = measure(bits, levels, size)
    owned = np.concatenate([np.full((len(found.boxes), 1), entry), found.boxes], axis=1)
    scores = found.scores / np.float32(largest)
    return Measured(owned, scores, found.peaks / largest, found.centroids)
