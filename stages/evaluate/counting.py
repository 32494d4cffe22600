"""One pass over the maps of an image set: all sums that its scores are made of."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import reduce
from operator import add

import numpy as np
from numpy.typing import NDArray

from stages.algorithms.foreground import FigureCounts
from stages.algorithms.masks import pack_masks, resize_masks, unpack_masks
from stages.algorithms.metrics import RegionCounts, box_iou
from stages.artifacts.concept_maps import ConceptMaps
from stages.artifacts.evaluation import BACKGROUND
from stages.evaluate.truth import SetTruth, object_of, parts_of
from stages.frame.parallel import ordered_map
from stages.frame.resources import Resources

HIT = 0.5  # a box is right above this IoU with a box of the ground truth

Key = tuple[str, str]  # layer, kind of maps
Merged = Mapping[str, Sequence[Sequence[int]]]  # layer -> columns that count as one factor


@dataclass(frozen=True)
class MapSums:
    """Sums over images of the maps of one layer and kind.

    Attributes
    ----------
    objects : RegionCounts
        Object and background, over the images with an object; of the columns, then of the merged
        ones.
    parts : RegionCounts
        Parts, object and background, over the images with parts; of the same.
    figure : FigureCounts
        Of the columns.
    hits : int64 [columns]
        Images whose box meets one of the ground truth.
    """

    objects: RegionCounts
    parts: RegionCounts
    figure: FigureCounts
    hits: NDArray[np.int64]

    def __add__(self, other: "MapSums") -> "MapSums":
        return MapSums(
            self.objects + other.objects,
            self.parts + other.parts,
            self.figure + other.figure,
            self.hits + other.hits,
        )

    @property
    def finest(self) -> RegionCounts:
        """The sums with the smallest regions that are annotated."""
        return self.parts if self.parts.images else self.objects


@dataclass(frozen=True)
class SetSums:
    """Sums over the images of one set.

    Attributes
    ----------
    maps : dict of (layer, kind) to MapSums
    boxed : int
        Images with a box of the ground truth.
    """

    maps: dict[Key, MapSums]
    boxed: int

    def __add__(self, other: "SetSums") -> "SetSums":
        together = {key: sums + other.maps[key] for key, sums in self.maps.items()}
        return SetSums(together, self.boxed + other.boxed)


@dataclass(frozen=True)
class Counting:
    """What is counted for one set.

    Attributes
    ----------
    maps : dict of (layer, kind) to ConceptMaps
    boxes : dict of (layer, kind) to float64 [entries, columns, 4]
        As `stages.evaluate.boxes.main_boxes` gives them.
    entries : sequence of (entry of the maps, image id)
    merged : mapping of layer to groups of columns
        Their masks are united and count as factors of their own, behind the others.
    """

    truth: SetTruth
    maps: Mapping[Key, ConceptMaps]
    boxes: Mapping[Key, NDArray[np.float64]]
    entries: Sequence[tuple[int, int]]
    merged: Merged = field(default_factory=dict)

    def scored(self, sums: SetSums) -> dict[str, int]:
        """How many images there are, and how many of them have an object, parts and boxes."""
        counted = next(iter(sums.maps.values()))
        return {
            "images": len(self.entries),
            "object": counted.objects.images,
            "parts": counted.parts.images,
            "boxes": sums.boxed,
        }

    def run(self, resources: Resources) -> SetSums:
        """All images of the set, several at a time."""
        pieces = ordered_map(self._one, self.entries, workers=resources.workers)
        return reduce(add, pieces)

    def _one(self, item: tuple[int, int]) -> SetSums:
        entry, image_id = item
        truth = self.truth.read(image_id)
        wholes, parts = object_of(truth), parts_of(truth)
        target = np.array(truth.boxes, dtype=np.float64).reshape(-1, 4)
        found = {}
        for key, maps in self.maps.items():
            packed, columns = maps.bits.map(entry), len(maps.columns)
            groups = self.merged.get(key[0], ())
            of_object, of_parts = (RegionCounts(columns + len(groups)) for _ in range(2))
            if annotated := wholes | parts:
                height, width = annotated[BACKGROUND].shape
                sized = resize_masks(packed, (height, width))
                masks_and_groups = _with_groups(sized, columns, groups)
                for counts, regions in ((of_object, wholes), (of_parts, parts)):
                    if regions:
                        counts.add_packed(masks_and_groups, regions, truth.ignore)
            masks = np.moveaxis(unpack_masks(packed, columns), -1, 0)
            hit: NDArray[np.bool_] = np.any(box_iou(self.boxes[key][entry], target) > HIT, axis=1)
            figure = FigureCounts.of(masks)
            found[key] = MapSums(of_object, of_parts, figure, hit.astype(np.int64))
        return SetSums(found, int(len(target) > 0))


def _with_groups(
    packed: NDArray[np.uint8], columns: int, groups: Sequence[Sequence[int]]
) -> NDArray[np.uint8]:
    """Masks as bits, and the united masks of each group of columns behind them."""
    if not groups:
        return packed
    masks = unpack_masks(packed, columns)
    united = [masks[..., list(group)].any(axis=-1) for group in groups]
    return pack_masks(np.concatenate([masks, np.stack(united, axis=-1)], axis=-1))
