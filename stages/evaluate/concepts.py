"""concepts.parquet: how strong every concept is on every image, and where it lies."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from stages.artifacts.concept_maps import SIDES, ConceptMaps
from stages.artifacts.evaluation import RAW, REFINED, Evaluation
from stages.artifacts.image_index import ImageIndex
from stages.evaluate.boxes import main_boxes
from stages.evaluate.carried import Key
from stages.naming.names import FactorNames

# Rows that are put together before they are stored: some tens of megabytes.
BLOCK_ROWS = 50_000


def write_concepts(
    folder: Path,
    opened: Mapping[Key, ConceptMaps],
    index: ImageIndex,
    labels: FactorNames,
    only: int | None = None,
) -> None:
    """Store `Evaluation.concepts`, a row per layer, image set, image and factor, bit by bit.

    Everything was measured when the maps were written, or drawn: none is read. With `only`, factors
    of that k alone.
    """
    with Evaluation.concepts.growing(folder) as add:
        for layer in dict.fromkeys(layer for layer, _ in opened):
            layer_maps = _LayerMaps.of(opened[layer, RAW], opened[layer, REFINED], index)
            for name, entries in layer_maps.raw.sets.items():
                problems = layer_maps.raw.factorizations.problems
                named = [one for k, seed in problems for one in labels.texts(layer, name, k, seed)]
                for some in _blocks(entries, len(named)):
                    table = layer_maps.table(some)
                    table = table.assign(layer=layer, set=name, name=named * len(some))
                    add(table if only is None else table[table["k"] == only])


def _blocks(entries: NDArray[np.int64], columns: int) -> Iterator[NDArray[np.int64]]:
    size = max(1, BLOCK_ROWS // max(1, columns))
    for start in range(0, len(entries), size):
        yield entries[start : start + size]


@dataclass(frozen=True)
class _LayerMaps:
    """The maps of one layer, and what is known of them without reading any.

    Attributes
    ----------
    areas : dict of kind to float64 [entries, columns]
        Of the masks, as shares of the image.
    boxes : float64 [entries, columns, 4]
        See `main_boxes`; of the refined masks.
    """

    raw: ConceptMaps
    refined: ConceptMaps
    index: ImageIndex
    areas: Mapping[str, NDArray[np.float64]]
    boxes: NDArray[np.float64]

    @classmethod
    def of(cls, raw: ConceptMaps, refined: ConceptMaps, index: ImageIndex) -> "_LayerMaps":
        areas = {RAW: mask_areas(raw), REFINED: mask_areas(refined)}
        return cls(raw, refined, index, areas, main_boxes(refined, index))

    def table(self, entries: NDArray[np.int64]) -> pd.DataFrame:
        """Rows of some entries, one per column each; without layer, set and name."""
        image_ids = self.raw.maps.image_ids[entries]
        scale = self.index.sizes[image_ids] / self.refined.maps.grid_hw[entries]  # (down, across)
        centroids = self.refined.centroids[entries] * scale[:, None, :]
        columns = np.array(self.raw.columns).reshape(-1, 3)
        numbers = {name: np.tile(columns[:, i], len(entries))
                   for i, name in enumerate(("k", "seed", "factor"))}  # fmt: skip
        sides = {side: self.boxes[entries, :, i].ravel() for i, side in enumerate(SIDES)}
        return pd.DataFrame(
            {
                "image": np.repeat(self.index.names_of(image_ids), len(columns)),
                **numbers,
                "mean": self.raw.means[entries].ravel(),
                "peak": self.raw.peaks[entries].ravel(),
                "raw_area": self.areas[RAW][entries].ravel(),
                "refined_area": self.areas[REFINED][entries].ravel(),
                "y": centroids[..., 0].ravel(),
                "x": centroids[..., 1].ravel(),
                **sides,
            }
        )


def mask_areas(maps: ConceptMaps) -> NDArray[np.float64]:
    """The area of every mask, a share of the image, float64 ``[entries, columns]``."""
    pixels: NDArray[np.int64] = maps.maps.grid_hw.astype(np.int64).prod(axis=1)
    return maps.areas / pixels[:, None]
