"""What the page to explore loads part by part: coefficients, masks, annotations of some images."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from stages.artifacts.concept_maps import ConceptMaps
from stages.artifacts.factors import LayerFactors
from stages.artifacts.image_index import ImageIndex
from stages.maps.coefficients import grids_of
from stages.report.concepts import Concepts
from stages.report.explore_masks import (
    Mask,
    agreement,
    annotated_object,
    masks_payload,
    masks_within,
    truth_payload,
)
from stages.report.needs import PART
from stages.report.packed import DATA, base64_of, packed_grid, runs_of_masks, script


def parts_of(count: int) -> list[range]:
    """The positions in a set that each part holds."""
    return [range(at, min(at + PART, count)) for at in range(0, count, PART)]


def put(folder: Path, key: str, payload: object) -> None:
    """Write one payload below the folder of a report."""
    path = folder / DATA / f"{key}.js"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(script(key, payload))


class Asked(NamedTuple):
    """The images of one part.

    Attributes
    ----------
    part : int
    at : range
        Their positions in the set.
    entries, image_ids : sequence of int
    sizes : sequence of (height, width)
        Of their thumbnails.
    boxes : dict of layer to uint16 [images, columns, 4]
        See `stages.report.explore_masks.largest_boxes`.
    """

    part: int
    at: range
    entries: Sequence[int]
    image_ids: Sequence[int]
    sizes: Sequence[tuple[int, int]]
    boxes: Mapping[str, NDArray[np.uint16]]


@dataclass(frozen=True)
class OfLayer:
    """One image set at one layer: its factorizations, and their coefficients and masks."""

    factors: LayerFactors
    refined: ConceptMaps
    concepts: dict[int, Concepts]

    def grids(self, entries: Sequence[int]) -> list[NDArray[np.float32]]:
        """Coefficients of some entries, ``[h, w, columns]`` each."""
        return list(grids_of(self.factors.coefficients, entries))


@dataclass(frozen=True)
class Parts:
    """Writes the parts of one image set, in any process.

    Attributes
    ----------
    folder : Path
        The report's.
    name : str
        Of the set's folder.
    root : str or None
        The image set of the collection whose annotations are shown; None where there are none.
    """

    folder: Path
    name: str
    index: ImageIndex
    root: str | None
    of_layer: Sequence[OfLayer]

    def write(self, asked: Asked) -> dict[tuple[int, int], NDArray[np.uint16]]:
        """Coefficients, masks and annotations of some images.

        Returns
        -------
        dict of (number of the layer, k) to uint16 [images, k]
            How well masks and annotations agree; see `stages.report.explore_masks.agreement`.
        """
        truths: list[Mask | None] = [None] * len(asked.at)
        if self.root is not None:
            truths = [
                annotated_object(self.index, image_id, self.root, size)
                for image_id, size in zip(asked.image_ids, asked.sizes, strict=True)
            ]
            self._put(f"truth-{asked.part:03d}", truth_payload(asked.at, truths))
        return {
            (number, k): agreements
            for number, layer in enumerate(self.of_layer)
            for k, agreements in self._of_layer(number, layer, asked, truths).items()
        }

    def _put(self, name: str, payload: object) -> None:
        put(self.folder, f"{self.name}/{name}", payload)

    def _of_layer(
        self, number: int, layer: OfLayer, asked: Asked, truths: Sequence[Mask | None]
    ) -> dict[int, NDArray[np.uint16]]:
        """Those of one layer, by k."""
        grids = layer.grids(asked.entries)
        runs: dict[int, list[list[bytes]]] = {k: [] for k in layer.concepts}
        sizes, agreements, count = [], [], len(layer.refined.columns)
        for entry, most, truth in zip(asked.entries, asked.sizes, truths, strict=True):
            bits = masks_within(layer.refined, entry, most)
            sizes.append(bits.shape[:2])
            agreements.append(agreement(bits, count, truth))
            of_image = runs_of_masks(bits, count)
            for k, concepts in layer.concepts.items():
                runs[k].append([of_image[column] for column in concepts.columns])
        for k, concepts in layer.concepts.items():
            where, part = f"l{number}-k{k}", asked.part
            self._put(f"{where}/part-{part:03d}", coefficients(asked.at, grids, concepts))
            boxes = base64_of(asked.boxes[layer.refined.layer][:, list(concepts.columns)])
            masks_of_k = {**masks_payload(asked.at, sizes, runs[k]), "boxes": boxes}
            self._put(f"{where}/masks-{part:03d}", masks_of_k)
        every = np.stack(agreements)
        return {k: every[:, list(concepts.columns)] for k, concepts in layer.concepts.items()}


def coefficients(
    at: Sequence[int], grids: Sequence[NDArray[np.float32]], concepts: Concepts
) -> dict[str, Any]:
    """The payload of some images' coefficients ``[h, w, columns]``."""
    columns = list(concepts.columns)
    scale = concepts.heatmaps.scale[concepts.rank][columns]
    shares = [grid[:, :, columns] / np.where(scale > 0, scale, 1.0) for grid in grids]
    packed = [packed_grid(one) for one in shares]
    return {
        "at": list(at),
        "grids": [list(grid.shape[:2]) for grid in grids],
        "peaks": base64_of(np.array([peaks for peaks, _ in packed])),
        "levels": base64_of(np.concatenate([levels.ravel() for _, levels in packed])),
    }
