"""How well the masks of one factorization divide an object into its annotated parts.

Scores of single masks (`stages.algorithms.metrics`) let several factors take one part for their
best, and say nothing of the parts that none has. Here all masks of a factorization count together:

- `matched_iou`: parts and factors one to one, a part that is left over counts as missed;
- normalised mutual information and adjusted Rand index of the pixels' labels with their parts, on
  the pixels of the parts alone (Choudhury et al., NeurIPS 2021; PDiscoFormer, ECCV 2024);
- the overlap of the masks with one another, which needs no annotation.

All are made of pixel sums, which are integers: count images in any order and in parallel, and add
the accumulators with ``+``.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from stages.algorithms.masks import mask_bytes


@dataclass(frozen=True, eq=False)
class OverlapCounts:
    """Pixels of the masks of every factorization; add those of several images with ``+``.

    Attributes
    ----------
    marked, shared : int64 [factorizations]
        Pixels in at least one of its masks, and in at least two.
    """

    marked: NDArray[np.int64]
    shared: NDArray[np.int64]

    @classmethod
    def of(cls, packed: NDArray[np.uint8], sizes: Sequence[int]) -> OverlapCounts:
        """Sums of one image.

        Parameters
        ----------
        packed : uint8 [h, w, bytes]
            The masks as bits, as from `stages.algorithms.masks.pack_masks`.
        sizes : sequence of int
            How many factors each factorization has; their masks lie side by side.

        Raises
        ------
        ValueError
            If there are not so many masks.
        """
        planes = mask_bytes(packed, sum(sizes))
        counts = [[np.count_nonzero(one) for one in _covered(planes, at)] for at in _ranges(sizes)]
        sums = np.array(counts, dtype=np.int64).reshape(-1, 2)
        return cls(sums[:, 0], sums[:, 1])

    def __add__(self, other: OverlapCounts) -> OverlapCounts:
        """Sums over both sets of images."""
        if not isinstance(other, OverlapCounts):
            return NotImplemented
        return OverlapCounts(self.marked + other.marked, self.shared + other.shared)

    def overlap(self) -> NDArray[np.float64]:
        """Share of the pixels in a mask that lie in two or more, ``[factorizations]`` in [0, 1].

        0 where all masks are empty.
        """
        zeros = np.zeros(len(self.marked))
        return np.divide(self.shared, self.marked, out=zeros, where=self.marked > 0)


@dataclass(eq=False)
class PartitionCounts:
    """Pixels by annotated part and by label, of every factorization, over the images added.

    A pixel's label is the factor whose mask it lies in; of several, the one that is strongest
    there, and of equal ones the first; k where it lies in none.

    Parameters
    ----------
    sizes : sequence of int
        How many factors each factorization has; their masks lie side by side.

    Attributes
    ----------
    by_part : dict of part to int64 [factors + factorizations]
        Pixels of the part with each label, factorization after factorization.
    """

    sizes: tuple[int, ...]
    by_part: dict[str, NDArray[np.int64]] = field(default_factory=dict)

    def add(
        self,
        packed: NDArray[np.uint8],
        pixels: NDArray[np.intp],
        codes: NDArray[np.intp],
        parts: Sequence[str],
        strengths: NDArray[np.generic],
    ) -> None:
        """Count some pixels of one image.

        Parameters
        ----------
        packed : uint8 [h, w, bytes]
            The masks as bits, as from `stages.algorithms.masks.pack_masks`.
        pixels, codes : int [n]
            As from `single_parts`; codes are positions in `parts`.
        parts : sequence of str
        strengths : real [factors, n]
            How strong each factor is at each of the pixels, >= 0: decides between several masks.

        Raises
        ------
        ValueError
            If there are not so many masks, strengths or codes.
        """
        columns = sum(self.sizes)
        if strengths.shape != (columns, len(pixels)) or codes.shape != pixels.shape:
            raise ValueError(
                f"expected strengths [{columns}, {len(pixels)}] and a code for each pixel, got "
                f"{strengths.shape} and {codes.shape}"
            )
        planes = [plane[pixels] for plane in mask_bytes(packed, sum(self.sizes))]
        tables = []
        for at in _ranges(self.sizes):
            cells = codes * (len(at) + 1) + _labels(planes, at, strengths)
            table = np.bincount(cells, minlength=len(parts) * (len(at) + 1))
            tables.append(table.reshape(len(parts), -1))
        rows = np.concatenate(tables, axis=1, dtype=np.int64)
        for name, row in zip(parts, rows, strict=True):
            self._count(name, row)

    def _count(self, part: str, row: NDArray[np.int64]) -> None:
        before = self.by_part.get(part)
        self.by_part[part] = row if before is None else before + row

    def __add__(self, other: PartitionCounts) -> PartitionCounts:
        """Sums over both sets of images; ValueError if the factorizations differ."""
        if not isinstance(other, PartitionCounts):
            return NotImplemented
        if self.sizes != other.sizes:
            raise ValueError(f"cannot add counts of {other.sizes} factors to {self.sizes}")
        total = PartitionCounts(self.sizes, dict(self.by_part))
        for part, row in other.by_part.items():
            total._count(part, row)
        return total

    def table(self, factorization: int) -> NDArray[np.int64]:
        """Its contingency table, int64 ``[parts, k + 1]``: parts by name; the last is no factor."""
        start = sum(self.sizes[:factorization]) + factorization
        rows = [row for _, row in sorted(self.by_part.items())]
        table = np.array(rows, dtype=np.int64).reshape(-1, sum(self.sizes) + len(self.sizes))
        return table[:, start : start + self.sizes[factorization] + 1]


def mutual_information(table: NDArray[np.int64]) -> float:
    """Normalised mutual information of two labellings, in [0, 1].

    ``2 I(a; b) / (H(a) + H(b))``: the arithmetic mean normalises, scikit-learn's default.

    Parameters
    ----------
    table : int64 [a, b]
        How many pixels have each pair of labels.

    Returns
    -------
    float
        1 where each has one label only, NaN of no pixels.
    """
    counts = table.astype(np.float64)
    total = counts.sum()
    if total == 0:
        return np.nan
    joint = counts / total
    entropies = [_entropy(joint.sum(axis=axis)) for axis in (0, 1)]
    if max(entropies) == 0:
        return 1.0
    shared = sum(entropies) - _entropy(joint.ravel())
    return float(min(1.0, max(0.0, 2 * shared / sum(entropies))))


def rand_index(table: NDArray[np.int64]) -> float:
    """Adjusted Rand index of two labellings: 1 for the same, 0 on average by chance.

    Hubert and Arabie, 1985. Counted in whole numbers of any size: pairs of pixels are many.

    Parameters
    ----------
    table : int64 [a, b]
        How many pixels have each pair of labels.

    Returns
    -------
    float
        1 where the labellings are the same, NaN of no pixels.
    """
    total = int(table.sum())
    if total == 0:
        return np.nan
    together = sum(n * n for n in table.ravel().tolist())
    first, second = (sum(n * n for n in table.sum(axis=axis).tolist()) for axis in (1, 0))
    # ordered pairs of pixels: alike in both, in one alone, in none
    both, of_first, of_second = together - total, first - together, second - together
    neither = total * total - first - second + together
    if of_first == of_second == 0:
        return 1.0
    above = 2 * (both * neither - of_first * of_second)
    below = (both + of_first) * (of_first + neither) + (both + of_second) * (of_second + neither)
    return above / below


def matched_iou(iou: NDArray[np.float64]) -> float:
    """Mean IoU over the parts, each with a factor of its own: the best such match.

    Parameters
    ----------
    iou : float64 [factors, parts]
        As from `stages.algorithms.metrics.RegionCounts.iou_single`.

    Returns
    -------
    float
        A part that no factor is left for counts 0. NaN where there are no parts.
    """
    if iou.shape[1] == 0:
        return np.nan
    few = iou if iou.shape[0] <= iou.shape[1] else iou.T
    return float(few[np.arange(len(few)), _matched(few)].sum() / iou.shape[1])


def single_parts(
    parts: Mapping[str, NDArray[np.bool_]], ignore: NDArray[np.bool_] | None = None
) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
    """Pixels that lie in one part and in no other, and in which.

    Parameters
    ----------
    parts : mapping of name to bool [h, w]
    ignore : bool [h, w], optional
        Pixels that count nowhere.

    Returns
    -------
    pixels : int [n]
        Positions in row-major order.
    codes : int [n]
        Positions in `parts`.
    """
    masks = [mask.ravel() for mask in parts.values()]
    if not masks:
        return np.empty(0, np.intp), np.empty(0, np.intp)
    one, several, code = masks[0].copy(), np.zeros_like(masks[0]), np.zeros(len(masks[0]), np.intp)
    for position, mask in enumerate(masks[1:], start=1):
        several |= one & mask
        one |= mask
        code[mask] = position
    counted = one & ~several
    pixels = np.flatnonzero(counted if ignore is None else counted & ~ignore.ravel())
    return pixels, code[pixels]


def _matched(worth: NDArray[np.float64]) -> NDArray[np.intp]:
    """A column for every row, no column twice, of the largest sum; ``[rows, columns >= rows]``.

    The Hungarian method with shortest augmenting paths, as scipy's `linear_sum_assignment`: loading
    scipy.optimize would take a tenth of all that evaluate takes for the demo.
    """
    rows, columns = worth.shape
    of_row, of_column = np.zeros(rows), np.zeros(columns + 1)  # dual prices; the last is no column
    row_of = np.full(columns + 1, -1, dtype=np.intp)
    for row in range(rows):
        row_of[columns], at = row, columns
        least, before = np.full(columns, np.inf), np.full(columns, columns, dtype=np.intp)
        seen = np.zeros(columns + 1, dtype=np.bool_)
        while row_of[at] >= 0:
            seen[at] = True
            here = row_of[at]
            reduced = -worth[here] - of_row[here] - of_column[:-1]
            closer = ~seen[:-1] & (reduced < least)
            least[closer], before[closer] = reduced[closer], at
            at = int(np.where(seen[:-1], np.inf, least).argmin())
            step = least[at]
            of_row[row_of[seen]] += step
            of_column[seen] -= step
            least[~seen[:-1]] -= step
        while at != columns:  # turn the path round
            row_of[at], at = row_of[before[at]], before[at]
    found = np.empty(rows, dtype=np.intp)
    taken = np.flatnonzero(row_of[:-1] >= 0)
    found[row_of[taken]] = taken
    return found


def _entropy(shares: NDArray[np.float64]) -> float:
    some = shares[shares > 0]
    return 0.0 if len(some) == 1 else float(-(some * np.log(some)).sum())


def _ranges(sizes: Sequence[int]) -> list[range]:
    """The columns of each factorization."""
    ends = np.cumsum(sizes).tolist()
    return [range(end - size, end) for end, size in zip(ends, sizes, strict=True)]


def _bytes(
    planes: Sequence[NDArray[np.uint8]], at: range
) -> Iterator[tuple[int, NDArray[np.uint8]]]:
    """Of each byte with masks of some columns: its first column, and those columns' bits of it."""
    for byte in range(at.start // 8, -(-at.stop // 8)):
        mine = sum(1 << bit for bit in range(8) if 8 * byte + bit in at)
        yield 8 * byte, planes[byte] & np.uint8(mine)


def _covered(
    planes: Sequence[NDArray[np.uint8]], at: range
) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
    """Whether pixels lie in at least one, and in at least two of the masks of some columns."""
    one = np.zeros(planes[0].shape, dtype=np.bool_)
    several = np.zeros_like(one)
    for _, bits in _bytes(planes, at):
        here = bits != 0
        several |= (bits & (bits - np.uint8(1))) != 0
        several |= one & here
        one |= here
    return one, several


def _labels(
    planes: Sequence[NDArray[np.uint8]], at: range, strengths: NDArray[np.generic]
) -> NDArray[np.integer]:
    """Of the masks of some columns that a pixel lies in, the strongest; their number for none.

    Strengths are those of all columns, ``[columns, pixels]``, >= 0.
    """
    labels = np.full(strengths.shape[1], len(at), dtype=np.min_scalar_type(len(at)))
    most = np.zeros(strengths.shape[1], dtype=strengths.dtype)
    marked = np.zeros(strengths.shape[1], dtype=np.bool_)
    for label, column in enumerate(at):
        inside = (planes[column // 8] & np.uint8(1 << column % 8)) != 0
        better = inside & ((strengths[column] > most) | ~marked)
        labels[better] = label
        most = np.where(better, strengths[column], most)
        marked |= inside
    return labels
