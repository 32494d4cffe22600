"""How the factors of an image set are painted: the same on every page."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from stages.artifacts.concept_maps import ConceptMaps, resized_columns
from stages.artifacts.factors import Factors
from stages.drawing.colours import Colour, concept_colours


@dataclass(frozen=True)
class Palette:
    """One factorization (layer, image set, k; the shown seed), ready to be painted.

    Attributes
    ----------
    columns : sequence of int
        Of the maps; strongest factor first.
    colours : sequence of (r, g, b)
    full : float64 [k]
        Share of the set's largest value that gets full colour.
    """

    columns: Sequence[int]
    colours: Sequence[Colour]
    full: NDArray[np.float64]

    @property
    def k(self) -> int:
        """Number of factors."""
        return len(self.columns)

    def shares(
        self, values: NDArray[np.unsignedinteger], size: tuple[int, int]
    ) -> NDArray[np.float32]:
        """An image's maps in [0, 1], interpolated to a size, float32 ``[k, h, w]``.

        Parameters
        ----------
        values : uint8 or uint16 [h, w, columns]
            As stored.
        """
        from stages.algorithms.heatmap import dequantise

        # These columns only: there may be hundreds, of other k and seeds.
        return resized_columns(dequantise(values[:, :, self.columns]), size)

    def strength(self, raw: NDArray[np.float32]) -> NDArray[np.float32]:
        """Raw shares on the scale of the colours, 1 = full colour, float32 ``[k, h, w]``."""
        full = np.where(self.full > 0, self.full, 1.0).astype(np.float32)
        return np.minimum(raw / full[:, None, None], np.float32(1))


def levels(shares: NDArray[np.float32], thresholds: NDArray[np.float64]) -> NDArray[np.float32]:
    """Shares ``[k, h, w]`` on a scale where the mask begins at 1, by thresholds ``[k]``."""
    # A threshold of 0 stands for a concept that is absent: an empty mask.
    reach = np.where(thresholds > 0, thresholds, np.inf).astype(np.float32)
    return shares / reach[:, None, None]


def palettes(factors: Factors, heatmaps: ConceptMaps, rank: int) -> dict[int, Palette]:
    """Of one image set, by its place among the sets, at the layer of the heat maps: by k."""
    columns = {k: heatmaps.columns_of(k) for k in sorted(factors.factorizations.ks)}
    W = factors.at(heatmaps.layer).W[rank]
    colours = concept_colours({k: W[some] for k, some in columns.items()})
    full = heatmaps.full[rank]
    return {k: Palette(some, colours[k], full[some]) for k, some in columns.items()}
