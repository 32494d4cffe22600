"""Values of given rank among more numbers than memory holds, in few passes over them.

Floats >= 0 are ordered as their bits are. A sample says between which bits a value most likely
lies; a pass counts how many numbers lie below that bracket, and keeps those inside it, where they
are few: the value is among them. Of many, it counts how many lie in bins of equal width; a bin is
the next bracket. Wherever a sample misleads, the counts say so, and the next bracket lies on the
right side.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from stages.algorithms.interpolation_kernels import TOP

BINS = 1 << 15
# How many standard deviations of a sample's quantile a bracket reaches to either side.
_SLACK = 5

Integers = NDArray[np.int64]


class Brackets(NamedTuple):
    """Where the values of each column are looked for: bits ``low <= b < high``, all int64.

    Attributes
    ----------
    low, high : int64 [columns]
        Equal: nothing more to be looked for.
    shift : int64 [columns]
        A bin is ``2 ** shift`` wide.
    keep : bool
        Numbers inside are kept instead, with bins one wide.
    """

    low: Integers
    high: Integers
    shift: Integers
    keep: bool = False


@dataclass(frozen=True, eq=False)
class Counts:
    """What a pass has counted; several threads may add to one, one after the other.

    Attributes
    ----------
    below : int64 [columns]
        Numbers below the bracket.
    above : int64 [columns]
        The smallest bits that are not below its end.
    inside : int64 [columns, BINS]
        Of numbers that are kept, only the zeros, in the first bin.
    kept : list of int32 arrays, for each column
        How far the bits of numbers are above the bracket's low end.
    """

    below: Integers
    above: Integers
    inside: Integers
    kept: list[list[NDArray[np.int32]]]

    @classmethod
    def none(cls, columns: int) -> Counts:
        """Before any number was seen."""
        return cls(
            np.zeros(columns, np.int64),
            np.full(columns, TOP),
            np.zeros((columns, BINS), np.int64),
            [[] for _ in range(columns)],
        )

    def __add__(self, other: Counts) -> Counts:
        """What both have counted, of other numbers each."""
        return Counts(
            self.below + other.below,
            np.minimum(self.above, other.above),
            self.inside + other.inside,
            [[*one, *more] for one, more in zip(self.kept, other.kept, strict=True)],
        )


def two_neighbours(
    sample: NDArray[np.float32],
    total: int,
    rank: int,
    count: Callable[[Brackets], Counts],
    kept: int = 1 << 23,
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """The values of a rank and of the next one, exact, for each column.

    Parameters
    ----------
    sample : float32 [n, columns], >= 0
        Some of the numbers, spread evenly over them.
    total : int
        Numbers of each column, >= 1.
    rank : int
        In ``0 .. total - 1``; the last one has itself for its next.
    count : callable
        A pass over all numbers: counts them as these brackets ask.
    kept : int
        Numbers of four bytes that may be kept, as far as the sample tells.

    Returns
    -------
    float32 [columns], float32 [columns]
    """
    columns, sample = sample.shape[1], sample + np.float32(0)  # no -0.0
    least, most = np.zeros(columns, np.int64), np.full(columns, TOP)  # surely not outside
    low, high = _guessed(sample, total, rank)
    found, following = np.zeros(columns, np.int64), np.zeros(columns, np.int64)
    while (low < high).any():
        brackets = _brackets(low, high, sample, kept / total)
        counts = count(brackets)
        for column in np.flatnonzero(low < high):
            within = np.cumsum(counts.inside[column])
            at = int(rank - counts.below[column])
            if at < 0:
                most[column] = low[column]
            elif at >= within[-1] + sum(map(len, counts.kept[column])):
                least[column] = high[column]
            elif brackets.keep:
                both = _kept_at(counts, brackets, int(column), at)
                found[column], following[column] = both if rank + 1 < total else both[:1] * 2
                least[column] = most[column]
            else:
                bin = int(np.searchsorted(within, at, side="right"))
                least[column] = low[column] + (bin << brackets.shift[column])
                most[column] = min(high[column], least[column] + (1 << brackets.shift[column]))
                if most[column] - least[column] == 1:
                    found[column] = following[column] = least[column]
                    if at + 1 == within[bin] and rank + 1 < total:
                        following[column] = _next(counts, brackets, int(column), bin)
                    least[column] = most[column]
        low, high = least.copy(), most.copy()
    return _values(found), _values(following)


def _guessed(sample: NDArray[np.float32], total: int, rank: int) -> tuple[Integers, Integers]:
    """Brackets by a sample."""
    share, n = (rank + 0.5) / total, len(sample)
    slack = _SLACK * np.sqrt(share * (1 - share) * n) + 2
    first, last = int(np.floor(share * n - slack)), int(np.ceil(share * n + slack))
    none = np.zeros(sample.shape[1], np.int64)
    ends = [at for at in (first, last) if 0 <= at < n]
    ordered = np.partition(sample, ends, axis=0) if ends else sample
    low = _bits(ordered[first]) if first >= 0 else none
    return low, _bits(ordered[last]) + 1 if last < n else none + TOP


def _bits(values: NDArray[np.float32]) -> Integers:
    return values.view(np.int32).astype(np.int64)


def _brackets(low: Integers, high: Integers, sample: NDArray[np.float32], share: float) -> Brackets:
    """What is asked of the next pass: to keep what is inside, where it is such a share at most."""
    bits = _bits(sample)
    inside = int(((bits >= low) & (bits < high) & (bits > 0)).sum())
    keep = inside <= share * len(sample)
    return Brackets(low, high, np.zeros_like(low) if keep else _shifts(high - low), keep)


def _shifts(widths: Integers) -> Integers:
    """Widths of the bins, as powers of two, that `BINS` of them cover so many bits."""
    return np.array([max(0, int(width - 1).bit_length() - 15) for width in widths], np.int64)


def _kept_at(counts: Counts, brackets: Brackets, column: int, at: int) -> tuple[int, int]:
    """The bits of the number that is the `at`-th inside a bracket, and of the next."""
    above_low = np.concatenate([np.empty(0, np.int32), *counts.kept[column]])
    at -= int(counts.inside[column, 0])  # these are the least
    wanted = [place for place in (at, at + 1) if 0 <= place < len(above_low)]
    ordered = np.partition(above_low, wanted) if wanted else above_low

    def bits_at(place: int) -> int:
        if place < 0:
            return 0
        if place == len(above_low):
            return int(counts.above[column])
        return int(brackets.low[column] + ordered[place])

    return bits_at(at), bits_at(at + 1)


def _next(counts: Counts, brackets: Brackets, column: int, bin: int) -> int:
    """The bits that follow a full bin of one number: bins beyond have one each, too."""
    more = np.flatnonzero(counts.inside[column, bin + 1 :])
    if len(more):
        return int(brackets.low[column]) + bin + 1 + int(more[0])
    return int(counts.above[column])


def _values(bits: Integers) -> NDArray[np.float32]:
    return bits.astype(np.int32).view(np.float32)
