"""The factorizations that the page shows: their columns, colours, scales and top images."""

from dataclasses import dataclass
from hashlib import sha256
from typing import Any

import numpy as np
from numpy.typing import NDArray

from stages.artifacts.concept_maps import ConceptMaps
from stages.artifacts.evaluation import RAW
from stages.drawing.palette import Palette, levels, palettes
from stages.report.opened import Opened


@dataclass(frozen=True)
class Concepts(Palette):
    """One factorization (layer, image set, k; the shown seed) and its maps.

    Attributes
    ----------
    heatmaps, refined : ConceptMaps
    rank : int
        Place of the image set among the sets.
    means : float64 [images, k]
        Mean coefficient of each image of the set, as a share of the set's largest.
    energy : float64 [k]
        Share of the factors' energy.
    stability, nonzero : float64 [k]
        See `stages.artifacts.factors.LayerFactors.factor_stability` and `nonzero`.
    """

    heatmaps: ConceptMaps
    refined: ConceptMaps
    rank: int
    means: NDArray[np.float64]
    energy: NDArray[np.float64]
    stability: NDArray[np.float64]
    nonzero: NDArray[np.float64]

    def __getstate__(self) -> dict[str, Any]:
        # a value for every image of the set, which who paints some of them has no use for
        return {name: value for name, value in vars(self).items() if name != "means"}

    def maps(self, kind: str) -> ConceptMaps:
        """The raw or the refined maps."""
        return self.heatmaps if kind == RAW else self.refined

    def levels(self, kind: str, shares: NDArray[np.float32]) -> NDArray[np.float32]:
        """Shares on a scale where the mask begins at 1, float32 ``[k, h, w]``."""
        return levels(shares, self.maps(kind).thresholds[self.rank][self.columns])

    def mask_starts(self) -> NDArray[np.float64]:
        """Where raw masks begin on the scale of `strength`, float64 ``[k]``."""
        thresholds = self.heatmaps.thresholds[self.rank][self.columns]
        return np.divide(thresholds, self.full, out=np.zeros_like(thresholds), where=self.full > 0)

    def decisive(self, entry: int) -> bytes:
        """What decides how an image looks under these concepts, besides its pixels: as long as it
        is the same, so is the picture, whatever the other images."""
        found = sha256(self.full.tobytes() + np.ascontiguousarray(self.columns).tobytes())
        found.update(np.ascontiguousarray(self.colours).tobytes())
        for maps in (self.heatmaps, self.refined):
            known = len(maps.made_from) > 0
            of_entry = maps.made_from[entry].tobytes() if known else b"%d" % entry
            by = str(maps.facts.get("recipe", "")) if known else maps.artifact.fingerprint
            found.update(by.encode() + of_entry + maps.thresholds[self.rank].tobytes())
        return found.digest()

    def top_images(self, factor: int, count: int) -> list[int]:
        """Positions in the set of the images with the largest mean coefficient, largest first."""
        order = np.argsort(-self.means[:, factor], kind="stable")[:count]
        return [int(i) for i in order if self.means[i, factor] > 0]


def open_concepts(opened: Opened, layer: str, name: str) -> dict[int, Concepts]:
    """The factorizations of one image set at one layer, by k."""
    heatmaps, refined = opened.heatmaps[layer], opened.refined[layer]
    rank = opened.ranks[name]
    means = heatmaps.means[opened.factors.sets[name]]
    at = opened.factors.at(layer)
    energy, stability, nonzero = at.energy[rank], at.factor_stability[rank], at.nonzero[rank]
    concepts = {}
    for k, palette in palettes(opened.factors, heatmaps, rank).items():
        total = energy[palette.columns].sum()
        concepts[k] = Concepts(
            columns=palette.columns,
            colours=palette.colours,
            full=palette.full,
            heatmaps=heatmaps,
            refined=refined,
            rank=rank,
            means=means[:, palette.columns],
            energy=energy[palette.columns] / (total if total > 0 else 1.0),
            stability=stability[palette.columns],
            nonzero=nonzero[palette.columns],
        )
    return concepts
