"""What is to be written as maps, masks and boxes, and where it comes from."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple, Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from stages.maps.earlier import EarlierMaps
from stages.maps.finished import Finished

Rows = NDArray[np.float32]  # [h * w, columns], shares


@dataclass(frozen=True, eq=False)
class Whole:
    """An entry's maps that are whole numbers already, and their masks."""

    levels: NDArray[Any]  # [h * w, columns], of the plan's dtype
    bits: NDArray[np.uint8]  # [h * w, ceil(columns / 8)], by the plan's thresholds
    around: NDArray[np.uint8] | None = None  # as `MapPlan.around` would give it
    settled: bool = False  # `MapPlan.settle` has nothing to do


class Taken(NamedTuple):
    """An entry of earlier maps that is taken over."""

    entry: int


# (entry, levels) -> levels, bits
Settle = Callable[[int, NDArray[Any]], tuple[NDArray[Any], NDArray[np.uint8]]]
Compute = Callable[[Sequence[int]], Iterator[Rows | Whole | Finished]]


@runtime_checkable
class Source(Protocol):
    """Where maps come from that are whole numbers as soon as they are made."""

    def finished(
        self, entries: Sequence[int], thresholds: NDArray[np.float64]
    ) -> Iterator[Finished]:
        """Maps of entries of one set, in order, those that follow each other some at a time."""
        ...

    def percentile(
        self, entries: Sequence[int], q: float, seen: Callable[[int], None]
    ) -> NDArray[np.float64]:
        """Percentile of a set's values, exact; `seen` is told of images: each is seen twice."""
        ...


Made = tuple[int, Rows | Whole | Taken | Finished]  # its entry, or the first


@dataclass(frozen=True)
class Percentile:
    """Masks begin at this percentile of a set's values; takes two passes over them.

    Attributes
    ----------
    q : float
    held : float64 [sets, columns], optional
        Thresholds that are given all the same; NaN: to be counted.
    region : float64 [sets], optional
        The share of each set's values that it is the percentile of: the largest ones. As many of
        these are above it as percentile q leaves.
    """

    q: float
    held: NDArray[np.float64] | None = None
    region: NDArray[np.float64] | None = None

    def of_set(self, rank: int) -> float:
        """The percentile of all of a set's values that this one is."""
        if self.region is None or self.region[rank] == 1:
            return self.q
        return 100 - (100 - self.q) * float(self.region[rank])

    def counted(self, rank: int) -> bool:
        """Whether some of a set's thresholds are not given."""
        return self.held is None or not np.isfinite(self.held[rank]).all()

    def thresholds(
        self,
        rank: int,
        count: Callable[[], NDArray[np.float64]],
        spared: Callable[[], None],
    ) -> NDArray[np.float64]:
        """A set's thresholds ``[columns]``: those that are held, others by `count`.

        Tells `spared` when nothing is to be counted.
        """
        if not self.counted(rank):
            spared()
        if self.held is None:
            return count()
        held = self.held[rank]
        return np.where(np.isfinite(held), held, count()) if self.counted(rank) else held

    def given(self, rank: int) -> NDArray[np.float64] | None:
        """A set's thresholds where all of them are held."""
        if self.held is None or not np.isfinite(self.held[rank]).all():
            return None
        return self.held[rank]


@dataclass(frozen=True)
class MapPlan:
    """What is to be written for one layer.

    Attributes
    ----------
    sizes : sequence of (h, w)
        One per entry.
    image_ids : sequence of int
        One per entry.
    sets : sequence of sequences of entries
        Together all entries, in order.
    columns : int
    dtype : numpy dtype
        Of the maps on disk, uint8 or uint16.
    thresholds : float64 [sets, columns] or Percentile
        Where masks begin, in shares.
    workers : int
        Threads that make whole numbers, masks and boxes.
    made_from : uint8 [entries, 32], optional
        See `stages.artifacts.concept_maps`.
    earlier : EarlierMaps, optional
        Where entries made from the same may be taken from.
    around : callable, optional
        Bits of an entry that its boxes go around, besides those of its masks.
    settle : callable, optional
        What becomes of an entry's whole numbers and bits when all its columns are known.
    """

    sizes: Sequence[tuple[int, int]] | NDArray[np.int32]
    image_ids: Sequence[int]
    sets: Sequence[Sequence[int]]
    columns: int
    dtype: type[np.unsignedinteger[Any]]
    thresholds: NDArray[np.float64] | Percentile
    workers: int = 1
    made_from: NDArray[np.uint8] | None = None
    earlier: EarlierMaps | None = None
    around: Callable[[int], NDArray[np.uint8]] | None = None
    settle: Settle | None = None

    @property
    def passes(self) -> int:
        """How often every map is computed."""
        return 3 if isinstance(self.thresholds, Percentile) else 1

    def given(self, rank: int) -> NDArray[np.float64] | None:
        """A set's thresholds ``[columns]`` where they are known before any map is made."""
        if isinstance(self.thresholds, Percentile):
            return self.thresholds.given(rank)
        return self.thresholds[rank]
