"""One pass over the maps of an image set: all sums that its scores are made of."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, field, replace
from functools import partial

import numpy as np
from numpy.typing import NDArray

from stages.algorithms.foreground import FigureCounts
from stages.algorithms.masks import bilinear_at, nearest_at, pack_masks, resize_masks, unpack_masks
from stages.algorithms.metrics import RegionCounts, box_iou
from stages.algorithms.partitions import OverlapCounts, PartitionCounts, single_parts
from stages.artifacts.concept_maps import ConceptMaps, Measured, MeasuredWriter
from stages.artifacts.evaluation import BACKGROUND, OBJECT, RAW
from stages.evaluate.carried import Carried, Key
from stages.evaluate.truth import Noted, SetTruth, object_of, parts_of
from stages.frame.parallel import ordered_map
from stages.frame.resources import Resources
from stages.maps.finished import measured
from store import Ragged

TOGETHER = 16  # images of an image set that a worker of a cluster counts in one go
HIT = 0.5  # a box is right above this IoU with a box of the ground truth

Merged = Mapping[str, Sequence[Sequence[int]]]  # layer -> columns that count as one factor
Found = Mapping[str, Measured]  # by layer, of heat maps that are not stored
# entry of the maps, image id, its largest boxes by layer and kind
Item = tuple[int, int, Mapping[Key, NDArray[np.float64]]]


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
    overlaps : OverlapCounts
        Of the masks of each factorization, over all images.
    partitions : PartitionCounts
        Of each factorization, over the images with parts.
    """

    objects: RegionCounts
    parts: RegionCounts
    figure: FigureCounts
    hits: NDArray[np.int64]
    overlaps: OverlapCounts
    partitions: PartitionCounts

    def __add__(self, other: MapSums) -> MapSums:
        return MapSums(
            self.objects + other.objects,
            self.parts + other.parts,
            self.figure + other.figure,
            self.hits + other.hits,
            self.overlaps + other.overlaps,
            self.partitions + other.partitions,
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

    def __add__(self, other: SetSums) -> SetSums:
        together = {key: sums + other.maps[key] for key, sums in self.maps.items()}
        return SetSums(together, self.boxed + other.boxed)


@dataclass(frozen=True)
class Counting:
    """What is counted for one set.

    Attributes
    ----------
    maps : dict of (layer, kind) to ConceptMaps
    boxes : dict of (layer, kind) to float64 [entries, columns, 4]
        As `stages.evaluate.boxes.main_boxes` gives them; of maps without, no box hits anything.
    entries : sequence of (entry of the maps, image id)
    merged : mapping of layer to groups of columns
        Their masks are united and count as factors of their own, behind the others.
    coefficients : mapping of layer to Ragged
        Those that the heat maps are drawn from; of other layers the partitions are not counted.
    measures : mapping of layer to MeasuredWriter
        Is given what is measured of heat maps that are not stored: here they are looked at once.
        None where images are counted for another process.
    carried : Carried, optional
        Where these are not stored, what an earlier evaluation counted.
    """

    truth: SetTruth
    maps: Mapping[Key, ConceptMaps]
    boxes: Mapping[Key, NDArray[np.float64]]
    entries: Sequence[tuple[int, int]]
    merged: Merged = field(default_factory=dict)
    coefficients: Mapping[str, Ragged] = field(default_factory=dict)
    measures: Mapping[str, MeasuredWriter | None] = field(default_factory=dict)
    carried: Carried | None = None

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
        [(_, sums)] = counted([self], resources, always=True)
        assert isinstance(sums, SetSums)
        return sums

    def _strengths(
        self, key: Key, entry: int, size: tuple[int, int], pixels: NDArray[np.intp]
    ) -> NDArray[np.generic]:
        """What decides between the masks at some pixels of an annotation, ``[columns, pixels]``.

        Heat maps are compared as multiples of the value that their masks begin at, as in pictures;
        refined ones, which are probabilities, as they are. The coefficients that heat maps are
        drawn from are much quicker to read than these.
        """
        (layer, kind), maps = key, self.maps[key]
        if kind != RAW:
            return nearest_at(maps.maps.map(entry), size, pixels)
        rank = list(maps.sets).index(self.truth.name)
        begin = maps.thresholds[rank] * maps.scale[rank]
        reach = np.divide(1, begin, out=np.zeros_like(begin), where=begin > 0)
        grid = self.coefficients[layer].map(entry) * reach.astype(np.float32)
        return bilinear_at(grid, size, pixels)

    def items(self, together: int, *, here: bool) -> Iterator[Some]:
        """The images, some of them together, with what is told of them to who counts; where that
        is not `here`, nothing is taken over from an earlier evaluation."""
        alone = replace(
            self,
            boxes={},
            entries=(),
            measures=dict.fromkeys(self.measures),
            carried=self.carried if here else None,
        )
        for at in range(0, len(self.entries), together):
            some = self.entries[at : at + together]
            boxes = [
                {key: of_all[entry] for key, of_all in self.boxes.items()} for entry, _ in some
            ]
            yield alone, [(*one, known) for one, known in zip(some, boxes, strict=True)]

    def one(self, item: Item, *, always: bool) -> Counted:
        """One image; of a set of which nothing is annotated the overlaps alone, unless `always`."""
        return self._one(item) if always or self.truth.annotated else self._overlaps(item)

    def taken(self, entry: int, image_id: int, counted: Counted) -> Sums:
        """The sums of an image; what was measured is stored, and what was noted is kept."""
        sums, found, noted = counted
        if self.carried and isinstance(sums, SetSums):
            overlaps = {key: one.overlaps for key, one in sums.maps.items()}
            self.carried.add(entry, overlaps, whole=False)
        elif self.carried:
            assert isinstance(sums, dict)
            self.carried.add(entry, sums, whole=True)
        for layer, of_entry in found.items():
            writer = self.measures[layer]
            assert writer is not None, "only who has the writers asks for sums"
            writer.append(of_entry)
        if noted is not None:
            self.truth.note(image_id, noted)
        return sums

    def _bits(self, key: Key, entry: int, found: dict[str, Measured]) -> NDArray[np.uint8]:
        """Masks as bits; what is measured with them goes into `found`."""
        (layer, kind), maps = key, self.maps[key]
        if kind != RAW or layer not in self.measures:
            return maps.bits.map(entry)
        levels, bits = maps.both(entry)
        h, w, columns = levels.shape
        rows = levels.reshape(h * w, columns)
        found[layer] = measured(entry, rows, bits.reshape(h * w, -1), (h, w))
        return bits

    def _overlaps(self, item: Item) -> Counted:
        if self.carried and (known := self.carried.find(item[0])):
            return *known, None
        found: dict[str, Measured] = {}
        counts = {
            key: OverlapCounts.of(self._bits(key, item[0], found), _sizes(maps))
            for key, maps in self.maps.items()
        }
        return counts, found, None

    def _main_boxes(
        self, key: Key, entry: int, known: Mapping[Key, NDArray[np.float64]], found: Found
    ) -> NDArray[np.float64]:
        """The box around each mask's largest component ``[columns, 4]``, in pixels of the image."""
        if key in known:
            return known[key]
        (layer, kind), maps = key, self.maps[key]
        boxes = np.full((len(maps.columns), 4), np.nan)
        if kind == RAW and layer in found:
            size = self.truth.index.size(int(maps.maps.image_ids[entry]))
            largest = found[layer].boxes[found[layer].boxes[:, 2] == 0]
            scale = np.array(size) / maps.maps.grid_hw[entry]
            boxes[largest[:, 1]] = largest[:, 3:7] * scale[[0, 1, 0, 1]]
        return boxes

    def _one(self, item: Item) -> Counted:
        entry, image_id, known = item
        truth = self.truth.read(image_id)
        wholes, parts = object_of(truth), parts_of(truth)
        named = {name: mask for name, mask in parts.items() if name not in (OBJECT, BACKGROUND)}
        pixels, codes = single_parts(named, truth.ignore)
        target = np.array(truth.boxes, dtype=np.float64).reshape(-1, 4)
        found, drawn = {}, dict[str, Measured]()
        for key, maps in self.maps.items():
            packed, columns = self._bits(key, entry, drawn), len(maps.columns)
            groups = self.merged.get(key[0], ())
            of_object, of_parts = (RegionCounts(columns + len(groups)) for _ in range(2))
            partitions = PartitionCounts(_sizes(maps))
            if annotated := wholes | parts:
                height, width = annotated[BACKGROUND].shape
                sized = resize_masks(packed, (height, width))
                masks_and_groups = _with_groups(sized, columns, groups)
                for counts, regions in ((of_object, wholes), (of_parts, parts)):
                    if regions:
                        counts.add_packed(masks_and_groups, regions, truth.ignore)
                if named and key[0] in self.coefficients:
                    strengths = self._strengths(key, entry, (height, width), pixels)
                    partitions.add(sized, pixels, codes, list(named), strengths)
            masks = np.moveaxis(unpack_masks(packed, columns), -1, 0)
            boxes = self._main_boxes(key, entry, known, drawn)
            hit: NDArray[np.bool_] = np.any(box_iou(boxes, target) > HIT, axis=1)
            figure = FigureCounts.of(masks)
            overlaps = OverlapCounts.of(packed, _sizes(maps))
            hits = hit.astype(np.int64)
            found[key] = MapSums(of_object, of_parts, figure, hits, overlaps, partitions)
        return SetSums(found, int(len(target) > 0)), drawn, self.truth.noted(image_id)


Sums = SetSums | dict[Key, OverlapCounts]
# sums of one image; what was measured; what its annotation told
Counted = tuple[Sums, Found, Noted | None]
Some = tuple[Counting, Sequence[Item]]


def counted(
    countings: Iterable[Counting], resources: Resources, *, always: bool = False
) -> Iterator[tuple[Counting, Sums]]:
    """The sums of image sets, in order; images of several sets at the same time.

    Of a set of which nothing is annotated only overlaps are counted, for the rest would be for
    nothing, unless `always`.
    """
    begun: deque[Counting] = deque()
    together = TOGETHER if resources.spread else 1

    def items() -> Iterator[Some]:
        for counting in countings:
            begun.append(counting)
            yield from counting.items(together, here=not resources.spread)

    results = ordered_map(
        partial(_counted, always),
        items(),
        workers=resources.workers,
        cluster=resources.spread,
        label="evaluate: images",
    )
    total: Sums | None = None
    done = 0
    with closing(results):
        for of_some in results:
            counting = begun[0]
            for one in of_some:
                sums = counting.taken(*counting.entries[done], one)
                total = sums if total is None else _added(total, sums)
                done += 1
            if done == len(counting.entries):
                assert total is not None, "an image set has images"
                yield begun.popleft(), total
                total, done = None, 0


def _counted(always: bool, some: Some) -> list[Counted]:
    counting, items = some
    return [counting.one(item, always=always) for item in items]


def _sizes(maps: ConceptMaps) -> tuple[int, ...]:
    """How many factors each factorization has, in the order of the columns."""
    return tuple(k for k, _ in maps.factorizations.problems)


def _added(one: Sums, other: Sums) -> Sums:
    if isinstance(one, SetSums):
        assert isinstance(other, SetSums)
        return one + other
    assert isinstance(other, dict)
    return {key: counts + other[key] for key, counts in one.items()}


def _with_groups(
    packed: NDArray[np.uint8], columns: int, groups: Sequence[Sequence[int]]
) -> NDArray[np.uint8]:
    """Masks as bits, and the united masks of each group of columns behind them."""
    if not groups:
        return packed
    masks = unpack_masks(packed, columns)
    united = [masks[..., list(group)].any(axis=-1) for group in groups]
    return pack_masks(np.concatenate([masks, np.stack(united, axis=-1)], axis=-1))
