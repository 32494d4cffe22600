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
    found = boxed = measure(bits, levels, size)
    if around is not None and (around & ~bits).any():
        boxed = measure(bits | around, levels, size)
    owned = np.concatenate([np.full((len(boxed.boxes), 1), entry), boxed.boxes], axis=1)
    scores = boxed.scores / np.float32(largest)
    return Measured(owned, scores, found.peaks / largest, found.centroids, found.areas)
