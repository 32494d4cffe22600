"""The factorizations that the page shows: their columns, colours, scales and top images."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from stages.algorithms.heatmap import dequantise
from stages.algorithms.masks import exact_percentile
from stages.artifacts.concept_maps import ConceptMaps, resized_columns
from stages.drawing.colours import Colour, colour, follow_concepts
from stages.report.opened import Opened
from store import Ragged

FULL_COLOUR = 98.0  # percentile of a factor's coefficients over the set that gets full colour


@dataclass(frozen=True)
class Concepts:
    """One factorization (layer, image set, k; the first seed), ready to be painted.

    Attributes
    ----------
    columns : list of int
        Of the maps; strongest factor first.
    colours : list of (r, g, b)
    full : float64 [k]
        Share of the set's largest value that gets full colour.
    means : float64 [images, k]
        Mean coefficient of each image of the set, as a share of the set's largest.
    energy : float64 [k]
        Share of the factors' energy.
    """

    heatmaps: ConceptMaps
    refined: ConceptMaps
    rank: int
    k: int
    columns: list[int]
    colours: list[Colour]
    full: NDArray[np.float64]
    means: NDArray[np.float64]
    energy: NDArray[np.float64]

    def shares(
        self, values: NDArray[np.unsignedinteger], size: tuple[int, int]
    ) -> NDArray[np.float32]:
        """An image's maps in [0, 1], interpolated to a size, float32 ``[k, h, w]``.

        Parameters
        ----------
        values : uint8 or uint16 [h, w, columns]
            As stored.
        """
        # These columns only: there may be hundreds, of other k and seeds.
        return resized_columns(dequantise(values[:, :, self.columns]), size)

    def maps(self, kind: str) -> ConceptMaps:
        """The raw or the refined maps."""
        return self.heatmaps if kind == "raw" else self.refined

    def strength(self, raw: NDArray[np.float32]) -> NDArray[np.float32]:
        """Raw shares on the scale of the colours, 1 = full colour, float32 ``[k, h, w]``."""
        full = np.where(self.full > 0, self.full, 1.0).astype(np.float32)
        return np.minimum(raw / full[:, None, None], np.float32(1))

    def levels(self, kind: str, shares: NDArray[np.float32]) -> NDArray[np.float32]:
        """Shares on a scale where the mask begins at 1, float32 ``[k, h, w]``."""
        thresholds = self.maps(kind).thresholds[self.rank][self.columns]
        # A threshold of 0 stands for a concept that is absent: an empty mask.
        reach = np.where(thresholds > 0, thresholds, np.inf).astype(np.float32)
        return shares / reach[:, None, None]

    def mask_starts(self) -> NDArray[np.float64]:
        """Where raw masks begin on the scale of `strength`, float64 ``[k]``."""
        thresholds = self.heatmaps.thresholds[self.rank][self.columns]
        return np.divide(thresholds, self.full, out=np.zeros_like(thresholds), where=self.full > 0)

    def top_images(self, factor: int, count: int) -> list[int]:
        """Positions in the set of the images with the largest mean coefficient, largest first."""
        order = np.argsort(-self.means[:, factor], kind="stable")[:count]
        return [int(i) for i in order if self.means[i, factor] > 0]


def open_concepts(opened: Opened, layer: str, rank: int, name: str) -> dict[int, Concepts]:
    """The factorizations of one image set at one layer, by k."""
    heatmaps, refined = ConceptMaps(opened.heatmaps, layer), ConceptMaps(opened.refined, layer)
    seed = opened.seeds[0]
    columns = {k: heatmaps.columns_of(k, seed) for k in opened.ks}
    shown = [column for k in opened.ks for column in columns[k]]
    largest = opened.heatmaps.layer_array(layer, "scale")[rank][shown]
    full, means = _survey(opened.factors.ragged(layer), opened.factors.sets[name], shown, largest)
    factors = opened.factors.layer_array(layer, "factors")[rank]
    energy = opened.factors.layer_array(layer, "energy")[rank]
    slots = follow_concepts({k: factors[columns[k]] for k in opened.ks})
    concepts = {}
    for k in opened.ks:
        at = [shown.index(column) for column in columns[k]]
        total = energy[columns[k]].sum()
        concepts[k] = Concepts(
            heatmaps=heatmaps,
            refined=refined,
            rank=rank,
            k=k,
            columns=columns[k],
            colours=[colour(slot) for slot in slots[k]],
            full=full[at],
            means=means[:, at],
            energy=energy[columns[k]] / (total if total > 0 else 1.0),
        )
    return concepts


def _survey(
    coefficients: Ragged,
    entries: NDArray[np.int64],
    columns: Sequence[int],
    largest: NDArray[np.float64],
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Three passes over a set's coefficients: what gets full colour, and each image's mean.

    Both as shares of the column's `largest` coefficient: float64 ``[columns]`` and ``[images,
    columns]``.
    """
    scale = np.where(largest > 0, largest, 1.0)

    def shares() -> Iterator[NDArray[np.float32]]:
        for block in coefficients.select(entries).blocks():
            # PCA's coefficients may be negative: no heat
            yield np.clip(block[:, columns] / scale, 0, 1).astype(np.float32)

    sizes = coefficients.offsets[entries + 1] - coefficients.offsets[entries]
    ends = np.cumsum(sizes)
    sums = np.zeros((len(entries), len(columns)))
    row = 0
    for block in shares():
        owners = np.searchsorted(ends, np.arange(row, row + len(block)), side="right")
        for column in range(len(columns)):
            sums[:, column] += np.bincount(owners, block[:, column], minlength=len(entries))
        row += len(block)
    percentile = exact_percentile(shares, len(columns), FULL_COLOUR)
    # A factor of very few places has no such percentile: its largest value gets full colour.
    full = np.where(percentile > 0, percentile, np.where(largest > 0, 1.0, 0.0))
    return full, sums / sizes[:, None]
