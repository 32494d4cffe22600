"""Scores of masks found by any method, for `benchmarks/discovery.py`: sums over images, by half."""

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from stages.algorithms.mask_boxes import measure
from stages.algorithms.masks import nearest_at, pack_masks, resize_masks, unpack_masks
from stages.algorithms.metrics import RegionCounts, best_part_quality, box_iou
from stages.algorithms.partitions import (
    OverlapCounts,
    PartitionCounts,
    matched_iou,
    mutual_information,
    rand_index,
    single_parts,
)
from stages.datasets import GroundTruth

HIT = 0.5  # IoU above which a box has found an object (CorLoc)
MEASURES = ("object", "corloc", "part", "matched", "nmi", "ari", "overlap")


@dataclass(frozen=True)
class Found:
    """Masks of one image by one method.

    Attributes
    ----------
    bits : uint8 [h, w, bytes]
        As from `stages.algorithms.masks.pack_masks`.
    strengths : real [h, w, columns]
        Of several masks that a pixel lies in, the strongest has it.
    around : uint8, as `bits`
        What boxes go around: the masks, or more.
    """

    bits: NDArray[np.uint8]
    strengths: NDArray[np.generic]
    around: NDArray[np.uint8]


@dataclass(frozen=True)
class Columns:
    """What the columns of a method are, in one image set.

    Attributes
    ----------
    problems : sequence of (k, seed)
        Factorizations, whose columns lie side by side.
    figure : bool [columns]
        Which are of the figure.
    """

    problems: Sequence[tuple[int, int]]
    figure: NDArray[np.bool_]

    def __len__(self) -> int:
        return sum(k for k, _ in self.problems)

    def ranges(self) -> list[slice]:
        """The columns of each problem."""
        ends = np.cumsum([k for k, _ in self.problems]).tolist()
        return [slice(end - k, end) for end, (k, _) in zip(ends, self.problems, strict=True)]


@dataclass(eq=False)
class Sums:
    """What is summed over the images of one set."""

    columns: Columns
    regions: RegionCounts = field(init=False)  # columns, then the union of each problem's figure
    overlaps: OverlapCounts | None = None
    partitions: PartitionCounts = field(init=False)
    hits: NDArray[np.int64] = field(init=False)
    boxed: int = 0

    def __post_init__(self) -> None:
        self.regions = RegionCounts(len(self.columns) + len(self.columns.problems))
        self.partitions = PartitionCounts(tuple(k for k, _ in self.columns.problems))
        self.hits = np.zeros(len(self.columns), np.int64)

    def add(self, found: Found, truth: GroundTruth, size: tuple[int, int]) -> None:
        """Count one image of some (height, width)."""
        of = OverlapCounts.of(found.bits, [k for k, _ in self.columns.problems])
        self.overlaps = of if self.overlaps is None else self.overlaps + of
        if truth.whole is not None:
            self._regions(found, truth)
        boxes = np.array(truth.boxes, float).reshape(-1, 4)
        if not len(boxes) and truth.whole is not None and truth.whole.any():
            boxes = _box_around(truth.whole)
        if len(boxes):
            self._boxes(found, boxes, size)

    def _regions(self, found: Found, truth: GroundTruth) -> None:
        assert truth.whole is not None
        size = truth.whole.shape
        sized = resize_masks(found.bits, (size[0], size[1]))
        masks = unpack_masks(sized, len(self.columns))
        unions = [
            masks[..., at][..., self.columns.figure[at]].any(axis=-1)
            for at in self.columns.ranges()
        ]
        packed = pack_masks(np.concatenate([masks, np.stack(unions, axis=-1)], axis=-1))
        self.regions.add_packed(packed, {"object": truth.whole, **truth.parts}, truth.ignore)
        if truth.parts:
            pixels, codes = single_parts(truth.parts, truth.ignore)
            strengths = nearest_at(found.strengths, (size[0], size[1]), pixels)
            self.partitions.add(sized, pixels, codes, list(truth.parts), strengths)

    def _boxes(self, found: Found, boxes: NDArray[np.float64], size: tuple[int, int]) -> None:
        h, w = found.bits.shape[:2]
        levels = np.zeros((h * w, len(self.columns)), np.uint8)  # their means are not looked at
        components = measure(found.around.reshape(h * w, -1), levels, (h, w)).boxes
        largest = components[components[:, 1] == 0]
        scale = np.array(size) / np.array([h, w])
        sides = largest[:, 2:6] * scale[[0, 1, 0, 1]]
        hit = np.any(box_iou(sides, boxes) > HIT, axis=1)
        np.add.at(self.hits, largest[hit, 0], 1)
        self.boxed += 1

    def scores(self) -> dict[int, dict[str, float]]:
        """Per cent by k and measure, means over the seeds; only what could be measured."""
        by_k: dict[int, list[dict[str, float]]] = {}
        assert self.overlaps is not None
        overlap = self.overlaps.overlap()
        for at, ((k, _), mine) in enumerate(
            zip(self.columns.problems, self.columns.ranges(), strict=True)
        ):
            one = {"overlap": overlap[at]} if k > 1 else {}
            if self.boxed and k == 1:
                one["corloc"] = self.hits[mine].max() / self.boxed
            if self.regions.images:
                union = len(self.columns) + at
                one["object"] = float(self.regions.iou({"object"})[union])
            names = sorted(p for p in self.partitions.by_part if self.regions.region_area({p}))
            if names and k > 1:
                single, table = self.regions.iou_single(names)[mine], self.partitions.table(at)
                one["part"] = best_part_quality(single)
                one["matched"] = matched_iou(single)
                one["nmi"], one["ari"] = mutual_information(table), rand_index(table)
            by_k.setdefault(k, []).append(one)
        return {
            k: {name: 100 * float(np.mean([one[name] for one in rows])) for name in rows[0]}
            for k, rows in by_k.items()
        }


def _box_around(mask: NDArray[np.bool_]) -> NDArray[np.float64]:
    """(top, left, bottom, right), half-open, ``[1, 4]``."""
    rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
    return np.array([[rows[0], columns[0], rows[-1] + 1, columns[-1] + 1]], float)
