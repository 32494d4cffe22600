"""Heat maps that are not stored: drawn from the factors' coefficients when they are asked for.

The whole numbers and bits are those that ``heatmaps.store: full`` writes: the same compiled lines
make them (`stages.algorithms.interpolation.draw`). Coefficients that are drawn are compared, by
their digest, with those that the heat maps were measured by.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from hashlib import sha256

import numpy as np
from numpy.typing import NDArray

from store import Artifact, ArtifactMissing, Ragged, StoreError, open_artifact

MEND = "run `dff heatmaps`, or `dff run` for all"


def digest_of(parts: Sequence[bytes]) -> bytes:
    """SHA-256 of what an entry's maps are made from."""
    return sha256(b"".join(parts)).digest()


def decisive(
    grid: NDArray[np.float32], size: Iterable[int], scale: NDArray[np.float64]
) -> tuple[bytes, ...]:
    """All that decides an entry's heat map but code: coefficients ``[h, w, columns]``, size, scale
    ``[columns]``."""
    shapes = repr((list(grid.shape[:2]), tuple(int(side) for side in size)))
    return shapes.encode(), scale.tobytes(), grid.tobytes()


@dataclass(frozen=True, eq=False)
class DrawnMaps:
    """Heat maps of one layer, read as those of a `store.Ragged` are, entry by entry.

    Attributes
    ----------
    coefficients : Ragged
    grid_hw : int64 [entries, 2]
        Sizes of the maps.
    scale, thresholds : float64 [sets, columns]
    set_of : int64 [entries]
    made_from : uint8 [entries, 32]
        See `decisive`.
    """

    coefficients: Ragged
    grid_hw: NDArray[np.int64]
    scale: NDArray[np.float64]
    thresholds: NDArray[np.float64]
    set_of: NDArray[np.int64]
    made_from: NDArray[np.uint8]

    dtype = np.dtype(np.uint16)

    def __len__(self) -> int:
        return len(self.grid_hw)

    @property
    def channels(self) -> int:
        """Columns."""
        return self.coefficients.channels

    @property
    def image_ids(self) -> NDArray[np.int64]:
        """The image of each entry."""
        return self.coefficients.image_ids

    def map(self, entry: int) -> NDArray[np.uint16]:
        """Whole numbers ``[h, w, columns]``; errors as `both`."""
        return self.both(entry)[0]

    def both(self, entry: int) -> tuple[NDArray[np.uint16], NDArray[np.uint8]]:
        """Whole numbers ``[h, w, columns]``, in memory column by column, and masks as bits.

        Raises
        ------
        ArtifactDamaged
            When the coefficients cannot be read.
        StoreError
            When they are others than the heat maps were measured by.
        """
        from stages.algorithms.interpolation import draw  # compiled

        entry = range(len(self))[entry]
        grid, rank = self.coefficients.map(entry), self.set_of[entry]
        h, w = (int(side) for side in self.grid_hw[entry])
        if digest_of(decisive(grid, (h, w), self.scale[rank])) != self.made_from[entry].tobytes():
            raise StoreError(f"heat maps were made from other factors than there are now; {MEND}")
        levels, bits = draw(grid, (h, w), self.scale[rank], self.thresholds[rank])
        return np.moveaxis(levels.reshape(-1, h, w), 0, -1), bits.reshape(h, w, -1)


@dataclass(frozen=True, eq=False)
class DrawnBits:
    """The masks of drawn maps, read as those of a `store.Ragged` are."""

    maps: DrawnMaps

    def map(self, entry: int) -> NDArray[np.uint8]:
        """Masks as bits ``[h, w, bytes]``; errors as `DrawnMaps.both`."""
        return self.maps.both(entry)[1]


def found_again(artifact: Artifact, place: str, fingerprint: str, layer: str) -> Ragged:
    """Coefficients that the heat maps of `artifact` are drawn from.

    Parameters
    ----------
    place : str
        Of the factors, relative to the folder that the heat maps lie in: both may have moved.

    Raises
    ------
    StoreError
        When the factors are not there, or others.
    """
    folder, _, _ = artifact.location.absolute().root.rpartition("/")
    try:
        factors = open_artifact(f"{folder}/{place}")
    except ArtifactMissing as error:
        raise ArtifactMissing(
            f"{artifact.location}: its maps are drawn from {folder}/{place}, which is not there; "
            "it belongs beside them, or heatmaps.store: full makes maps that need no factors"
        ) from error
    if factors.fingerprint != fingerprint:
        raise StoreError(
            f"{artifact.location}: was made from other factors than {factors.location} has now; "
            f"{MEND}"
        )
    return factors.ragged(layer)
