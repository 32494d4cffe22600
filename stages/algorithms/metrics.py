"""Scores of masks against annotated parts: coverage and dataset-wide IoU (paper, section 4.3).

All scores are ratios of pixel sums over the images of a set, not means over images. The sums are
integers, so images may be counted in any order and in parallel: add the accumulators with ``+``.

The union of a factor's parts (eq. 8) depends on which parts belong to it (eq. 7), and parts may
overlap, so it cannot be had from the sums of single parts: `OverlapCounts` is the first pass,
`UnionCounts` the second.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

Box = tuple[float, float, float, float]  # top, left, bottom, right; half-open


@dataclass(eq=False)
class OverlapCounts:
    """Pixel sums of every factor against every part, over the images added.

    Parameters
    ----------
    factors, parts : int
        Their numbers.

    Attributes
    ----------
    intersection : int64 [factors, parts]
    factor_area : int64 [factors]
    part_area : int64 [parts]
    """

    factors: int
    parts: int
    intersection: NDArray[np.int64] = field(init=False)
    factor_area: NDArray[np.int64] = field(init=False)
    part_area: NDArray[np.int64] = field(init=False)

    def __post_init__(self) -> None:
        if self.factors < 0 or self.parts < 0:
            raise ValueError(f"factors and parts must be >= 0, got {self.factors}, {self.parts}")
        self.intersection = np.zeros((self.factors, self.parts), dtype=np.int64)
        self.factor_area = np.zeros(self.factors, dtype=np.int64)
        self.part_area = np.zeros(self.parts, dtype=np.int64)

    def add(self, masks: NDArray[np.bool_], parts: NDArray[np.bool_]) -> None:
        """Count one image.

        Parameters
        ----------
        masks : bool [factors, h, w]
        parts : bool [parts, h, w]
            All False for a part this image does not show. Parts may overlap.

        Raises
        ------
        ValueError
            If shapes or dtypes do not fit.
        """
        _check(masks, parts, self.factors, self.parts)
        for f, mask in enumerate(masks):
            self.factor_area[f] += np.count_nonzero(mask)
            for p, part in enumerate(parts):
                self.intersection[f, p] += np.count_nonzero(mask & part)
        for p, part in enumerate(parts):
            self.part_area[p] += np.count_nonzero(part)

    def __add__(self, other: OverlapCounts) -> OverlapCounts:
        """Sums over both sets of images; ValueError if factors or parts differ in number."""
        if not isinstance(other, OverlapCounts):
            return NotImplemented
        if self.intersection.shape != other.intersection.shape:
            raise ValueError(
                f"cannot add counts of {other.intersection.shape} (factors, parts) "
                f"to {self.intersection.shape}"
            )
        total = OverlapCounts(self.factors, self.parts)
        total.intersection = self.intersection + other.intersection
        total.factor_area = self.factor_area + other.factor_area
        total.part_area = self.part_area + other.part_area
        return total

    def coverage(self) -> NDArray[np.float64]:
        """Share of each part's pixels inside each factor's masks (eq. 7).

        Returns
        -------
        float64 [factors, parts]
            0 for a part without pixels.
        """
        return _ratio(self.intersection, np.broadcast_to(self.part_area, self.intersection.shape))

    def associate(self, threshold: float = 0.5) -> NDArray[np.bool_]:
        """Which parts belong to which factor: coverage strictly above the threshold.

        Returns
        -------
        bool [factors, parts]
            A part may belong to several factors or to none.
        """
        return self.coverage() > threshold

    def iou_single(self) -> NDArray[np.float64]:
        """Dataset-wide IoU of each factor with each part alone (eq. 9 with one part).

        Returns
        -------
        float64 [factors, parts]
            0 where the union is empty.
        """
        union = self.factor_area[:, None] + self.part_area[None, :] - self.intersection
        return _ratio(self.intersection, union)


@dataclass(eq=False)
class UnionCounts:
    """Pixel sums of every factor against the union of its parts (eqs. 8, 9).

    Parameters
    ----------
    association : bool [factors, parts]
        The parts of each factor: `OverlapCounts.associate`, or labels given by hand.

    Attributes
    ----------
    intersection, union : int64 [factors]
    """

    association: NDArray[np.bool_]
    intersection: NDArray[np.int64] = field(init=False)
    union: NDArray[np.int64] = field(init=False)

    def __post_init__(self) -> None:
        if self.association.ndim != 2 or self.association.dtype != np.bool_:
            raise ValueError(
                f"association must be bool [factors, parts], got {self.association.dtype} "
                f"{self.association.shape}"
            )
        self.association = self.association.copy()
        self.intersection = np.zeros(len(self.association), dtype=np.int64)
        self.union = np.zeros(len(self.association), dtype=np.int64)

    def add(self, masks: NDArray[np.bool_], parts: NDArray[np.bool_]) -> None:
        """Count one image: masks bool [factors, h, w], parts bool [parts, h, w].

        Raises
        ------
        ValueError
            If shapes or dtypes do not fit.
        """
        _check(masks, parts, *self.association.shape)
        for f, mask in enumerate(masks):
            whole = parts[self.association[f]].any(axis=0)  # eq. 8
            self.intersection[f] += np.count_nonzero(mask & whole)
            self.union[f] += np.count_nonzero(mask | whole)

    def __add__(self, other: UnionCounts) -> UnionCounts:
        """Sums over both sets of images; ValueError if the associations differ."""
        if not isinstance(other, UnionCounts):
            return NotImplemented
        if not np.array_equal(self.association, other.association):
            raise ValueError(
                f"cannot add counts under different associations "
                f"{self.association.shape} and {other.association.shape}"
            )
        total = UnionCounts(self.association)
        total.intersection = self.intersection + other.intersection
        total.union = self.union + other.union
        return total

    def iou(self) -> NDArray[np.float64]:
        """Dataset-wide IoU of each factor with its parts (eq. 9).

        Returns
        -------
        float64 [factors]
            NaN for a factor without a part; 0 where it has parts but the union is empty.
        """
        scores = _ratio(self.intersection, self.union)
        scores[~self.association.any(axis=1)] = np.nan
        return scores


def best_part_quality(iou_single: NDArray[np.float64]) -> float:
    """Quality of a factorization: mean over factors of the IoU with the single best part.

    Parameters
    ----------
    iou_single : float64 [factors, parts]
        As from `OverlapCounts.iou_single`, without a column for the background.

    Raises
    ------
    ValueError
        If there are no factors or no parts.
    """
    if iou_single.ndim != 2 or iou_single.size == 0:
        raise ValueError(f"iou_single must be [factors, parts], none empty: {iou_single.shape}")
    return float(iou_single.max(axis=1).mean())


def box_iou(a: Box, b: Box) -> float:
    """Intersection over union of two boxes.

    Parameters
    ----------
    a, b : (top, left, bottom, right)
        Half-open, in pixels: the area is (bottom - top) * (right - left).

    Returns
    -------
    float in [0, 1]
        0 when both boxes are empty.

    Raises
    ------
    ValueError
        If a box ends before it starts.
    """
    for box in (a, b):
        if box[2] < box[0] or box[3] < box[1]:
            raise ValueError(f"a box (top, left, bottom, right) ends before it starts: {box}")
    height = max(0.0, min(a[2], b[2]) - max(a[0], b[0]))
    width = max(0.0, min(a[3], b[3]) - max(a[1], b[1]))
    shared = height * width
    union = (a[2] - a[0]) * (a[3] - a[1]) + (b[2] - b[0]) * (b[3] - b[1]) - shared
    return shared / union if union > 0 else 0.0


def _ratio(part: NDArray[np.int64], whole: NDArray[np.int64]) -> NDArray[np.float64]:
    """part / whole, 0 where whole is 0."""
    zeros = np.zeros(part.shape, dtype=np.float64)
    return np.divide(part, whole, out=zeros, where=whole > 0)


def _check(
    masks: NDArray[np.bool_], parts: NDArray[np.bool_], factors: int, part_count: int
) -> None:
    """Masks of other sizes would broadcast, and integers would be and-ed bit by bit."""
    pixels = masks.shape[1:]
    fits = masks.shape == (factors, *pixels) and parts.shape == (part_count, *pixels)
    if masks.ndim != 3 or not fits or masks.dtype != np.bool_ or parts.dtype != np.bool_:
        raise ValueError(
            f"expected bool masks [{factors}, h, w] and parts [{part_count}, h, w], got "
            f"{masks.dtype} {masks.shape} and {parts.dtype} {parts.shape}"
        )
