"""Scores of masks against annotated regions: coverage and dataset-wide IoU (paper, section 4.3).

All scores are ratios of pixel sums over the images of a set, not means over images. The sums are
integers, so images may be counted in any order and in parallel: add the accumulators with ``+``.

The union of a factor's parts (eq. 8) depends on which parts belong to it (eq. 7), and parts may
overlap, so it cannot be had from the sums of single parts. `RegionCounts` counts every combination
of regions that occurs at a pixel instead; there are few, and any union is a sum of some of them.
One pass over the masks is enough, whatever is asked afterwards.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from stages.algorithms.masks import mask_bytes

Mask = NDArray[np.bool_]
Combination = frozenset[str]

_BITS = np.arange(256)[:, None] >> np.arange(8) & 1  # of every byte, [bytes, bits]


@dataclass(eq=False)
class RegionCounts:
    """Pixel sums of every factor's masks over the images added, by combination of regions.

    Parameters
    ----------
    factors : int
        Number of masks per image.

    Attributes
    ----------
    inside : dict of combination to int64 [factors]
        Pixels of each factor's masks that lie in just these regions and in no others.
    pixels : dict of combination to int
        All pixels that lie in just these regions.
    names : set of str
        Regions seen so far, those without a pixel too.
    images : int
        How many were added.
    """

    factors: int
    inside: dict[Combination, NDArray[np.int64]] = field(default_factory=dict)
    pixels: dict[Combination, int] = field(default_factory=dict)
    names: set[str] = field(default_factory=set)
    images: int = 0

    def __post_init__(self) -> None:
        if self.factors < 0:
            raise ValueError(f"factors must be >= 0, got {self.factors}")

    def add(self, masks: Mask, regions: Mapping[str, Mask], ignore: Mask | None = None) -> None:
        """Count one image; one of which no pixel counts is none.

        Parameters
        ----------
        masks : bool [factors, h, w]
        regions : mapping of name to bool [h, w]
            They may overlap; a region this image does not show may be left out.
        ignore : bool [h, w], optional
            Pixels that count nowhere.

        Raises
        ------
        ValueError
            If shapes or dtypes do not fit.
        """
        if masks.ndim != 3 or len(masks) != self.factors or masks.dtype != np.bool_:
            raise ValueError(
                f"expected bool masks [{self.factors}, h, w], got {masks.dtype} {masks.shape}"
            )
        planes = [_packed(masks[start : start + 8]) for start in range(0, len(masks), 8)]
        self._add(planes, masks.shape[1:], regions, ignore)

    def add_packed(
        self,
        packed: NDArray[np.uint8],
        regions: Mapping[str, Mask],
        ignore: Mask | None = None,
    ) -> None:
        """Count one image whose masks are bits, uint8 ``[h, w, bytes]`` as from `pack_masks`.

        Raises
        ------
        ValueError
            If shapes or dtypes do not fit.
        """
        planes = mask_bytes(packed, self.factors)
        self._add(planes, packed.shape[:2], regions, ignore)

    def _add(
        self,
        planes: list[NDArray[np.uint8]],
        size: tuple[int, ...],
        regions: Mapping[str, Mask],
        ignore: Mask | None,
    ) -> None:
        ignored = {} if ignore is None else {"ignore": ignore}
        for name, mask in [*regions.items(), *ignored.items()]:
            if mask.shape != size or mask.dtype != np.bool_:
                raise ValueError(
                    f"region {name!r} must be bool {size} like the masks, got {mask.dtype} "
                    f"{mask.shape}"
                )
        if ignore is not None:
            kept = ~ignore.ravel()
            size = (int(np.count_nonzero(kept)),)
            if not size[0]:
                return
            planes = [plane[kept] for plane in planes]
            regions = {name: mask.ravel()[kept] for name, mask in regions.items()}
        codes, combinations = _combinations(regions, size)
        totals = np.bincount(codes, minlength=len(combinations))
        inside = _inside(planes, self.factors, codes, len(combinations))
        self.names |= set(regions)
        self.images += 1
        for combination, total, shared in zip(combinations, totals, inside, strict=True):
            self._count(combination, int(total), shared)

    def _count(self, combination: Combination, total: int, shared: NDArray[np.int64]) -> None:
        self.pixels[combination] = self.pixels.get(combination, 0) + total
        before = self.inside.get(combination)
        self.inside[combination] = shared if before is None else before + shared

    def __add__(self, other: RegionCounts) -> RegionCounts:
        """Sums over both sets of images; ValueError if the factors differ in number."""
        if not isinstance(other, RegionCounts):
            return NotImplemented
        if self.factors != other.factors:
            raise ValueError(f"cannot add counts of {other.factors} factors to {self.factors}")
        total = RegionCounts(
            self.factors,
            dict(self.inside),
            dict(self.pixels),
            self.names | other.names,
            self.images + other.images,
        )
        for combination, pixels in other.pixels.items():
            total._count(combination, pixels, other.inside[combination])
        return total

    def area(self) -> NDArray[np.int64]:
        """Pixels of each factor's masks, int64 ``[factors]``."""
        return self._sum(self.inside)

    def intersection(self, regions: Collection[str]) -> NDArray[np.int64]:
        """Pixels that each factor's masks share with the union of regions, ``[factors]``."""
        return self._sum(c for c in self.inside if not c.isdisjoint(regions))

    def region_area(self, regions: Collection[str]) -> int:
        """Pixels of the union of regions."""
        return sum(n for c, n in self.pixels.items() if not c.isdisjoint(regions))

    def _sum(self, combinations: Iterable[Combination]) -> NDArray[np.int64]:
        total = np.zeros(self.factors, dtype=np.int64)
        for combination in combinations:
            total += self.inside[combination]
        return total

    def coverage(self, regions: Sequence[str]) -> NDArray[np.float64]:
        """Share of each region's pixels inside each factor's masks (eq. 7).

        Returns
        -------
        float64 [factors, regions]
            0 for a region without pixels.
        """
        return self._per_region(
            regions, lambda one: _ratio(self.intersection({one}), self.region_area({one}))
        )

    def iou_single(self, regions: Sequence[str]) -> NDArray[np.float64]:
        """Dataset-wide IoU of each factor with each region alone (eq. 9 with one part).

        Returns
        -------
        float64 [factors, regions]
            0 where the union is empty.
        """
        return self._per_region(regions, lambda one: self.iou({one}))

    def _per_region(
        self, regions: Sequence[str], score: Callable[[str], NDArray[np.float64]]
    ) -> NDArray[np.float64]:
        scores = [score(one) for one in regions]
        return np.stack(scores, axis=1) if scores else np.zeros((self.factors, 0))

    def iou(self, regions: Collection[str]) -> NDArray[np.float64]:
        """Dataset-wide IoU of each factor with the union of regions (eqs. 8, 9), ``[factors]``.

        0 where both are empty.
        """
        shared = self.intersection(regions)
        return _ratio(shared, self.area() + self.region_area(regions) - shared)

    def precision(self, regions: Collection[str]) -> NDArray[np.float64]:
        """Share of each factor's mask pixels that lie in the union of regions, ``[factors]``.

        0 for empty masks.
        """
        return _ratio(self.intersection(regions), self.area())

    def accuracy(self, regions: Collection[str]) -> NDArray[np.float64]:
        """Share of all pixels that a factor's masks label right, ground included, ``[factors]``.

        The P of the co-segmentation literature (Rubinstein et al., CVPR 2013), here over the pixels
        of all images. 0 when nothing was counted.
        """
        total = sum(self.pixels.values())
        shared = self.intersection(regions)
        wrong = self.area() + self.region_area(regions) - 2 * shared
        return _ratio(total - wrong, total)

    def associate(self, regions: Sequence[str], threshold: float = 0.5) -> NDArray[np.bool_]:
        """Which regions belong to which factor: coverage strictly above the threshold.

        Returns
        -------
        bool [factors, regions]
            A region may belong to several factors or to none.
        """
        return self.coverage(regions) > threshold


def _combinations(
    regions: Mapping[str, Mask], shape: tuple[int, ...]
) -> tuple[NDArray[np.intp], list[Combination]]:
    """Each pixel's combination of regions as a position in the list of those that occur."""
    codes = np.zeros(int(np.prod(shape)), dtype=np.intp)
    combinations: list[Combination] = [frozenset()]
    names = list(regions)
    for start in range(0, len(names), 8):
        group = names[start : start + 8]
        bits = _packed([regions[name] for name in group])
        joined = codes << 8 | bits
        occurring = np.flatnonzero(np.bincount(joined))
        found = []
        for value in occurring.tolist():
            mine = {name for bit, name in enumerate(group) if value >> bit & 1}
            found.append(combinations[value >> 8] | mine)
        place = np.zeros(int(occurring.max(initial=0)) + 1, dtype=np.intp)
        place[occurring] = np.arange(len(occurring))
        codes, combinations = place[joined], found
    return codes, combinations


def _inside(
    planes: Sequence[NDArray[np.uint8]], factors: int, codes: NDArray[np.intp], count: int
) -> NDArray[np.int64]:
    """Pixels of each mask by code, int64 ``[codes, factors]``; masks as the bits of planes."""
    sums = np.zeros((count, 8 * len(planes)), dtype=np.int64)
    for i, bits in enumerate(planes):
        histogram = np.bincount(codes << 8 | bits, minlength=count << 8).reshape(count, -1)
        # from how often each byte occurs to how often each of its bits does
        sums[:, 8 * i : 8 * i + 8] = histogram @ _BITS
    return sums[:, :factors]


def _packed(planes: Iterable[Mask]) -> NDArray[np.uint8]:
    """Planes as the bits of a byte per pixel; numpy.packbits takes ten times as long."""
    first, *others = (plane.ravel().view(np.uint8) for plane in planes)
    bits = first.copy()
    for bit, plane in enumerate(others, start=1):
        bits |= plane << np.uint8(bit)
    return bits


def best_part_quality(iou_single: NDArray[np.float64]) -> float:
    """Quality of a factorization: mean over factors of the IoU with the single best part.

    Parameters
    ----------
    iou_single : float64 [factors, parts]
        As from `RegionCounts.iou_single`, without a column for the background.

    Raises
    ------
    ValueError
        If there are no factors or no parts.
    """
    if iou_single.ndim != 2 or iou_single.size == 0:
        raise ValueError(f"iou_single must be [factors, parts], none empty: {iou_single.shape}")
    return float(iou_single.max(axis=1).mean())


def box_iou(a: NDArray[np.floating], b: NDArray[np.floating]) -> NDArray[np.float64]:
    """Intersection over union of every box with every other.

    Parameters
    ----------
    a : real [n, 4]
    b : real [m, 4]
        (top, left, bottom, right), half-open, in pixels: the area is (bottom - top) * (right -
        left). NaN stands for no box.

    Returns
    -------
    float64 [n, m] in [0, 1]
        0 where both are empty or one is missing.

    Raises
    ------
    ValueError
        If the shapes are others, or a box ends before it starts.
    """
    boxes = [np.asarray(one, dtype=np.float64) for one in (a, b)]
    for one in boxes:
        if one.ndim != 2 or one.shape[1] != 4:
            raise ValueError(f"boxes must be [n, 4], got {one.shape}")
        if (bad := (one[:, 2] < one[:, 0]) | (one[:, 3] < one[:, 1])).any():
            raise ValueError(
                f"a box (top, left, bottom, right) ends before it starts: {tuple(one[bad][0])}"
            )
    first, second = boxes[0][:, None], boxes[1][None]
    low, high = (
        np.maximum(first[..., :2], second[..., :2]),
        np.minimum(first[..., 2:], second[..., 2:]),
    )
    shared = (high - low).clip(min=0).prod(axis=-1)
    areas = [(one[..., 2:] - one[..., :2]).prod(axis=-1) for one in (first, second)]
    union = areas[0] + areas[1] - shared
    return np.divide(shared, union, out=np.zeros(union.shape), where=union > 0)


def _ratio(part: NDArray[np.int64], whole: NDArray[np.int64] | int) -> NDArray[np.float64]:
    """part / whole, 0 where whole is 0."""
    zeros = np.zeros(part.shape, dtype=np.float64)
    return np.divide(part, whole, out=zeros, where=np.asarray(whole) > 0)
