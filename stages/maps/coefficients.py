"""Coefficients as heat maps in image space: shared by heatmaps and transform.

What is compiled is imported where it is called: Numba takes longer to load than to plan a stage.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from threading import Lock
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from stages.algorithms.masks import percentile_between, rank_below
from stages.frame.cluster import Cluster
from stages.frame.parallel import ordered_map
from stages.maps.counted_there import counted_there, percentiles_there, sampled_there
from stages.maps.finished import Finished, measured

if TYPE_CHECKING:
    from stages.algorithms.ranks import Brackets, Counts
    from store import Ragged

# Images drawn by one call of a thread, at most: fewer calls, and fewer rows that come alone.
TOGETHER = 4
# Per value of a map: its whole number, its bit, and where it is counted; of as many images, and
# half of that twice more, for what waits while the next are made.
HEAT_BYTES = TOGETHER * (2 + 1 + 4)
# Points of a set's maps that tell about where its percentile lies.
SAMPLE = 1 << 16
KEPT = 1 << 23  # values near thresholds that are kept, four bytes each
IMAGES_AT_ONCE = 64  # whose coefficients are read together

Grid = NDArray[np.float32]  # [h, w, columns]
Some = Sequence[tuple[int, Grid]]  # entries that follow each other, with their coefficients


def map_size(height: int, width: int, long_side: int) -> tuple[int, int]:
    """Size of an image's maps: its own, or scaled to a long side (never below one pixel)."""
    if not long_side:
        return height, width
    scale = long_side / max(height, width)
    return max(1, round(height * scale)), max(1, round(width * scale))


def grids_of(coefficients: Ragged, entries: Iterable[int]) -> Iterator[Grid]:
    """Coefficients of each entry, `IMAGES_AT_ONCE` read together; errors as `Ragged.rows`."""
    offsets, shapes, wanted = coefficients.offsets, coefficients.grid_hw, list(entries)
    for start in range(0, len(wanted), IMAGES_AT_ONCE):
        some = wanted[start : start + IMAGES_AT_ONCE]
        rows = coefficients.read_dense([(int(offsets[e]), int(offsets[e + 1])) for e in some])
        at = 0
        for entry in some:
            h, w = (int(side) for side in shapes[entry])
            yield rows[at : at + h * w].reshape(h, w, -1)
            at += h * w


@dataclass(frozen=True, eq=False)
class HeatMaps:
    """Heat maps of all entries, drawn as they are asked for; see `stages.maps.write.Source`.

    Attributes
    ----------
    grids : callable
        Yields the coefficients of each of some entries, in order.
    sizes : sequence of (H, W)
        Of each entry's maps.
    scales : float64 [sets, columns]
        The coefficients that become 1.
    set_of : sequence of int
        Each entry's image set.
    workers : int
    cluster : Cluster, optional
        Whose workers count what percentiles are found by.
    """

    grids: Callable[[Sequence[int]], Iterator[Grid]]
    sizes: Sequence[tuple[int, int]] | Mapping[int, tuple[int, int]] | NDArray[np.int32]
    scales: NDArray[np.float64]
    set_of: Sequence[int] | Mapping[int, int] | NDArray[np.int32]
    workers: int
    cluster: Cluster | None = None

    def __reduce__(self) -> tuple[Any, ...]:
        sizes, set_of = self.sizes, self.set_of
        if not isinstance(sizes, Mapping) and not isinstance(set_of, Mapping):  # of all entries
            sizes, set_of = np.array(sizes, np.int32), np.array(set_of, np.int32)
        return type(self), (self.grids, sizes, self.scales, set_of, 1)

    def of(self, entries: Sequence[int]) -> HeatMaps:
        """The same for some entries of one set alone: what other processes are sent."""
        scale = self.scales[self.set_of[entries[0]]][None]
        sizes = {entry: self._size(entry) for entry in entries}
        return HeatMaps(self.grids, sizes, scale, dict.fromkeys(entries, 0), 1)

    def percentiles(
        self, asked: Iterable[tuple[Sequence[int], float, Callable[[int], None]]]
    ) -> Generator[NDArray[np.float64], None, None]:
        """`percentile` of several sets, in order; a cluster counts several at the same time."""
        if self.cluster is not None:
            yield from percentiles_there(self, self.cluster, asked)
            return
        for entries, q, seen in asked:
            yield self.percentile(entries, q, seen)

    def finished(
        self, entries: Sequence[int], thresholds: NDArray[np.float64]
    ) -> Iterator[Finished]:
        """Maps, masks and boxes of all entries, in order, some at a time."""
        draw = partial(self._drawn, thresholds)
        yield from ordered_map(draw, self._together(entries), workers=self.workers)

    def percentile(
        self, entries: Sequence[int], q: float, seen: Callable[[int], None]
    ) -> NDArray[np.float64]:
        """Percentile of a set's shares, float64 ``[columns]``, exact; `seen` as in `Source`.

        Shares rise with coefficients: those of two neighbouring ranks are found among these.
        """
        from stages.algorithms.ranks import two_neighbours

        total = sum(h * w for h, w in map(self._size, entries))
        each = -(-SAMPLE // len(entries))
        sample = self.sampled(entries, each)
        passes = 0

        def counted(brackets: Brackets) -> Counts:
            nonlocal passes
            passes += 1
            return self.counted(entries, brackets, seen if passes <= 2 else _unseen)

        rank = rank_below(total, q)
        a, b = two_neighbours(sample, total, rank, counted, KEPT)
        seen(max(0, 2 - passes) * len(entries))
        scale = self.scales[self.set_of[entries[0]]]
        return percentile_between(_share(a, scale), _share(b, scale), total, q)

    def sampled(self, entries: Sequence[int], each: int) -> NDArray[np.float32]:
        """So many points of each entry's map, ``[n, columns]``."""
        from stages.algorithms.interpolation import sample

        if self.cluster is not None:
            return np.concatenate(list(sampled_there(self, self.cluster, entries, each)))
        grids = zip(entries, self.grids(entries), strict=True)
        return np.concatenate(
            [sample(grid, self._size(entry), each, entry) for entry, grid in grids]
        )

    def counted(
        self, entries: Sequence[int], brackets: Brackets, seen: Callable[[int], None]
    ) -> Counts:
        """What lies where in the maps of some entries; `seen` is told of images."""
        from stages.algorithms.ranks import Counts

        if self.cluster is not None:
            return counted_there(self, self.cluster, entries, brackets, seen)
        counts, lock = Counts.none(len(brackets.low)), Lock()
        one = partial(self._counted, brackets, counts, lock)
        for images in ordered_map(one, self._together(entries), workers=self.workers):
            seen(images)
        return counts

    def _size(self, entry: int) -> tuple[int, int]:
        h, w = self.sizes[entry]
        return int(h), int(w)

    def _together(self, entries: Sequence[int]) -> Iterator[Some]:
        """Entries that follow each other, a few at a time."""
        waiting: list[tuple[int, Grid]] = []
        for entry, grid in zip(entries, self.grids(entries), strict=True):
            if waiting and (len(waiting) == TOGETHER or waiting[-1][0] + 1 != entry):
                yield waiting
                waiting = []
            waiting.append((entry, grid))
        if waiting:
            yield waiting

    def _drawn(self, thresholds: NDArray[np.float64], some: Some) -> Finished:
        from stages.algorithms.interpolation import draw

        sizes = [self._size(entry) for entry, _ in some]
        ends = np.cumsum([0, *(h * w for h, w in sizes)]).tolist()
        columns = len(thresholds)
        planes = np.empty((columns, ends[-1]), np.uint16)
        bits = np.empty((ends[-1], -(-columns // 8)), np.uint8)
        found = []
        for at, (entry, grid) in enumerate(some):
            rows, scale = slice(ends[at], ends[at + 1]), self.scales[self.set_of[entry]]
            draw(grid, sizes[at], scale, thresholds, (planes, bits), rows.start)
            found.append(measured(entry, planes[:, rows].T, bits[rows], sizes[at]))
        return Finished(some[0][0], planes.T, bits, found)

    def _counted(self, brackets: Brackets, counts: Counts, lock: Lock, some: Some) -> int:
        from stages.algorithms.interpolation import count

        for entry, grid in some:
            count(grid, self._size(entry), brackets, counts, lock)
        return len(some)


def _unseen(images: int) -> None:
    pass


def _share(values: NDArray[np.float32], scale: NDArray[np.float64]) -> NDArray[np.float64]:
    """Coefficients as the shares that are drawn, rounded as these are."""
    clipped = np.clip(values.astype(np.float64), 0, scale)
    return (clipped / np.where(scale > 0, scale, 1.0)).astype(np.float32).astype(np.float64)
