"""What is known of an image set's coefficients before they become maps."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from stages.algorithms.masks import exact_percentile
from stages.artifacts.concept_maps import FULL_COLOUR
from stages.maps.coefficients import grids_of
from stages.maps.earlier import digests
from store import Ragged

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Survey:
    """See `stages.artifacts.concept_maps.ConceptMaps`, where these are published.

    Attributes
    ----------
    scale, full : float64 [columns]
    means : float64 [entries of the set, columns]
    """

    scale: Floats
    full: Floats
    means: Floats


def survey(
    coefficients: Ragged, entries: Sequence[int], held: tuple[Floats, Floats] | None = None
) -> Survey:
    """Four passes over a set's coefficients, block by block.

    Parameters
    ----------
    held : (scale, full) [columns] each, optional
        Those that are given all the same (`stages.artifacts.factors`); NaN: to be found.
    """
    reached = largest(coefficients, entries)
    held_scale, held_full = held or np.full((2, len(reached)), np.nan)
    scale = np.where(np.isfinite(held_scale), held_scale, reached)
    divisor = np.where(scale > 0, scale, 1.0)

    def shares() -> Iterator[NDArray[np.float32]]:
        for block in coefficients.select(entries).blocks():
            # PCA's coefficients may be negative: no heat
            yield np.clip(block / divisor, 0, 1).astype(np.float32)

    members = np.asarray(entries, dtype=np.int64)
    sizes = coefficients.offsets[members + 1] - coefficients.offsets[members]
    ends = np.cumsum(sizes)
    sums = np.zeros((len(members), len(scale)))
    row = 0
    for block in shares():
        owners = np.searchsorted(ends, np.arange(row, row + len(block)), side="right")
        for column in range(len(scale)):
            sums[:, column] += np.bincount(owners, block[:, column], minlength=len(members))
        row += len(block)
    percentile = exact_percentile(shares, len(scale), FULL_COLOUR)
    # A factor of very few places has no such percentile: its largest value gets full colour.
    full = np.where(percentile > 0, percentile, np.where(scale > 0, 1.0, 0.0))
    full = np.where(np.isfinite(held_full), held_full, full)
    return Survey(scale, full, sums / sizes[:, None])


def largest(coefficients: Ragged, entries: Sequence[int]) -> Floats:
    """The largest coefficient of each column over a set; interpolation never exceeds it."""
    found = np.zeros(coefficients.channels)
    for block in coefficients.select(entries).blocks():
        np.maximum(found, block.max(axis=0), out=found)
    return found


def made_from(
    coefficients: Ragged,
    sizes: Sequence[tuple[int, int]],
    scale: NDArray[np.float64],
    set_of: Sequence[int],
) -> NDArray[np.uint8]:
    """What decides each entry's maps besides the recipe, ``[entries, 32]``."""
    entries = range(len(sizes))

    def parts() -> Iterator[Sequence[bytes]]:
        for entry, grid in zip(entries, grids_of(coefficients, entries), strict=True):
            shapes = repr((list(grid.shape[:2]), sizes[entry]))
            yield shapes.encode(), scale[set_of[entry]].tobytes(), grid.tobytes()

    return digests(parts())
